"""Whatever text stands in a file comes out of every reader as it is, or the file is refused by one line."""

import csv
import gzip
import io
import json
import string
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlprune.data.corpora import Corpus, FloresFolder, HubDataset, LocalFiles
from mlprune.data.official import BmlamaFolder, XnliFile
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask

ODD = [
    *("2019-05-12", "2019-05-12T10:00:00Z", "1e5", "007", "1_000", "+1", "NA", "N/A", "null", "NaN", "None"),
    *("true", "no", "", " ", " un ", "\u3000", "\ufeffx", "x\ufeff", "a\u2028b", "a\x85b", "a\x0bb\x0cc\x1cd"),
    *("\u200fא\u200e", "\u202eab", "a\u00a0?", "e\u0301", "é", "🤷🏽\u200d♀️", "\x00", "a\x00b", "\x1a"),
    *("\ud7ff", "\uffff", "\U0010ffff", "a" * 200_000),
    *('"', '""', '"un"', 'a "b" c', '"a""b"', "'", "\\n", "\\", "a,b", "{text} {0}", "#un", "%", "<mask>"),
]  # fmt: skip
BREAKS = ["a\tb", "a\nb", "a\r\nb", "a\rb", "\n", "\r", "\t", '"\n', "\nun\n"]
TEXTS = st.one_of(
    st.sampled_from([*ODD, *BREAKS]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text(st.sampled_from(string.punctuation + "\t\r\n \x00\u2028a1"), max_size=8),
)


def csv_text(texts: list[str], separator: str = ",", **options: object) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, **options).writerows([["text", "n"], *([text, 1] for text in texts)])  # type: ignore[arg-type]
    return out.getvalue()


def write_csv(folder: Path, texts: list[str]) -> Corpus:
    (folder / "s.fr.csv").write_bytes(csv_text(texts).encode())
    return LocalFiles(f"{folder}/s.{{lang}}.csv")


def write_marked_csv(folder: Path, texts: list[str]) -> Corpus:
    content = csv_text(texts, quoting=csv.QUOTE_ALL, lineterminator="\n")
    (folder / "s.fr.csv").write_bytes(content.encode("utf-8-sig"))
    return LocalFiles(f"{folder}/s.{{lang}}.csv")


def write_tsv(folder: Path, texts: list[str]) -> Corpus:
    (folder / "s.fr.tsv").write_bytes("".join(f"{text}\t1\n" for text in ["text", *texts]).encode())
    return LocalFiles(f"{folder}/s.{{lang}}.tsv")


def write_jsonl(folder: Path, texts: list[str], escaped: bool = False) -> Corpus:
    lines = [json.dumps({"text": text, "n": i}, ensure_ascii=escaped) + "\n" for i, text in enumerate(texts)]
    (folder / "s.fr.jsonl").write_bytes("".join(lines).encode())
    return LocalFiles(f"{folder}/s.{{lang}}.jsonl")


def write_parquet(folder: Path, texts: list[str]) -> Corpus:
    pq.write_table(pa.table({"text": texts}), folder / "s.fr.parquet", row_group_size=2)
    return LocalFiles(f"{folder}/s.{{lang}}.parquet")


def write_flores(folder: Path, texts: list[str]) -> Corpus:
    (folder / "fra_Latn.dev").write_bytes("".join(f"{text}\r\n" for text in texts).encode())
    return FloresFolder(str(folder))


def write_xnli(folder: Path, texts: list[str]) -> Corpus:
    head = "language\tgold_label\tsentence1\tsentence2\n"
    (folder / "xnli.test.tsv").write_bytes((head + "".join(f"fr\tneutral\t{t}\tB\n" for t in texts)).encode())
    return Renamed(XnliFile(str(folder)), "premise")


def write_bmlama(folder: Path, texts: list[str]) -> Corpus:
    out = io.StringIO()
    rows = [["Prompt", "Ans", "Candidate Ans", "Subject"], *([text, "a", "a, b", "c"] for text in texts)]
    csv.writer(out, delimiter="\t", lineterminator="\n").writerows(rows)
    (folder / "fr.tsv").write_bytes(out.getvalue().encode())
    return Renamed(BmlamaFolder(str(folder)), "prompt")


def write_hub(folder: Path, texts: list[str]) -> Corpus:
    (folder / "hub").mkdir(exist_ok=True)
    (folder / "hub" / "test.csv").write_bytes(csv_text(texts).encode())
    return HubDataset(str(folder / "hub"))


def write_moses(folder: Path, texts: list[str]) -> Corpus:
    (folder / "s.en-fr.fr").write_bytes("".join(f"{text}\r\n" for text in texts).encode())
    return LocalFiles(f"{folder}/s.en-fr.{{lang}}")


def write_packed_text(folder: Path, texts: list[str]) -> Corpus:
    (folder / "s.fr.txt.gz").write_bytes(gzip.compress("".join(f"{text}\r\n" for text in texts).encode()))
    return LocalFiles(f"{folder}/s.{{lang}}.txt.gz")


def write_columns(folder: Path, texts: list[str]) -> Corpus:
    content = csv_text(texts).replace("text", "fr", 1).replace(",n", ",en", 1)
    (folder / "s.csv.zst").write_bytes(pa.compress(content.encode(), codec="zstd", asbytes=True))
    return LocalFiles(f"{folder}/s.csv.zst", columns={"text": "{lang}"})


