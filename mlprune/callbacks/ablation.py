"""The callback form of :class:`mlprune.interventions.FeatureAblation`."""

from pathlib import Path

from mlprune.analysis.ablation import Select
from mlprune.callbacks.base import RunCallback
from mlprune.interventions import FeatureAblation as Intervention
from mlprune.run import Run


class FeatureAblation(RunCallback):
    """Adds a :class:`mlprune.interventions.FeatureAblation` to ``model.interventions``.

    Args:
        features: Layer (0 before the blocks, k after block k - 1) to dimensions.
        run: Folder of a feature analysis (``validate --config configs/analysis.yaml``).
        select: ``translation``: features large under translation only; ``large``: as many of the other largest;
            ``random``: as many others.
        keep_only: Zero all other features of these layers instead.
        seed: Seed of ``select: random``.
    """

    def __init__(
        self,
        features: dict[int, list[int]] | None = None,
        run: str | Path | None = None,
        select: Select = "translation",
        keep_only: bool = False,
        seed: int = 0,
    ) -> None:
        self.intervention = Intervention(features, run, select, keep_only, seed)

    def join(self, run: Run) -> None:
        """Add the intervention, once."""
        super().join(run)
        run.module.add_intervention(self.intervention)
