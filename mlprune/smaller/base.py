"""The base of steps that make a model smaller before it is pruned."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlprune.models.loading import ModelSource
from mlprune.present import Table


class Reduction(ABC):
    """Writes a smaller model; subclass it and name it in ``model.smaller``, whose steps ``fit`` takes first.

    Attributes:
        name: Of its folder in the run's.

    Example:
        >>> import shutil
        >>> class Copy(Reduction):
        ...     name = "copy"
        ...
        ...     def reduce(self, source, target, texts):
        ...         shutil.copytree(source.folder(), target)
        ...         return []
    """

    name = "smaller"

    def check(self, source: ModelSource) -> None:
        """Raise UserError if the step does not suit a model, before weights are loaded."""

    def inputs(self) -> Any:
        """Return what the step works from besides the model, to which a resumed run is held; JSON-able."""
        return None

    @abstractmethod
    def reduce(self, source: ModelSource, target: Path, texts: Sequence[str]) -> list[Table]:
        """Write the smaller model, on one process.

        Args:
            source: The model.
            target: New folder, which must appear only when complete.
            texts: What the run's prompts and examples have the model read.

        Returns:
            What it did and what that costs, as tables.
        """
