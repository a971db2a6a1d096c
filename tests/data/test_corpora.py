"""Corpora: every source, every format, and every error with file, row and reason."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from mlprune.data.corpora import Bundled, FloresFolder, HubDataset, LocalFiles
from mlprune.data.official import BmlamaFolder, XnliFile
from mlprune.errors import UserError

ROWS = [{"body": "Très bien, merci.", "stars": 5}, {"body": 'Il a dit « non », puis "oui".', "stars": 1}]


def write(folder: Path, extension: str) -> None:
    frame = pd.DataFrame(ROWS)
    target = folder / f"reviews.fr.{extension}"
    if extension == "jsonl":
        target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    elif extension == "parquet":
        frame.to_parquet(target)
    else:
        tabs = {"sep": "\t", "quoting": csv.QUOTE_NONE} if extension == "tsv" else {}  # the public sets do not quote
        frame.to_csv(target, index=False, **tabs)


@pytest.mark.parametrize("extension", ["jsonl", "csv", "tsv", "parquet"])
def test_local_files(tmp_path: Path, extension: str) -> None:
    write(tmp_path, extension)
    corpus = LocalFiles(f"{tmp_path}/reviews.{{lang}}.{extension}", columns={"text": "body", "stars": "stars"})
    rows = corpus.rows("fr")
    assert [row["text"] for row in rows] == [row["body"] for row in ROWS]
    assert [int(row["stars"]) for row in rows] == [5, 1]
    assert [row["id"] for row in rows] == ["0", "1"]


def test_flores_folder(tmp_path: Path) -> None:
    (tmp_path / "eng_Latn.dev").write_bytes(
        "\ufeffOne.\r\nTwo.\r\n".encode()
    )  # a mark of byte order, Windows line ends
    (tmp_path / "devtest").mkdir()
    (tmp_path / "devtest" / "swh_Latn.devtest").write_text("Moja.\n", encoding="utf-8")
    assert FloresFolder(str(tmp_path)).rows("en") == [{"id": "0", "text": "One."}, {"id": "1", "text": "Two."}]
    assert FloresFolder(str(tmp_path), "devtest").rows("sw") == [{"id": "0", "text": "Moja."}]
    with pytest.raises(UserError, match=r"no file fra_Latn\.dev for language 'fr'"):
        FloresFolder(str(tmp_path)).check("fr")


def test_a_local_folder_in_the_hubs_layout(tmp_path: Path) -> None:
    for lang in ("en", "fr"):
        (tmp_path / lang).mkdir()
        pd.DataFrame({"premise": [f"{lang} a", f"{lang} b"], "label": [0, 2]}).to_parquet(
            tmp_path / lang / "test.parquet"
        )
    corpus = HubDataset(str(tmp_path), data_files="{lang}/test.parquet", split="train")
    assert [row["premise"] for row in corpus.rows("fr")] == ["fr a", "fr b"]


def test_a_missing_or_gated_set_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"nobody/nothing") as error:
        HubDataset("nobody/nothing").rows("en")
    assert "\n" not in str(error.value)
    assert any(word in str(error.value) for word in ("log in", "login", "local", "network"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.fr.jsonl", b'{"text": "a"}\n{"text": \n', "row|line"),
        ("x.fr.jsonl", b'{"text": "a"}\n{"other": "b"}\n', "column 'text'"),
        ("x.fr.csv", b"text,label\nun,1\ndeux\n", "2|3"),
        ("x.fr.csv", b"texte,label\nun,1\n", "no column 'text'.*did you mean 'texte'"),
        ("x.fr.jsonl", '{"text": "é"}\n'.encode("latin-1"), "UTF-8"),
        (
            "x.fr.json",
            b'[{"text": "a"},\n{"text": "b"}]\n',
            "row 1 is not JSON: .*; write one object per line",
        ),
        ("x.fr.jsonl", b"\n", "there are no rows"),
        ("x.fr.tsv", b"text\n", "there are no rows"),
        ("x.fr.csv", b"", "there are no rows"),
    ],
)
def test_faults_are_told_by_file_and_reason(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        LocalFiles(f"{tmp_path}/x.{{lang}}.{name.rsplit('.', 1)[1]}", columns={"text": "text"}).rows("fr")
    assert "x.fr" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_without_its_language_holds_one_only(tmp_path: Path) -> None:
    (tmp_path / "x.fr.tsv").write_text("text\nOui.\n")
    corpus = LocalFiles(f"{tmp_path}/x.fr.tsv")
    assert len(corpus.rows("fr")) == 1
    with pytest.raises(UserError, match=r"is used for de, fr; put \{lang\} in place of the code"):
        corpus.check("de")


def test_unicode_line_separators_stand_within_texts(tmp_path: Path) -> None:
    text = "One\u2028and\x85two"
    (tmp_path / "eng_Latn.dev").write_text(f"{text}\n\nThree\n", encoding="utf-8")
    assert [row["text"] for row in FloresFolder(str(tmp_path)).rows("en")] == [text, "", "Three"]
    line = f"fr\tneutral\t{text}\tB"
    (tmp_path / "xnli.test.tsv").write_text(f"language\tgold_label\tsentence1\tsentence2\n{line}\n", encoding="utf-8")
    assert [row["premise"] for row in XnliFile(str(tmp_path)).rows("fr")] == [text]
    (tmp_path / "fr.tsv").write_text(f"header\n{text} <mask>\tA\tA, B\n", encoding="utf-8")
    assert [row["prompt"] for row in BmlamaFolder(str(tmp_path)).rows("fr")] == [f"{text} <mask>"]


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.fr.jsonl").write_text('{"key": "a", "text": "1"}\n{"key": "a", "text": "2"}\n')
    corpus = LocalFiles(f"{tmp_path}/x.{{lang}}.jsonl", columns={"text": "text"}, id_column="key")
    with pytest.raises(UserError, match=r"rows 1 and 2 have the same id 'a'"):
        corpus.rows("fr")


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    for name in ("x.{lang}.doc", "{lang}.tvs.gz", "corpus.fr", "{lang}"):
        with pytest.raises(UserError, match="no known extension; give one of jsonl"):
            LocalFiles(str(tmp_path / name))


def test_bundled_names_and_splits() -> None:
    with pytest.raises(UserError, match="give one of parallel, nli"):
        Bundled("paralel")
    with pytest.raises(UserError, match="give dev or test"):
        Bundled("parallel", split="train")
    dev, test = ({row["id"] for row in Bundled("parallel", split).rows("en")} for split in ("dev", "test"))
    assert dev
    assert test
    assert not dev & test


def test_a_text_that_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "a.en.jsonl").write_text('{"text": 1984}\n')
    with pytest.raises(UserError, match=r"row 1 of .*a\.en\.jsonl: text is 1984; quote it"):
        LocalFiles(str(tmp_path / "a.{lang}.jsonl")).sentences("en")
