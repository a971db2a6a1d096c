"""A report's question, and its answer in one sentence."""

from collections.abc import Sequence

from mlprune.comparison import read_figures
from mlprune.comparison.schema1 import headline_tasks, read_sweep
from mlprune.languages import language_name
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL, Figure
from mlprune.present import curves_of
from mlprune.present.rows import grouped, pivot_of
from mlprune.report.features import layer_name
from mlprune.report.tables import share_lost
from mlprune.runs.content import RunContent
from mlprune.runs.reading import Json

TRANSLATES = "A multilingual language model answers better in English than in other languages, yet it translates well. "
PRUNED = TRANSLATES + (
    "If the weights that matter least for translation are pruned, without training, "
    "does it answer better in the other languages?"
)
FEATURES = TRANSLATES + "Which of its features are large when it translates, and in no language alone?"
TRAINED = PRUNED.replace("are pruned, without training,", "are pruned and the others trained,")
DENSE = "How well does the model answer in {pivot}, and how well in other languages?"
WITHOUT_PIVOT = "How well does the model answer in each language?"


def question(run: RunContent) -> str:
    """Return the question that a run answers.

    Example:
        >>> from pathlib import Path
        >>> question(RunContent(Path("v0"), "v0", results={"dense": {}}))
        'How well does the model answer in each language?'
    """
    if run.study.get("question"):
        return str(run.study["question"])
    if run.pruned:
        return TRAINED if "trained" in run.results or run.recipe.get("trained") else PRUNED
    if run.overlap or not run.results:
        return FEATURES if run.overlap else ""
    pivots = {_pivot(figures) for figures in grouped(read_figures(run.final)).values()} - {None}
    return (
        DENSE.format(pivot=" or ".join(map(language_name, sorted(filter(None, pivots))))) if pivots else WITHOUT_PIVOT
    )


def headline(run: RunContent) -> str:
    """Return a run's finding in one sentence; empty if there is none."""
    if run.comparison.get("headline"):
        return str(run.comparison["headline"])
    if run.sweep:
        return _swept(run.sweep)
    if run.study:
        return str(run.study.get("answer") or "The study is not complete.")
    if run.results:
        return _evaluated(run.final)
    if run.layers:
        return _pruned(run)
    return _features(run.overlap) if run.overlap.get("only_translation") else ""


def _evaluated(results: Json) -> str:
    rows = read_figures(results)
    found = []
    for task in headline_tasks(results):
        measured = [row for row in rows if row.task == task and row.value is not None]
        same = [row for row in measured if row.measure == measured[0].measure]
        pivot = _pivot(same)
        places = {AVERAGE: "in the other languages" if pivot else "on average over languages"}
        if pivot:
            places |= {pivot: f"in {language_name(pivot)}"}
        shown = [
            f"{row.measure.text(row.value)}{'%' if row.measure.unit == '%' else ''} {places[row.language]}"
            for row in same
            if row.language in places
        ]
        beside = [
            f"{row.measure.title} {row.measure.text(row.value)}" for row in measured if _stands_beside(row, same[0])
        ]
        if shown:
            name = same[0].measure.title or same[0].measure.name
            found.append(f"{task} {name} {' and '.join(shown)}" + "".join(f" ({text})" for text in beside))
    system = results.get("system") or results.get("stage", "dense")
    return f"The {system} model: {'; '.join(found)}." if found else ""


def _pivot(rows: Sequence[Figure]) -> str | None:
    """The language that a task's average leaves out; English if rows of an older run do not say."""
    languages = {row.language for row in rows}
    return pivot_of(rows) or ("en" if languages >= {"en", AVERAGE_ALL} else None)


def _stands_beside(row: Figure, first: Figure) -> bool:
    return row.language == AVERAGE and row.measure.name == first.measure.beside


def _swept(lines: list[dict[str, str]]) -> str:
    found: dict[str, str] = {}
    for curve in curves_of(read_sweep(lines)):
        measure = curve.measure
        name = f"{curve.task} {measure.title or measure.name}"
        clear = [(sparsity, row) for sparsity, row in curve.points if row.clear]
        if curve.task in found or curve.reference.low is None:
            continue
        if clear:
            sparsity, row = clear[0]
            unit = " points" if measure.unit == "%" else ""
            moved = f"{measure.text(row.delta, sign=True)}{unit} at {100 * sparsity:g}% sparsity"
            found[curve.task] = f"{name} first changes by {moved} (95% intervals, uncorrected, of {len(curve.points)})"
        else:
            found[curve.task] = f"{name} shows no clear change up to {100 * curve.points[-1][0]:g}% sparsity"
    return f"On average over languages, as more weights are pruned: {'; '.join(found.values())}." if found else ""


def _pruned(run: RunContent) -> str:
    lost = {row["layer"]: share_lost(row) for row in run.layers if row.get("kept_importance")}
    sparsity = run.recipe.get("sparsity") or sum(float(row["sparsity"]) for row in run.layers) / len(run.layers)
    text = f"Pruning took {100 * sparsity:.1f}% of the weights of {len(run.layers)} layers"
    if not lost:
        return text + "."
    most = max(lost, key=lambda layer: lost[layer])
    mean = sum(lost.values()) / len(lost)
    return f"{text}, and with them {100 * mean:.1f}% of a layer's score on average, {100 * lost[most]:.1f}% in {most}."


def _features(overlap: Json) -> str:
    counts = {layer_name(layer): len(only) for layer, only in zip(overlap["layers"], overlap["only_translation"])}
    total, most = sum(counts.values()), max(counts, key=lambda layer: counts[layer])
    text = f"Of the hidden states' top {overlap['percent']:g}% features, {total or 'none'} over {len(counts)} layers"
    where = f", with the most ({counts[most]}) after {most}" if total > 1 else ""
    return f"{text} {'is' if total == 1 else 'are'} large under translation and in no other group{where}."
