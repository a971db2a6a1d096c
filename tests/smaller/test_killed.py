"""A process that is killed while it writes a smaller model leaves nothing under its name; done again, it is whole."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model
from tokenizer_kinds import CAUSAL

from mlprune.data.corpora import Bundled
from mlprune.smaller import remove_blocks, trim_vocabulary

TEXTS = {"fr": [row["text"] for row in Bundled("parallel").rows("fr")[:5]]}
STEPS: dict[str, Callable[[str, Path], Any]] = {
    "trimming": lambda source, target: trim_vocabulary(source, target, TEXTS),
    "leaving out a layer": lambda source, target: remove_blocks(source, target, ["model.layers.1"]),
}
EVENTS = ("open", "os.rename", "os.mkdir", "os.remove")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    tokenizer = CAUSAL["Llama 3"].make()
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(folder, max_shard_size="30KB")
    tokenizer.save_pretrained(folder)
    return str(folder)


def in_fork(step: Callable[[str, Path], Any], source: str, target: Path, kill_at: int = 0) -> tuple[int, int]:
    """Take a step in a fork; return its status (negative: the signal), and how often it touched files of the target.

    The last touch is that which gives them their name.

    Args:
        step: The step.
        source: The model.
        target: New folder.
        kill_at: Number of the touch at which the fork is killed; 0: never.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count, status, partial = 0, 1, str(target.with_name(f".{target.name}.partial"))
        named = False

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count, named
            if event in EVENTS and not named and partial in str(arguments[0]):
                count += 1
                named = event == "os.rename" and str(arguments[0]) == partial
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            step(source, target)
            status = 0
        finally:
            os.write(writer, str(count).encode())
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count = int(pipe.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count


@pytest.mark.parametrize("name", STEPS)
def test_killed_at_any_moment_and_done_again(name: str, source: str, tmp_path: Path) -> None:
    step, target = STEPS[name], tmp_path / "made" / "smaller"
    status, moments = in_fork(step, source, tmp_path / "whole" / "smaller")
    assert status == 0
    assert moments > 10
    for moment in (2, moments // 2, moments):
        assert in_fork(step, source, target, kill_at=moment)[0] == -signal.SIGKILL
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == [".smaller.partial"]
    step(source, target)
    assert [path.name for path in target.parent.iterdir()] == ["smaller"]
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "smaller").iterdir()}
    assert {path.name: path.read_bytes() for path in target.iterdir()} == expected
