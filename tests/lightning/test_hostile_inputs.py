"""Model folders, data files and configs damaged at random: a run works or says one clear line, and touches no input."""

import csv
import hashlib
import io
import json
import random
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from mutations import mutate_file
from tiny import save_tiny, tiny_model
from tiny_runs import tiny_config

SECONDS = 60  # on a busy machine; a run takes one or two
SEEDS = [pytest.param(seed, marks=[] if seed < 14 else [pytest.mark.slow]) for seed in range(150)]
TEMPLATE = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
ROWS = [{"premise": f"Il pleut {i} fois.", "hypothesis": f'Rien, "{i}" é', "label": i % 3} for i in range(8)]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End what takes longer, so that it fails by name."""

    def end(number: int, frame: Any) -> None:
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def digests(folder: Path) -> dict[str, str]:
    """What a folder holds, but for what runs write."""
    files = (file for file in folder.rglob("*") if file.is_file() and "work" not in file.relative_to(folder).parts)
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def check(mlprune: Any, tmp_path: Path, *args: object, words: tuple[str, ...] = ()) -> None:
    """Run a command; it works, or ends in one line without control characters that holds one of the words."""
    (tmp_path / "work").mkdir(exist_ok=True)
    before, limit = digests(tmp_path), sys.getrecursionlimit()
    with at_most(SECONDS), pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "work")
        here = ["--trainer.default_root_dir", tmp_path / "work", "--trainer.devices", 1, "--trainer.num_nodes", 1]
        status, out, err = mlprune(*args, *here)  # in this process
    assert digests(tmp_path) == before
    assert sys.getrecursionlimit() == limit
    assert "Traceback" not in out + err
    raw = [char for char in out + err if unicodedata.category(char) in ("Cc", "Cf") and char not in "\n\t"]
    assert not raw, (raw, err)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if status == 0:
        assert not errors, err
        return
    assert status == 2, err
    assert len(errors) == 1, err
    assert err.rstrip().endswith(errors[0]), err  # nothing follows, so the line is all of it
    assert 20 < len(errors[0]) < 1600, err
    assert any(word in errors[0] for word in words), errors[0]


def write(tmp_path: Path, config: dict[str, Any]) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return file


def model_folder(folder: Path, rng: random.Random) -> Path:
    """A tiny model in one file or in shards, with a chat template and settings of generation."""
    save_tiny(folder, rng.choice(("llama", "gpt2", "mixtral")))
    if rng.random() < 0.3:
        (folder / "model.safetensors").unlink()
        tiny_model("llama").save_pretrained(folder, max_shard_size="40KB")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.mark.parametrize("seed", SEEDS)
def test_model_folders(mlprune, tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"model {seed}")
    folder = model_folder(tmp_path / "model", rng)
    files = [file for file in sorted(folder.iterdir()) if rng.random() < 0.5 or "-of-" not in file.name]
    mutate_file(rng, file := rng.choice(files))
    config = tiny_config(folder)
    config["data"] |= {"num_prompts": 1, "max_tokens": 40}
    task = config["data"]["tasks"][2]
    task["init_args"] |= {"chat_template": True, "languages": ["fr"], "limit": 1, "max_new_tokens": 2}
    config["data"]["tasks"] = [task]
    config["data"]["demonstrations"]["mt"]["init_args"]["shots"] = 1
    command = rng.choice((["test"], ["validate"], ["validate", "--pruning.streaming", "true"]))
    words = (file.name, "model", "tokenizer", "template", "generation_config")
    check(mlprune, tmp_path, command[0], "--config", write(tmp_path, config), *command[1:], words=words)


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows in the format of a file's extension."""
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix in (".jsonl", ".json"):
        file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if file.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        file.write_text(text.getvalue(), encoding="utf-8")


@pytest.mark.parametrize("seed", SEEDS)
def test_data_files(mlprune, tmp_path: Path, tiny_folder: Path, seed: int) -> None:
    rng = random.Random(f"data {seed}")
    data = tmp_path / "data"
    data.mkdir()
    extension = rng.choice(("csv", "tsv", "jsonl", "json", "parquet"))
    for lang in ("en", "fr"):
        write_rows(data / f"rows.{lang}.{extension}", ROWS)
    mutate_file(rng, data / f"rows.fr.{extension}")
    path = {"path": f"{data}/rows.{{lang}}.{extension}"}
    corpus = {"class_path": "mlprune.data.corpora.LocalFiles", "init_args": path}
    texts = corpus | {"init_args": path | {"columns": {"text": "premise"}}}
    config = tiny_config(tiny_folder)
    config["data"] |= {"num_prompts": 1, "max_tokens": 100}
    config["data"]["demonstrations"]["mt"]["init_args"] |= {"corpus": texts, "shots": 1}
    nli, _, _, perplexity = config["data"]["tasks"]
    nli["init_args"] |= {"corpus": corpus, "languages": ["en", "fr"], "limit": 2}
    perplexity["init_args"] |= {"corpus": texts, "limit": 2}
    config["data"]["tasks"] = [rng.choice((nli, perplexity))]
    command = rng.choice(("test", "validate"))
    check(mlprune, tmp_path, command, "--config", write(tmp_path, config), words=(f"rows.fr.{extension}", "task '"))


@pytest.mark.parametrize("seed", SEEDS)
def test_configs(mlprune, tmp_path: Path, tiny_folder: Path, seed: int) -> None:
    rng = random.Random(f"config {seed}")
    config = tiny_config(tiny_folder)
    config["data"] |= {"num_prompts": 1, "max_tokens": 60}
    config["data"]["demonstrations"]["mt"]["init_args"]["shots"] = 1
    config["data"]["tasks"] = config["data"]["tasks"][::3]
    config["pruning"] = {
        "importance": {"class_path": "mlprune.pruning.Wanda", "init_args": {"variant": False}},
        "pattern": {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.3, "scope": "row"}},
        "include": [".*mlp.*"],
        "propagate": "dense",
    }
    callbacks = [{"class_path": "mlprune.callbacks.ResultsTable"}]
    config["trainer"] |= {"logger": False, "max_epochs": 0, "callbacks": callbacks}
    mutate_file(rng, write(tmp_path, config))
    command = rng.choice(("test", "validate"))
    check(mlprune, tmp_path, command, "--config", tmp_path / "run.yaml", words=("",))
