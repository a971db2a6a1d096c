"""Tables of figures and differences: loops over rows, whatever was measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlprune.comparison import Difference
from mlprune.languages import language_name, languages_of
from mlprune.metrics.meaning import meaning_of
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL, Figure, Measure
from mlprune.present.table import Table
from mlprune.text import listed

Key = tuple[str, str]  # task and measure: a table
COUNTS = ("changed, %", "won", "lost", "by chance", "n", "clusters")


def comparison_tables(rows: Sequence[Difference]) -> list[Table]:
    """Return a table for each task and measure: two systems, their difference, its interval and p values.

    Args:
        rows: The differences.

    Example:
        >>> row = Difference("pruned", "dense", "nli", "fr", Measure("f1"), 0.5, 0.75, 0.25, 0.0, 0.5, p=0.0001, n=9)
        >>> table = comparison_tables([row])[0]
        >>> table.title, table.columns
        ('nli: f1', ('language', 'dense', 'pruned', 'difference', '95% CI of the difference', 'p', 'n'))
        >>> table.rows
        [('French', '0.500', '0.750', '+0.250', '+0.000 to +0.500', '<0.001', '9')]
    """
    tables = []
    for (task, _), task_rows in grouped(rows).items():
        measure = task_rows[0].measure
        labels = language_labels([row.language for row in task_rows], pivot_of(task_rows))
        systems = (task_rows[0].reference, task_rows[0].system)
        heads = ("language", *systems, "difference", "95% CI of the difference", "p", "p (Holm)", *COUNTS)
        cells = [
            (
                label,
                measure.text(row.before),
                measure.text(row.after),
                measure.text(row.delta, sign=True),
                interval_text(measure, row.low, row.high, sign=True),
                p_text(row.p),
                p_text(row.p_holm),
                "" if row.changed is None else f"{100 * row.changed:.1f}",
                "" if row.won is None else str(row.won),
                "" if row.lost is None else str(row.lost),
                measure.text(row.by_chance),
                str(row.n),
                "" if row.clusters is None else str(row.clusters),
            )
            for label, row in zip(labels, task_rows, strict=True)
        ]
        marks = {(i, 3): mark for i, row in enumerate(task_rows) if (mark := mark_of(row.p_holm))}
        table = Table(title_of(task, measure), heads, cells, marks=marks, meaning=meaning_of(measure))
        tables.append(filled(table, always=4))
    return tables


def console_rows(rows: Sequence[Difference]) -> list[Difference]:
    """Return the rows that the console has room for: no details, and no counts that :func:`detail_lines` has."""
    return [replace(row, won=None, lost=None) for row in rows if not row.measure.detail]


def detail_lines(rows: Sequence[Difference]) -> list[str]:
    """Return a line for each task with details: answers won and lost, and which details changed clearly on average.

    A task in which no answer changed has none.

    Args:
        rows: The differences.

    Example:
        >>> share = Measure("yes", "answered yes", unit="%", scale=100, digits=1, detail=True)
        >>> row = Difference("b", "a", "nli", "average", share, 0.75, 0.5, -0.25, -0.375, -0.125)
        >>> detail_lines([row, Difference("b", "a", "nli", "average", Measure("f1", detail=True), 0.5, 0.5, 0.0)])
        ['nli, in detail: answered yes 75.0 to 50.0%; no clear change in f1']
        >>> detail_lines([replace(row, measure=replace(share, detail=False), won=4, lost=6), row])
        ['nli, in detail: 4 wrong answers became right, 6 right ones wrong; answered yes 75.0 to 50.0%']
    """
    lines = []
    for task in dict.fromkeys(row.task for row in rows if row.measure.detail):
        averages = [row for row in rows if row.task == task and row.language == AVERAGE]
        if averages and averages[0].changed == 0:
            continue
        details = [row for row in averages if row.measure.detail]
        flips = [_flips(row) for row in averages if row.won is not None and row not in details][:1]
        clear = [_moved(row) for row in details if row.clear]
        unclear = [row.measure.title or row.measure.name for row in details if not row.clear]
        others = [f"no clear change in {listed(unclear)}"] if unclear else []
        if parts := [*flips, *clear, *others]:
            lines.append(f"{task}, in detail: {'; '.join(parts)}")
    return lines


def _flips(row: Difference) -> str:
    return (
        f"{row.won} wrong answer{'s' * (row.won != 1)} became right, {row.lost} right one{'s' * (row.lost != 1)} wrong"
    )


def _moved(row: Difference) -> str:
    measure = row.measure
    return f"{measure.title or measure.name} {measure.text(row.before)} to {measure.text(row.after)}{measure.unit}"


def matrix_tables(rows: Sequence[Difference], systems: Sequence[str]) -> list[Table]:
    """Return a table for each task and measure: the average difference of every pair of systems, row minus column.

    Args:
        rows: Differences of averages, each pair once.
        systems: What they are called, in order.

    Example:
        >>> row = Difference("b", "a", "nli", "average", Measure("f1"), 0.5, 0.75, 0.25, p_holm=0.01)
        >>> matrix_tables([row], ["a", "b"])[0].rows
        [('a', '', '-0.250 (p 0.010)'), ('b', '+0.250 (p 0.010)', '')]
    """
    tables = []
    for (task, _), task_rows in grouped(rows).items():
        measure = task_rows[0].measure
        cells = {}
        for row in task_rows:
            cells[row.system, row.reference] = _sure(row)
            cells[row.reference, row.system] = _sure(_mirrored(row))
        body = [(name, *(cells.get((name, other), "") for other in systems)) for name in systems]
        without = f" without {language_name(pivot)}" if (pivot := pivot_of(task_rows)) else ""
        title = f"{title_of(task, measure)}: average difference{without}, row minus column (95% CI; p, Holm)"
        tables.append(Table(title, ("system", *systems), body, meaning=meaning_of(measure)))
    return tables


def several_tables(rows: Sequence[Difference]) -> list[Table]:
    """Return a table for each task and measure: the first system's figures once, the differences of others beside.

    Args:
        rows: Differences of several systems from one.

    Example:
        >>> row = Difference("b", "a", "nli", "fr", Measure("f1"), 0.5, 0.75, 0.25, 0.125, 0.5, p_holm=0.01, n=9)
        >>> table = several_tables([row, replace(row, system="c", delta=-0.5, low=-0.625, high=-0.25)])[0]
        >>> table.columns, table.rows[0][2]
        (('language', 'a', 'b', 'c', 'n'), '+0.250 (+0.125 to +0.500; p 0.010)')
    """
    tables = []
    for (task, _), task_rows in grouped(rows).items():
        measure, systems = task_rows[0].measure, list(dict.fromkeys(row.system for row in task_rows))
        languages = list(dict.fromkeys(row.language for row in task_rows))
        cells = []
        marks: dict[tuple[int, int], str] = {}
        for i, label in enumerate(language_labels(languages, pivot_of(task_rows))):
            found = {row.system: row for row in task_rows if row.language == languages[i]}
            first = next(iter(found.values()))
            marks |= {
                (i, 2 + systems.index(name)): mark for name, row in found.items() if (mark := mark_of(row.p_holm))
            }
            sides = [_sure(found[name]) if name in found else "" for name in systems]
            cells.append((label, measure.text(first.before), *sides, _joined(found.values(), "n")))
        heads = ("language", task_rows[0].reference, *systems, "n")
        note = f"{task_rows[0].reference}: its figures; the others: difference from it (95% CI; p, Holm)"
        tables.append(Table(title_of(task, measure), heads, cells, (note,), marks=marks, meaning=meaning_of(measure)))
    return tables


def _sure(row: Difference) -> str:
    """A difference, and how sure it is."""
    interval = interval_text(row.measure, row.low, row.high, sign=True)
    sure = [interval, f"p {p_text(row.p_holm)}" if row.p_holm is not None else ""]
    known = "; ".join(filter(None, sure))
    return row.measure.text(row.delta, sign=True) + (f" ({known})" if known and row.delta is not None else "")


def _mirrored(row: Difference) -> Difference:
    """The difference the other way round."""
    low, high, delta = (None if value is None else -value for value in (row.high, row.low, row.delta))
    return replace(row, low=low, high=high, delta=delta)


def figure_tables(systems: Mapping[str, Iterable[Figure]]) -> list[Table]:
    """Return a table for each task and measure: figures of one system with their intervals, or several side by side.

    Args:
        systems: Name of a system to its figures.

    Example:
        >>> rows = [Figure("dense", "nli", "fr", Measure("f1"), 0.5, 0.25, 0.75, n=9)]
        >>> figure_tables({"dense": rows})[0].rows, figure_tables({"a": rows, "b": []})[0].rows
        ([('French', '0.500', '0.250 to 0.750', '9')], [('French', '0.500 (0.250 to 0.750)', '', '9')])
    """
    parts: dict[Key, dict[str, dict[str, Figure]]] = {}
    for name, figures in systems.items():
        for key, group in grouped(list(figures)).items():
            for row in group:
                parts.setdefault(key, {}).setdefault(row.language, {})[name] = row
    tables = []
    for (task, _), languages in parts.items():
        measure = next(iter(next(iter(languages.values())).values())).measure
        pivot = pivot_of([row for rows in languages.values() for row in rows.values()])
        labels = language_labels(list(languages), pivot)
        if len(systems) == 1:
            heads: tuple[str, ...] = ("language", measure.label, "95% CI")
            sides = [
                [cell for row in rows.values() for cell in (measure.text(row.value), _interval(row))]
                for rows in languages.values()
            ]
        else:
            heads = ("language", *systems)
            sides = [[_value(rows.get(name)) for name in systems] for rows in languages.values()]
        sizes = [[_joined(rows.values(), part) for part in ("n", "clusters")] for rows in languages.values()]
        cells = [(label, *side, *size) for label, side, size in zip(labels, sides, sizes, strict=True)]
        table = Table(title_of(task, measure), (*heads, "n", "clusters"), cells, meaning=meaning_of(measure))
        tables.append(filled(table, always=len(heads)))
    return tables


def raw_table(rows: Sequence[Figure | Difference], **constants: Any) -> Table:
    """Return rows as they are in JSON, a column a field, for CSV.

    Args:
        rows: Figures or differences.
        constants: Columns before them, alike in all rows.

    Example:
        >>> raw_table([Figure("dense", "nli", "fr", Measure("f1"), 0.5)], sparsity=0.3).columns[:5]
        ('sparsity', 'system', 'task', 'language', 'metric')
    """
    content = [constants | row.to_json() for row in rows]
    columns = tuple(content[0]) if content else ()
    return Table(
        "", columns, [tuple("" if row[name] is None else str(row[name]) for name in columns) for row in content]
    )


def shown_rows(rows: Sequence[Figure | Difference], **columns: Sequence[Any]) -> tuple[list[str], list[list[Any]]]:
    """Return rows as numbers in the unit in which tables have them, for loggers that have tables.

    Args:
        rows: Figures or differences, all of a kind.
        columns: Columns before them, a value a row.

    Returns:
        Heads and cells; None where there is no number.

    Example:
        >>> rows = [Figure("dense", "nli", "fr", Measure("accuracy", unit="%", scale=100), 0.5, n=8)]
        >>> heads, cells = shown_rows(rows, sparsity=[0.2])
        >>> dict(zip(heads, cells[0]))["sparsity"], dict(zip(heads, cells[0]))["value"]
        (0.2, 50.0)
    """
    scaled = ("value", "before", "after", "delta", "low", "high", "by_chance")
    how = set(Measure("").to_json()) - {"unit", "higher_is_better"}  # a value is displayed; only numbers are wanted
    heads: list[str] = []
    cells = []
    for row, *extra in zip(rows, *columns.values(), strict=True):
        content = {name: value for name, value in row.to_json().items() if name not in how}
        content |= {name: row.measure.scale * content[name] for name in scaled if content.get(name) is not None}
        heads = [*columns, *content]
        cells.append([*extra, *content.values()])
    return heads, cells


def grouped(rows: Sequence[Any]) -> dict[Key, list[Any]]:
    """Return rows by task and measure, in order of first appearance."""
    found: dict[Key, list[Any]] = {}
    for row in rows:
        found.setdefault((row.task, row.measure.name), []).append(row)
    return found


def title_of(task: str, measure: Measure) -> str:
    """Return what a table or chart of a task and measure is called."""
    return f"{task}: {measure.label}{', lower is better' if measure.higher_is_better is False else ''}"


def pivot_of(rows: Sequence[Figure | Difference]) -> str | None:
    """Return the language that the rows' averages leave out; None if there is none, or they do not say."""
    return next((row.pivot for row in rows if row.pivot), None)


