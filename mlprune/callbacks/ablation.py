"""The callback form of :class:`mlprune.interventions.FeatureAblation`."""

from typing import Any

from mlprune.callbacks.base import RunCallback
from mlprune.interventions import FeatureAblation as Intervention
from mlprune.run import Run


class FeatureAblation(RunCallback):
    """Adds a :class:`mlprune.interventions.FeatureAblation` to ``model.interventions``.

    Args:
        arguments: The intervention's: ``features``, or ``run`` and ``select``; ``keep_only``, ``seed``.
    """

    def __init__(self, **arguments: Any) -> None:
        self.intervention = Intervention(**arguments)

    def join(self, run: Run) -> None:
        """Add the intervention, once."""
        super().join(run)
        run.module.add_intervention(self.intervention)
