"""Charts as inline SVG that take the page's colors, so that one file serves light, dark and print.

Colors are drawn as placeholders and replaced by CSS variables; text stays text.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlprune.text import plot_text, visible

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

NUM_COLORS = 8
LETTERS_PER_INCH = 11  # of the legend
INCHES_A_ROW = 0.2  # of a legend
INK, RULE, GOOD, BAD = "#010101", "#020202", "#040001", "#040002"
SERIES = tuple(f"#0300{i}0" for i in range(NUM_COLORS))
STYLES = ("-", "--", ":", "-.")
SETTINGS: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mlprune",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    labels: tuple[str, str],
    alt: str,
    is_change: bool = False,
    summary: str = "",
) -> str:
    """Draw lines.

    Args:
        series: Name of a line to its points.
        labels: What the two axes show, with units.
        alt: What the chart shows, in words.
        is_change: Whether values are changes, around zero; else they start from zero, over whole numbers.
        summary: Name of the line that sums the others up, which is thick, dashed and grey.
    """
    with matplotlib.rc_context(SETTINGS):
        figure, axes = axes_of(5.6, 3.0)
        styles: dict[str, dict[str, Any]] = {summary: {"color": SERIES[0], "linestyle": "--", "linewidth": 2.6}}
        for i, name in enumerate((name for name in series if name != summary), start=1):
            styles[name] = {"color": SERIES[i % NUM_COLORS], "linestyle": STYLES[i // NUM_COLORS % len(STYLES)]}
            styles[name] |= {"marker": "o", "markersize": 3}
        for name, points in series.items():
            x, y = zip(*points, strict=True) if points else ((), ())
            axes.plot(x, y, label=plot_text(name), **({"linewidth": 1.6} | styles[name]))
        axes.set_xlabel(plot_text(labels[0]))
        axes.set_ylabel(plot_text(labels[1]))
        axes.yaxis.grid(True)
        axes.ticklabel_format(axis="y", useOffset=False)
        if is_change:
            axes.axhline(0, color=INK, linewidth=0.8, linestyle="--")
        else:
            locator = axes.xaxis.get_major_locator()
            assert isinstance(locator, MaxNLocator)
            locator.set_params(integer=True)
            highest = max((y for points in series.values() for _, y in points), default=1.0)
            axes.set_ylim(0, 1.05 * highest or 1.0)
        legend(figure, axes)
        return to_svg(figure, alt)


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and its axes, in inches, to be drawn with this module's settings."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def legend(figure: Figure, axes: Axes) -> None:
    """Name the series of a chart above it, in as many rows as that takes; a single one needs no name."""
    names = axes.get_legend_handles_labels()[1]
    if len(names) > 1:
        columns = columns_of(names, figure.get_figwidth())
        rows = -(-len(names) // columns)
        figure.set_figheight(figure.get_figheight() + INCHES_A_ROW * max(rows - 4, 0))  # four find room
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=9, handlelength=1.6)


def columns_of(names: Sequence[str], width: float) -> int:
    """Return how many names of a legend fit beside one another.

    Args:
        names: The names.
        width: Width of the figure, inches.

    Example:
        >>> columns_of(["dense", "pruned"], 5.0), columns_of(["a" * 40] * 3, 5.0)
        (2, 1)
    """
    fitting = int(LETTERS_PER_INCH * width // (max(map(len, names)) + 6))
    return min(len(names), max(fitting, 1))


def to_svg(figure: Figure, alt: str) -> str:
    """Return a figure as an ``<svg>`` with a description, scaled by the page and free of clashing ids.

    Args:
        figure: Drawn with this module's settings.
        alt: What it shows, in words.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    salt = f"f{abs(hash_of(svg)):x}"
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{salt}{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{salt}", svg)
    colors = {INK: "currentColor", RULE: "var(--rule)", GOOD: "var(--good)", BAD: "var(--bad)"}
    colors |= {color: f"var(--c{i})" for i, color in enumerate(SERIES)}
    for placeholder, color in colors.items():
        svg = svg.replace(placeholder, color)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(visible(alt))}" {spaces}>'
    svg = head + svg[svg.index(">") + 1 :]
    return svg.replace("font: 10px sans-serif", "font-size: 10px").replace("sans-serif", "inherit")


def hash_of(text: str) -> int:
    """Return a number that is the same in every process, unlike ``hash``."""
    value = 0
    for character in text:
        value = (value * 31 + ord(character)) % 2**32
    return value
