"""The base of callbacks that belong to a run, with hooks that Lightning does not have."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from mlprune.errors import UserError, did_you_mean
from mlprune.module import Step
from mlprune.pruning import LayerReport
from mlprune.run import Run


class RunCallback(Callback):
    """A Lightning callback with hooks for the events of a run; subclass it to use them.

    All hooks are called on every process. A misspelt hook is an error.

    Raises:
        UserError: If a subclass has an ``on_...`` method that is neither Lightning's nor one of these.

    Example:
        >>> class Mean(RunCallback):
        ...     def on_block_pruned(self, run, block, reports, seconds):
        ...         print(block, sum(report.sparsity for report in reports.values()) / len(reports))
        >>> class Typo(RunCallback):
        ...     def on_blok_pruned(self, run, block, reports, seconds): ...
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: Typo.on_blok_pruned is not a hook; did you mean 'on_block_pruned'?
    """

    _run: Run | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hooks = [name for name in dir(RunCallback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and name not in hooks:
                raise UserError(f"{cls.__name__}.{name} is not a hook{did_you_mean(name, hooks)}")

    @property
    def run(self) -> Run:
        """The run, known from before its first stage."""
        assert self._run is not None, "RunCallbacks work in the runs of an mlprune.Engine"
        return self._run

    def join(self, run: Run) -> None:
        """Attach the callback to a run; called by the Engine."""
        self._run = run

    def on_calibration_progress(self, run: Run, block: int, index: int, share: float) -> None:
        """Called while batches pass a block.

        Args:
            run: The run.
            block: Position of the block.
            index: Position of the batch in ``run.batches``.
            share: Fraction of the block that the batch has passed since the last call; adds up to 1.
        """

    def on_layer_scored(self, run: Run, path: str, scores: Tensor, means: Mapping[str, Tensor]) -> None:
        """Called when a layer was scored, before it is masked.

        Args:
            run: The run.
            path: The layer's path.
            scores: (out_features, in_features), or (experts, out_features, in_features).
            means: Group to the layer's mean statistic.
        """

    def on_block_pruned(self, run: Run, block: int, reports: dict[str, LayerReport], seconds: float) -> None:
        """Called when a block was pruned.

        Args:
            run: The run.
            block: Position of the block.
            reports: Layer path to what was done to it.
            seconds: How long calibrating and pruning the block took.
        """

    def on_evaluated(self, run: Run, system: str, results: dict[str, Any]) -> None:
        """Called when an evaluation has ended and its files are written.

        Args:
            run: The run.
            system: ``dense``, ``pruned`` or ``trained``.
            results: Sections of results.json.
        """

    def on_run_end(self, run: Run) -> None:
        """Called once, at the end, when all results are written."""


class Viewer(RunCallback):
    """A callback that only shows what was computed: if its hooks raise, that is one warning of the run.

    Attributes:
        shows: What warnings call it; its class if empty.

    Example:
        >>> class Plot(Viewer):
        ...     def on_run_end(self, run):
        ...         raise RuntimeError("no display")
    """

    shows = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, hook in list(vars(cls).items()):
            if name.startswith("on_"):
                setattr(cls, name, _guarded(hook))


def _guarded(hook: Callable[..., None]) -> Callable[..., None]:
    @wraps(hook)
    def guarded(self: Viewer, *args: Any, **kwargs: Any) -> None:
        with self.run.viewer(self.shows or type(self).__name__):
            hook(self, *args, **kwargs)

    return guarded


class Schedule(RunCallback, ABC):
    """A callback whose steps are the batches of ``validate``: blocks to be pruned, or features to be measured."""

    caption: str  # of the progress line

    @property
    def is_active(self) -> bool:
        """Whether the run's validation takes its steps from this callback."""
        return self.run.schedule is self

    @property
    def batches(self) -> list[dict[str, Any]]:
        """This process' calibration batches."""
        return self.run.batches

    def report_progress(self, block: int, index: int, share: float) -> None:
        """Report to all callbacks how far a batch has passed through a block."""
        for callback in self.run.callbacks:
            callback.on_calibration_progress(self.run, block, index, share)

    @abstractmethod
    def num_steps(self) -> int:
        """Return how many steps there are."""

    @abstractmethod
    def steps(self) -> Iterator[Step]:
        """Yield the steps in order; the first is requested after ``on_validation_start``."""


class Analysis(Schedule):
    """A schedule that measures in place of pruning, if it is among a run's callbacks."""


class ScheduleLoader:
    """The steps of a schedule as Lightning's validation loader; each is created when it is needed.

    Args:
        schedule: The schedule.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __len__(self) -> int:
        return self.schedule.num_steps()

    def __iter__(self) -> Iterator[Step]:
        yield from self.schedule.steps()
