"""One table, five ways: what others wrote stays text in each."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from mlprune.comparison import Difference
from mlprune.metrics import Figure, Measure
from mlprune.present import (
    COMPARISON_FILES,
    Table,
    comparison_tables,
    figure_tables,
    to_console,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)
from mlprune.text import visible

NASTY = "a|b & 50% <b>x</b> [red]y[/red] \x1b[31m $_{^~\\ \u202e\n"
TABLE = Table(f"T {NASTY}", ("name", NASTY), [(NASTY, "1"), ("plain", "2")], (f"Note {NASTY}",))
F1 = Measure("f1", "F1", unit="%", scale=100, digits=1)


def test_markdown_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in to_markdown(TABLE).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert len(lines) == 4


def test_csv_is_read_back() -> None:
    assert list(csv.reader(io.StringIO(to_csv(TABLE)))) == [["name", NASTY], [NASTY, "1"], ["plain", "2"]]


def test_html_is_closed_and_text() -> None:
    opened: list[str] = []
    texts: list[str] = []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            opened.append(tag)
            assert tag != "b"

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

        def handle_data(self, data: str) -> None:
            texts.append(data)

    Page().feed(to_html(TABLE))
    assert not opened
    assert any("<b>x</b>" in text for text in texts)


def test_latex_escapes_what_means_something() -> None:
    text = to_latex(TABLE)
    assert r"50\% <b>x</b>" in text
    assert r"\$\_\{\textasciicircum{}\textasciitilde{}\textbackslash{}" in text
    assert text.count(r" \\") == 3


def test_the_console_shows_markup_as_it_stands() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(to_console(TABLE))
    assert "[red]y[/red]" in out.getvalue()


@pytest.mark.parametrize("render", [to_markdown, to_html, to_latex])
def test_no_control_character_reaches_the_reader(render) -> None:
    text = render(TABLE)
    assert not set("\x1b\u202e") & set(text)
    assert "x1b" in text


def test_joiners_within_words_stay() -> None:
    assert visible("می‌روم क्‍ष") == "می‌روم क्‍ष"


def difference(task: str, language: str, measure: Measure = F1, **options) -> Difference:
    return Difference("new", "old", task, language, measure, 0.25, 0.5, 0.25, **options)


def test_a_table_a_task_and_measure() -> None:
    rows = [difference("a", "fr", p=0.2), difference("a", "average"), difference("b", "fr", Measure("bits"))]
    tables = comparison_tables(rows)
    assert [table.title for table in tables] == ["a: F1, %", "b: bits"]
    assert tables[0].columns[:4] == ("language", "old", "new", "difference")
    assert tables[0].rows[0][:4] == ("French", "25.0", "50.0", "+25.0")
    assert "p" in tables[0].columns
    assert "p" not in tables[1].columns  # nothing would stand there


def test_systems_side_by_side() -> None:
    sides = {name: [Figure(name, "a", "fr", F1, 0.5, 0.4, 0.6, n)] for name, n in (("old", 9), ("new", 8))}
    (table,) = figure_tables(sides)
    assert table.columns == ("language", "old", "new", "n")
    assert table.rows == [("French", "50.0 (40.0 to 60.0)", "50.0 (40.0 to 60.0)", "9 / 8")]


def test_files_hold_the_same_rows() -> None:
    rows = [difference("a", "fr", low=-0.1, high=0.6, p=0.2, n=4), difference("a", "average", p=0.0001)]
    content = {"headline": "So.", "systems": ["old", "new"], "differences": [row.to_json() for row in rows]}
    files = {name: render(content) for name, render in COMPARISON_FILES.items()}
    assert set(files) == {"comparison.md", "comparison.csv", "comparison.tex"}
    assert files["comparison.md"].startswith("# old against new\n\nSo.\n\n## a: F1, %\n")
    lines = list(csv.DictReader(io.StringIO(files["comparison.csv"])))
    found = [(line["language"], line["low"], line["p"]) for line in lines]
    assert found == [
        ("fr", "-0.1", "0.2"),
        ("average", "", "0.0001"),
    ]
    for text in (files["comparison.md"], files["comparison.tex"]):
        assert "-10.0 to +60.0" in text
        assert "<0.001" in text


@pytest.mark.parametrize("value", [0.0, -0.0, -5.6e-17, -0.0004])
def test_zero_has_no_minus(value: float) -> None:
    assert (F1.text(value), F1.text(value, sign=True)) == ("0.0", "+0.0")


def test_significance_marks() -> None:
    ps = (0.0001, 0.004, 0.03, 0.2)
    rows = [difference("a", lang, p_holm=p, n=7) for lang, p in zip(("fr", "en", "sw", "zh"), ps, strict=True)]
    latex, page = (render(comparison_tables(rows)[0]) for render in (to_latex, to_html))
    found = [re.search(r"\+25\.0(\$\^\{(\**)\}\$)? ", line) for line in latex.splitlines() if "25.0" in line]
    assert [match[2] for match in found] == ["***", "**", "*", None]
    assert re.findall(r"\+25\.0(?:<sup>(\**)</sup>)?", page) == ["***", "**", "*", ""]
    assert "p (Holm) below 0.05" in latex
    assert latex.count("& 7 ") == 4
    assert "p (Holm) below" not in to_latex(comparison_tables(rows[3:])[0])


def test_every_head_is_explained() -> None:
    row = difference("a", "fr", low=0.1, high=0.4, p=0.1, p_holm=0.1, n=7, clusters=3, changed=0.5, by_chance=0.3)
    heads = re.findall(r'<th scope="col">(.*?)</th>', to_html(comparison_tables([row])[0]))
    plain = [head for head in heads if "<abbr title=" not in head]
    assert plain == ["language", "old", "new"]
