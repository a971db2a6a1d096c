"""Prune a block layer by layer in one pass: every batch waits at a layer until all have shown its input.

Each batch runs the block in a greenlet of its own. A layer's forward first hands control back; when all batches stand
before the same layer, its statistics are complete, it is pruned, and the batches go on through the pruned layer. No
architecture needs code of its own, and every output is computed once.
"""

from collections.abc import Callable, Sequence

from greenlet import getcurrent
from torch import Tensor, nn

from mlprune.distributed import gather_objects
from mlprune.errors import UserError
from mlprune.models.abreast import Pass, none_left, stop_at
from mlprune.models.blocks import Block
from mlprune.pruning.observe import BlockStatistics
from mlprune.pruning.pruner import LayerReport, Pruner


class Passage(Pass):
    """One batch on its way through a block; it stops at layers that are not pruned yet.

    Args:
        call: Runs the block on the batch and returns its hidden states.
        see: Takes a layer's path and input into the statistics.
    """

    def __init__(self, call: Callable[[], Tensor], see: Callable[[str, Tensor], None]) -> None:
        super().__init__(call)
        self.see = see


def prune_layerwise(
    block: Block,
    passages: Sequence[Passage],
    gathered: BlockStatistics,
    pruner: Pruner,
    on_progress: Callable[[int, float], None],
) -> dict[str, LayerReport]:
    """Run all batches through a block and prune each layer as soon as all have shown its input.

    A collective: every process takes part, also one without batches.

    Args:
        block: The block, with the layers to be pruned.
        passages: This process' batches; afterwards each has its result.
        gathered: Statistics of the block, empty.
        pruner: How layers are scored and masked.
        on_progress: Called with a batch's position and the share of the block it has passed since the last call.

    Returns:
        Layer path to report.

    Raises:
        UserError: If batches reach the layers in different orders.
    """
    reports: dict[str, LayerReport] = {}

    def decide(path: str) -> None:
        statistics = gathered.result([path])
        reports[path] = pruner.prune_layer(block.layers[path], statistics.get(path))

    def wait_at(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if path not in reports:
                passage = getcurrent()
                assert isinstance(passage, Passage)
                passage.see(path, args[0])
                stop_at(path)

        return hook

    handles = [layer.module.register_forward_pre_hook(wait_at(path)) for path, layer in block.layers.items()]
    try:
        with none_left(passages):
            for passage in passages:
                passage.go_on()
            while (path := _next_layer(passages)) is not None:
                decide(path)
                for index, passage in enumerate(passages):
                    if passage.stands_at == path:
                        passage.go_on()
                        on_progress(index, 1 / len(block.layers))
            for path in block.layers:
                if path not in reports:  # no batch ran through it
                    decide(path)
    finally:
        for handle in handles:
            handle.remove()
    return reports


def _next_layer(passages: Sequence[Passage]) -> str | None:
    """The layer at which all batches of all processes wait; None when all have finished."""
    places: set[str | None] = set().union(*gather_objects({passage.stands_at for passage in passages}))
    if len(places) > 1:
        named = ", ".join(sorted(str(place) for place in places))
        raise UserError(f"propagate 'layer': batches reach layers in different orders ({named}); use 'pruned'")
    return places.pop() if places else None
