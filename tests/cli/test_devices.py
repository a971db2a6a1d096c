"""What the command line makes of devices: their number, their memory, their precision."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model

from mlprune.cli import entry
from mlprune.errors import is_out_of_memory
from mlprune.evaluation.shared import sharing_of
from mlprune.log import log
from mlprune.module import PruningModule

ERRORS = {  # what PyTorch says, and what of it is shown
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.31 GiB is "
    "free. Process 7 has 77.78 GiB memory in use.": "CUDA out of memory. Tried to allocate 2.00 GiB; lower",
    "MPS backend out of memory (MPS allocated: 1.00 GB, max allowed: 1.50 GB).": "MPS backend out of memory",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 "
    "bytes. Error code 12 (Cannot allocate memory)": "DefaultCPUAllocator: can't allocate memory",
}


@pytest.mark.parametrize("said", ERRORS)
def test_a_device_without_memory_is_one_line_that_says_what_to_lower(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> None:
        raise torch.OutOfMemoryError(said)

    monkeypatch.setattr(entry, "_run", fail)
    assert entry.main(["test"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert ERRORS[said] in line
    assert all(key in line for key in ("data.max_batch_tokens", "data.max_batch_chars", "model.dtype", "streaming"))
    assert len(line) < 500


def test_other_errors_of_devices_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("Expected all tensors to be on the same device, cuda:0 and cpu!")

    def fail(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(entry, "_run", fail)
    with pytest.raises(RuntimeError, match="same device"):
        entry.main(["test"])
    assert not is_out_of_memory(error)


def test_a_thread_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard writes in one, which a full disk ends."""
    monkeypatch.setattr(log, "handlers", [])  # an earlier run of the command line left one that writes no more

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with entry.one_line_of_threads():
        thread = threading.Thread(target=fail, name="writer")
        thread.start()
        thread.join()
    assert len(caplog.messages) == 1
    assert "writer, which works in the background, failed: [Errno 28] No space left" in caplog.messages[0]
    assert "Traceback" not in capsys.readouterr().err


def test_no_memory_is_not_taken_for_what_a_model_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise prefixes would silently be shared no more."""
    model = tiny_model("llama")

    def fail(self: object, past_key_values: object = None, **inputs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        sharing_of(model)
    monkeypatch.undo()
    assert sharing_of(model).min_saved is not None


class Products:
    """A step of validation whose product shows in which precision it is computed."""

    def gather(self) -> None:
        self.dtype = (torch.ones(1, 1) @ torch.ones(1, 1)).dtype


def test_mixed_precision_is_for_training_alone(tiny_folder: Path) -> None:
    module, step = PruningModule(str(tiny_folder)), Products()
    module._trainer = SimpleNamespace(precision="bf16-mixed")
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as Lightning has it around every step
        module.validation_step(step, 0)
        assert step.dtype == torch.float32
        step.gather()
        assert step.dtype == torch.bfloat16
