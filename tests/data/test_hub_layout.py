"""Data sets in the hub's layout: their text is left as it is, and what is wrong with them is one line."""

import gzip
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
        ({"other.csv": b"text\nun\n"}, "split 'test' does not exist; it has train"),
        ({"notes.xyz": b""}, "data files"),
        ({"test.jsonl.gz": b"no gz"}, "cannot be unpacked"),
    ],
    ids=["json", "columns", "cells", "latin-1", "types", "card", "parquet", "split", "empty", "gz"],
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


def test_compressed_files_are_unpacked(tmp_path: Path) -> None:
    corpus = place(tmp_path / "set", {"test.jsonl.gz": gzip.compress(b'{"text": "2019-05-12"}\n')})
    assert [row["text"] for row in corpus.rows("fr")] == ["2019-05-12"]


def test_a_part_of_a_split_and_a_list_of_json(tmp_path: Path) -> None:
    files = {
        "test.json": b'[{"text": "un"},\n{"text": "007"}, {"text": "trois"}]',
        "train.json": b'{"text": "quatre"}\n',
    }
    place(tmp_path / "set", files)
    rows = HubDataset(str(tmp_path / "set"), split="test[1:]+train").rows("fr")
    assert rows == [{"id": str(i), "text": text} for i, text in enumerate(("007", "trois", "quatre"))]


def test_labels_that_the_card_names(tmp_path: Path) -> None:
    names = "        names:\n          '0': no\n          '1': 'yes'\n"
    card = f"---\ndataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n{names}---\n"
    corpus = place(tmp_path / "set", {"README.md": card.encode(), "test.csv": b"text,label\nun,yes\n"})
    assert corpus.rows("fr")[0]["label"] == 1


def test_an_option_of_the_card(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: test, path: a.csv}\n  sep: ';'\n---\n"
    corpus = place(tmp_path / "set", {"README.md": card.encode(), "a.csv": b"text;n\n007;1\n"})
    assert corpus.rows("fr")[0]["text"] == "007"


def test_text_of_a_repository_is_kept_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And read there as a folder is, with a network and without one."""
    place(tmp_path / "set", {"test.csv": b"text\nnull\n"})
    real, calls = datasets.load_dataset_builder, []

    def online(name: str, *args: object, **options: object) -> object:
        builder = real(str(tmp_path / "set") if name == "someone/set" else name)
        if name == "someone/set":
            builder.config.data_files = {"test": ["hf://datasets/someone/set@abc/test.csv"]}
        return builder

    def offline(name: str, *args: object, **options: object) -> object:
        if name == "someone/set":
            raise ConnectionError("Couldn't reach 'someone/set' on the Hub")
        return real(name)

    def download(name: str, **options: object) -> str:
        calls.append(options)
        return str(tmp_path / "set")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for load in (online, offline):
        monkeypatch.setattr(datasets, "load_dataset_builder", load)
        assert HubDataset("someone/set", revision="v1").rows("fr") == [{"id": "0", "text": "null"}]
    with_network, without = calls
    assert with_network["allow_patterns"] == ["README.md", "test.csv"]
    assert without["local_files_only"]
    assert {options["revision"] for options in calls} == {"v1"}


def test_the_folders_name_is_no_pattern(tmp_path: Path) -> None:
    assert len(place(tmp_path / "set[1]", {"test.csv": b"text\nun\n"}).rows("fr")) == 1
