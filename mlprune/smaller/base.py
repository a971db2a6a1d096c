"""The base of steps that make a model smaller before it is pruned."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.models.loading import ModelSource
from mlprune.present import Table
from mlprune.pruning import Statistic

Batches = list[dict[str, Any]]  # as mlprune.pruning.prune_model takes them


@dataclass(frozen=True)
class Prompts:
    """Demonstrations, for steps that have to see the model at work.

    Args:
        groups: Names of their groups.
        batches: Returns this process' calibration batches as a model and its tokenizer read them, formed for a
            statistic if one is given.
        device: Where the model is to be computed.
    """

    groups: list[str]
    batches: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Statistic | None], Batches]
    device: torch.device

    def load(self, source: ModelSource) -> PreTrainedModel:
        """Load a model where it is to be computed."""
        model = source.load_model()
        module: torch.nn.Module = model
        module.to(self.device)
        return model


class Reduction(ABC):
    """Writes a smaller model; subclass it and name it in ``model.smaller``, whose steps ``fit`` takes first.

    Attributes:
        name: Of its folder in the run's.
        keeps_tokens: Whether the smaller model has the same vocabulary, so that its likelihoods compare with the
            original's.

    Example:
        >>> import shutil
        >>> class Copy(Reduction):
        ...     name = "copy"
        ...
        ...     def reduce(self, source, target, texts, measured):
        ...         shutil.copytree(source.folder(), target)
        ...         return []
    """

    name = "smaller"
    keeps_tokens = False

    def check(self, source: ModelSource, groups: Sequence[str]) -> None:
        """Raise UserError if the step does not suit a model or groups of demonstrations; before weights are loaded."""

    def inputs(self) -> Any:
        """Return what else the step works from, to which a resumed run is held; JSON-able."""
        return None

    def measure(self, source: ModelSource, prompts: Prompts) -> Any:
        """Return what the step has to see the model do on demonstrations; nothing by default.

        A collective: called on every process, each with its share of the batches; the first one's result is used.
        """
        return None

    @abstractmethod
    def reduce(self, source: ModelSource, target: Path, texts: Sequence[str], measured: Any) -> list[Table]:
        """Write the smaller model, on one process.

        Args:
            source: The model.
            target: New folder, which must appear only when complete.
            texts: What the run's prompts and examples have the model read.
            measured: What :meth:`measure` returned.

        Returns:
            What it did and what that costs, as tables.
        """


def refuse_pruned(source: ModelSource, what: str) -> None:
    """Refuse a model that is pruned already, of which what its folder says of layers and weights would become wrong.

    Args:
        source: The model.
        what: What is to be left out.

    Raises:
        UserError: If it is.
    """
    if source.recipe():
        raise UserError(f"model.name '{source.name}' is pruned already; leave out {what} first, then prune")
