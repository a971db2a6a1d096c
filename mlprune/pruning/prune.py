"""The library's one call: prune a model with calibration batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlprune.batching import token_batches
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.models.blocks import Block, find_blocks, look_at
from mlprune.pruning.allocation import Allocation
from mlprune.pruning.batches import listed
from mlprune.pruning.calibration import Calibration, calibrating
from mlprune.pruning.importance import Importance
from mlprune.pruning.patterns import Pattern
from mlprune.pruning.propagation import Propagate
from mlprune.pruning.pruner import LayerReport, Pruner
from mlprune.pruning.statistics import LayerStatistics, Statistic, kept_on_host
from mlprune.pruning.steps import BlockStep, prune_blocks

SIDES = (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask"))


def prune_model(
    model: torch.nn.Module,
    batches: Iterable[Mapping[str, Any]] = (),
    importance: Importance | None = None,
    pattern: Pattern | None = None,
    allocation: Allocation | None = None,
    propagate: Propagate = "pruned",
    count_padding: bool = False,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    max_batch_tokens: int = 2048,
) -> dict[str, Tensor]:
    """Prune a model in place, block by block, without training.

    Args:
        model: A transformers model.
        batches: Dicts of ``input_ids`` int64 (B, T), ``attention_mask`` int64 (B, T) and optionally ``group``, one
            group a batch; encoder-decoder models also ``decoder_input_ids`` and ``decoder_attention_mask``. How they
            are padded and batched does not matter: they are formed anew.
        importance: How weights are scored; Wanda if omitted.
        pattern: Which weights go; 0.3 of each row if omitted.
        allocation: How the sparsity is spread over layers; uniform if omitted.
        propagate: ``pruned``: each block is calibrated on the outputs of the pruned blocks before it; ``dense``: on
            those of the dense model, for half the cost; ``layer``: each layer on the outputs of all that was pruned
            before it, in its own block too, also for half the cost, with all batches' inner activations in memory.
        count_padding: Keep the batches as given, pass no mask and count padding as tokens, as the paper's code does.
        include: Regular expressions; only layers that match are pruned.
        exclude: Regular expressions; layers that match are left dense.
        max_batch_tokens: Token budget of a calibration batch.

    Returns:
        Layer path to bool tensor (out_features, in_features), True = kept; stacked experts have the key
        ``<module path>.<parameter>`` and shape (experts, out_features, in_features).

    Raises:
        UserError: If nothing can be pruned, the arguments do not go together, or there is nothing to calibrate on.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
        >>> masks = prune_model(model, [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}])
        >>> (~masks["model.layers.0.mlp.down_proj"]).sum(1)  # floor(16 * 0.3) of each row
        tensor([4, 4, 4, 4, 4, 4, 4, 4])
    """
    pruner = Pruner(importance, pattern, allocation, include, exclude)
    batches = listed(batches)
    pruner.check_batches(batches)
    if batches:
        batches = form_batches(model, batches, max_batch_tokens, pruner.importance.needs, count_padding)
    with calibrating(model):
        dense = None
        if allocation is not None and allocation.needs_statistics:
            dense = collect_statistics(model, batches, pruner, count_padding)
        calibration = Calibration(model, batches, pruner=pruner, propagate=propagate, count_padding=count_padding)
        pruner.allocate(calibration.blocks, dense)
        reports: dict[str, LayerReport] = {}
        for step in prune_blocks(calibration):
            reports |= step.prune()
    log.info("scored %.1f%% of the blocks' matrices", 100 * pruner.scored_share(reports))
    return {path: report.mask for path, report in reports.items()}


def collect_statistics(
    model: torch.nn.Module,
    batches: Iterable[Mapping[str, Any]],
    pruner: Pruner,
    count_padding: bool = False,
    groups: list[str] | None = None,
) -> dict[str, LayerStatistics]:
    """Calibrate on the dense model and return the statistics of all layers, on the CPU; nothing is pruned.

    Args:
        model: A transformers model.
        batches: As for :func:`prune_model`, already formed.
        pruner: Which layers and which statistic.
        count_padding: As for :func:`prune_model`.
        groups: Names of all groups, where this process' batches may lack one, or be none.

    Raises:
        UserError: If batches are something else, or there are none.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
        >>> found = collect_statistics(model, [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}], Pruner())
        >>> found["model.layers.0.mlp.down_proj"].tokens
        {'default': tensor(5)}
    """
    batches = listed(batches)
    if groups is None:
        pruner.check_batches(batches)
    with calibrating(model):
        calibration = Calibration(
            model, batches, pruner=pruner, propagate="dense", count_padding=count_padding, groups=groups
        )
        statistics: dict[str, LayerStatistics] = {}
        for position in range(len(calibration.blocks)):
            statistics |= kept_on_host(BlockStep(calibration, position).statistics())
    return statistics


def prune_from_statistics(
    model: torch.nn.Module, statistics: Mapping[str, LayerStatistics], pruner: Pruner
) -> dict[str, Tensor]:
    """Prune a model from statistics gathered before, without another forward pass.

    The statistics of one dense calibration serve any number of sparsities, patterns and scores, each applied to a
    fresh copy of the weights.

    Args:
        model: The dense model.
        statistics: From :func:`collect_statistics` or :func:`mlprune.pruning.load_statistics`.
        pruner: Importance, pattern and allocation.

    Returns:
        Masks, as :func:`prune_model`.

    Raises:
        UserError: If the statistics are of another model, or not of the kind the importance needs.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(2, 1))]))
        >>> seen = LayerStatistics({"mt": torch.tensor([1.0, 1e6])}, {"mt": torch.tensor(9)})
        >>> from mlprune.pruning import Unstructured
        >>> prune_from_statistics(model, {"0.0.0": seen}, Pruner(pattern=Unstructured(0.5)))
        {'0.0.0': tensor([[False,  True]])}
    """
    blocks = pruner.select(find_blocks(model))
    check_statistics(blocks, statistics, pruner.importance)
    pruner.allocate(blocks, statistics)
    reports = {path: report for block in blocks for path, report in pruner.prune_block(block, statistics).items()}
    return {path: report.mask for path, report in reports.items()}


def sweep(
    model: torch.nn.Module, statistics: Mapping[str, LayerStatistics], pruners: Iterable[Pruner]
) -> Iterator[tuple[Pruner, dict[str, Tensor]]]:
    """Prune a model in one way after the other from one calibration.

    While a pair is in use the model is pruned that way; then its dense weights are put back (a copy is kept on the
    CPU), also when the loop is left early.

    Args:
        model: The dense model.
        statistics: As for :func:`prune_from_statistics`.
        pruners: What to try.

    Yields:
        Each pruner with its masks.

    Example:
        >>> from mlprune.pruning import Magnitude, Unstructured
        >>> model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 4))]))
        >>> pruners = [Pruner(Magnitude(), Unstructured(sparsity)) for sparsity in (0.25, 0.5)]
        >>> for pruner, masks in sweep(model, {}, pruners):
        ...     print(pruner.pattern.sparsity, int((model[0][0][0].weight == 0).sum()))
        0.25 4
        0.5 8
        >>> int((model[0][0][0].weight == 0).sum())
        0
    """
    dense = DenseWeights(model)
    for pruner in pruners:
        try:
            yield pruner, prune_from_statistics(model, statistics, pruner)
        finally:
            dense.restore()


class DenseWeights:
    """A copy on the CPU of the weights that may be pruned, to make a model dense again that was pruned in place.

    Args:
        model: The dense model.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 4))]))
        >>> dense = DenseWeights(model)
        >>> _ = model[0][0][0].weight.data.zero_()
        >>> dense.restore()
        >>> int((model[0][0][0].weight == 0).sum())
        0
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._layers = [layer for block in find_blocks(model) for layer in block.layers.values()]
        self._weights = [layer.stored.detach().to("cpu", copy=True) for layer in self._layers]

    def restore(self) -> None:
        """Put the weights back, wherever the model is now."""
        for layer, weight in zip(self._layers, self._weights, strict=True):
            layer.stored.data.copy_(weight)


