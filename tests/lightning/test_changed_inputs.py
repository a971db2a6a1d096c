"""A resumed run continues from what it began with, or is refused by one line that names what changed."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from altered import edit_json
from tiny_runs import RUN, write_config

from mlprune.models.loading import ModelSource
from mlprune.pruning import Pruner

STATE = RUN / "inputs.json"


def rows(lang: str, count: int = 12) -> str:
    return "".join(json.dumps({"text": f"Satz {i} auf {lang}, und noch ein Wort."}) + "\n" for i in range(count))


@pytest.fixture
def interrupted(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """A run of fit that ended while it pruned; the model, the corpora and the run are in the working folder."""
    shutil.copytree(tiny_folder, "model")
    for name in ("prompts", "texts"):
        for lang in ("de", "en"):
            Path(f"{name}.{lang}.jsonl").write_text(rows(lang), encoding="utf-8")
    corpora: list[dict[str, Any]] = [
        {"class_path": "mlprune.data.corpora.LocalFiles", "init_args": {"path": f"{name}.{{lang}}.jsonl"}}
        for name in ("prompts", "texts")
    ]
    demonstrations = {"mt": {"class_path": "mlprune.data.demonstrations.TranslationDemonstrations"}}
    demonstrations["mt"]["init_args"] = {"source_lang": "de", "shots": 2, "corpus": corpora[0]}
    task = {"class_path": "mlprune.evaluation.tasks.PerplexityTask"}
    task["init_args"] = {"languages": ["de", "en"], "limit": 3, "corpus": corpora[1]}
    config = write_config(tmp_path, "model", data={"demonstrations": demonstrations, "tasks": [task]})

    def stop(self: Pruner, *args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pruner, "prune_layer", stop)
        with pytest.raises(SystemExit):
            mlprune("fit", "--config", config)
    return mlprune


def replaced(file: Path, old: str, new: str) -> None:
    """Change a text in a file, and set its time back."""
    before, text = file.stat(), file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped(file: Path) -> None:
    """Change the last bit of a file, and set its time back."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[], None], str]] = {
    "prompts": (
        lambda: replaced(Path("prompts.de.jsonl"), "Satz", "Setz"),
        r"calibration prompts of group mt \(prompts.de.jsonl, prompts.en.jsonl\) was sha256 \w+... when",
    ),
    "examples": (lambda: Path("texts.en.jsonl").write_text(rows("fr")), r"task perplexity, examples en \(texts.en"),
    "weights": (lambda: flipped(Path("model/model.safetensors")), r"model file model.safetensors \(.*\) was sha256"),
    "tokenizer": (lambda: replaced(Path("model/tokenizer.json"), "{", "{ "), "model file tokenizer.json"),
    "config.json": (lambda: edit_json(Path("model/config.json"), rms_norm_eps=1e-3), "model file config.json"),
    "a file more": (lambda: Path("model/chat.jinja").touch() or None, "chat.jinja .* was not there when"),
    "a file less": (lambda: Path("model/generation_config.json").unlink(), "generation_config.json .*is not there now"),
    "config.yaml": (
        lambda: replaced(RUN / "config.yaml", "num_prompts: 5", "num_prompts: 4"),
        "config.yaml: data.num_prompts was 5 when the run began and is 4 now",
    ),
    "a key more": (
        lambda: replaced(RUN / "config.yaml", "max_tokens: 100", "max_tokens: 100\n  note: 1"),
        "config.yaml: data.note was not there",
    ),
}


def test_a_change_is_refused_by_name(interrupted, monkeypatch) -> None:
    """One run serves all changes, each of which is undone: a run that is refused stays as it was."""
    monkeypatch.setattr(ModelSource, "load_model", lambda self: pytest.fail("a model was loaded"))
    shutil.copytree(".", "../kept")
    for name, (change, words) in CHANGES.items():
        change()
        status, _, err = interrupted("fit", "--resume", RUN)
        assert (status, err.count("\n")) == (2, 1), f"{name}: {err}"
        assert re.search(words, err), f"{name}: {err}"
        assert err.endswith("restore it, or start a new run\n"), err
        shutil.copytree("../kept", ".", dirs_exist_ok=True)
        Path("model/chat.jinja").unlink(missing_ok=True)


@pytest.mark.parametrize("package", ["torch", "transformers", "tokenizers", "lightning", "mlprune", "numpy"])
def test_another_version_is_refused(interrupted, monkeypatch, package: str) -> None:
    from mlprune.runs import facts

    version = facts.version
    monkeypatch.setattr(facts, "version", lambda name: "99.0" if name == package else version(name))
    monkeypatch.setattr(ModelSource, "load_model", lambda self: pytest.fail("a model was loaded"))
    status, _, err = interrupted("fit", "--resume", RUN)
    assert (status, err.count("\n")) == (2, 1), err
    assert f"version of {package} was {version(package)} when the run began and is 99.0 now" in err


def test_files_that_were_only_touched_and_comments_change_nothing(interrupted) -> None:
    for file in [*Path("model").iterdir(), *Path().glob("*.jsonl")]:
        os.utime(file, ns=(1, 1))
    config = RUN / "config.yaml"
    config.write_text(f"# a note\n{config.read_text()}")
    status, _, err = interrupted("fit", "--resume", RUN)
    assert status == 0, err
    assert "evaluated before" in err
    assert (RUN / "comparison.json").is_file()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"null", b'{"config": 1}', b'{"config": "\xe0\xa4'])
def test_a_run_that_does_not_say_what_it_began_with_begins_again(interrupted, content: bytes | None) -> None:
    STATE.unlink() if content is None else STATE.write_bytes(content)
    status, _, err = interrupted("fit", "--resume", RUN)
    assert status == 0, err
    assert err.count("does not say what it was computed from; everything is computed again") == 1
    assert "evaluated before" not in err
    assert json.loads(STATE.read_text())["contents"]


def test_other_threads_are_one_warning(interrupted) -> None:
    content = json.loads(STATE.read_text())
    content["machine"] |= {"threads": 64, "cpu_capability": "NEON"}
    STATE.write_text(json.dumps(content))
    status, _, err = interrupted("fit", "--resume", RUN)
    assert status == 0, err
    assert err.count("another machine") == 1
    assert "threads 64 and 1, cpu_capability NEON and " in err
