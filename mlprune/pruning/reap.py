"""REAP: a mixture without the experts of the lowest scores.

Shapes: E experts; scores (E, 1).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch

from mlprune.distributed import broadcast_tensor
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.blocks import find_blocks, look_at, model_device
from mlprune.models.mixtures import (
    check_runs,
    experts_of_token,
    find_mixtures,
    group_size,
    keep_in_layer,
    set_count,
)
from mlprune.pruning.batches import listed
from mlprune.pruning.calibration import calibrating
from mlprune.pruning.capture import Captured, capture, forward_inputs, probe_outputs
from mlprune.pruning.expert_scores import ExpertScores
from mlprune.pruning.prune import form_batches
from mlprune.pruning.statistics import LayerStatistics, Pool, groups_of

Scores = dict[str, LayerStatistics]  # path of a mixture to each group's scores (E, 1) and numbers of routed tokens (E,)
ExpertPropagate = Literal["pruned", "dense"]


class ExpertPruner:
    """Walks a model's blocks over calibration batches, scores the experts of each, and removes the lowest.

    Args:
        model: A transformers model, inside of :func:`mlprune.pruning.calibrating`.
        batches: This process' batches, formed by :func:`mlprune.pruning.prune.form_batches`.
        share: The share of every layer's experts that goes, rounded down; 0 only scores.
        groups: The groups that decide; all if omitted.
        pool: How they are pooled: ``tokens``, ``mean``, ``max`` or ``worst``.
        propagate: ``pruned``: each layer is scored behind the pruned layers before it; ``dense``: on the dense model.
        all_groups: Names of all groups, where this process' batches may lack one.

    Raises:
        UserError: If the model has no mixtures that can be pruned, too few experts would stay, or a group is missing.
    """

    def __init__(
        self,
        model: Any,
        batches: Sequence[Mapping[str, Any]],
        share: float = 0.25,
        groups: Sequence[str] | None = None,
        pool: Pool = "tokens",
        propagate: ExpertPropagate = "pruned",
        all_groups: Sequence[str] | None = None,
    ) -> None:
        check_settings(share, pool, propagate)
        self.model = model
        self.batches = batches
        self.blocks = find_blocks(model)
        look_at(model, self.blocks)  # which shows how experts are stored
        self.blocks = find_blocks(model)
        self.mixtures = {mixture.block: mixture for mixture in find_mixtures(model, self.blocks)}
        self.all_groups = list(groups_of(batches) if all_groups is None else all_groups)
        self.groups = list(groups or self.all_groups)
        for group in self.groups:
            if group not in self.all_groups:
                raise UserError(f"groups: calibration has no group '{group}'; it has {', '.join(self.all_groups)}")
        self.pool: Pool = pool
        self.is_dense = propagate == "dense"
        self.device = model_device(model)
        first = next(iter(self.mixtures.values()))
        self.num_experts = first.num_experts
        self.unit = group_size(model, self.num_experts)
        self.num_kept = self._num_kept(share)
        self._captured: list[Captured] | None = None
        self.scores: Scores = {}
        self.kept: dict[str, list[int]] = {}

    def _num_kept(self, share: float) -> int:
        groups = self.num_experts // self.unit
        kept = groups * (self.unit - int(self.unit * share))
        needed = experts_of_token(self.model)
        if kept < needed:
            raise UserError(
                f"share {share} leaves {kept} of {self.num_experts} experts, but a token is routed to {needed}; give "
                f"at most {(self.num_experts - needed) / self.num_experts:g}"
            )
        return kept

    @torch.no_grad()
    def step(self, block: int) -> None:
        """Take all batches through a block; score its experts, if it has some, and remove the lowest.

        A collective: every process calls it for every block, also one without batches.
        """
        if self._captured is None:
            self._captured = [self._enter(batch) for batch in self.batches]
        mixture = self.mixtures.get(block)
        if mixture is None:
            self._advance(block, None)
            return
        before = [captured.hidden for captured in self._captured]
        scores = ExpertScores(mixture, self.all_groups, self.device)
        self._advance(block, scores)
        found = self.scores[mixture.path] = scores.result()
        self.kept[mixture.path] = self._choose(found)
        if self.num_kept < self.num_experts:
            keep_in_layer(self.model, mixture, self.kept[mixture.path])
            if not self.is_dense:
                for captured, hidden in zip(self._captured, before, strict=True):
                    captured.hidden = hidden
                try:
                    self._advance(block, None)
                except (RuntimeError, IndexError):
                    check_runs(self.model)  # which says what is wrong
                    raise

    def finish(self) -> None:
        """Write the new number of experts into the model's configuration."""
        if self.num_kept < self.num_experts:
            set_count(self.model, self.num_experts, self.num_kept)
            check_runs(self.model)
            log.info("kept %d of %d experts in %d layers", self.num_kept, self.num_experts, len(self.mixtures))

    def _enter(self, batch: Mapping[str, Any]) -> Captured:
        inputs = forward_inputs(batch, self.device, count_padding=False)
        return capture(self.model, self.blocks, inputs, probe_outputs(self.model, self.blocks, inputs, []), [])

    def _advance(self, block: int, scores: ExpertScores | None) -> None:
        assert self._captured is not None
        for batch, captured in zip(self.batches, self._captured, strict=True):
            if scores is None:
                captured.hidden = captured.calls[block].run(self.blocks[block], captured.hidden)
            else:
                with scores.observing(str(batch.get("group", "default"))):
                    captured.hidden = captured.calls[block].run(self.blocks[block], captured.hidden)

    def _choose(self, scores: LayerStatistics) -> list[int]:
        """The experts that stay, in order: the highest of every group of the router; decided once."""
        pooled = scores.only(self.groups).pooled_by(self.pool).pooled()[:, 0]
        parts = pooled.reshape(-1, self.unit)
        gone = self.unit - self.num_kept // len(parts)
        order = parts.sort(dim=1, stable=True).indices[:, gone:].sort(dim=1).values
        starts = torch.arange(len(parts), device=order.device)[:, None] * self.unit
        chosen: list[int] = broadcast_tensor((order + starts).flatten()).tolist()
        return chosen