def check_statistics(blocks: list[Block], statistics: Mapping[str, LayerStatistics], importance: Importance) -> None:
    """Raise UserError unless the statistics are of these layers and of the kind the importance needs."""
    if importance.needs is None:
        return
    name = type(importance).__name__
    if not any(path in statistics for block in blocks for path in block.layers):
        raise UserError(f"statistics are of another model: none of {len(statistics)} layers is in this one")
    for path, layer in ((path, layer) for block in blocks for path, layer in block.layers.items()):
        if path not in statistics:
            continue  # calibration never ran through it
        for group in importance.groups:
            statistics[path].of(group)
        shape, in_features = next(iter(statistics[path].means.values())).shape, layer.matrix().shape[-1]
        if shape[-1] != in_features:
            raise UserError(f"statistics of {path} are of {shape[-1]} inputs; the layer has {in_features}")
        measured = statistics[path].statistic
        if not measured.includes(importance.needs):
            raise UserError(
                f"{name} needs {importance.needs.name}; the statistics are {measured.name}: calibrate with {name}"
            )


def needs_equal_lengths(model: torch.nn.Module) -> bool:
    """Tell whether batches must be formed without padding: whether layers see other inputs than the tokens in order.

    Experts see chosen tokens, and some models lay tokens out in ways of their own (FSMT, ProphetNet).

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> needs_equal_lengths(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)))
        False
    """
    blocks = find_blocks(model)
    routed = any(layer.is_routed for block in blocks for layer in block.layers.values())
    return routed or not look_at(model, blocks).in_order


