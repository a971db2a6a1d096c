"""Figures of results, pruned layers and feature magnitudes, for files and TensorBoard."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DENSE, PRUNED = "#8a94a6", "#0b6e99"


def picture(figure: Figure) -> np.ndarray:
    """Draw a figure and return it as (height, width, 3), uint8; without pyplot and its windows.

    Example:
        >>> picture(Figure(figsize=(2, 1), dpi=100)).shape
        (100, 200, 3)
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def accuracy_bars(dense: Mapping[str, Any], results: Mapping[str, Any], stage: str) -> dict[str, Figure]:
    """Draw each task's accuracy per language with 95% intervals.

    Args:
        dense: results.json of the dense model; may be empty.
        results: results.json of the evaluated model.
        stage: ``dense`` or ``pruned``: what ``results`` are of.

    Returns:
        Task to figure.
    """
    systems = [("dense", DENSE, dense)] if dense else []
    systems.append((stage, PRUNED, results))
    figures = {}
    for task, rows in results.get("tasks", {}).items():
        languages = [lang for lang, row in rows.items() if "accuracy" in row]
        if not languages:
            continue
        figure = Figure(figsize=(1.5 + 0.8 * len(languages), 3), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(systems)
        for place, (name, color, system) in enumerate(systems):
            own = [system.get("tasks", {}).get(task, {}).get(lang, {}) for lang in languages]
            heights = [100 * row.get("accuracy", math.nan) for row in own]
            ends = [[100 * bound for bound in row.get("ci95", (math.nan, math.nan))] for row in own]
            lower, upper = ([end[i] for end in ends] for i in (0, 1))
            spread = [[h - low for h, low in zip(heights, lower)], [high - h for h, high in zip(heights, upper)]]
            positions = [i + (place - (len(systems) - 1) / 2) * width for i in range(len(languages))]
            axes.bar(positions, heights, width, label=name, color=color, yerr=spread, ecolor="#444", capsize=2)
        axes.set_xticks(range(len(languages)), languages)
        axes.set_ylabel("accuracy, %")
        axes.set_title(task)
        figure.legend(loc="outside lower center", ncols=2, fontsize="small")
        figures[task] = figure
    return figures


def sparsity_curves(curves: Mapping[str, Sequence[tuple[float, Mapping[str, float]]]]) -> Figure:
    """Draw what a sweep found: a panel a curve, the dense model as a dashed line, intervals of the difference.

    Args:
        curves: Name to points (sparsity, figures ``dense``, ``pruned`` and, where known, ``low`` and ``high``).

    Example:
        >>> len(sparsity_curves({"nli accuracy": [(0.3, {"dense": 0.5, "pruned": 0.4})]}).axes)
        1
    """
    columns = min(len(curves), 3)
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for axes, (name, points) in zip(panels, curves.items(), strict=False):
        places = [sparsity for sparsity, _ in points]
        dense = points[0][1]["dense"]
        axes.axhline(dense, color=DENSE, linestyle="--", label="dense")
        axes.plot(places, [figures["pruned"] for _, figures in points], color=PRUNED, marker="o", label="pruned")
        known = [(place, dense + f["low"], dense + f["high"]) for place, f in points if "low" in f]
        if known:
            axes.fill_between(
                *zip(*known, strict=True), color=PRUNED, alpha=0.15, label="95% interval of the difference"
            )
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("sparsity")
    for axes in list(figure.axes)[len(curves) :]:
        axes.remove()
    handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def layer_map(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw one figure a layer as a map: kinds of layers by blocks.

    Args:
        values: Kind of layer to a value a block (nan: none).
        label: What the values are.
    """
    blocks = max(map(len, values.values()))
    figure = Figure(figsize=(2.6 + 0.16 * blocks, 1.2 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow([list(row) for row in values.values()], aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_xlabel("block")
    figure.colorbar(image, ax=axes, label=label)
    return figure
