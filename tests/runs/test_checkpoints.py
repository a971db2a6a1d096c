"""Recovery training resumes from the newest checkpoint that is whole; damaged ones are passed over, and reported."""

import logging
import os
from pathlib import Path

import pytest
import torch

from mlprune.log import log
from mlprune.runs.checkpoints import CHECKPOINTS, newest_checkpoint


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two whole checkpoints, the older one first."""
    (tmp_path / CHECKPOINTS).mkdir()
    found = [tmp_path / CHECKPOINTS / f"epoch={epoch}.ckpt" for epoch in (0, 1)]
    for time, file in enumerate(found, start=1):
        torch.save({"state_dict": {"weight": torch.ones(100)}, "epoch": time}, file)
        os.utime(file, (time, time))
    return found


def test_the_newest_is_taken(files: list[Path], tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == files[1]


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped", "something else", "a folder"])
def test_a_damaged_one_is_passed_over(files: list[Path], tmp_path: Path, caplog, damage: str) -> None:
    caplog.set_level(logging.WARNING, logger=log.name)
    content = bytearray(files[1].read_bytes())
    middle = content.index(torch.ones(4).numpy().tobytes())
    content[middle] ^= 1
    if damage == "a folder":
        files[1].unlink()
        files[1].mkdir()
    elif damage == "something else":
        torch.save({"weight": torch.ones(1)}, files[1])
    else:
        whole = files[1].read_bytes()
        files[1].write_bytes(
            {"cut": whole[: len(whole) // 2], "empty": b"", "garbage": b"\0" * 99, "flipped": bytes(content)}[damage]
        )
    if damage != "a folder":
        os.utime(files[1], (9, 9))
        assert newest_checkpoint(tmp_path) == files[0]
        assert caplog.messages == [
            f"'{files[1]}' is damaged; recovery training resumes from an older checkpoint, or starts again"
        ]
    files[0].write_bytes(b"")
    assert newest_checkpoint(tmp_path) is None
