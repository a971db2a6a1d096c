"""Data sets in the hub's layout: their text is left as it is, and what is wrong with them is one line."""

from pathlib import Path

import datasets
import pytest

from mlprune.data.corpora import HubDataset
from mlprune.errors import UserError

CARD = "---\ndataset_info:\n  features:\n  - name: text\n    dtype: int64\n---\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def place(folder: Path, files: dict[str, bytes]) -> HubDataset:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return HubDataset(str(folder), split="test")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"test.jsonl": b'{"text": "a"}\n{"text": "b"}\n{"text": c}\n'}, "row 3 is not JSON"),
        ({"test1.csv": b"text,n\nun,1\n", "test2.csv": b"text,m\nun,1\n"}, "columns"),
        ({"test.csv": b"text,n\nun,1\ndeux,2,3\n"}, "row 2 has 3 cells"),
        ({"test.csv": "text\nété\n".encode("latin-1")}, "not UTF-8"),
        ({"README.md": CARD.encode(), "test.csv": b"text\nun\n"}, "int64"),
        ({"README.md": b"---\nconfigs: [\n---\n", "test.csv": b"text\nun\n"}, "flow"),
        ({"test.parquet": b"PAR1 and no more"}, "arquet"),
    ],
    ids=["json", "columns", "cells", "latin-1", "types", "card", "parquet"],
)
def test_faults_are_one_line_with_the_cause(files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as error:
        place(tmp_path / "set", files).rows("fr")
    assert "\n" not in str(error.value)
    assert "set" in str(error.value)


TEXTS = ["null", "NA", "NaN", "007", "2019-05-12", "1e5", "True", " un ", "N/A"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_strings_stay_strings(kind: str, tmp_path: Path) -> None:
    lines = ["text,n", *(f"{text},1" for text in TEXTS)] if kind == "csv" else [f'{{"text": "{t}"}}' for t in TEXTS]
    corpus = place(tmp_path / "set", {f"test.{kind}": "".join(line + "\n" for line in lines).encode()})
    assert [row["text"] for row in corpus.rows("fr")] == TEXTS


def test_all_cells_are_dates(tmp_path: Path) -> None:
    corpus = place(tmp_path / "set", {"test.jsonl": b'{"text": "2019-05-12"}\n{"text": "2020-01-01"}\n'})
    assert [row["text"] for row in corpus.rows("fr")] == ["2019-05-12", "2020-01-01"]


def test_the_folders_name_is_no_pattern(tmp_path: Path) -> None:
    assert len(place(tmp_path / "set[1]", {"test.csv": b"text\nun\n"}).rows("fr")) == 1
