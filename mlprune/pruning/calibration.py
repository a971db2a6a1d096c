"""Calibration: walk a model's blocks in order over fixed batches and gather statistics of their layers' inputs.

Only hidden states between blocks are kept, and only one block's statistics live at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from mlprune.allocator import reusing_memory
from mlprune.errors import UserError
from mlprune.models.blocks import find_blocks, look_at, model_device
from mlprune.models.experts import experts_one_by_one
from mlprune.models.probe import TOKENS, Stop
from mlprune.pruning.capture import Captured, Kind, capture, forward_inputs, probe_outputs
from mlprune.pruning.hidden import HiddenFolder
from mlprune.pruning.layerwise import OnLayer, Run, prune_layerwise
from mlprune.pruning.observe import BlockStatistics
from mlprune.pruning.pruner import LayerReport, Pruner
from mlprune.pruning.statistics import LayerStatistics, groups_of

Propagate = Literal["pruned", "dense", "layer"]
PROPAGATE = ("pruned", "dense", "layer")


class _State:
    """Where one batch is: the block it stands before, and what that stack's blocks will be called with."""

    def __init__(self, index: int, inputs: dict[str, Tensor], batch: Mapping[str, Any], count_padding: bool) -> None:
        self.index = index
        self.inputs = inputs
        self.group: str = batch.get("group", "default")
        self.masks = {
            name: None if count_padding or bool(mask.all()) else mask.bool()
            for name, mask in inputs.items()
            if name.endswith("attention_mask")
        }
        self.block = 0
        self.captured: Captured | None = None
        self.finals: list[Tensor] = []  # hidden states after the last block of earlier stacks

    @property
    def hidden(self) -> Tensor:
        assert self.captured is not None
        return self.captured.hidden


