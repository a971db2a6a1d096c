"""The callback that evaluates a model with some of its features switched off."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mlprune.analysis.ablation import Select, ablated, select_features
from mlprune.errors import UserError
from mlprune.log import log


class FeatureAblation(Callback):
    """Zeroes features of the hidden states during ``test``.

    Give the features, or the folder of an analysis to choose them from.

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
        if (features is None) == (run is None):
            raise UserError("FeatureAblation: give either features or run")
        self.features = features if features is not None else select_features(run, select, seed)
        self.keep_only = keep_only
        self._open: Any = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Switch the features off."""
        count = sum(map(len, self.features.values()))
        log.info(
            "%s %d features of %d layers", "keeping only" if self.keep_only else "without", count, len(self.features)
        )
        self._open = ablated(pl_module.model, self.features, self.keep_only)
        self._open.__enter__()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Switch them on again."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the model as it was found."""
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            context, self._open = self._open, None
            context.__exit__(None, None, None)
