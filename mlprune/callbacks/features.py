"""The callback that measures features in place of pruning: which are large in which demonstrations."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave
from safetensors.torch import save_file

from mlprune.analysis.feature_figures import overlap_curves, overlap_maps, top_bars, top_lines
from mlprune.analysis.figures import picture
from mlprune.analysis.kinds import layers_by_kind
from mlprune.analysis.magnitudes import Magnitudes, Means
from mlprune.analysis.overlap import overlap_table, part_of
from mlprune.callbacks.base import Schedule
from mlprune.data.demonstrations import MonolingualDemonstrations, TranslationDemonstrations
from mlprune.errors import UserError
from mlprune.files import whole_file, write_json, write_text
from mlprune.log import log
from mlprune.models.paths import LayerPath
from mlprune.pruning import calibrating
from mlprune.run import Run
from mlprune.runs.facts import calibration_facts, versions


class FeatureStep:
    """The one step of the analysis: all batches through the whole model.

    Args:
        analysis: The callback.
        magnitudes: What is measured.
    """

    def __init__(self, analysis: "FeatureAnalysis", magnitudes: Magnitudes) -> None:
        self.analysis = analysis
        self.magnitudes = magnitudes

    def gather(self) -> None:
        """Measure every batch of this process."""
        for index, batch in enumerate(self.analysis.run.batches):
            self.magnitudes.add(batch)
            self.analysis.tell_progress(0, index, 1.0)


class FeatureAnalysis(Schedule):
    """Makes ``validate`` measure the demonstrations' features instead of pruning.

    Writes features.csv (group, layer, dimension, magnitude), overlap.json, and figures: the largest features of every
    layer, the overlap of groups, and the overlap over depth; the same for the inputs of linear layers in
    features.linear.safetensors (``<group>/<layer path>``) and overlap.linear.json. Padding never counts.

    Source: Kim et al. 2024, Figures 1 to 3.

    Args:
        percent: p: which share of a layer's features is called its largest, or its smallest.
        top: Features in each bar plot.
        linear_inputs: Measure the inputs of every linear layer too.
        figures: Draw; off leaves the numbers alone.
    """

    caption = "measuring features"

    def __init__(self, percent: float = 30.0, top: int = 20, linear_inputs: bool = True, figures: bool = True) -> None:
        if not 0 < percent <= 100:
            raise UserError(f"FeatureAnalysis: percent {percent} is not allowed; give more than 0, at most 100")
        if top < 1:
            raise UserError(f"FeatureAnalysis: top {top} is not allowed; give at least 1")
        self.percent = percent
        self.top = top
        self.linear_inputs = linear_inputs
        self.figures = figures
        self._calibrating = ExitStack()
        self._magnitudes: Magnitudes | None = None

    def num_steps(self) -> int:
        """One step for the whole model."""
        return 1

    def steps(self) -> Iterator[FeatureStep]:
        """The one step."""
        assert self._magnitudes is not None
        yield FeatureStep(self, self._magnitudes)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with nothing measured."""
        if self.is_active:
            model = self.run.model
            self._magnitudes = Magnitudes(model, self.linear_inputs)
            self._calibrating.enter_context(calibrating(model))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up over processes and write."""
        self._calibrating.close()
        if self.is_active and self._magnitudes is not None:
            self._magnitudes.reduce()
            if self.run.writes:
                self._write(self.run, self._magnitudes)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found."""
        self._calibrating.close()

    def _write(self, run: Run, magnitudes: Magnitudes) -> None:
        folder, names = run.folder, run.groups
        facts = {"model": run.module.source.name, "seed": run.data.seed, "calibration": calibration_facts(run.prompts)}
        facts["versions"] = versions()
        kinds = {name: kind(group) for name, group in run.data.demonstrations.items()}
        hidden = {name: magnitudes.hidden()[name] for name in names}
        write_text(folder / "features.csv", csv_text(hidden))
        table = overlap_table(hidden, self.percent, kinds)
        write_json(folder / "overlap.json", facts | table)
        what = "hidden states"
        drawn = {"overlap": overlap_maps(table, what), "overlap.depth": overlap_curves({what: table})}
        drawn |= {f"top{self.top}.{name}": top_bars(hidden[name], name, self.top) for name in names}
        if self.linear_inputs:
            inputs = {name: magnitudes.inputs()[name] for name in names}
            with whole_file(folder / "features.linear.safetensors") as partial:
                tensors = {f"{name}/{path}": v for name, own in inputs.items() for path, v in own.items()}
                save_file({name: values.float().contiguous() for name, values in tensors.items()}, partial)
            linear = overlap_table(inputs, self.percent, kinds)
            layers = layers_by_kind(inputs[names[0]])
            write_json(folder / "overlap.linear.json", linear | {"layers_by_kind": layers})
            tables = {
                f"input of {layer}": part_of(linear, {path: f"block {LayerPath.of(path).block}" for path in paths})
                for layer, paths in layers.items()
            }
            drawn["overlap.linear.depth"] = overlap_curves(tables)
            for layer, (title, part) in zip(layers, tables.items(), strict=True):
                drawn[f"overlap.linear.{layer.partition(',')[0].replace(': ', '.')}"] = overlap_maps(part, title)
            drawn |= {f"top{self.top}.linear.{name}": top_lines(inputs[name], layers, name, self.top) for name in names}
        if self.figures:
            save_figures(run, drawn)
        only = sum(map(len, table["only_translation"]))
        log.info(
            "measured %d groups over %d layers; large only under translation: %d features of hidden states",
            len(names),
            len(table["layers"]),
            only,
        )


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


def csv_text(means: Means, columns: tuple[str, ...] = ("group",)) -> str:
    """Return magnitudes as lines ``group,layer,dimension,magnitude``.

    Args:
        means: Group to layer to magnitudes; names of several columns are joined by commas already.
        columns: Header of what the group's name holds.

    Example:
        >>> import torch
        >>> print(csv_text({"mt": {"0": torch.tensor([0.5])}}), end="")
        group,layer,dimension,magnitude
        mt,0,0,0.5
    """
    lines = [",".join((*columns, "layer", "dimension", "magnitude"))]
    for group, layers in means.items():
        for layer, values in layers.items():
            lines += [f"{group},{layer},{dim},{value:.9g}" for dim, value in enumerate(values.tolist())]
    return "\n".join(lines) + "\n"


def save_figures(run: Run, figures: dict[str, Figure]) -> None:
    """Write figures as ``figures/<name>.png``, and to TensorBoard; each is drawn once."""
    for name, figure in figures.items():
        drawn = picture(figure)
        with whole_file(run.folder / "figures" / f"{name}.png") as partial:
            imsave(partial, drawn, format="png")
        for writer in run.trainer.loggers:
            if isinstance(writer, TensorBoardLogger):
                tag = f"features/{name.removeprefix('features.')}"
                writer.experiment.add_image(tag, drawn, dataformats="HWC")
