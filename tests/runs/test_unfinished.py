"""What a kill or a full disk damaged is skipped, reported, and computed again."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from tiny import tiny_model
from tiny_runs import RUN, assert_same_run, start, write_config

from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.pruning import LayerReport, LayerStatistics
from mlprune.runs.unfinished import Unfinished


@pytest.fixture
def store(tmp_path: Path) -> Unfinished:
    """Three finished blocks with their statistics, a plan, and the records of two batches."""
    store = Unfinished(tmp_path)
    store.start()
    store.save_plan({"a": 0.25, "b": 0.5})
    for k, block in enumerate(find_blocks(tiny_model("llama"))):
        masks = {path: torch.ones(layer.matrix().shape, dtype=torch.bool) for path, layer in block.layers.items()}
        store.save_statistics(
            k, {path: LayerStatistics({"mt": torch.ones(2)}, {"mt": torch.tensor(1)}) for path in masks}
        )
        store.save_block(k, block, {path: LayerReport(mask, 0.0, 0.0, 1.0) for path, mask in masks.items()})
    for position in (0, 1):
        store.add_records("dense", 0, "nli", "hi", [{"position": position, "text": "नमस्ते\u2028दुनिया"}])
    return store


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger=log.name)
    return caplog


def test_whole_work_is_all_there_and_nothing_is_reported(store: Unfinished, warned: pytest.LogCaptureFixture) -> None:
    assert store.load_plan() == {"a": 0.25, "b": 0.5}
    assert len(store.load_blocks()) == store.num_blocks() == 3
    assert set(store.load_records("dense")) == {("nli", "hi", 0), ("nli", "hi", 1)}
    assert not warned.messages


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"123", b'{"a": null}', b'{"a": "\xe0\xa4'])
def test_a_damaged_plan(store: Unfinished, warned: pytest.LogCaptureFixture, content: bytes) -> None:
    (store.folder / "plan.json").write_bytes(content)
    assert store.load_plan() is None
    assert "damaged" in warned.text


@pytest.mark.parametrize("name", ["block", "statistics"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.999])
def test_a_block_that_was_cut(store: Unfinished, warned: pytest.LogCaptureFixture, name: str, share: float) -> None:
    file = store.folder / f"{name}.1.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert len(store.load_blocks()) == store.num_blocks() == 1
    assert "block 2" in warned.text


def test_a_block_of_something_else(store: Unfinished, warned: pytest.LogCaptureFixture) -> None:
    shutil.copy(store.folder / "statistics.1.safetensors", store.folder / "block.1.safetensors")  # whole, but no block
    assert store.num_blocks() == 1
    assert "block 2" in warned.text


def test_records_cut_anywhere(store: Unfinished, warned: pytest.LogCaptureFixture) -> None:
    file = store.folder / "dense.0.jsonl"
    content = file.read_bytes()
    for end in range(len(content)):
        file.write_bytes(content[:end])
        kept = content[:end].count(b"\n")
        assert len(store.load_records("dense")) == kept
        with file.open("ab") as appended:  # the next start appends behind the cut
            appended.write(b'\n{"task": "nli", "lang": "hi", "records": [{"position": 9}]}\n')
        assert ("nli", "hi", 9) in store.load_records("dense")


@pytest.mark.parametrize(
    "line",
    ["123", "null", "[]", "{}", '{"task": "nli", "lang": "hi"}', '{"task": 1, "lang": 2, "records": [3]}', "\0\0"],
)
def test_lines_that_are_no_batch(store: Unfinished, warned: pytest.LogCaptureFixture, line: str) -> None:
    file = store.folder / "dense.0.jsonl"
    file.write_text(f"{line}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    assert len(store.load_records("dense")) == 2
    assert "damaged" in warned.text


def test_a_run_resumes_over_damage(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    callback = {"class_path": "kill_once.KillOnce", "init_args": {"stage": "test", "batch": 30, "marker": "killed"}}
    killed.mkdir()
    trainer = {"accelerator": "cpu", "devices": 1, "callbacks": [callback]}
    assert start(killed, "fit", "--config", write_config(killed, tiny_folder, trainer=trainer)).returncode < 0
    for file in (killed / RUN / ".unfinished").iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 2 // 3])
    again = start(killed, "fit", "--resume", RUN)
    assert again.returncode == 0, again.stderr
    assert "damaged" in again.stderr
    status, _, err = mlprune(
        "fit", "--config", write_config(tmp_path, tiny_folder), "--trainer.default_root_dir", whole
    )
    assert status == 0, err
    assert_same_run(whole / RUN, killed / RUN)
    assert json.loads((killed / RUN / "results.json").read_text())["stage"] == "pruned"
