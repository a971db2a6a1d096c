"""The callback that measures features in place of pruning: which are large in which demonstrations."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from matplotlib.image import imsave
from safetensors.torch import save_file
from torch import Tensor

from mlprune.analysis.feature_figures import (
    overlap_curves,
    overlap_maps,
    similarity_curves,
    similarity_maps,
    top_bars,
    top_lines,
)
from mlprune.analysis.figures import picture
from mlprune.analysis.kinds import layers_by_kind
from mlprune.analysis.magnitudes import Magnitudes, Means
from mlprune.analysis.overlap import overlap_table, part_of
from mlprune.analysis.similarity import similarity_csv, similarity_table
from mlprune.callbacks.one_pass import OnePass
from mlprune.callbacks.outlets import Outlet, Outlets
from mlprune.data.demonstrations import MonolingualDemonstrations, TranslationDemonstrations
from mlprune.errors import UserError
from mlprune.files import file_name, whole_file, write_json, write_text
from mlprune.log import log
from mlprune.models.paths import LayerPath
from mlprune.present import Table, to_csv
from mlprune.run import Run

Layers = Mapping[str, Tensor]  # layer to magnitudes
Drawings = dict[str, Callable[[], Figure]]  # name to what draws it


class FeatureAnalysis(OnePass[Magnitudes]):
    """Makes ``validate`` measure the demonstrations' features instead of pruning.

    Writes features.csv (group, layer, dimension, magnitude), overlap.json, and figures: the largest features of every
    layer, the overlap of groups, and the overlap over depth; the same for the inputs of linear layers in
    features.linear.safetensors (``<group>/<layer path>``) and overlap.linear.json. With several groups also
    similarity.csv (layer, group, other, cosine) and figures of it: how alike the groups' energies are. Padding never
    counts.

    Source: Kim et al. 2024, Figures 1 to 3; the similarity is that of Zeng et al. 2024 (arXiv 2404.04748).

    Args:
        percent: The share of a layer's features that counts as its largest, or its smallest.
        top: Features in each bar plot.
        linear_inputs: Measure the inputs of every linear layer too.
        figures: Draw figures; if off, only the numbers are written.
    """

    caption = "measuring features"

    def __init__(self, percent: float = 30.0, top: int = 20, linear_inputs: bool = True, figures: bool = True) -> None:
        super().__init__()
        if not 0 < percent <= 100:
            raise UserError(f"FeatureAnalysis: percent {percent} is not allowed; give more than 0, at most 100")
        if top < 1:
            raise UserError(f"FeatureAnalysis: top {top} is not allowed; give at least 1")
        self.percent = percent
        self.top = top
        self.linear_inputs = linear_inputs
        self.figures = figures

    def begin(self) -> Magnitudes:
        """Know the model's layers."""
        return Magnitudes(self.run.model, self.linear_inputs)

    def conclude(self, sums: Magnitudes) -> None:
        """Write what was measured."""
        if self.run.writes:
            self._write(self.run, sums)

    def _write(self, run: Run, magnitudes: Magnitudes) -> None:
        names = run.groups
        kinds = {name: kind(group) for name, group in run.data.demonstrations.items()}
        hidden = {name: magnitudes.hidden()[name] for name in names}
        write_text(run.folder / "features.csv", csv_text({(name,): layers for name, layers in hidden.items()}))
        table = overlap_table(hidden, self.percent, kinds)
        write_json(run.folder / "overlap.json", self.facts() | table)
        drawn = self._draw_hidden(hidden, table)
        layers: dict[str, list[str]] = {}
        if self.linear_inputs:
            inputs = {name: magnitudes.inputs()[name] for name in names}
            layers = layers_by_kind(inputs[names[0]])
            linear = overlap_table(inputs, self.percent, kinds)
            self._write_inputs(run, inputs, linear | {"layers_by_kind": layers})
            drawn |= self._draw_inputs(inputs, layers, linear)
        if len(names) > 1:
            drawn |= self._compare(run, magnitudes, layers)
        if self.figures:
            save_figures(run, drawn)
        log.info(
            "measured %d groups over %d layers; large only under translation: %d features of hidden states",
            len(names),
            len(table["layers"]),
            sum(map(len, table["only_translation"])),
        )

    @staticmethod
    def _compare(run: Run, magnitudes: Magnitudes, layers: dict[str, list[str]]) -> Drawings:
        """Write how alike the groups are, and return its figures.

        Args:
            run: The run.
            magnitudes: What was measured.
            layers: Kind of linear layer to layer paths; none if their inputs were not measured.
        """
        hidden, inputs = magnitudes.hidden_energies(), magnitudes.input_energies()
        table = similarity_table({name: hidden[name] for name in run.groups})
        linear = similarity_table({name: inputs[name] for name in run.groups})
        write_text(run.folder / "similarity.csv", similarity_csv(table, linear))
        parts = {
            f"input of {kind}": part_of(linear, {path: f"block {LayerPath.of(path).block}" for path in paths})
            for kind, paths in layers.items()
        }
        drawn: Drawings = {
            "similarity": partial(similarity_maps, table, "hidden states"),
            "similarity.depth": partial(similarity_curves, {"hidden states": table}),
        }
        return drawn | ({"similarity.linear.depth": partial(similarity_curves, parts)} if parts else {})

    @staticmethod
    def _write_inputs(run: Run, inputs: Means, table: dict[str, Any]) -> None:
        tensors = {f"{name}/{path}": values for name, layers in inputs.items() for path, values in layers.items()}
        with whole_file(run.folder / "features.linear.safetensors") as file:
            save_file({name: values.float().contiguous() for name, values in tensors.items()}, file)
        write_json(run.folder / "overlap.linear.json", table)

    def _draw_hidden(self, hidden: Means, table: dict[str, Any]) -> Drawings:
        what = "hidden states"
        return {
            "overlap": partial(overlap_maps, table, what),
            "overlap.depth": partial(overlap_curves, {what: table}),
            **{f"top{self.top}.{name}": partial(top_bars, layers, name, self.top) for name, layers in hidden.items()},
        }

    def _draw_inputs(self, inputs: Means, layers: dict[str, list[str]], table: dict[str, Any]) -> Drawings:
        parts = {
            f"input of {layer}": part_of(table, {path: f"block {LayerPath.of(path).block}" for path in paths})
            for layer, paths in layers.items()
        }
        drawn: Drawings = {"overlap.linear.depth": partial(overlap_curves, parts)}
        for layer, (title, part) in zip(layers, parts.items(), strict=True):
            name = layer.partition(",")[0].replace(": ", ".")
            drawn[f"overlap.linear.{name}"] = partial(overlap_maps, part, title)
        for name, means in inputs.items():
            drawn[f"top{self.top}.linear.{name}"] = partial(top_lines, means, layers, name, self.top)
        return drawn