def check_settings(share: float, pool: str, propagate: str) -> None:
    """Raise UserError if a setting is out of range."""
    if not 0 <= share < 1:
        raise UserError(f"share {share} is not allowed; give 0 (score only) or more, below 1")
    if pool not in get_args(Pool):
        raise UserError(f"pool '{pool}' is not allowed; give one of {', '.join(get_args(Pool))}")
    if propagate not in get_args(ExpertPropagate):
        raise UserError(f"propagate '{propagate}' is not allowed; give one of {', '.join(get_args(ExpertPropagate))}")


def prune_experts(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    share: float = 0.25,
    groups: Sequence[str] | None = None,
    pool: Pool = "tokens",
    propagate: ExpertPropagate = "pruned",
    max_batch_tokens: int = 2048,
) -> dict[str, list[int]]:
    """Remove a share of the experts of every layer, in place; ``save_pretrained`` then writes a smaller checkpoint.

    The lowest by REAP go: the mean, over an expert's tokens, of its gate weight times the norm of its output.
    The model gives what it would with the others' router logits at minus infinity. Which experts stay depends on the
    calibration: give the languages and tasks that matter.

    Source: Lasby et al. 2025, "REAP the Experts: Why Pruning Prevails for One-Shot MoE Compression" (arXiv 2510.13999),
    as in its code in llm-compressor, which counts padding as tokens; here it never counts. Cost: two forward passes, in
    which routed experts run twice.

    Args:
        model: A transformers model.
        batches: As for :func:`mlprune.pruning.prune_model`.
        share: The share of every layer's experts that goes, rounded down; of every group of the router alike.
        groups: The demonstration groups that decide; all if omitted.
        pool: How they are pooled: ``tokens`` (the mean over all), ``mean`` (of groups), ``max`` or ``worst``.
        propagate: ``pruned``: each layer is scored behind the pruned layers before it, as in the published code;
            ``dense``: all on the dense model, in one forward pass.
        max_batch_tokens: Token budget of a calibration batch.

    Returns:
        Path of each mixture to the experts that stay.

    Raises:
        UserError: If the model has no mixtures that can be pruned, or a setting does not fit it.

    Example:
        >>> from transformers import MixtralConfig, MixtralForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
        >>> model = MixtralForCausalLM(MixtralConfig(vocab_size=8, num_hidden_layers=1, num_local_experts=4, **sizes))
        >>> kept = prune_experts(model, [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}], share=0.5)
        >>> len(kept["model.layers.0.mlp"]), model.config.num_local_experts
        (2, 2)
    """
    return _walked(model, batches, share, groups, pool, propagate, max_batch_tokens).kept


def score_experts(model: Any, batches: Iterable[Mapping[str, Any]], max_batch_tokens: int = 2048) -> Scores:
    """Return the REAP scores of all experts of the dense model by group; nothing is removed.

    Args:
        model: A transformers model.
        batches: As for :func:`mlprune.pruning.prune_model`.
        max_batch_tokens: Token budget of a calibration batch.

    Returns:
        Path of each mixture to scores: ``means[group]`` (E, 1), ``tokens[group]`` (E,) routed to each expert.
    """
    return _walked(model, batches, 0.0, None, "tokens", "dense", max_batch_tokens).scores


def _walked(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    share: float,
    groups: Sequence[str] | None,
    pool: Pool,
    propagate: ExpertPropagate,
    max_batch_tokens: int,
) -> ExpertPruner:
    check_settings(share, pool, propagate)
    given = listed(batches)
    if not given:
        raise UserError("experts are scored on calibration batches; none were given")
    find_mixtures(model)  # refuses before anything is run
    with calibrating(model):
        formed = form_batches(model, given, max_batch_tokens, None)
        pruner = ExpertPruner(model, formed, share, groups, pool, propagate, groups_of(given))
        for block in range(len(pruner.blocks)):
            pruner.step(block)
        pruner.finish()
    return pruner
