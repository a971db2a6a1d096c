"""Outlets: what a run shows, said in each logger's own terms; every Lightning logger takes figures and settings."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Concatenate, ParamSpec, TypeAlias

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from mlprune.callbacks.logged import Layout
from mlprune.callbacks.loggers import name_of
from mlprune.files import file_name
from mlprune.run import Run

P = ParamSpec("P")
Scalars: TypeAlias = Mapping[str, float]

FIRST_COLUMNS = ("sparsity", "importance", "languages", "data_hash", "learning_rate")  # of TensorBoard's HPARAMS
SYSTEMS = "systems"  # folder of a TensorBoard run for each evaluated system


class Outlet:
    """Any Lightning logger, and what it may have besides: ``log_image`` and ``log_table`` as W&B's.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def scalars(self, values: Scalars, step: int | None = None) -> None:
        """Log numbers."""
        self.logger.log_metrics(dict(values), step)

    def system(self, name: str, values: Scalars, step: int) -> None:
        """Log the figures of an evaluated system as ``system/task/language/metric``."""
        self.scalars({f"{name}/{tag}": value for tag, value in values.items()}, step)

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Log the run's settings, when it begins."""
        self.logger.log_hyperparams(dict(settings))

    def headline(self, settings: Mapping[str, Any], values: Scalars, step: int, system: str = "") -> None:
        """Log the figures by which runs are sorted, when they are known; of a sweep, those of one of its systems."""
        if not system:  # whose averages are logged already
            self.scalars(values, step)

    def image(self, name: str, picture: np.ndarray) -> None:
        """Log an image of (height, width, 3), uint8."""
        if hasattr(self.logger, "log_image"):
            self.logger.log_image(name, [picture])

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table of numbers and text."""
        if hasattr(self.logger, "log_table"):
            self.logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])

    def text(self, name: str, markdown: str) -> None:
        """Log text for people."""

    def histogram(self, name: str, values: Tensor, step: int) -> None:
        """Log a distribution."""

    def layout(self, charts: Layout) -> None:
        """Say which charts belong together."""

    def close(self) -> None:
        """Write what is still in memory."""
        self.logger.finalize("success")


class TensorBoardOutlet(Outlet):
    """TensorBoard: each system is a TensorBoard run in ``systems/``, so that one chart has all under one name."""

    logger: TensorBoardLogger

    def _writer(self, system: str) -> SummaryWriter:
        return SummaryWriter(f"{self.logger.log_dir}/{SYSTEMS}/{file_name(system)}")

    def system(self, name: str, values: Scalars, step: int) -> None:
        """Log the figures of an evaluated system as ``task/language/metric``."""
        with self._writer(name) as writer:
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Note them for hparams.yaml; HPARAMS takes them together with the headline."""
        self.logger.hparams.update(settings)

    def headline(self, settings: Mapping[str, Any], values: Scalars, step: int, system: str = "") -> None:
        """Log a row of HPARAMS: of the run, or of one system."""
        if system:
            with self._writer(system) as writer:
                _write_hparams(writer, settings, values, step)
        else:
            _write_hparams(self.logger.experiment, settings, values, step)

    def image(self, name: str, picture: np.ndarray) -> None:
        """Log an image."""
        self.logger.experiment.add_image(name, picture, dataformats="HWC")

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Leave numbers to the scalars; tables for people are text."""

    def text(self, name: str, markdown: str) -> None:
        """Log Markdown."""
        self.logger.experiment.add_text(name, markdown)

    def histogram(self, name: str, values: Tensor, step: int) -> None:
        """Log a histogram."""
        self.logger.experiment.add_histogram(name, values, step)

    def layout(self, charts: Layout) -> None:
        """Fill the tab Custom Scalars."""
        exact = {
            category: {
                title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for title, tags in of_category.items()
            }
            for category, of_category in charts.items()
        }
        self.logger.experiment.add_custom_scalars(exact)


class MLFlowOutlet(Outlet):
    """MLflow: images, tables and text are artifacts of its run."""

    logger: MLFlowLogger

    def _log(self, method: Callable[..., Any], name: str, ending: str, content: Any) -> None:
        method(self.logger.run_id, content, str(PurePosixPath(*map(file_name, name.split("/")))) + ending)

    def image(self, name: str, picture: np.ndarray) -> None:
        """Log ``name.png``."""
        self._log(self.logger.experiment.log_image, name, ".png", picture)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log ``name.json``, which MLflow shows as a table."""
        content = {column: [row[place] for row in rows] for place, column in enumerate(columns)}
        self._log(self.logger.experiment.log_table, name, ".json", content)

    def text(self, name: str, markdown: str) -> None:
        """Log ``name.md``."""
        self._log(self.logger.experiment.log_text, name, ".md", markdown)


KINDS: dict[type[Logger], type[Outlet]] = {TensorBoardLogger: TensorBoardOutlet, MLFlowLogger: MLFlowOutlet}


class Outlets:
    """All outlets of a run; one that fails is a warning, and the others go on.

    Args:
        run: The run; processes that write nothing have no outlets.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.outlets = [_outlet(logger) for logger in run.trainer.loggers] if run.writes else []

    def __bool__(self) -> bool:
        return bool(self.outlets)

    def each(self, show: Callable[Concatenate[Outlet, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Show something on every outlet, such as ``each(Outlet.image, name, picture)``."""
        for outlet in self.outlets:
            with self.run.viewer(name_of(outlet.logger)):
                getattr(outlet, show.__name__)(*args, **kwargs)


def _write_hparams(writer: SummaryWriter, settings: Mapping[str, Any], values: Scalars, step: int) -> None:
    """Write what the tab HPARAMS reads; it shows five columns until others are ticked, those that "differ" first.

    The columns of all runs are those that the first one declares, so a run without results leaves that to others.
    """
    columns, *session = hparams(dict(settings), dict(values))
    plugin = columns.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in FIRST_COLUMNS
    plugin.content = content.SerializeToString()
    has_results = any(not tag.startswith("headline/pruning/") for tag in values)
    for summary in (columns, *session) if has_results else session:
        writer._get_file_writer().add_summary(summary)  # writer.add_hparams opens one more run
    for tag, value in values.items():
        writer.add_scalar(tag, value, step)


def _outlet(logger: Logger) -> Outlet:
    return next((outlet for kind, outlet in KINDS.items() if isinstance(logger, kind)), Outlet)(logger)
