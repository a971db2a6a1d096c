"""The paper's Figures 1 to 3 and what they do not show: largest features, overlap by layer and over depth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mlprune.analysis.overlap import largest
from mlprune.models.paths import LayerPath
from mlprune.text import plot_text

COLUMNS = 5
COLORS = ("#0b6e99", "#c2571a", "#3f7d20", "#8a4fa3", "#7a6a00", "#5b6472")


def top_bars(magnitudes: Mapping[str, Tensor], title: str, top: int = 20) -> Figure:
    """Draw one group's largest features of every layer on a log axis, dimension by dimension.

    Args:
        magnitudes: Layer to (D,).
        title: The group.
        top: How many features a layer.
    """
    figure, grid = _grid(len(magnitudes), 3.4, 2.0)
    for axes, name, values in zip(grid, layer_titles(list(magnitudes)), magnitudes.values(), strict=False):
        dims = values.argsort(descending=True, stable=True)[:top].tolist()
        heights = [float(values[dim]) for dim in dims]
        axes.bar(range(len(dims)), heights, color=COLORS[0], log=True)
        axes.set_xticks(range(len(dims)), [str(dim) for dim in dims], rotation=90, fontsize=6)
        axes.tick_params(axis="y", labelsize=6, which="both")
        axes.set_title(name, fontsize=8)
    figure.suptitle(f"{plot_text(title)}: the {top} largest features of each layer")
    figure.supylabel("l2 norm over a prompt's tokens, log axis; under each bar the dimension", fontsize=8)
    return figure


def top_lines(magnitudes: Mapping[str, Tensor], kinds: Mapping[str, list[str]], title: str, top: int = 20) -> Figure:
    """Draw the largest features of the inputs of many linear layers, one panel a kind of layer.

    Args:
        magnitudes: Layer path to (in_features,).
        kinds: Kind of layer to layer paths.
        title: The group.
        top: How many features a layer.
    """
    figure, grid = _grid(len(kinds), 6.0, 2.2, columns=2)
    for axes, (kind, paths) in zip(grid, kinds.items(), strict=False):
        bars = [
            (place * (top + 6) + rank, float(value))
            for place, path in enumerate(paths)
            for rank, value in enumerate(magnitudes[path].sort(descending=True).values[:top])
            if value > 0
        ]
        if bars:
            places, heights = zip(*bars, strict=True)
            axes.vlines(places, min(heights) / 2, heights, COLORS[0], linewidth=0.7)
            axes.set_yscale("log")
        middles = [place * (top + 6) + top / 2 for place in range(len(paths))]
        axes.set_xticks(middles, [str(LayerPath.of(path).block) for path in paths], fontsize=6)
        axes.set_title(f"input of {kind}", fontsize=8)
        axes.set_xlabel("block", fontsize=7)
    figure.suptitle(f"{plot_text(title)}: the {top} largest input features of each linear layer")
    figure.supylabel("l2 norm over a prompt's tokens, log axis", fontsize=8)
    return figure


def overlap_maps(table: Mapping[str, Any], what: str) -> Figure:
    """Draw the overlap of every layer as a heatmap: rows' largest features among columns' smallest.

    Args:
        table: What :func:`mlprune.analysis.overlap.overlap_table` returned.
        what: Whose features, for the title.
    """
    groups, percent = list(map(plot_text, table["groups"])), table["percent"]
    names = layer_titles(table["layers"])
    figure, grid = _grid(len(names), 2.3, 2.3)
    high = 100 * max(max(max(row) for row in layer) for layer in table["overlap"]) or 1.0
    image = None
    for place, (name, values) in enumerate(zip(names, table["overlap"], strict=True)):
        axes = grid[place]
        image = axes.imshow([[100 * value for value in row] for row in values], cmap="viridis", vmin=0, vmax=high)
        _name_groups(axes, groups, place, len(names))
        axes.set_title(name, fontsize=8)
    assert image is not None
    label = f"share of the row's top {percent:g}% in the column's bottom {percent:g}%, %"
    figure.colorbar(image, ax=grid, label=label)
    figure.suptitle(f"{what}: top {percent:g}% of one group among the bottom {percent:g}% of another")
    return figure


def similarity_maps(table: Mapping[str, Any], what: str) -> Figure:
    """Draw the cosine of every two groups' energies at every layer as a heatmap.

    Args:
        table: What :func:`mlprune.analysis.similarity.similarity_table` returned.
        what: Whose energies, for the title.
    """
    groups, names = list(map(plot_text, table["groups"])), layer_titles(table["layers"])
    figure, grid = _grid(len(names), 2.3, 2.3)
    low = min(min(min(row) for row in layer) for layer in table["cosine"])
    image = None
    for place, (name, values) in enumerate(zip(names, table["cosine"], strict=True)):
        axes = grid[place]
        image = axes.imshow(values, cmap="viridis", vmin=min(low, 0.99), vmax=1)
        _name_groups(axes, groups, place, len(names))
        axes.set_title(name, fontsize=8)
    assert image is not None
    figure.colorbar(image, ax=grid, label="cosine of energies")
    figure.suptitle(f"{what}: how alike groups are")
    return figure


def similarity_curves(tables: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw each group's mean cosine with the others, over depth.

    Args:
        tables: Title of a panel to what :func:`mlprune.analysis.similarity.similarity_table` returned.
    """
    columns = min(len(tables), 2)
    figure, grid = _grid(len(tables), 8 if columns == 1 else 5.5, 3.2, columns)
    lines: dict[str, Any] = {}
    for axes, (title, table) in zip(grid, tables.items(), strict=False):
        others = len(table["groups"]) - 1
        for number, name in enumerate(map(plot_text, table["groups"])):
            heights = [(sum(values[number]) - values[number][number]) / others for values in table["cosine"]]
            style, color = "-:"[number // len(COLORS) % 2], COLORS[number % len(COLORS)]
            lines[name] = axes.plot(heights, color=color, linestyle=style, marker=".")[0]
        blocks = all(layer.startswith("block ") for layer in table["layers"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block" if blocks else "layer (0: after the embedding)")
        axes.set_ylabel("mean cosine with the others")
        axes.set_title(title, fontsize="medium")
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=8, fontsize="small")
    return figure


def _name_groups(axes: Any, groups: list[str], place: int, count: int) -> None:
    """Name rows and columns of a map, on the outer maps of a grid only."""
    lowest, first = place + COLUMNS >= count, place % COLUMNS == 0
    axes.set_xticks(range(len(groups)) if lowest else [], groups if lowest else [], rotation=90, fontsize=7)
    axes.set_yticks(range(len(groups)) if first else [], groups if first else [], fontsize=7)


def overlap_curves(tables: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw how many of the largest features kinds of groups share, over depth.

    Args:
        tables: Title of a panel to what :func:`mlprune.analysis.overlap.overlap_table` returned.
    """
    columns = min(len(tables), 2)
    figure, grid = _grid(len(tables), 8 if columns == 1 else 5.5, 3.2, columns)
    names: dict[str, Any] = {}
    for axes, (title, table) in zip(grid, tables.items(), strict=False):
        for number, (name, values) in enumerate(table["curves"].items()):
            color, heights = COLORS[number % len(COLORS)], [100 * value for value in values]
            names[plot_text(name)] = axes.plot(heights, color=color, marker=".")[0]
        blocks = all(layer.startswith("block ") for layer in table["layers"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block" if blocks else "layer (0: after the embedding)")
        axes.set_ylabel(f"top {table['percent']:g}% shared, %")
        axes.set_title(title, fontsize="medium")
    if names:
        figure.legend(names.values(), names, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def layer_titles(layers: Sequence[str]) -> list[str]:
    """Say what the hidden states of a layer are; other names stay.

    Example:
        >>> layer_titles(["0", "1", "2"])
        ['layer 0 (embedding)', 'layer 1', 'layer 2 (after the norm)']
    """
    titles = [f"layer {layer}" if layer.isdigit() else layer for layer in layers]
    if titles and titles[0] == "layer 0":
        titles[0] += " (embedding)"
        titles[-1] += " (after the norm)"
    return titles


def stage_curves(means: Mapping[str, Mapping[str, Mapping[str, Tensor]]], percent: float) -> Figure:
    """Draw the share of the dense model's largest features that pruning leaves largest, a panel a task.

    Args:
        means: ``dense`` and ``pruned`` to ``<task>,<language>`` to layer to magnitudes.
        percent: p of top-p%.
    """
    tasks = list(dict.fromkeys(name.partition(",")[0] for name in means["dense"]))
    languages = list(dict.fromkeys(name.partition(",")[2] for name in means["dense"]))
    figure, grid = _grid(len(tasks), 5.0, 3.2, columns=2)
    lines: dict[str, Any] = {}
    for name, layers in means["dense"].items():
        task, _, lang = name.partition(",")
        axes, number = grid[tasks.index(task)], languages.index(lang)
        pairs = [(largest(v, percent), largest(means["pruned"][name][layer], percent)) for layer, v in layers.items()]
        kept = [100 * len(set(a) & set(b)) / len(a) for a, b in pairs]
        lines[lang] = axes.plot(kept, color=COLORS[number % len(COLORS)], linestyle="-:"[number // 6 % 2], marker=".")[
            0
        ]
    for axes, task in zip(grid, tasks, strict=False):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer (0: after the embedding)")
        axes.set_ylabel(f"top {percent:g}% kept, %")
        axes.set_title(task, fontsize="medium")
    figure.suptitle("largest features of the dense model that are largest after pruning too", fontsize="medium")
    figure.legend([lines[lang] for lang in languages], languages, loc="outside lower center", ncols=8, fontsize="small")
    return figure


def unit_curves(chosen: Mapping[str, Mapping[int, Sequence[int]]], blocks: int) -> Figure:
    """Draw how many units each language has in each block.

    Args:
        chosen: Language to position of a block to units.
        blocks: Number of blocks.
    """
    counts = {lang: [len(units.get(block, ())) for block in range(blocks)] for lang, units in chosen.items()}
    named = {f"{lang} ({sum(numbers)})": numbers for lang, numbers in counts.items()}
    return _block_curves(named, "feed-forward units of each language", "units")


def influence_curves(influences: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the influence of every block, a line a group, on a log axis.

    Args:
        influences: From :func:`mlprune.analysis.influence.block_influence`.
    """
    curves = {group: list(values.values()) for group, values in influences.items()}
    return _block_curves(curves, "influence of each block", "1 - cosine of input and output", scale="log")


def _block_curves(curves: Mapping[str, Sequence[float]], title: str, what: str, scale: str = "linear") -> Figure:
    """A line each over the blocks."""
    figure, grid = _grid(1, 6.0, 3.2)
    for number, (name, values) in enumerate(curves.items()):
        line = {"color": COLORS[number % len(COLORS)], "linestyle": "-:"[number // len(COLORS) % 2]}
        grid[0].plot(values, marker=".", label=plot_text(name), **line)
    grid[0].set_yscale(scale)
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0].set_xlabel("block")
    grid[0].set_ylabel(what)
    grid[0].set_title(title, fontsize="medium")
    figure.legend(loc="outside lower center", ncols=6, fontsize="small")
    return figure


def _grid(count: int, width: float, height: float, columns: int = COLUMNS) -> tuple[Figure, list[Any]]:
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.8), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid
