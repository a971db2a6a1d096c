"""Whole or absent: every writer of the package, on a disk that is full in the middle of its work."""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from tiny import save_tiny, tiny_batches, tiny_model, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.evaluation import compare
from mlprune.files import Partial, whole_file, whole_folder, write_json, write_text
from mlprune.models.blocks import find_blocks
from mlprune.models.card import Facts, write_card
from mlprune.models.convert import convert
from mlprune.models.packaged import PACKAGED
from mlprune.models.saving import save_checkpoint
from mlprune.pruning import LayerReport, LayerStatistics, prune_streaming, save_masks, save_statistics
from mlprune.pruning.streaming import MaskWriter
from mlprune.report import read_run, write_report
from mlprune.runs.unfinished import Unfinished

ROOM = 4096  # bytes that fit; every file below takes more


@contextmanager
def full_disk() -> Iterator[None]:
    """Have the system refuse what a file would take beyond ROOM, as a full disk does: in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def block_file(folder: Path) -> None:
    block = find_blocks(tiny_model("llama"))[0]
    masks = {path: torch.ones(layer.matrix().shape, dtype=torch.bool) for path, layer in block.layers.items()}
    Unfinished(folder).start()
    Unfinished(folder).save_block(0, block, {path: LayerReport(mask, 0.0, 0.0, 1.0) for path, mask in masks.items()})


def records(folder: Path) -> None:
    Unfinished(folder).start()
    Unfinished(folder).add_records("dense", 0, "nli", "fr", [{"position": 0, "text": "x" * ROOM}])


def report(folder: Path) -> None:
    text = '{"schema_version": 1, "stage": "dense", "model": "tiny", "tasks": {}}'
    (folder / "results.json").write_text(text)
    write_report([read_run(folder)], folder / "report.html")


def comparison(folder: Path) -> None:
    for run in ("a", "b"):
        (folder / run / "predictions").mkdir(parents=True)
        for task in range(12):
            line = '{"id": "0", "label": "no", "prediction": "no", "scores": [1, 0]}'
            (folder / run / "predictions" / f"{task}.fr.jsonl").write_text(line)
    arguments = [str(folder / "a"), str(folder / "b"), "--json", str(folder / "c.json")]
    if compare.main(arguments) != 0:
        raise UserError("the command printed its error")


def pickled(folder: Path) -> Path:
    model = tiny_model("llama")
    (folder / "pickled").mkdir()
    model.config.save_pretrained(folder / "pickled")
    torch.save(model.state_dict(), folder / "pickled" / "pytorch_model.bin")
    return folder / "pickled"


def converting(folder: Path) -> Callable[[], None]:
    source = pickled(folder)
    return lambda: convert(source, folder / "converted")


def streaming(folder: Path) -> Callable[[], object]:
    source = save_tiny(folder / "dense")
    return lambda: prune_streaming(source, folder / "pruned", tiny_batches("llama", [5]))


def streamed_masks(folder: Path) -> Callable[[], object]:
    blocks = find_blocks(tiny_model("llama"))
    return lambda: MaskWriter(folder / "masks.safetensors", blocks).finish()


def checkpoint(folder: Path) -> None:
    recipe, card = {"importance": "Wanda", "sparsity": 0.3}, {"base_model": "tiny", "license": "mit", "notice": ""}
    describe = partial(write_card, recipe=recipe, facts=Facts(card))
    save_checkpoint(tiny_model("llama"), tiny_tokenizer(), folder / "pruned", describe)


def statistics() -> dict[str, LayerStatistics]:
    return {"fc": LayerStatistics({"mt": torch.ones(ROOM)}, {"mt": torch.tensor(1)})}


WRITERS: dict[str, Callable[[Path], Any]] = {
    "masks": lambda folder: save_masks({"fc": torch.ones(8 * ROOM, 1, dtype=torch.bool)}, folder / "m.safetensors"),
    "statistics": lambda folder: save_statistics(statistics(), folder / "s.safetensors"),
    "text": lambda folder: write_text(folder / "config.yaml", "x" * 2 * ROOM),
    "JSON": lambda folder: write_json(folder / "results.json", ["x" * 2 * ROOM]),
    "unfinished block": block_file,
    "unfinished plan": lambda folder: Unfinished(folder).save_plan({f"layer {i}": 0.3 for i in range(ROOM)}),
    "unfinished statistics": lambda folder: Unfinished(folder).save_statistics(0, statistics()),
    "unfinished records": records,
    "report": report,
    "comparison": comparison,
    "checkpoint": checkpoint,
}
PREPARED: dict[str, Callable[[Path], Callable[[], object]]] = {
    "conversion": converting,
    "streamed checkpoint": streaming,
    "streamed masks": streamed_masks,
}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line(writer: str, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(UserError) as caught:
        WRITERS[writer](tmp_path)
    if writer != "comparison":
        assert str(caught.value).endswith("cannot be written: File too large")
        assert str(tmp_path) in str(caught.value)
    assert ".partial" not in str(caught.value)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".jsonl"]  # those grow by lines
    assert not [path.name for path in left if path.stat().st_size >= ROOM or "partial" in path.name]


@pytest.mark.parametrize("writer", PREPARED)
def test_a_full_disk_leaves_no_folder(writer: str, tmp_path: Path) -> None:
    write = PREPARED[writer](tmp_path)
    before = names(tmp_path)
    with full_disk(), pytest.raises(UserError, match=r"cannot be written: File too large$"):
        write()
    assert names(tmp_path) == before
    write()
    assert names(tmp_path) > before


def test_a_full_disk_in_the_conversion_of_a_packaged_model(tmp_path: Path, monkeypatch) -> None:
    import mlprune.models.packaged as packaged

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packaged, "check_packaged", lambda name: None)  # as if its packages were installed
    monkeypatch.setattr(packaged, "_check_space", lambda entry, cache: None)
    monkeypatch.setattr(packaged, "_assemble", lambda entry, target: target.touch())
    monkeypatch.setattr(packaged, "_load_gguf", lambda folder: (tiny_model("llama"), tiny_tokenizer()))
    with full_disk(), pytest.raises(UserError, match=r"demo-.* cannot be written: File too large"):
        packaged.packaged_folder("demo")
    assert {path.suffix for path in (tmp_path / "mlprune").iterdir()} <= {".lock"}
    folder = packaged.packaged_folder("demo")
    assert folder.name.startswith("demo-")
    assert (folder / "NOTICE").read_text() == PACKAGED["demo"].notice + "\n"


FULL = "No space left on device"
RAISED = [OSError(28, FULL), SafetensorError(f"Error: I/O error: {FULL} (os error 28)"), RuntimeError(FULL)]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_whatever_a_writer_raises(tmp_path: Path, whole: Any, error: Exception) -> None:
    with pytest.raises(UserError) as caught, whole(tmp_path / "target"):
        raise error
    assert str(caught.value) == f"'{tmp_path / 'target'}' cannot be written: {FULL}"
    assert not names(tmp_path)


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("too small")], ids=lambda e: type(e).__name__)
def test_interruptions_and_clear_lines_pass_as_they_are(tmp_path: Path, whole: Any, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, whole(tmp_path / "target"):
        raise error
    assert caught.value is error
    assert not names(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with full_disk(), pytest.raises(UserError):
        write_text(tmp_path / "a", "new" * ROOM)
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_what_a_kill_left_is_replaced(tmp_path: Path) -> None:
    killed = Partial(tmp_path / "model")
    killed.path.mkdir()
    (killed.path / "half").touch()
    with whole_folder(tmp_path / "model") as folder:
        (folder / "whole").touch()
    assert names(tmp_path) == {"model", "model/whole"}


def test_a_folder_that_exists_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "model"):
        pytest.fail("nothing should be written")


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another's")
    (tmp_path / "report.html").symlink_to(tmp_path / "other")
    (tmp_path / ".report.html.partial").symlink_to(tmp_path / "other")
    write_text(tmp_path / "report.html", "ours")
    assert (tmp_path / "other").read_text() == "another's"
    assert (tmp_path / "report.html").read_text() == "ours"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such device")
def test_a_device_is_written_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    write_text("/dev/stdout", "one line\n")
    assert capfd.readouterr().out == "one line\n"
    assert Path("/dev/stdout").is_symlink()
