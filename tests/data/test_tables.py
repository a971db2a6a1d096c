"""Tables as people have them: they are read as they stand, or refused by one line."""

from pathlib import Path

import pytest

from mlprune.data.corpora import FloresFolder, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.tasks import Xnli

LONG = "mot " * 50_000


def texts(folder: Path, name: str, content: str, columns: dict[str, str] | None = None) -> list[str]:
    (folder / name.replace("{lang}", "fr")).write_text(content, encoding="utf-8", newline="")
    return [row["text"] for row in LocalFiles(f"{folder}/{name}", columns=columns).rows("fr")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.{lang}.csv", f"text,n\n{LONG},1\n", [LONG]),
        ("x.{lang}.tsv", f"text\tn\n{LONG}\t1\n", [LONG]),
        ("x.{lang}.csv", ",text\n0,un\n1,deux\n", ["un", "deux"]),  # pandas' index
        ("x.{lang}.csv", "text,n,\nun,1,\n", ["un"]),
        ("x.{lang}.csv", "text,n\nun,1,\n", ["un"]),
        ("x.{lang}.tsv", "text\tn\t\nun\t1\t\n", ["un"]),
        ("x.{lang}.csv", ",text,\n0,un,\n", ["un"]),
        ("x.{lang}.jsonl", '{"text": "a"}\n{"text": "b", "note": 1}\n', ["a", "b"]),
        ("x.{lang}.CSV", "text\nun\n", ["un"]),
        ("x[1]?.{lang}.csv", "text\nun\n", ["un"]),
    ],
)
def test_is_read(name: str, content: str, expected: list[str], tmp_path: Path) -> None:
    assert texts(tmp_path, name, content) == expected


def test_names_in_paths_are_no_patterns(tmp_path: Path) -> None:
    (tmp_path / "xa.fr.csv").write_text("text\nanother\n")
    (tmp_path / "x1.fr.csv").write_text("text\nanother\n")
    assert texts(tmp_path, "x[1].{lang}.csv", "text\nun\n") == ["un"]
    assert texts(tmp_path, "x?.{lang}.csv", "text\nun\n") == ["un"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.{lang}.csv", "text,text\nFrench,English\n", "two columns are named 'text'"),
        ("x.{lang}.tsv", "text\ttext\nFrench\tEnglish\n", "two columns are named 'text'"),
        ("x.{lang}.jsonl", '{"text": "French", "text": "English"}\n', "two columns are named 'text'"),
        ("x.{lang}.csv", "text,n\nun,1\ndeux\n", "row 2 has 1 cell, .* 2"),
        ("x.{lang}.tsv", "text\tn\nun\t1\ndeux\n", "row 2 has 1 cell, .* 2"),
        ("x.{lang}.csv", 'text\nun\n"deux" trois\n', "row 2"),
    ],
)
def test_is_refused_by_row(name: str, content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as error:
        texts(tmp_path, name, content, {"text": "text"})
    assert "\n" not in str(error.value)
    assert name.replace("{lang}", "fr") in str(error.value)


def test_rows_are_counted_from_the_first_data_row_in_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.fr.csv").write_bytes("text\nun\nété\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"row [23] is not UTF-8"):
        LocalFiles(f"{tmp_path}/x.{{lang}}.csv").rows("fr")


def test_two_columns_of_one_name_may_stand_unused(tmp_path: Path) -> None:
    assert texts(tmp_path, "x.{lang}.csv", "note,text,note\n1,un,2\n") == ["un"]


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.fr.csv").mkdir()
    with pytest.raises(UserError, match=r"x\.fr\.csv' .* is a folder"):
        LocalFiles(f"{tmp_path}/x.{{lang}}.csv").check("fr")


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.fr.csv").write_text("text\nun\n")
    (tmp_path / "fra_Latn.dev").write_text("deux\n")
    assert [row["text"] for row in LocalFiles("~/x.{lang}.csv").rows("fr")] == ["un"]
    assert [row["text"] for row in FloresFolder("~").rows("fr")] == ["deux"]


HEAD = "language\tgold_label\tsentence1\tsentence2\tpairID\n"


def test_official_xnli_with_a_row_cut_short(tmp_path: Path) -> None:
    (tmp_path / "xnli.test.tsv").write_text(f"{HEAD}fr\tneutral\tIl pleut.\n")
    with pytest.raises(UserError, match=r"xnli\.test\.tsv: row 1 has 3 cells"):
        Xnli(["fr"], path=str(tmp_path)).examples("fr")


def test_official_xnli_with_a_long_cell(tmp_path: Path) -> None:
    (tmp_path / "xnli.test.tsv").write_text(f"{HEAD}fr\tneutral\t{LONG}\tB.\t1\n")
    (example,) = Xnli(["fr"], path=str(tmp_path)).examples("fr")
    assert example.candidates[0] == f"{LONG} , right?  Yes , B."
