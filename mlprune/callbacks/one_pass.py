"""The base of analyses that look at every calibration batch once, as it passes through the whole model."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Generic, Protocol, Self, TypeVar

from lightning.pytorch import LightningModule, Trainer

from mlprune.callbacks.base import Analysis
from mlprune.pruning import calibrating
from mlprune.runs.facts import calibration_facts, versions


class Sums(Protocol):
    """What adds up over batches, and then over processes."""

    def add(self, batch: Mapping[str, Any]) -> None:
        """Run a batch through the model and add what is measured."""

    def reduce(self) -> None:
        """Add up over processes; a collective, called once."""


S = TypeVar("S", bound=Sums)


class OnePass(Analysis, Generic[S]):
    """An analysis of one step, in which all batches pass through the whole model; it says what adds up, and to what."""

    def __init__(self) -> None:
        self._sums: S | None = None
        self._calibrating = ExitStack()

    @abstractmethod
    def begin(self) -> S:
        """Return what adds up, with nothing measured; the model is in evaluation mode."""

    @abstractmethod
    def conclude(self, sums: S) -> None:
        """Take what all processes measured; called on each of them."""

    def num_steps(self) -> int:
        """One step for the whole model."""
        return 1

    def steps(self) -> Iterator[Self]:
        """The one step: this callback."""
        yield self

    def gather(self) -> None:
        """Measure every batch of this process."""
        assert self._sums is not None
        for index, batch in enumerate(self.run.batches):
            self._sums.add(batch)
            self.report_progress(0, index, 1.0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with nothing measured."""
        if self.is_active:
            self._calibrating.enter_context(calibrating(self.run.model))
            self._sums = self.begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up over processes, and conclude."""
        self._calibrating.close()
        if self.is_active and self._sums is not None:
            sums, self._sums = self._sums, None
            sums.reduce()
            self.conclude(sums)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found."""
        self._calibrating.close()

    def facts(self) -> dict[str, Any]:
        """Return what a file says of where its numbers come from."""
        run = self.run
        calibration = calibration_facts(run.prompts)
        facts = {"model": run.module.source.name, "seed": run.data.seed, "calibration": calibration}
        return facts | {"versions": versions()}
