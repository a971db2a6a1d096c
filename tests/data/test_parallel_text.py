"""Parallel text as corpora are published: pairs of plain files, one table, translation memories, FLORES+."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlprune.data.corpora import FloresFolder, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.tasks import TranslationTask

ROWS = [("Un \u200f«deux».", "One two."), ("", "Three"), ('"Quatre', "Four"), ("cinq " * 9 + ".", "\u2067x\u2069")]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


def memory(*units: str, head: str = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">') -> str:
    return f'{head}<tmx version="1.4"><header srclang="en"/><body>{"".join(units)}</body></tmx>'


def unit(**texts: str) -> str:
    sides = (f'<tuv xml:lang="{lang.replace("_", "-")}"><seg>{text}</seg></tuv>' for lang, text in texts.items())
    return f"<tu>{''.join(sides)}</tu>"


def contents(name: str, rows: list[tuple[str, str]]) -> dict[str, str]:
    """What stands in the files that a path such as ``{lang}.txt`` means."""
    if "{lang}" in name:
        sides = zip(("fr", "en"), zip(*rows, strict=True), strict=True)
        return {name.replace("{lang}", lang): "\n".join(texts) for lang, texts in sides}
    if name.endswith("tsv"):
        return {name: "fr\ten\n" + "".join(f"{fr}\t{en}\n" for fr, en in rows)}
    if name.endswith("tmx"):
        return {name: memory(*(unit(FR_fr=fr, en=en) for fr, en in rows))}
    return {name: "".join(json.dumps({"translation": {"fr": fr, "en": en}}) + "\n" for fr, en in rows)}


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("name", ["corpus.fr-en.{lang}", "{lang}.txt", "corpus.tsv", "corpus.jsonl", "corpus.tmx"])
def test_pairs_are_read(name: str, ending: str, tmp_path: Path) -> None:
    for file, text in contents(name, ROWS).items():
        (tmp_path / f"{file}{ending}").write_bytes(PACKED[ending](text.encode("utf-8-sig")))
    columns = {"text": "{lang}"} if name == "corpus.tsv" else None
    corpus = LocalFiles(f"{tmp_path}/{name}{ending}", columns=columns)
    task = TranslationTask(["fr"], corpus=corpus, shots=0)
    task.check()
    found = [(example.source, example.reference) for example in task.examples("fr")]
    assert found == [row for row in ROWS if row[0]]


def test_several_streams_in_one_file(tmp_path: Path) -> None:
    for ending, pack in PACKED.items():
        (tmp_path / f"c.fr{ending}").write_bytes(pack(b"un\n") + pack(b"deux\n"))
        assert [row["text"] for row in LocalFiles(f"{tmp_path}/c.{{lang}}{ending}").rows("fr")] == ["un", "deux"]


@pytest.mark.parametrize("ending", [ending for ending in PACKED if ending])
@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: b"un\n", lambda content: content[:9]])
def test_a_damaged_file_is_refused(ending: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = damage(PACKED[ending](b"un\ndeux\n" * 9))
    (tmp_path / f"c.fr{ending}").write_bytes(content)
    with pytest.raises(UserError, match=rf"c\.fr\{ending}: cannot be unpacked: \w+") as error:
        LocalFiles(f"{tmp_path}/c.{{lang}}{ending}").rows("fr")
    assert "\n" not in str(error.value)


def test_a_packed_file_is_unpacked_once_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "c.fr.gz").write_bytes(gzip.compress(b"un\ndeux\n"))
    corpus = LocalFiles(f"{tmp_path}/c.{{lang}}.gz")
    first, second = corpus.rows("fr"), corpus.rows("fr")
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    assert first == second
    del first, second
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.tsv", "fr\ten\nun\tone\ttoo many\n", r"row 1 has 3 cells, the header has 2"),
        ("c.tsv", "fr\ten\nun\n", r"row 1 has 1 cell, the header has 2"),
        ("c.tsv", "fr\tde\nun\teins\n", r"no column 'en'; it has fr, de"),
        ("c.tsv", "fr\tfr\ten\nun\tdeux\tone\n", r"two columns are named 'fr'; rename one"),
        ("c.tsv.gz", "fr\ten\nun\n", r"cannot be unpacked: Not a gzipped file"),
        ("c.tmx", memory(unit(fr="un", de="eins")), r"translation has no 'en'; it has fr, de"),
        ("c.tmx", memory(unit(fr="un", en_GB="one", en_US="one")), r"translation has en-GB and en-US for 'en'"),
        (
            "c.tmx",
            memory("<tu><tuv xml:lang='fr'><seg>1</seg></tuv><tuv lang='fr'><seg>2</seg></tuv></tu>"),
            "two texts",
        ),
        ("c.tmx", memory("<tu><tuv><seg>un</seg></tuv></tu>"), r"row 1: a text has no xml:lang"),
        ("c.tmx", memory("<tuv xml:lang='fr'><seg>un</seg></tuv>"), r"a text stands outside of a unit"),
        ("c.tmx", memory(), r"there are no rows"),
        ("c.tmx", memory(unit(fr="un", en="one"))[:-9], r"line 1 is not XML"),
        ("c.tmx", memory(unit(fr="a\0b", en="one")), r"line 1 is not XML"),
        ("c.tmx", memory(unit(fr="&inconnu;", en="one")), r"entity 'inconnu' is not allowed"),
        (
            "c.tmx",
            memory(unit(fr="&b;", en="x"), head='<!DOCTYPE tmx [<!ENTITY b "ha">]>'),
            r"entity 'b' is not allowed",
        ),
        ("c.tmx", memory(unit(fr="&f;"), head='<!DOCTYPE tmx [<!ENTITY f SYSTEM "/etc/passwd">]>'), r"entity 'f'"),
        ("c.tmx", "<html/>", r"is no translation memory: its first element is 'html'"),
    ],
)
def test_what_is_no_pair_is_refused_by_one_line(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    corpus = LocalFiles(f"{tmp_path}/{name}", columns={"text": "{lang}"} if ".tsv" in name else None)
    with pytest.raises(UserError, match=words) as error:
        TranslationTask(["fr"], corpus=corpus, shots=0).examples("fr")
    assert "c.t" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_unequal_length_are_no_pair(tmp_path: Path) -> None:
    (tmp_path / "c.fr").write_text("un\ndeux\n")
    (tmp_path / "c.en").write_text("one\n")
    with pytest.raises(UserError, match=r"c\.fr has 2 rows, .*c\.en has 1; rows are paired by their number"):
        TranslationTask(["fr"], corpus=LocalFiles(f"{tmp_path}/c.{{lang}}"), shots=0).examples("fr")


def test_a_memory_keeps_words_and_drops_markup(tmp_path: Path) -> None:
    marked = "Un <bpt i='1'>&lt;b></bpt>mot <hi>tr&#232;s</hi> fort<ept i='1'/> <ph>{0}<sub>x</sub></ph>&amp; bon"
    named = unit(fr=marked, en="A &lt;very> strong word").replace("<tu>", "<tu tuid='a'>")
    (tmp_path / "c.tmx").write_text(memory(named, unit(en="alone").replace("<tu>", "<tu tuid='b'>")))
    corpus = LocalFiles(f"{tmp_path}/c.tmx", id_column="tuid")
    assert [(row["id"], row["text"]) for row in corpus.rows("fr")] == [("a", "Un mot très fort & bon"), ("b", "")]
    assert [row["text"] for row in corpus.rows("en")] == ["A <very> strong word", "alone"]
    (tmp_path / "c.tmx").write_text(memory(named, named))
    with pytest.raises(UserError, match="rows 1 and 2 have the same id 'a'"):
        corpus.rows("fr")


def test_regions_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "c.tmx").write_text(memory(unit(pt_BR="um", pt_PT="dois", zh_Hant="一", en="one")))
    corpus = LocalFiles(f"{tmp_path}/c.tmx", language_codes={"es": "pt-PT"})
    assert [corpus.rows(lang)[0]["text"] for lang in ("pt-BR", "es", "en-GB")] == ["um", "dois", "one"]
    with pytest.raises(UserError, match="has pt-BR and pt-PT for 'pt'; choose one with language_codes"):
        corpus.rows("pt")
    for other in ("zh", "pt-AO"):
        with pytest.raises(UserError, match=f"translation has no '{other}'"):
            corpus.rows(other)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst", "parquet"])
def test_flores_plus(ending: str, tmp_path: Path) -> None:
    rows = {"cmn_Hans": ["一", "二"], "eng_Latn": ["One", "Two"]}
    for split in ("dev", "devtest"):
        (tmp_path / split).mkdir()
        for code, texts in rows.items():
            file = tmp_path / split / f"{code}.{ending}"
            table = [{"id": 7 - i, "iso_639_3": code[:3], "text": f"{t} {split}"} for i, t in enumerate(texts)]
            if ending == "parquet":
                pq.write_table(pa.Table.from_pylist(table), file)
            else:
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
                file.write_bytes(PACKED[ending.removeprefix("jsonl")](lines.encode()))
    for path in (tmp_path, tmp_path / "devtest"):
        corpus = FloresFolder(str(path), "devtest")
        assert [(row["id"], row["text"]) for row in corpus.rows("zh")] == [("7", "一 devtest"), ("6", "二 devtest")]
        assert [row["text"] for row in corpus.rows("eng_Latn")] == ["One devtest", "Two devtest"]
    with pytest.raises(UserError, match=r"no file fra_Latn\.dev for language 'fr', and no dev/fra_Latn\.jsonl"):
        FloresFolder(str(tmp_path)).rows("fr")
    with pytest.raises(UserError, match="no file eng_Latn"):  # devtest's own folder has no dev split
        FloresFolder(str(tmp_path / "devtest")).rows("en")


def test_flores_and_flores_plus_are_not_paired(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "eng_Latn.jsonl").write_text('{"id": 1, "text": "One"}\n')
    (tmp_path / "fra_Latn.dev").write_text("Un\n")
    corpus = FloresFolder(str(tmp_path))
    corpus.check("fr")
    with pytest.raises(UserError, match=r"plain text for one language and eng_Latn\.jsonl for another"):
        corpus.check("en")
