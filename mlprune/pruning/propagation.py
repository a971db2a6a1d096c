"""Propagation: on what a block is calibrated, the outputs of pruned blocks or of dense ones."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from mlprune.errors import UserError
from mlprune.models.blocks import Block
from mlprune.pruning.importance import Importance

if TYPE_CHECKING:
    from mlprune.pruning.steps import BlockStep

Propagate = Literal["pruned", "dense", "layer"]


class Propagation(ABC):
    """How the batches pass a block, and when its layers' statistics are complete."""

    name: Propagate
    passes_dense = False  # batches pass a block as it was before it was pruned
    shows_dense_outputs = True  # a block's output before its pruning is computed, or can be at the cost of its end

    def check(self, blocks: list[Block], repeated: frozenset[str] = frozenset()) -> None:
        """Raise UserError if the blocks, of which these layers run more than once, cannot be calibrated this way."""

    def check_importance(self, importance: Importance) -> None:
        """Raise UserError if what the importance needs cannot be measured this way."""

    @abstractmethod
    def gather(self, step: "BlockStep") -> None:
        """Show a block all batches of this process."""


class PrunedPropagation(Propagation):
    """Each block sees the outputs of the pruned blocks before it; a batch runs every block twice."""

    name = "pruned"

    def gather(self, step: "BlockStep") -> None:
        """End each batch's forward as soon as the block's last layer has seen it."""
        calibration = step.calibration
        for index in range(calibration.num_batches):
            calibration.show(step.position, index, to_end=False)
            step.progress(index, 1.0)


class DensePropagation(Propagation):
    """Each block sees the outputs of the dense blocks before it; a batch runs every block once."""

    name = "dense"
    passes_dense = True

    def gather(self, step: "BlockStep") -> None:
        """Leave each batch behind the block, before the block is pruned."""
        calibration = step.calibration
        for index in range(calibration.num_batches):
            output = calibration.show(step.position, index, to_end=True)
            assert output is not None
            calibration.move(step.position, index, output)
            step.progress(index, 1.0)


class LayerPropagation(Propagation):
    """Each layer sees what all pruned layers before it give, in its own block too; a batch runs every block once."""

    name = "layer"
    shows_dense_outputs = False

    def check(self, blocks: list[Block], repeated: frozenset[str] = frozenset()) -> None:
        """Refuse experts, as a batch may reach any of them or none, and layers that are reached again when pruned."""
        for path, layer in ((path, layer) for block in blocks for path, layer in block.layers.items()):
            if layer.is_routed:
                raise UserError(
                    f"propagate 'layer' cannot wait for all batches at experts ({path}); use 'pruned' or 'dense'"
                )
            if path in repeated:
                raise UserError(f"propagate 'layer': {path} runs twice in its block; use 'pruned' or 'dense'")

    def check_importance(self, importance: Importance) -> None:
        """Refuse a score that needs the block's output, which comes after its layers."""
        if importance.needs is not None and importance.needs.scope == "block":
            raise UserError(
                f"propagate 'layer' prunes layers before {type(importance).__name__} can see their block's output; use "
                "'pruned' or 'dense'"
            )

    def gather(self, step: "BlockStep") -> None:
        """Prune each layer as soon as all batches have shown its input."""
        step.reports = step.calibration.prune_layerwise(step.position, step.progress)


PROPAGATIONS: dict[str, Propagation] = {
    propagation.name: propagation for propagation in (PrunedPropagation(), DensePropagation(), LayerPropagation())
}


def propagation_named(name: str, key: str = "propagate") -> Propagation:
    """Return the propagation of a name.

    Args:
        name: ``pruned``, ``dense`` or ``layer``.
        key: What the user calls the setting.

    Raises:
        UserError: If there is none of this name.

    Example:
        >>> propagation_named("dense").passes_dense
        True
    """
    if name not in PROPAGATIONS:
        raise UserError(f"{key} '{name}' is not allowed; give one of {', '.join(PROPAGATIONS)}")
    return PROPAGATIONS[name]