def form_batches(
    model: torch.nn.Module,
    batches: Sequence[Mapping[str, Any]],
    max_tokens: int,
    statistic: Statistic | None,
    count_padding: bool = False,
) -> list[dict[str, Any]]:
    """Form batches anew as a model and a statistic need them.

    Args:
        model: A transformers model.
        batches: As for :func:`prune_model`.
        max_tokens: Token budget of a batch.
        statistic: What will be measured. One of single prompts gets a batch for each where layers see other inputs than
            the tokens in order.
        count_padding: Keep the batches as given, in single rows if the statistic needs that.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> prompts = [{"input_ids": torch.tensor([[3, 1]])}, {"input_ids": torch.tensor([[2]])}]
        >>> len(form_batches(model, prompts, 9, None))
        1
    """
    one_prompt = statistic is not None and statistic.one_prompt
    if count_padding:
        return [row for batch in batches for row in (rows_of(batch) if one_prompt else [dict(batch)])]
    equal_lengths = needs_equal_lengths(model)
    alone = one_prompt or (equal_lengths and statistic is not None and statistic.by_prompt)
    return reform(batches, 1 if alone else max_tokens, equal_lengths)


def rows_of(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a batch as batches, padding included.

    Example:
        >>> [row["input_ids"].tolist() for row in rows_of({"input_ids": torch.tensor([[1, 2], [3, 0]]), "group": "mt"})]
        [[[1, 2]], [[3, 0]]]
    """
    return [
        {name: value[row : row + 1] if isinstance(value, Tensor) else value for name, value in batch.items()}
        for row in range(len(batch["input_ids"]))
    ]


def reform(batches: Sequence[Mapping[str, Any]], max_tokens: int, equal_lengths: bool = False) -> list[dict[str, Any]]:
    """Strip the padding and form batches anew, so that results do not depend on how prompts were batched.

    Args:
        batches: As for :func:`prune_model`.
        max_tokens: Token budget of a batch.
        equal_lengths: Only prompts of one length share a batch, so that there is no padding.

    Returns:
        Batches padded on the right, ids 0 and mask 0.

    Raises:
        UserError: If there are batches, but no token in them.

    Example:
        >>> left = {"input_ids": torch.tensor([[9, 9, 5]]), "attention_mask": torch.tensor([[0, 0, 1]])}
        >>> reform([left], 100)[0]["input_ids"]
        tensor([[5]])
    """
    prompts: list[tuple[str, list[Tensor]]] = []
    for given in batches:
        sides = [(given[ids], given.get(mask)) for ids, mask in SIDES if given.get(ids) is not None]
        for row in range(len(given["input_ids"])):
            stripped = [ids[row] if mask is None else ids[row][mask[row].bool()] for ids, mask in sides]
            if len(stripped[0]):
                prompts.append((given.get("group", "default"), stripped))
    if batches and not prompts:
        raise UserError("batches have no tokens: attention_mask is 0 everywhere")
    lengths = [sum(len(side) for side in sides) for _, sides in prompts]
    keys = [(group, *(len(side) for side in sides)) if equal_lengths else group for group, sides in prompts]
    formed = []
    for positions in token_batches(lengths, max_tokens, keys):
        batch: dict[str, Any] = {"group": prompts[positions[0]][0]}
        for side, (ids_name, mask_name) in enumerate(SIDES[: len(prompts[positions[0]][1])]):
            batch[ids_name], batch[mask_name] = pad_right([prompts[i][1][side] for i in positions])
        formed.append(batch)
    return formed


def pad_right(sequences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad token ids with 0 on the right.

    Args:
        sequences: 1-D int64 tensors.

    Returns:
        ids (B, T) and mask (B, T), both int64.

    Example:
        >>> pad_right([torch.tensor([5, 6]), torch.tensor([7])])
        (tensor([[5, 6],
                [7, 0]]), tensor([[1, 1],
                [1, 0]]))
    """
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=ids.device)
    return ids, (torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]).long()
