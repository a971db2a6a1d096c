"""Calibration: walk a model's blocks in order over fixed batches and gather statistics of their layers' inputs.

Only hidden states between blocks are kept, and only one block's statistics live at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mlprune.allocator import reusing_memory
from mlprune.errors import UserError
from mlprune.models.attention import without_plans
from mlprune.models.blocks import Block, find_blocks, look_at, model_device
from mlprune.models.experts import experts_one_by_one
from mlprune.models.probe import TOKENS
from mlprune.pruning.capture import Call, Captured, Kind, capture, forward_inputs, probe_outputs
from mlprune.pruning.gblm import model_gradients
from mlprune.pruning.gradients import GradientMoments, GradientStatistics, Squares
from mlprune.pruning.hidden import HiddenFolder
from mlprune.pruning.layerwise import Passage, prune_layerwise
from mlprune.pruning.observe import BlockStatistics
from mlprune.pruning.output_errors import OutputErrors
from mlprune.pruning.propagation import Propagate, propagation_named
from mlprune.pruning.pruner import LayerReport, Pruner
from mlprune.pruning.statistics import ENERGY, LayerStatistics, groups_of


class _State:
    """Where one batch is: the block it stands before, and what that stack's blocks will be called with."""

    def __init__(self, index: int, inputs: dict[str, Tensor], batch: Mapping[str, Any], count_padding: bool) -> None:
        self.index = index
        self.inputs = inputs
        self.group: str = batch.get("group", "default")
        masks = {name: batch[name].cpu().bool() for name in inputs if name.endswith("attention_mask")}
        # on the host, which looks for the tokens that count
        self.masks = {name: None if bool(mask.all()) else mask for name, mask in masks.items()}
        self.block = 0
        self.captured: Captured | None = None
        self.finals: list[Tensor] = []  # hidden states after the last block of earlier stacks

    @property
    def hidden(self) -> Tensor:
        assert self.captured is not None
        return self.captured.hidden

    @property
    def num_prompts(self) -> int:
        return len(self.inputs["input_ids"])