def language_labels(languages: Sequence[str], pivot: str | None = None) -> list[str]:
    """Return what rows' languages are called.

    Args:
        languages: Codes, pairs of codes, and averages.
        pivot: The language that the average leaves out; English if rows of an older run do not say.

    Example:
        >>> language_labels(["en", "en-sw", "average", "average_all"])
        ['English', 'English and Swahili', 'average without English', 'average']
        >>> language_labels(["fr", "average"])
        ['French', 'average']
        >>> language_labels(["en", "fr", "average", "average_all"], "fr")[2]
        'average without French'
    """
    left_out = language_name(pivot or "en")
    averages = {AVERAGE: f"average without {left_out}" if pivot or AVERAGE_ALL in languages else "average"}
    averages |= {AVERAGE_ALL: "average", "all": "all languages"}  # whose examples are measured as one set
    return [
        averages.get(language) or " and ".join(map(language_name, languages_of(language))) for language in languages
    ]


def interval_text(measure: Measure, low: float | None, high: float | None, sign: bool = False) -> str:
    """Return an interval as it is shown; empty if there is none."""
    return "" if low is None or high is None else f"{measure.text(low, sign)} to {measure.text(high, sign)}"


def p_text(value: float | None) -> str:
    """Return a p value as it is shown.

    Example:
        >>> p_text(0.0004), p_text(0.25), p_text(None)
        ('<0.001', '0.250', '')
    """
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def mark_of(p: float | None) -> str:
    """Return the mark of a corrected p value: a star below 0.05, two below 0.01, three below 0.001.

    Example:
        >>> mark_of(0.03), mark_of(0.0001), mark_of(0.2), mark_of(None)
        ('*', '***', '', '')
    """
    return "" if p is None else "*" * ((p < 0.05) + (p < 0.01) + (p < 0.001))


def filled(table: Table, always: int) -> Table:
    """Return the table without columns that are empty in every row, but for the first few."""
    kept = [i for i in range(len(table.columns)) if i < always or any(row[i] for row in table.rows)]
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    marks = {(row, kept.index(column)): mark for (row, column), mark in table.marks.items() if column in kept}
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows, marks=marks)


def _interval(row: Figure) -> str:
    return interval_text(row.measure, row.low, row.high)


def _value(row: Figure | None) -> str:
    if row is None:
        return ""
    interval = _interval(row)
    return row.measure.text(row.value) + (f" ({interval})" if interval else "")


def _joined(rows: Iterable[Figure | Difference], part: str) -> str:
    """A count of several systems, once if it is the same."""
    values = (getattr(row, part) for row in rows)
    return " / ".join(dict.fromkeys(str(value) for value in values if value is not None))
