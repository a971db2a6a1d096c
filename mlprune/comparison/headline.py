"""A comparison in one plain sentence that claims no more than its intervals do."""

from collections.abc import Collection, Mapping, Sequence

from mlprune.comparison.controls import explained
from mlprune.comparison.difference import Difference
from mlprune.languages import language_name
from mlprune.metrics.measure import AVERAGE

OF_ONE_RUN = {  # systems that differ by what a run did to its model
    ("dense", "pruned"): "pruning",
    ("dense", "trained"): "pruning and recovery training",
}


def headline(rows: Sequence[Difference], tasks: Collection[str], controls: Sequence[Difference] = ()) -> str:
    """Say whether the second system is better outside the pivot; "too few to tell" unless an interval tells.

    Where no task has a pivot, such as English, it is the average over all languages.

    Args:
        rows: The differences.
        tasks: Names of the tasks it is about, each by its first measure and the one that stands beside it; all tasks
            if there are none.
        controls: Rows of the first system with constants: a gain that these explain is called a shift of labels.

    Example:
        >>> from mlprune.metrics import Measure
        >>> f1 = Measure("f1", "F1", unit="%", scale=100, digits=1)
        >>> row = Difference("pruned", "dense", "nli", "average", f1, 0.5, 0.55, 0.05, -0.01, 0.1, n=60, clusters=20)
        >>> from dataclasses import replace
        >>> headline([replace(row, pivot="en")], ["nli"])
        'Outside English, pruning changed nli F1 by +5.0 points (95% CI -1.0 to +10.0, n = 60 in 20 clusters): too few
        to tell (detectable at 80% power: 7.7 points; for 5.0 points n = 143 would be needed).'
        >>> headline([replace(row, changed=0.0, system="runs/b", reference="runs/a")], ["nli"])
        'On average over languages, no prediction changed from runs/a to runs/b: nli (n = 60 in 20 clusters).'
    """
    averages = [row for row in reversed(rows) if row.language == AVERAGE]
    firsts = {row.task: row for row in averages if row.task in tasks or not tasks}
    chosen = [firsts[task] for task in dict.fromkeys(row.task for row in rows) if task in firsts]
    beside = {
        row.task: row
        for row in rows
        if row.language == AVERAGE and row.task in firsts and row.measure.name == firsts[row.task].measure.beside
    }
    if not chosen:
        return "No average over languages was measured in both runs, so nothing is said of it."
    places: dict[str, list[Difference]] = {}
    for row in chosen:
        places.setdefault(_where(row, chosen, rows), []).append(row)
    return " ".join(_sentence(where, rows, beside, controls) for where, rows in places.items())


def _where(row: Difference, chosen: Sequence[Difference], rows: Sequence[Difference]) -> str:
    """What an average is over; where all others leave out one language that its task lacks, it is outside that too."""
    pivots = {other.pivot for other in chosen} - {None}
    pivot = row.pivot or (min(filter(None, pivots)) if len(pivots) == 1 else None)
    has_it = row.pivot is None and any(other.task == row.task and other.language == pivot for other in rows)
    return "On average over languages" if pivot is None or has_it else f"Outside {language_name(pivot)}"


def _sentence(
    where: str,
    chosen: Sequence[Difference],
    beside: Mapping[str, Difference],
    controls: Sequence[Difference],
) -> str:
    same = [f"{row.task} ({_size(row)})" for row in chosen if row.changed == 0]
    pairs = [(first, beside.get(first.task)) for first in chosen if first.changed != 0]
    moved = [_change(row, controls) for pair in pairs for row in pair if row]
    before, after = chosen[0].reference, chosen[0].system
    done = OF_ONE_RUN.get((before, after))
    if not moved:
        when = f"after {done}" if done else f"from {before} to {after}"
        return f"{where}, no prediction changed {when}: {', '.join(same)}."
    still = f"; no prediction changed in {', '.join(same)}" if same else ""
    return f"{where}, {done or f'{after} against {before}'} changed {'; '.join(moved)}{still}."


def _change(row: Difference, controls: Sequence[Difference]) -> str:
    measure = row.measure
    said = f"{row.task} {measure.title or measure.name} by {measure.amount(row.delta)} ({_interval(row)}, {_size(row)})"
    return f"{said}: {_verdict(row, controls)}"


def _interval(row: Difference) -> str:
    if row.low is None or row.high is None:
        return "no interval"
    return f"95% CI {row.measure.text(row.low, sign=True)} to {row.measure.text(row.high, sign=True)}"


def _verdict(row: Difference, controls: Sequence[Difference]) -> str:
    if not row.clear or row.low is None:
        return f"too few to tell{_power(row)}"
    measure, rose = row.measure, row.low > 0
    if measure.higher_is_better is None:
        return "it rose" if rose else "it fell"
    if rose != measure.higher_is_better:
        return "it hurt"
    shift = explained(row, controls)
    if shift is None:
        return "it helped"
    gain, beyond = shift
    return (
        f"a shift of labels ({gain.system} changes it by {measure.amount(gain.delta)}; {row.system} is beyond that by "
        f"{measure.amount(beyond.delta)}, {_interval(beyond)})"
    )


def _power(row: Difference) -> str:
    """What this number of examples can detect, and how many this difference would need."""
    if row.detectable is None:
        return ""
    found = f"detectable at 80% power: {row.measure.amount(row.detectable, sign=False)}"
    if row.needed is not None:
        found += f"; for {row.measure.amount(abs(row.delta or 0.0), sign=False)} n = {row.needed:,} would be needed"
    return f" ({found})"


def _size(row: Difference) -> str:
    clusters = "" if row.clusters in (None, row.n) else f" in {row.clusters} cluster{'s' * (row.clusters != 1)}"
    return f"n = {row.n}{clusters}"
