"""The picture of ``bench_smaller.py``: what each way costs against what it gives, all on the same axes.

python tests/benchmarks/smaller_figure.py results.json smaller.png
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlprune.metrics.measure import AVERAGE_ALL

COLORS = ("#222222", "#0b6e99", "#c2571a", "#3f7d20", "#8a4fa3", "#7a6a00", "#5b6472")
MARKERS = "oosD^vP"


def draw(results: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw bits per character against size and speed.

    Args:
        results: What ``Way.to_json`` gave; the original first.
        file: PNG file.
    """
    figure = Figure(figsize=(11, 5.2), layout="constrained", dpi=110)
    first, (left, right) = results[0], figure.subplots(1, 2, sharey=True)
    kinds = list(dict.fromkeys(way["kind"] for way in results))
    for kind in kinds:
        ways = [way for way in results if way["kind"] == kind]
        style = {"color": COLORS[kinds.index(kind)], "marker": MARKERS[kinds.index(kind)]}
        _points(left, [way["megabytes"] for way in ways], ways, kind, style)
        speeds = [_speed(way) / _speed(first) for way in ways]
        _points(right, speeds, ways, None, style)
    left.set_xlabel("MB on disk, float32 (smaller is to the right)")
    left.invert_xaxis()
    right.set_xlabel("speed of decoding, times the original's")
    left.set_ylabel("bits per character more than the original,\nmean of six languages, 95% interval")
    for axes in (left, right):
        axes.set_ylim(bottom=min(-0.05, axes.get_ylim()[0]))
        axes.axhline(0, color="#999999", linewidth=0.7)
        axes.grid(alpha=0.25)
        axes.margins(x=0.15)
    figure.legend(loc="outside lower center", ncols=len(kinds), fontsize="small")
    figure.savefig(file)


def _speed(way: Mapping[str, Any]) -> float:
    return float(way["tokens_per_second"]["decoding"])


def _points(
    axes: Axes, xs: Sequence[float], ways: Sequence[Mapping[str, Any]], label: str | None, style: Mapping[str, str]
) -> None:
    means = [next(row for row in way["differences"] if row["language"] == AVERAGE_ALL) for way in ways]
    ys = [row["delta"] for row in means]
    errors = [[row["delta"] - row["low"] for row in means], [row["high"] - row["delta"] for row in means]]
    axes.errorbar(xs, ys, errors, label=label, linestyle=":", capsize=2, markersize=5, **style)
    for x, y, way in zip(xs, ys, ways, strict=True):
        name = way["name"].partition(":")[0]
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, color=style["color"])


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