class Calibration:
    """Advances batches through the blocks of a model and gathers statistics, one block at a time.

    For block k call :meth:`step` once for every batch, then :meth:`statistics`, then prune the block, then go on
    with k + 1. With ``propagate="pruned"`` batches reach block k through the pruned blocks before it; with ``"dense"``
    they go through blocks as they were when ``step`` saw them, in a single pass. With ``"layer"`` call
    :meth:`run_block` instead, once a block: it prunes each layer as soon as all batches have shown its input.

    Args:
        model: A transformers model, in evaluation mode.
        batches: This process' batches as :func:`mlprune.pruning.prune_model` takes them; may be empty.
        pruner: Which layers and which statistic.
        propagate: ``pruned``, ``dense`` or ``layer``.
        count_padding: Treat padded positions as tokens and pass no mask, as the paper's code does.
        groups: Names of all groups, where this process' batches may lack one.
        device: Where batches are computed; the model's if omitted.
        hidden: Keeps hidden states in files; in memory if omitted.

    Raises:
        UserError: If the model has nothing to prune, or a group the importance names is missing.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
        >>> batches = [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}, {"input_ids": torch.tensor([[2, 6]])}]
        >>> with calibrating(model):
        ...     calibration = Calibration(model, batches, pruner=Pruner())
        ...     for index in range(calibration.num_batches):
        ...         calibration.step(0, index)
        ...     statistics = calibration.statistics(0)
        >>> statistics["model.layers.0.mlp.down_proj"].tokens
        {'default': tensor(7)}
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Sequence[Mapping[str, Any]],
        *,
        pruner: Pruner,
        propagate: Propagate = "pruned",
        count_padding: bool = False,
        groups: Sequence[str] | None = None,
        device: torch.device | None = None,
        hidden: HiddenFolder | None = None,
    ) -> None:
        if propagate not in PROPAGATE:
            raise UserError(f"propagate '{propagate}' is not allowed; give one of {', '.join(PROPAGATE)}")
        self.model = model
        self.pruner = pruner
        self.propagate = propagate
        blocks = find_blocks(model)
        look = look_at(model, blocks) if pruner.importance.needs else None
        self.blocks = pruner.select(blocks, look and look.layers)
        if look is not None and look.positions != TOKENS and not count_padding:
            raise UserError(
                f"{type(model).__name__}: its blocks see {look.positions} positions for {TOKENS} tokens; what it adds "
                "would count as tokens; set count_padding: true to let it"
            )
        experts = [path for block in self.blocks for path, layer in block.layers.items() if layer.is_routed]
        if propagate == "layer" and experts:
            raise UserError(
                f"propagate 'layer' cannot wait for all batches at experts ({experts[0]}); use 'pruned' or 'dense'"
            )
        self.groups = list(groups) if groups is not None else groups_of(batches)
        for group in pruner.importance.groups:
            if group not in self.groups:
                name = type(pruner.importance).__name__
                raise UserError(f"{name} needs the group '{group}'; there are {', '.join(self.groups)}")
        self.device = device or model_device(model)
        self._hidden = hidden
        self._states = [
            _State(i, forward_inputs(batch, self.device, count_padding), batch, count_padding)
            for i, batch in enumerate(batches)
        ]
        self.run_to_end: set[int] = set()  # batches whose blocks `step` runs to the end, for those who watch outputs
        self._kinds: dict[str, Kind] = {}
        self._gathered: BlockStatistics | None = None
        self._gathered_block = -1

    @property
    def num_batches(self) -> int:
        """Number of this process' batches."""
        return len(self._states)

    @torch.no_grad()
    def step(self, block: int, index: int) -> None:
        """Advance a batch to a block and show the block its inputs.

        Args:
            block: Position of the block in ``self.blocks``.
            index: Position of the batch.
        """
        self.advance(block, index)
        state = self._states[index]
        gathered = self._statistics_of(block)
        stop = self.propagate == "pruned" and index not in self.run_to_end
        with gathered.observing(state.group, self._masks(state, block), stop):
            try:
                output = self._call(state, block)
            except Stop:
                return
        if self.propagate == "dense":
            self._move(state, block, output)

    @torch.no_grad()
    def run_block(self, block: int, on_layer: OnLayer | None = None) -> dict[str, LayerReport]:
        """Prune a block layer by layer while all batches run through it (``propagate="layer"``).

        A collective: every process calls it once a block, also one without batches.

        Args:
            block: Position of the block in ``self.blocks``.
            on_layer: Called with path and report after each layer.

        Returns:
            Layer path to report.
        """
        if not self.pruner.importance.needs:
            return self.pruner.prune_block(self.blocks[block], {})
        for index in range(self.num_batches):
            self.advance(block, index)
        gathered = self._statistics_of(block)
        runs = [
            Run(partial(self._call, state, block), gathered.observer(state.group, self._masks(state, block)))
            for state in self._states
        ]
        reports = prune_layerwise(self.blocks[block], runs, gathered, self.pruner, on_layer)
        self._gathered = None
        for state, run in zip(self._states, runs, strict=True):
            assert run.output is not None
            self._move(state, block, run.output)
        return reports

    @torch.no_grad()
    def advance(self, block: int, index: int) -> None:
        """Run a batch through the blocks before ``block`` that it has not passed yet, as they are now."""
        state = self._states[index]
        self._enter_stack(state)
        while state.block < block:
            self._move(state, state.block, self._call(state, state.block))
            self._enter_stack(state)

    def prune_block(self, block: int) -> dict[str, LayerReport]:
        """Calibrate and prune one block, whatever the propagation: all of :meth:`step`, then the pruner.

        Args:
            block: Position of the block in ``self.blocks``; blocks come in order.

        Returns:
            Layer path to report.
        """
        if self.propagate == "layer":
            return self.run_block(block)
        if self.pruner.importance.needs:
            for index in range(self.num_batches):
                self.step(block, index)
        return self.pruner.prune_block(self.blocks[block], self.statistics(block))

    def statistics(self, block: int) -> dict[str, LayerStatistics]:
        """Return a block's statistics, summed over processes, and forget them.

        A collective: every process calls it once a block, also one without batches.
        """
        result = self._statistics_of(block).result() if self.pruner.importance.needs else {}
        self._gathered = None
        return result

    def _statistics_of(self, block: int) -> BlockStatistics:
        if self._gathered is None or self._gathered_block != block:
            measure = self.pruner.importance.needs or "energy"
            self._gathered = BlockStatistics(self.blocks[block], measure, self.groups, self.device)
            self._gathered_block = block
        return self._gathered

    def _call(self, state: _State, block: int) -> Tensor:
        assert state.captured is not None
        first = next(i for i, other in enumerate(self.blocks) if other.stack == self.blocks[block].stack)
        return state.captured.calls[block - first].run(self.blocks[block], state.hidden.to(self.device))

    def _move(self, state: _State, block: int, output: Tensor) -> None:
        assert state.captured is not None
        state.captured.hidden = output if self._hidden is None else self._hidden.keep(state.index, output)
        state.block = block + 1
        if state.block < len(self.blocks) and self.blocks[state.block].stack != self.blocks[block].stack:
            state.finals.append(output)
            state.captured = None

    def _enter_stack(self, state: _State) -> None:
        """Learn what the model passes to the blocks of the stack a batch stands before, unless that is known."""
        if state.captured is not None or state.block >= len(self.blocks):
            return
        names = list(dict.fromkeys(block.stack for block in self.blocks))
        stacks = [[block for block in self.blocks if block.stack == name] for name in names]
        position = names.index(self.blocks[state.block].stack)
        finished = [(stacks[i], self._kinds[names[i]], final) for i, final in enumerate(state.finals)]
        if names[position] not in self._kinds:
            self._kinds[names[position]] = probe_outputs(self.model, stacks[position], state.inputs, finished)
        state.captured = capture(self.model, stacks[position], state.inputs, self._kinds[names[position]], finished)
        if self._hidden is not None:
            state.captured.hidden = self._hidden.keep(state.index, state.captured.hidden)

    def _masks(self, state: _State, block: int) -> list[tuple[Tensor | None, Tensor]]:
        """The mask of the block's own tokens first, then masks of other sequences its layers may see."""
        own, encoder = state.masks.get("attention_mask"), None
        if "decoder_input_ids" in state.inputs and state.finals:
            own, encoder = state.masks.get("decoder_attention_mask"), own
            return [(own, state.hidden), (encoder, self._encoder_states(state, block))]
        return [(own, state.hidden)]

    def _encoder_states(self, state: _State, block: int) -> Tensor:
        """The tensor by which a decoder block receives the encoder's states."""
        assert state.captured is not None
        call = state.captured.calls[0]
        length = state.inputs["input_ids"].shape[1]
        for value in (call.kwargs.get("encoder_hidden_states"), *call.kwargs.values(), *call.args):
            if isinstance(value, Tensor) and value.dim() == 3 and length in value.shape[:2]:
                return value
        raise UserError(f"{type(self.model).__name__}: its decoder's blocks are not given the encoder's states")


@contextmanager
def calibrating(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into the state calibration needs, and back.

    Evaluation mode; experts run one by one, so that each expert's inputs can be seen; freed memory is kept for reuse.

    Example:
        >>> model = torch.nn.Linear(1, 1).train()
        >>> with calibrating(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    training = model.training
    model.eval()
    try:
        with reusing_memory(), experts_one_by_one(model):
            yield
    finally:
        model.train(training)