def kind(demonstrations: Any) -> str:
    """Name the kind of a group: ``translation``, ``monolingual``, or its class' name without ``Demonstrations``.

    Example:
        >>> kind(TranslationDemonstrations("fr", "en"))
        'translation'
    """
    if isinstance(demonstrations, TranslationDemonstrations):
        return "translation"
    if isinstance(demonstrations, MonolingualDemonstrations):
        return "monolingual"
    return type(demonstrations).__name__.removesuffix("Demonstrations").lower()


def csv_text(means: Mapping[tuple[str, ...], Layers], columns: tuple[str, ...] = ("group",)) -> str:
    """Return magnitudes as lines ``group,layer,dimension,magnitude``.

    Args:
        means: What was measured, a name a column, to layer to magnitudes.
        columns: Head of the columns that the names fill.

    Example:
        >>> import torch
        >>> print(csv_text({("mt",): {"0": torch.tensor([0.5])}}), end="")
        group,layer,dimension,magnitude
        mt,0,0,0.5
    """
    rows = [
        (*names, layer, str(dimension), f"{value:.9g}")
        for names, layers in means.items()
        for layer, values in layers.items()
        for dimension, value in enumerate(values.tolist())
    ]
    return to_csv(Table("magnitudes", (*columns, "layer", "dimension", "magnitude"), rows))


def save_figures(run: Run, drawings: Drawings) -> None:
    """Draw figures, once each, as ``figures/<name>.png`` and for loggers; one that fails is a warning."""
    for name, draw in drawings.items():
        with run.viewer(f"figure '{name}'"):
            drawn = picture(draw())
            with whole_file(run.folder / "figures" / f"{file_name(name)}.png") as file:
                imsave(file, drawn, format="png")
            Outlets(run).each(Outlet.image, f"features/{name.removeprefix('features.')}", drawn)
