"""The base of interventions: contexts in which a model's activations are changed."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from mlprune.evaluation.tasks import Task


class Intervention(ABC):
    """Changes activations during evaluation; subclass it and name it in ``model.interventions``.

    Several are entered in the order in which they are given.

    Example:
        >>> from contextlib import contextmanager
        >>> class Halved(Intervention):
        ...     @contextmanager
        ...     def applied(self, model):
        ...         handle = model.register_forward_hook(lambda module, args, output: output / 2)
        ...         try:
        ...             yield
        ...         finally:
        ...             handle.remove()
        >>> model = nn.Identity()
        >>> import torch
        >>> with Halved().applied(model):
        ...     model(torch.ones(1))
        tensor([0.5000])
        >>> model(torch.ones(1))
        tensor([1.])
    """

    def covers(self, task: Task) -> bool:
        """Return whether it works with a task; a recipe of a study that has it is not evaluated on the others."""
        return True

    def prepare(self, tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase) -> None:
        """Check what is to be evaluated and read what is needed, before any weights are loaded; nothing by default.

        Args:
            tasks: The tasks.
            tokenizer: The model's tokenizer.

        Raises:
            UserError: If it cannot work with them.
        """

    def check(self, model: nn.Module) -> None:
        """Raise UserError if it does not work with a model, before a study evaluates anything; nothing by default."""

    def results(self) -> dict[str, Any]:
        """Return what it found, for results.json; nothing by default."""
        return {}

    @abstractmethod
    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which the model's activations are changed; at its end the model is as before.

        Args:
            model: The transformers model that is evaluated.
        """
