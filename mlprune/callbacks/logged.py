"""What is logged under which name: figures of a system, headline figures of a run, and charts that belong together."""

from collections.abc import Iterable, Sequence

from mlprune.metrics.measure import AVERAGE, Figure, change
from mlprune.present.rows import grouped, language_labels, title_of

Layout = dict[str, dict[str, list[str]]]  # category, chart, tags


def scalars_of(rows: Iterable[Figure]) -> dict[str, float]:
    """Return figures as ``task/language/metric``, in the unit in which tables have them.

    Example:
        >>> from mlprune.metrics import Measure
        >>> scalars_of([Figure("dense", "nli", "fr", Measure("accuracy", unit="%", scale=100), 0.5)])
        {'nli/fr/accuracy': 50.0}
    """
    return {_tag(row): row.measure.scale * row.value for row in rows if row.value is not None}


def headline_figures(rows: Sequence[Figure], reference: Sequence[Figure] = ()) -> dict[str, float]:
    """Return the few figures by which runs are sorted, in the unit of tables: averages over languages.

    Args:
        rows: Figures of an evaluation.
        reference: The same of the dense model, for differences.

    Example:
        >>> from mlprune.metrics import Measure
        >>> rows = [Figure("dense", "nli", "average", Measure("f1"), 0.5)]
        >>> headline_figures(rows, rows)
        {'headline/nli/f1': 0.5, 'headline/nli/f1/change': 0.0}
    """
    before = {(row.task, row.measure.name): row.value for row in reference if row.language == AVERAGE}
    figures = {}
    for row in _main(rows):
        if row.language == AVERAGE and row.value is not None:
            name = f"headline/{row.task}/{row.measure.name}"
            figures[name] = row.measure.scale * row.value
            if (difference := change(before.get((row.task, row.measure.name)), row.value)) is not None:
                figures[f"{name}/change"] = row.measure.scale * difference
    return figures


def layout_of(rows: Sequence[Figure], kinds: Iterable[str] = (), groups: Iterable[str] = ()) -> Layout:
    """Return the charts that tell what a run did: averages first, then every language, then the blocks.

    Args:
        rows: Figures of a system; the others have the same tags.
        kinds: Kinds of layers that were pruned.
        groups: Groups of calibration prompts.

    Example:
        >>> from mlprune.metrics import Measure
        >>> layout_of([Figure("dense", "nli", language, Measure("f1"), 0.5) for language in ("fr", "average")])
        {'Average over languages': {'nli: f1': ['nli/average/f1']}, 'nli: f1': {'French': ['nli/fr/f1']}}
    """
    averages: dict[str, list[str]] = {}
    languages: Layout = {}
    for (task, _), task_rows in grouped(_main(rows)).items():
        title = title_of(task, task_rows[0].measure)
        for label, row in zip(language_labels([row.language for row in task_rows]), task_rows, strict=True):
            if row.value is not None:
                chart = averages if row.language == AVERAGE else languages.setdefault(title, {})
                chart[title if row.language == AVERAGE else label] = [_tag(row)]
    kinds, groups = list(kinds), list(groups)
    blocks = {
        "weights pruned, %": ["pruning/block/sparsity"],
        "importance kept, %, by kind of layer": [f"pruning/{kind}/kept_importance" for kind in kinds],
        "change of the block's output, %": [f"pruning/{group}/output_error" for group in groups],
    }
    parts = {"Average over languages": averages, **languages, "Pruning, block by block": blocks if kinds else {}}
    return {category: charts for category, charts in parts.items() if charts}


def _main(rows: Iterable[Figure]) -> list[Figure]:
    """Without details, and without what only says what another measure would be by chance."""
    rows = list(rows)
    chances = {row.measure.chance for row in rows}
    return [row for row in rows if not row.measure.detail and row.measure.name not in chances]


def _tag(row: Figure) -> str:
    return f"{row.task}/{row.language}/{row.measure.name}"
