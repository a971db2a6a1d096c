"""Features of the hidden states switched off while a model is evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from typing_extensions import override

from mlprune.analysis.ablation import Select, ablated, select_features
from mlprune.errors import UserError
from mlprune.interventions.base import Intervention
from mlprune.log import log


class FeatureAblation(Intervention):
    """Zeroes features of the hidden states.

    Give the features, or the folder of an analysis to choose them from.

    Args:
        features: Layer (0 before the blocks, k after block k - 1) to dimensions.
        run: Folder of a feature analysis (``validate --config configs/analysis.yaml``).
        select: ``translation``: features large under translation only; ``large``: as many of the other largest;
            ``random``: as many others.
        keep_only: Zero all other features of these layers instead.
        seed: Seed of ``select: random``.

    Raises:
        UserError: If not exactly one of features and run is given, or the folder holds no analysis.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2))]))
        >>> with FeatureAblation({1: [0]}).applied(model):
        ...     bool((model[0][0](torch.ones(1, 2))[:, 0] == 0).all())
        True
    """

    def __init__(
        self,
        features: dict[int, list[int]] | None = None,
        run: str | Path | None = None,
        select: Select = "translation",
        keep_only: bool = False,
        seed: int = 0,
    ) -> None:
        if run is not None and features is None:
            features = select_features(run, select, seed)
        elif features is None or run is not None:
            raise UserError("FeatureAblation: give either features or run")
        self.features = features
        self.keep_only = keep_only

    @override
    def check(self, model: nn.Module) -> None:
        with ablated(model, self.features, self.keep_only):
            pass

    @override
    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        what = "keeping only" if self.keep_only else "without"
        log.info("%s %d features of %d layers", what, sum(map(len, self.features.values())), len(self.features))
        with ablated(model, self.features, self.keep_only):
            yield