def write_translations(folder: Path, texts: list[str]) -> Corpus:
    lines = [json.dumps({"translation": {"en": "x", "fr": text}}) + "\n" for text in texts]
    (folder / "s.jsonl").write_text("".join(lines))
    return LocalFiles(f"{folder}/s.jsonl")


def write_tmx(folder: Path, texts: list[str]) -> Corpus:
    segments = [escape(text, {"\r": "&#13;"}) for text in texts]
    units = [f'<tu><tuv xml:lang="FR"><seg>{text}</seg></tuv></tu>' for text in segments]
    (folder / "s.tmx").write_bytes(f"<tmx><body>{''.join(units)}</body></tmx>".encode())
    return LocalFiles(f"{folder}/s.tmx")


def write_flores_plus(folder: Path, texts: list[str]) -> Corpus:
    (folder / "dev").mkdir(exist_ok=True)
    lines = [json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts)]
    (folder / "dev" / "fra_Latn.jsonl").write_text("".join(lines))
    return FloresFolder(str(folder))


class Renamed(Corpus):
    """Another corpus, one of whose columns is the text."""

    numbered = True

    def __init__(self, corpus: Corpus, column: str) -> None:
        self.corpus, self.column = corpus, column

    @property
    def identity(self) -> tuple[str, ...]:
        return self.corpus.identity

    def check(self, lang: str) -> None:
        self.corpus.check(lang)

    def rows(self, lang: str) -> list[dict[str, str]]:
        return [{"id": row["id"], "text": row[self.column]} for row in self.corpus.rows(lang)]


NOT_IN_XML = "".join(map(chr, (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)))
WRITERS: dict[str, tuple[Callable[[Path, list[str]], Corpus], str]] = {  # and what a cell cannot hold
    "csv": (write_csv, ""),
    "csv, all quoted, marked": (write_marked_csv, ""),
    "jsonl": (write_jsonl, ""),
    "jsonl, escaped": (lambda folder, texts: write_jsonl(folder, texts, escaped=True), ""),
    "parquet": (write_parquet, ""),
    "hub": (write_hub, ""),
    "tsv": (write_tsv, "\t\n"),
    "flores": (write_flores, "\n"),
    "xnli": (write_xnli, "\t\n"),
    "bmlama": (write_bmlama, "\t\r\n"),
    "moses": (write_moses, "\n"),
    "text, gzip": (write_packed_text, "\n"),
    "a column a language, zstd": (write_columns, ""),
    "translations": (write_translations, ""),
    "tmx": (write_tmx, NOT_IN_XML),
    "flores+": (write_flores_plus, ""),
}
LINES = ("flores", "moses", "text, gzip")  # where a mark of byte order is not part of the first text


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@example(texts=ODD)
@example(texts=BREAKS)
def test_text_is_kept(name: str, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    write, impossible = WRITERS[name]
    texts = [text for text in texts if not set(text) & set(impossible)] or ["x"]
    folder = tmp_path_factory.mktemp("s")
    corpus = write(folder, texts)
    if name in ("tsv", "xnli", "bmlama", *LINES) and refused(corpus):
        return
    rows = corpus.rows("fr")
    kept = [text.removeprefix("\ufeff") if name in LINES and i == 0 else text for i, text in enumerate(texts)]
    assert [row["text"] for row in rows] == kept
    if any(map(str.strip, kept)):
        task = CandidateTask(
            "q", ["fr"], Labelled(corpus), "[{text}] {label}", verbalizer={"y": "a", "n": "b"}, label_column="label"
        )
        used = [example.candidates[0] for example in task.examples("fr")]
        assert used == [f"[{text}] a" for text in kept if text.strip()]


def refused(corpus: Corpus) -> bool:
    """Whether a file of a single line looks like one whose lines end in carriage returns alone."""
    try:
        corpus.rows("fr")
    except UserError as error:
        return "carriage returns alone" in str(error)
    return False


class Labelled(Renamed):
    """Another corpus, with a label for every row."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus, "text")

    def rows(self, lang: str) -> list[dict[str, str]]:
        return [row | {"label": "y"} for row in super().rows(lang)]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_line_ends_are_no_text(kind: str, ends: str, tmp_path: Path) -> None:
    lines = ['{"text": "un"}', "", '{"text": "deux"}'] if kind == "jsonl" else ["text", "un", "", "deux"]
    for last in ("", ends):
        (tmp_path / f"s.fr.{kind}").write_bytes((ends.join(lines) + last).encode())
        assert [row["text"] for row in LocalFiles(f"{tmp_path}/s.{{lang}}.{kind}").rows("fr")] == ["un", "", "deux"]


def test_lines_that_end_in_carriage_returns_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fra_Latn.dev").write_bytes(b"un\rdeux\rtrois\r")
    with pytest.raises(UserError, match="end in carriage returns alone"):
        FloresFolder(str(tmp_path)).rows("fr")


def test_half_a_character_is_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "s.fr.jsonl").write_text('{"text": "un"}\n{"text": "\\ud83d"}\n')
    with pytest.raises(UserError, match=r"row 2 of .*s\.fr\.jsonl: text holds an unpaired surrogate"):
        LocalFiles(f"{tmp_path}/s.{{lang}}.jsonl").sentences("fr")
