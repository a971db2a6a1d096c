"""Figures of results, pruned layers and feature magnitudes, for files and TensorBoard."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def picture(figure: Figure) -> np.ndarray:
    """Draw a figure and return it as (height, width, 3), uint8; without pyplot and its windows.

    Example:
        >>> picture(Figure(figsize=(2, 1), dpi=100)).shape
        (100, 200, 3)
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def layer_map(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Draw one figure a layer as a map: kinds of layers by blocks.

    Args:
        values: Kind of layer to a value a block (nan: none).
        label: What the values are.
    """
    blocks = max(map(len, values.values()))
    names = 0.08 * max(map(len, values))
    figure = Figure(figsize=(2 + names + 0.16 * blocks, 1.2 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow([list(row) for row in values.values()], aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_xlabel("block")
    figure.colorbar(image, ax=axes, label=label)
    return figure
