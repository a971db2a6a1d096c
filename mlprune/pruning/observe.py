"""Hooks that gather statistics of the inputs of prunable layers while a block runs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from mlprune.errors import UserError
from mlprune.models.blocks import Block
from mlprune.models.experts import ExpertProducts
from mlprune.models.probe import Stop
from mlprune.pruning.statistics import LayerStatistics, Statistic, TokenMean
from mlprune.pruning.sums import spans

Masks = list[tuple[Tensor | None, Tensor]]


class BlockStatistics:
    """Statistics of one block's layers by group, gathered by hooks.

    Args:
        block: The block, with the layers to be observed.
        statistic: What is measured.
        groups: All groups, the same on every process, so that every process holds the same states to add up.
    """

    def __init__(self, block: Block, statistic: Statistic, groups: list[str], device: torch.device) -> None:
        self.block = block
        self.statistic = statistic
        self.groups = groups
        self.means: dict[str, dict[str, TokenMean]] = {}
        for path, layer in block.layers.items():
            shape = statistic.shape(layer.matrix().shape[-1])
            experts = layer.matrix().shape[0] if layer.is_experts else None
            self.means[path] = {group: TokenMean(shape, device, experts) for group in groups}

    def result(self, paths: Iterable[str] | None = None) -> dict[str, LayerStatistics]:
        """Return the statistics of the layers that saw a token, summed over processes (a collective).

        Args:
            paths: Only these layers, which are then forgotten; all if omitted.
        """
        results = {}
        for path in list(self.means) if paths is None else list(paths):
            entry = LayerStatistics({}, {}, self.statistic)
            for group in self.groups:
                entry.means[group], entry.tokens[group] = self.means[path][group].result()
            if int(entry.total_tokens().sum()) > 0:
                results[path] = entry
            if paths is not None:
                del self.means[path]
        return results

    def observer(self, group: str, masks: Masks, num_prompts: int = 1) -> Callable[[str, Tensor], None]:
        """Return a function that takes a layer's path and input into a group; one for each forward pass.

        Args:
            group: The group.
            masks: (bool mask of the tokens that count, on the CPU, or None for all; a sequence it belongs to). Inputs
                that are the very tensor of a pair take its mask (the encoder states of cross-attention); others the
                first.
            num_prompts: Rows of the batch.
        """
        last: list[tuple[Tensor, tuple[Tensor, int]]] = []

        def see(path: str, x: Tensor) -> None:
            # query, key and value (gate and up) share one input: measure it once
            if not last or last[0][0] is not x:
                last[:] = [(x, self._measure(path, x, masks, num_prompts))]
            self.means[path][group].update(*last[0][1])

        return see

    def watch(
        self, call: Callable[[], Tensor], group: str, masks: Masks, stop: bool, num_prompts: int = 1
    ) -> Tensor | None:
        """Run the block on a batch and add what its layers see to a group.

        Args:
            call: Runs the block.
            group: The group.
            masks: As for :meth:`observer`.
            stop: End the run once every layer has been seen.
            num_prompts: Rows of the batch.

        Returns:
            The block's output; None if it was not run to its end.
        """
        with self.observing(group, masks, stop, num_prompts):
            try:
                return call()
            except Stop:
                return None

    @contextmanager
    def observing(self, group: str, masks: Masks, stop: bool, num_prompts: int = 1) -> Iterator[None]:
        """While open, every forward through the block adds its layers' inputs to a group.

        Args:
            group: The group.
            masks: As for :meth:`observer`.
            stop: End the forward with :class:`Stop` once every layer has been seen.
            num_prompts: Rows of the batch.
        """
        waiting = set(self.block.layers)
        see = self.observer(group, masks, num_prompts)

        def seen(path: str) -> None:
            waiting.discard(path)
            if stop and not waiting:
                raise Stop

        def linear_hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                see(path, args[0])
                seen(path)

            return hook

        def add_expert(path: str, expert: int, x: Tensor, inputs_first: bool) -> None:
            if inputs_first != self.block.layers[path].transposed:
                raise UserError(f"{path}: its experts are stored in two ways; leave it out with exclude")
            self._check_prompts(path, x, num_prompts)
            self.means[path][group].update(self.statistic.total(x, None), x.shape[0], expert)

        handles = []
        mode = ExitStack()
        try:
            for path, layer in self.block.layers.items():
                if not layer.is_experts:
                    handles.append(layer.module.register_forward_pre_hook(linear_hook(path)))
            experts = self.block.expert_weights()
            if experts:  # routing decides which of them run, so the block is run to its end
                mode.enter_context(ExpertProducts(experts, add_expert))
            yield
        finally:
            mode.close()
            for handle in handles:
                handle.remove()

    def _measure(self, path: str, x: Tensor, masks: Masks, num_prompts: int) -> tuple[Tensor, int]:
        mask = next((mask for mask, owner in masks[1:] if owner is x), masks[0][0])
        flat = x.reshape(-1, x.shape[-1])
        if mask is not None and mask.numel() != len(flat):
            seen, tokens = len(flat), mask.numel()
            raise UserError(
                f"a layer sees {seen} inputs for {tokens} tokens, so padding cannot be distinguished from tokens; "
                "form batches without padding (max_batch_tokens 1)"
            )
        self._check_prompts(path, x, num_prompts)
        if not self.statistic.by_prompt:
            return self._total(flat, mask)
        prompts = flat.reshape(num_prompts, -1, flat.shape[-1])
        parts = [self._total(prompt, None if mask is None else mask[i]) for i, prompt in enumerate(prompts)]
        parts = [(total, tokens) for total, tokens in parts if tokens]
        if not parts:
            return torch.zeros(self.statistic.shape(x.shape[-1]), device=x.device), 0
        return torch.stack([total for total, _ in parts]).sum(0), sum(tokens for _, tokens in parts)

    def _total(self, flat: Tensor, mask: Tensor | None) -> tuple[Tensor, int]:
        if mask is None:
            return self.statistic.total(flat, None), len(flat)
        counted = spans(mask.reshape(-1))
        return self.statistic.total(flat, counted), sum(span.stop - span.start for span in counted)

    def _check_prompts(self, path: str, x: Tensor, num_prompts: int) -> None:
        """Refuse inputs that do not show which prompt they are of, where that matters."""
        if not self.statistic.by_prompt or num_prompts == 1:
            return
        if self.block.layers[path].is_routed or len(x.reshape(-1, x.shape[-1])) % num_prompts:
            raise UserError(f"{path}: its inputs do not show which prompt they are of; form batches of one prompt each")
