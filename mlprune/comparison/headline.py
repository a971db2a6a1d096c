"""A comparison in one plain sentence a task, by language, that claims no more than its intervals do."""

from collections.abc import Collection, Sequence

from mlprune.comparison.controls import explained
from mlprune.comparison.difference import Difference
from mlprune.comparison.verdicts import VERDICTS, by_verdict, verdict
from mlprune.languages import language_name, languages_of
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL
from mlprune.text import listed

OF_ONE_RUN = {  # systems that differ by what a run did to its model
    ("dense", "pruned"): "pruning",
    ("dense", "trained"): "pruning and recovery training",
}


def headline(rows: Sequence[Difference], tasks: Collection[str], controls: Sequence[Difference] = ()) -> str:
    """Return what :func:`sentences` says as one text.

    Args:
        rows: As there.
        tasks: As there.
        controls: As there.

    Example:
        >>> headline([], [])
        'No average over languages was measured in both runs, so nothing is said of it.'
    """
    said = sentences(rows, tasks, controls)
    return " ".join(said) or "No average over languages was measured in both runs, so nothing is said of it."


def sentences(rows: Sequence[Difference], tasks: Collection[str], controls: Sequence[Difference] = ()) -> list[str]:
    """Say of each task whether the second system is better outside the pivot, and in which languages.

    "Too few to tell" unless an interval tells. Where no task has a pivot, such as English, it is the average over all
    languages.

    Args:
        rows: The differences.
        tasks: Names of the tasks it is about, each by its first measure and the one that stands beside it; all tasks
            if there are none.
        controls: Rows of the first system with constants: a gain that these explain is called a shift of labels.

    Example:
        >>> from dataclasses import replace
        >>> from mlprune.metrics import Measure
        >>> f1 = Measure("f1", "F1", unit="%", scale=100, digits=1)
        >>> row = Difference("pruned", "dense", "nli", "average", f1, 0.5, 0.55, 0.05, -0.01, 0.1, n=60, clusters=20)
        >>> sentences([replace(row, pivot="en")], ["nli"])
        ['Outside English, pruning changed nli F1 by +5.0 points (95% CI -1.0 to +10.0, n = 60 in 20 clusters): too few
        to tell (detectable at 80% power: 7.7 points; for 5.0 points n = 143 would be needed).']
        >>> sentences([replace(row, changed=0.0, system="runs/b", reference="runs/a")], ["nli"])
        ['On average over languages, no prediction changed from runs/a to runs/b: nli (n = 60 in 20 clusters).']
        >>> worse = replace(row, delta=-0.05, low=-0.1, high=-0.01, p_holm=0.02)
        >>> sentences([*(replace(worse, language=lang) for lang in ("fr", "sw")), worse], ["nli"])
        ['On average over languages, pruning changed nli F1 by -5.0 points (95% CI -10.0 to -1.0, n = 60 in 20
        clusters): it hurt; worse in both languages: French (-5.0) and Swahili (-5.0), p (Holm) at most 0.020.']
    """
    chosen: dict[str, Difference] = {}
    for row in rows:
        if row.language == AVERAGE and (row.task in tasks or not tasks):
            chosen.setdefault(row.task, row)
    averages = list(chosen.values())
    return [_sentence(row, _where(row, averages, rows), rows, controls) for row in averages]


def _where(row: Difference, chosen: Sequence[Difference], rows: Sequence[Difference]) -> str:
    """What an average is over; where all others leave out one language that its task lacks, it is outside that too."""
    pivots = {other.pivot for other in chosen} - {None}
    pivot = row.pivot or (min(filter(None, pivots)) if len(pivots) == 1 else None)
    has_it = row.pivot is None and any(other.task == row.task and other.language == pivot for other in rows)
    return "On average over languages" if pivot is None or has_it else f"Outside {language_name(pivot)}"


def _sentence(average: Difference, where: str, rows: Sequence[Difference], controls: Sequence[Difference]) -> str:
    """One task's sentence: its average, the measure beside it, and its languages."""
    before, after = average.reference, average.system
    done = OF_ONE_RUN.get((before, after))
    if average.changed == 0:
        when = f"after {done}" if done else f"from {before} to {after}"
        return f"{where}, no prediction changed {when}: {average.task} ({_size(average)})."
    of_task = [row for row in rows if row.task == average.task]
    beside = [row for row in of_task if row.language == AVERAGE and row.measure.name == average.measure.beside]
    said = [_change(row, controls) for row in (average, *beside)]
    measured = [row for row in of_task if row.measure == average.measure]
    languages = [row for row in measured if row.language not in (AVERAGE, AVERAGE_ALL)]
    named = f"{average.measure.title or average.measure.name}: " if beside else ""
    if by_language := _by_language(languages, controls):
        said.append(named + "; ".join(by_language))
    return f"{where}, {done or f'{after} against {before}'} changed {'; '.join(said)}."


def _change(row: Difference, controls: Sequence[Difference]) -> str:
    measure = row.measure
    said = f"{row.task} {measure.title or measure.name} by {measure.amount(row.delta)} ({_interval(row)}, {_size(row)})"
    return f"{said}: {_verdict(row, controls)}"


def _by_language(rows: Sequence[Difference], controls: Sequence[Difference]) -> list[str]:
    """Which languages changed clearly, by how much and how sure that is; nothing of a task with one language."""
    found = by_verdict(rows, controls)
    if len(rows) < 2 or not found.keys() - {"same", "unclear"}:
        return [f"no clear change in any of {len(rows)} languages"] if len(rows) > 1 else []
    return [_of_languages(name, alike, len(rows)) for name, alike in found.items()]


def _of_languages(name: str, rows: Sequence[Difference], of: int) -> str:
    words = VERDICTS[name][0]
    labels = [" and ".join(map(language_name, languages_of(row.language))) for row in rows]
    if name in ("same", "unclear"):
        return f"{words} in {listed(labels)}"
    amounts = [f"{label} ({row.measure.text(row.delta, sign=True)})" for label, row in zip(labels, rows, strict=True)]
    p_values = [row.p_holm for row in rows if row.p_holm is not None]
    sure = f", p (Holm) {_at_most(max(p_values), len(rows))}" if p_values else ""
    every = "both languages: " if of == 2 else f"all {of} languages: "
    return f"{words} in {every * (len(rows) == of)}{listed(amounts)}{sure}"


def _at_most(p: float, count: int) -> str:
    if p < 0.001:
        return "below 0.001"
    return f"{'at most ' * (count > 1)}{p:.3f}"


def _interval(row: Difference) -> str:
    if row.low is None or row.high is None:
        return "no interval"
    return f"95% CI {row.measure.text(row.low, sign=True)} to {row.measure.text(row.high, sign=True)}"


def _verdict(row: Difference, controls: Sequence[Difference]) -> str:
    found = verdict(row, row.clear, controls)
    if found == "unclear":
        return f"{VERDICTS[found][1]}{_power(row)}"
    shift = explained(row, controls) if found == "shift" else None
    if shift is None:
        return VERDICTS[found][1]
    gain, beyond = shift
    return (
        f"{VERDICTS[found][1]} ({gain.system} changes it by {row.measure.amount(gain.delta)}; {row.system} is beyond "
        f"that by {row.measure.amount(beyond.delta)}, {_interval(beyond)})"
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