class Calibration:
    """Advances batches through the blocks of a model and gathers statistics, one block at a time.

    The order of its calls is that of :func:`mlprune.pruning.prune_blocks`, which drives it.

    Args:
        model: A transformers model, in evaluation mode.
        batches: This process' batches as :func:`mlprune.pruning.prune_model` takes them; may be empty.
        pruner: Which layers and which statistic.
        propagate: ``pruned``, ``dense`` or ``layer``.
        count_padding: Treat padded positions as tokens and pass no mask, as the paper's code does.
        groups: Names of all groups, where this process' batches may lack one.
        device: Where batches are computed; the model's if omitted.
        hidden: Keeps hidden states in files; in memory if omitted.
        enter_block: Called with a block's position before the block is used, to read its weights.
        output_errors: Watches how far pruning moves each block's output.
        on_progress: Called with a block's position, a batch's, and the share of the block that the batch has passed.

    Raises:
        UserError: If the model has nothing to prune, or a group the importance names is missing.
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
        enter_block: Callable[[int], None] | None = None,
        output_errors: OutputErrors | None = None,
        on_progress: Callable[[int, int, float], None] | None = None,
    ) -> None:
        self.model = model
        self.pruner = pruner
        self.propagation = propagation_named(propagate)
        self.count_padding = count_padding
        blocks = find_blocks(model)
        look = look_at(model, blocks) if pruner.importance.needs else None
        self.blocks = pruner.select(blocks, None if look is None else look.layers)
        self.propagation.check(self.blocks, frozenset() if look is None else look.repeated)
        self.propagation.check_importance(pruner.importance)
        if look is not None and look.positions != TOKENS:
            self._refuse_added(look.positions, TOKENS)
        self.groups = list(groups) if groups is not None else groups_of(batches)
        pruner.check_groups(self.groups)
        self.device = device or model_device(model)
        self.output_errors = output_errors if self.propagation.shows_dense_outputs else None
        self.on_progress = on_progress
        self._enter_block = enter_block
        self._hidden = hidden
        self._states = [
            _State(i, forward_inputs(batch, self.device, count_padding), batch, count_padding)
            for i, batch in enumerate(batches)
        ]
        self._kinds: dict[str, Kind] = {}
        self._gathered: BlockStatistics | None = None
        self._gathered_block = -1
        self._squares = self._gradients(batches)

    @property
    def num_batches(self) -> int:
        """Number of this process' batches."""
        return len(self._states)

    @property
    def needs_batches(self) -> bool:
        """Whether anything is to be measured."""
        return self.pruner.importance.needs is not None

    def enter(self, block: int) -> None:
        """Make a block ready for use."""
        if self._enter_block is not None:
            self._enter_block(block)

    @torch.no_grad()
    def show(self, block: int, index: int, to_end: bool) -> Tensor | None:
        """Advance a batch to a block and show the block its inputs.

        Args:
            block: Position of the block in ``self.blocks``.
            index: Position of the batch.
            to_end: Run the block to its end, and not only until every layer has been seen.

        Returns:
            The block's output, (B, T, hidden_size); None if it was not run to its end.
        """
        self.advance(block, index)
        state = self._states[index]
        to_end = to_end or (self.output_errors is not None and self.output_errors.watches(index))
        masks, gathered = self._masks(state, block), self._statistics_of(block)
        call = partial(self._call, state, block)
        output = gathered.watch(call, state.group, masks, not to_end, state.num_prompts)
        if output is not None:
            self._keep_dense_output(block, index, output)
        return output

    def _keep_dense_output(self, block: int, index: int, output: Tensor) -> None:
        """Keep a block's output until it is pruned, if the batch is one of those that are compared."""
        state = self._states[index]
        if self.output_errors is not None and self.output_errors.watches(index):
            call, inputs = self._call_of(state, block), state.hidden.clone()  # those on disk are overwritten
            self.output_errors.before(index, output, lambda: call.run(self.blocks[block], inputs.to(self.device)))

    @torch.no_grad()
    def run_dense(self, block: int, moves: bool) -> None:
        """Run a block that is about to be restored, as far as its dense outputs are needed.

        Args:
            block: Position of the block in ``self.blocks``.
            moves: Leave all batches behind the block; else only those that are compared are run.
        """
        for index in range(self.num_batches if self.needs_batches else 0):
            if moves or (self.output_errors is not None and self.output_errors.watches(index)):
                self.advance(block, index)
                output = self._call(self._states[index], block)
                self._keep_dense_output(block, index, output)
                if moves:
                    self.move(block, index, output)

    @torch.no_grad()
    def advance(self, block: int, index: int) -> None:
        """Run a batch through the blocks before ``block`` that it has not passed yet, as they are now."""
        state = self._states[index]
        self._enter_stack(state)
        while state.block < block:
            passed, output = state.block, self._call(state, state.block)
            if self.output_errors is not None:
                self.output_errors.after(passed, index, output)
            self.move(passed, index, output)
            self._enter_stack(state)

    def advance_all(self, block: int) -> None:
        """:meth:`advance` for all batches, if anything is to be measured."""
        for index in range(self.num_batches if self.needs_batches else 0):
            self.advance(block, index)

    def prune_layerwise(self, block: int, on_progress: Callable[[int, float], None]) -> dict[str, LayerReport]:
        """Prune each layer of a block as soon as all batches have shown its input, and leave the batches behind it.

        A collective: every process calls it once a block, also one without batches.

        Args:
            block: Position of the block in ``self.blocks``.
            on_progress: Called with a batch's position and the share of the block it has passed.

        Returns:
            Layer path to report.
        """
        self.advance_all(block)
        gathered = self._statistics_of(block)
        passages = [
            Passage(
                partial(self._call, state, block),
                gathered.observer(state.group, self._masks(state, block), state.num_prompts),
            )
            for state in self._states
        ]
        reports = prune_layerwise(self.blocks[block], passages, gathered, self.pruner, on_progress)
        self._gathered = None
        for index, passage in enumerate(passages):
            self.move(block, index, passage.result)
        return reports

    def statistics(self, block: int) -> dict[str, LayerStatistics]:
        """Return a block's statistics, summed over processes, and forget them.

        A collective: every process calls it once a block, also one without batches.
        """
        result = self._statistics_of(block).result() if self.needs_batches else {}
        self._gathered = None
        return result

    def compare_outputs(self, block: int) -> None:
        """Measure how far pruning moved a block's output, unless the next block's calibration will."""
        if self.output_errors is None:
            return
        is_last = block == len(self.blocks) - 1
        if self.propagation.passes_dense or is_last:
            self.output_errors.run_waiting(block)
        if is_last:
            self.output_errors.reduce()

    def _statistics_of(self, block: int) -> BlockStatistics:
        if self._gathered is None or self._gathered_block != block:
            self._gathered = self._no_statistics(self.blocks[block])
            self._gathered_block = block
        return self._gathered

    def _no_statistics(self, block: Block) -> BlockStatistics:
        measured = self.pruner.importance.needs or ENERGY
        if not isinstance(measured, GradientMoments):
            return BlockStatistics(block, measured, self.groups, self.device)
        squares = None if measured.loss is None else {path: self._squares.pop(path) for path in block.layers}
        return GradientStatistics(block, measured, self.groups, self.device, squares)

    def _gradients(self, batches: Sequence[Mapping[str, Any]]) -> Squares:
        """The gradients of the whole dense model's loss, where the importance needs them."""
        measured = self.pruner.importance.needs
        if not isinstance(measured, GradientMoments) or measured.loss is None:
            return {}
        return model_gradients(
            self.model, self.blocks, batches, measured.loss, self.groups, self.device, self.count_padding
        )

    def _call_of(self, state: _State, block: int) -> Call:
        assert state.captured is not None
        first = next(i for i, other in enumerate(self.blocks) if other.stack == self.blocks[block].stack)
        return state.captured.calls[block - first]

    def _call(self, state: _State, block: int) -> Tensor:
        return self._call_of(state, block).run(self.blocks[block], state.hidden.to(self.device))

    def move(self, block: int, index: int, output: Tensor) -> None:
        """Put a batch behind a block, with the hidden states that it outputs."""
        state = self._states[index]
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
        tokens = state.inputs["decoder_input_ids" if state.finals else "input_ids"].numel()
        if (positions := state.hidden.numel() // state.hidden.shape[-1]) % tokens:  # BigBird pads beyond some length
            self._refuse_added(positions, tokens)
        if self._hidden is not None:
            state.captured.hidden = self._hidden.keep(state.index, state.captured.hidden)

    def _refuse_added(self, positions: int, tokens: int) -> None:
        """Refuse to take positions that the model adds to texts for tokens, such as padding to a window."""
        if not self.count_padding:
            raise UserError(
                f"{type(self.model).__name__}: its blocks see {positions} positions for {tokens} tokens; what it adds "
                "would count as tokens; set count_padding: true to let it"
            )

    def _masks(self, state: _State, block: int) -> list[tuple[Tensor | None, Tensor]]:
        """The mask of the block's own tokens first, then masks of other sequences its layers may see."""
        mask, encoder = state.masks.get("attention_mask"), None
        if "decoder_input_ids" in state.inputs and state.finals:
            mask, encoder = state.masks.get("decoder_attention_mask"), mask
            return [(mask, state.hidden), (encoder, self._encoder_states(state, block))]
        return [(mask, state.hidden)]

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
        with reusing_memory(), experts_one_by_one(model), without_plans():
            yield
    finally:
        model.train(training)
