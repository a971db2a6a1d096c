"""The section on features: heatmaps for the slider, what is large only under translation, curves over depth."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from mlprune.models.paths import LayerPath
from mlprune.present import Table
from mlprune.report.charts import line_chart
from mlprune.runs.content import RunContent
from mlprune.runs.reading import Json


def feature_section(run: RunContent) -> dict[str, Any] | None:
    """Return what the section shows; None where no features were measured.

    Args:
        run: A run with ``overlap``; ``overlap_linear`` may be empty.

    Returns:
        ``data`` of the slider (``groups`` and ``parts``: name, layers, overlap, peak, only), ``rows`` of its first
        heatmap, ``percent``, ``tables`` and ``figures``, of hidden states first.
    """
    if not run.overlap:
        return None
    whole = run.overlap
    parts = [("hidden states", whole, {layer: layer_name(layer) for layer in whole["layers"]})]
    for kind, paths in run.overlap_linear.get("layers_by_kind", {}).items():
        names = {path: f"block {LayerPath.of(path).block}" for path in paths}
        parts.append((f"input of {kind}", run.overlap_linear, names))
    heatmaps = [_heatmaps(*part) for part in parts]
    return {
        "data": {"groups": whole["groups"], "parts": heatmaps},
        "rows": [
            (group, _cells(row, heatmaps[0]["peak"])) for group, row in zip(whole["groups"], heatmaps[0]["overlap"][0])
        ],
        "percent": whole["percent"],
        "tables": [table for table in (_only_translation(*part) for part in parts) if table.rows],
        "figures": [figure for part in parts for figure in _curves(*part)],
    }


def _heatmaps(name: str, table: Json, layers: dict[str, str]) -> Json:
    places = [table["layers"].index(layer) for layer in layers]
    overlap = [[[round(100 * x, 1) for x in row] for row in table["overlap"][place]] for place in places]
    only = table.get("only_translation")
    return {
        "name": name,
        "layers": list(layers.values()),
        "overlap": overlap,
        "peak": max((x for layer in overlap for row in layer for x in row), default=0) or 1,  # darkest cell
        "only": [listed(only[place]) for place in places] if only else [],
    }


def _cells(row: list[float], peak: float) -> list[tuple[float, str]]:
    """Cells of the first heatmap, which the slider then changes: darkness and text."""
    return [(value / peak, f"{value:.1f}") for value in row]


def _only_translation(name: str, table: Json, layers: dict[str, str]) -> Table:
    only = dict(zip(table["layers"], table.get("only_translation") or [], strict=False))
    rows = [
        (shown, str(len(only[layer])), listed(only[layer], 12)) for layer, shown in layers.items() if only.get(layer)
    ]
    return Table(
        f"Large only under translation: {name}", ("layer", "features", "dimensions, largest first"), rows, prose=True
    )


def _curves(name: str, table: Json, layers: dict[str, str]) -> list[tuple[str, Markup]]:
    places = [table["layers"].index(layer) for layer in layers]
    lines = {
        pair: [(x, 100 * values[place]) for x, place in enumerate(places)]
        for pair, values in table.get("curves", {}).items()
    }
    if not lines:
        return []
    label = f"top {table['percent']:g}% shared, %"
    depth = "layer (0 = embedding)" if name == "hidden states" else "block"
    alt = f"Lines over depth, {name}: share of the top {table['percent']:g}% features that two groups have in common."
    return [(f"Features shared over depth: {name}", Markup(line_chart(lines, (depth, label), alt)))]


def layer_name(layer: str) -> str:
    """Return what a layer of hidden states is called.

    Example:
        >>> layer_name("0"), layer_name("3"), layer_name("encoder 1")
        ('embedding', 'block 2', 'encoder 1')
    """
    if not layer.isdigit():
        return layer
    return f"block {int(layer) - 1}" if int(layer) else "embedding"


def listed(dimensions: Sequence[int], most: int = 24) -> str:
    """Return dimensions as text, the first few by number.

    Example:
        >>> listed([]), listed([5, 3]), listed([5, 3, 1], most=2)
        ('none', '5, 3', '5, 3, ...')
    """
    shown = [str(dimension) for dimension in dimensions[:most]] + ["..."] * (len(dimensions) > most)
    return ", ".join(shown) or "none"
