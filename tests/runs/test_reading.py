"""Files of a run are read whole, of any version up to this one, or refused by one line."""

import json
from pathlib import Path

import pytest

from mlprune.errors import UserError
from mlprune.runs.content import read_run
from mlprune.runs.reading import SCHEMA_VERSION, read_json, read_predictions

JSON_FILES = ["results.json", "results.dense.json", "comparison.json", "pruned/mlprune.json", "overlap.json"]


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("version", [None, *range(1, SCHEMA_VERSION + 1)])
def test_older_files_are_read(tmp_path: Path, version: int | None) -> None:
    content = {"stage": "dense"} | ({} if version is None else {"schema_version": version})
    assert read_run(write(tmp_path, "results.json", json.dumps(content).encode())).results == {"dense": content}


@pytest.mark.parametrize("name", JSON_FILES)
def test_newer_files_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode())
    with pytest.raises(UserError, match=f"{name}' has schema_version {SCHEMA_VERSION + 1}; .* up to {SCHEMA_VERSION}"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b'{"a": "\xe0\xa4', b"[" * 100_000, b"\xff\xfe"])
@pytest.mark.parametrize("name", [*JSON_FILES, "config.yaml"])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UserError, match=f"{name}' cannot be read: .") as caught:
        read_run(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_json(tmp_path / "results.json") == {}
    assert read_predictions(tmp_path / "predictions") == {}


@pytest.mark.parametrize("line", [b"{", b"[]", b"3", b"{}", b'{"id": "\xe0\xa4'])
def test_damaged_predictions_are_named(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, "nli.fr.jsonl", b'{"id": "0"}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"nli.fr.jsonl' cannot be read"):
        read_predictions(tmp_path)


def test_texts_keep_their_line_separators(tmp_path: Path) -> None:
    record = {"id": "0", "text": "one\u2028two\u0085three"}
    write(tmp_path, "nli.fr.jsonl", json.dumps(record, ensure_ascii=False).encode())
    assert read_predictions(tmp_path) == {"nli": {"fr": {"0": record}}}
