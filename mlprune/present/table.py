"""One table, rendered to Markdown, CSV, LaTeX, HTML and the console."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import rich.box
import rich.table
from markupsafe import Markup
from rich.text import Text

from mlprune.present.glossary import meaning
from mlprune.text import visible

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
MARKED = "* p (Holm) below 0.05, ** below 0.01, *** below 0.001"
HEAD = 7  # letters in a line of a column's head, on the console, where words allow


@dataclass(frozen=True)
class Table:
    """A table of text; the first cell of a row names it.

    Args:
        title: What it shows.
        columns: Heads of the columns.
        rows: Cells.
        notes: Lines below it.
        prose: Whether the last column is text rather than figures.
        marks: (row, column) to what LaTeX and HTML set above the cell, for significance.
        meaning: What was measured, in a sentence; HTML shows it on the title.

    Example:
        >>> Table("Sizes", ("name", "size"), [("a", "1")]).rows[0][1]
        '1'
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    prose: bool = False
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    meaning: str = ""

    @property
    def marked_notes(self) -> tuple[str, ...]:
        """The notes, and what the marks mean if there are any."""
        return (*self.notes, *([MARKED] if self.marks else []))


def to_markdown(table: Table) -> str:
    """Return a table under its heading, the first column to the left and figures to the right.

    Example:
        >>> print(to_markdown(Table("Sizes", ("name", "size"), [("a|b", "1")])))
        ## Sizes
        <BLANKLINE>
        | name | size |
        | --- | ---: |
        | a\\|b | 1 |
    """
    align = ["---"] + [":---" if table.prose else "---:"] * (len(table.columns) - 1)
    cells = [[visible(cell).replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (cells[0], align, *cells[1:])]
    notes = [line for note in table.notes for line in ("", visible(note))]
    return "\n".join([f"## {visible(table.title)}", "", *lines, *notes])


def to_csv(table: Table) -> str:
    """Return head and rows as CSV.

    Example:
        >>> print(to_csv(Table("Sizes", ("name", "size"), [("a,b", "1")])), end="")
        name,size
        "a,b",1
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.columns, *table.rows])
    return out.getvalue()


def to_latex(table: Table) -> str:
    r"""Return a table for LaTeX with the booktabs package.

    Example:
        >>> print(to_latex(Table("Sizes", ("name", "size, %"), [("a_b", "1")])))
        \begin{table}
        \caption{Sizes}
        \begin{tabular}{lr}
        \toprule
        name & size, \% \\
        \midrule
        a\_b & 1 \\
        \bottomrule
        \end{tabular}
        \end{table}
    """

    def line(cells: Sequence[str], row: int | None = None) -> str:
        marks = [table.marks.get((row, column), "") if row is not None else "" for column in range(len(cells))]
        shown = [_latex(cell) + (f"$^{{{mark}}}$" if mark else "") for cell, mark in zip(cells, marks, strict=True)]
        return " & ".join(shown) + r" \\"

    columns = "l" + ("l" if table.prose else "r") * (len(table.columns) - 1)
    notes = [rf"\par {_latex(note)}" for note in table.marked_notes]
    body = [line(cells, row) for row, cells in enumerate(table.rows)]
    parts = [r"\begin{table}", rf"\caption{{{_latex(table.title)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    parts += [line(table.columns), r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*parts, *notes, r"\end{table}"])


def _latex(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in visible(text))


def to_html(table: Table) -> str:
    """Return an accessible HTML table in a region that scrolls.

    Example:
        >>> "<th scope=\\"row\\">&lt;b&gt;</th><td>1</td>" in to_html(Table("Sizes", ("name", "size"), [("<b>", "1")]))
        True
    """
    title = escape(visible(table.title))
    head = "".join(f'<th scope="col">{term(cell)}</th>' for cell in table.columns)
    rows = [
        f'<tr><th scope="row">{term(cells[0])}</th>'
        + "".join(_cell(cell, table.marks.get((row, column), "")) for column, cell in enumerate(cells[1:], start=1))
        + "</tr>"
        for row, cells in enumerate(table.rows)
    ]
    lines = [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{title}">',
        '<table class="prose">' if table.prose else "<table>",
        f"<caption>{term(table.title, table.meaning)}</caption>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table>",
        *(f'<p class="note">{escape(visible(note))}</p>' for note in table.marked_notes),
        "</div>",
    ]
    return "\n".join(lines)


def _cell(text: str, mark: str) -> str:
    return f"<td>{escape(visible(text))}{f'<sup>{escape(mark)}</sup>' if mark else ''}</td>"


def term(text: str, explained: str = "") -> Markup:
    """Return text as HTML, with what it means as its title where that is known.

    Example:
        >>> term("n"), term("<b>")
        (Markup('<abbr title="Number of examples.">n</abbr>'), Markup('&lt;b&gt;'))
    """
    shown, title = escape(visible(text)), explained or meaning(text)
    return Markup(f'<abbr title="{escape(title)}">{shown}</abbr>' if title else shown)


def to_console(table: Table) -> rich.table.Table:
    """Return a table for rich's console; markup in cells is text, and figures are never broken over lines.

    Example:
        >>> to_console(Table("Sizes", ("name", "size"), [("m[/red]", "1")])).row_count
        1
    """
    shown = rich.table.Table(title=Text(visible(table.title)), title_justify="left", caption_justify="left")
    shown.box, shown.padding, shown.pad_edge = rich.box.SIMPLE_HEAD, (0, 1, 0, 0), False
    for place, column in enumerate(table.columns):
        figures = place > 0 and not table.prose
        head = textwrap.fill(visible(column), HEAD, break_long_words=False, break_on_hyphens=False)
        shown.add_column(Text(head), justify="right" if figures else "left", no_wrap=figures)
    for row in table.rows:
        shown.add_row(*(Text(visible(cell)) for cell in row))
    if table.notes:
        shown.caption = Text("\n".join(map(visible, table.notes)))
    return shown
