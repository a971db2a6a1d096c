"""What phases of a run cost, from a few blocks of the model timed on a few of the run's own batches."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.evaluation.batch import EvaluationBatch, all_text
from mlprune.evaluation.tasks import Task
from mlprune.evaluation.tasks.generated import GeneratedTask
from mlprune.models.blocks import find_blocks, model_device
from mlprune.models.tokens import embedding_rows, encode
from mlprune.pruning import Calibration, Pruner, calibrating, prune_blocks
from mlprune.pruning.propagation import Propagate
from mlprune.pruning.prune import pad_right
from mlprune.pruning.statistics import groups_of

SAMPLES = 3  # batches that are timed of a task, or of a group of calibration
SECONDS = 20.0  # after which no further one is


@dataclass(frozen=True)
class Cost:
    """What a phase costs.

    Args:
        rows: Examples, prompts or training texts.
        passes: Forward passes of the model.
        tokens: Tokens in them, padding and shared prefixes as they are computed.
        seconds: Their duration, of one process.
        bytes: Size of the records it leaves.
    """

    rows: int = 0
    passes: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, factor: float) -> "Cost":
        """Return the cost of so many such phases."""
        return Cost(self.rows, *(factor * value for value in list(vars(self).values())[1:]))


class BlockClock:
    """Times each stack of blocks of a shallow model, and counts what passes through it.

    Args:
        model: The model.
        depths: Stack to the number of blocks of the whole model.
    """

    def __init__(self, model: nn.Module, depths: dict[str, int]) -> None:
        self.device = model_device(model)
        self.depths = depths
        self.blocks = find_blocks(model)
        self._seconds = dict.fromkeys(depths, 0.0)
        self._start = 0.0
        self.passes = self.tokens = 0

    def now(self) -> float:
        """The time when everything that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While open, blocks are timed; counts start at zero."""
        self._seconds = dict.fromkeys(self.depths, 0.0)
        self.passes = self.tokens = 0
        handles = []
        for block in self.blocks:
            handles += [
                block.module.register_forward_pre_hook(self._begin),
                block.module.register_forward_hook(lambda *_, stack=block.stack: self._end(stack)),
            ]
        last = self.blocks[-1].module  # of the decoder, where there is one
        handles.append(last.register_forward_pre_hook(self._count, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def whole(self, seconds: float) -> float:
        """Return how long the whole model would have taken for what the shallow one did in some seconds."""
        short = {stack: sum(block.stack == stack for block in self.blocks) for stack in self.depths}
        return seconds + sum(spent * (self.depths[stack] / short[stack] - 1) for stack, spent in self._seconds.items())

    def _begin(self, *_: Any) -> None:
        self._start = self.now()

    def _end(self, stack: str) -> None:
        self._seconds[stack] += self.now() - self._start

    def _count(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        self.passes += 1
        self.tokens += hidden.numel() // hidden.shape[-1]


def evaluation_cost(
    batches: Sequence[EvaluationBatch], tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, clock: BlockClock
) -> Cost:
    """Return what one evaluation of a task costs.

    Args:
        batches: The task's batches on this process, in all languages.
        tokenizer: The model's tokenizer.
        model: The shallow model.
        clock: Its clock.
    """
    if not batches:
        return Cost()
    rows = embedding_rows(model)
    weights = [sum(len(encode(tokenizer, all_text(each), rows)) for each in batch.examples) for batch in batches]
    order = sorted(range(len(batches)), key=lambda i: weights[i])
    _timed(_part(batches[order[0]], 1), tokenizer, model, clock)  # what is done once for a model
    measured, weight = Cost(), 0
    for place in spread(order):
        measured += _timed(batches[place], tokenizer, model, clock)
        weight += weights[place]
        if measured.seconds > SECONDS:
            break
    return replace(measured.times(sum(weights) / weight), rows=sum(len(batch.examples) for batch in batches))


def spread(items: Sequence[int]) -> list[int]:
    """Return a few items, evenly spread over the sequence.

    Example:
        >>> spread(range(12)), spread([7])
        ([2, 6, 10], [7])
    """
    return list(dict.fromkeys(items[int((k + 0.5) * len(items) / SAMPLES)] for k in range(SAMPLES)))


def _part(batch: EvaluationBatch, count: int) -> EvaluationBatch:
    return EvaluationBatch(batch.task, batch.lang, batch.positions[:count], batch.examples[:count])


def _timed(
    batch: EvaluationBatch, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, clock: BlockClock
) -> Cost:
    task = batch.task
    with clock.watching(), _ending_as_references(task, batch.examples, tokenizer):
        start = clock.now()
        records = task.predict(model, tokenizer, batch.lang, batch.examples)
        seconds = clock.whole(clock.now() - start)
    size = sum(len(str(record).encode()) for record in records)
    return Cost(len(records), clock.passes, clock.tokens, seconds, size)


@contextmanager
def _ending_as_references(task: Task, examples: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """While open, answers are at most a quarter longer than the longest reference: random weights never end one."""
    references = [each.reference for each in examples if isinstance(getattr(each, "reference", None), str)]
    if not isinstance(task, GeneratedTask) or not references:
        yield
        return
    longest = max(len(tokenizer(text, verbose=False)["input_ids"]) for text in references)
    search = task.search
    task.search = replace(search, max_new_tokens=min(search.max_new_tokens, math.ceil(1.25 * longest)))
    try:
        yield
    finally:
        task.search = search


def calibration_cost(
    batches: Sequence[dict[str, Any]],
    pruner: Pruner,
    model: PreTrainedModel,
    clock: BlockClock,
    propagate: Propagate = "pruned",
    count_padding: bool = False,
) -> Cost:
    """Return what calibrating and pruning a model costs; the shallow model is pruned.

    Args:
        batches: The calibration batches of this process.
        pruner: How the model is pruned.
        model: The shallow model.
        clock: Its clock.
        propagate: As in :func:`mlprune.pruning.prune_model`.
        count_padding: As there.
    """
    groups = groups_of(batches)
    by_group = [[i for i, batch in enumerate(batches) if batch["group"] == group] for group in groups]
    chosen = [batches[i] for places in by_group for i in spread(places)]
    sizes = [sum(batch["input_ids"].numel() for batch in some) for some in (batches, chosen)]
    share = sizes[0] / max(sizes[1], 1)
    pruner = Pruner(pruner.importance, pruner.pattern)
    gathering: dict[str, list[float]] = {}
    pruning: dict[str, list[float]] = {}
    with calibrating(model):
        calibration = Calibration(
            model, chosen, pruner=pruner, propagate=propagate, count_padding=count_padding, groups=groups
        )
        for step in prune_blocks(calibration):
            start = clock.now()
            step.gather()
            between = clock.now()
            step.prune()
            gathering.setdefault(step.block.stack, []).append(between - start)
            pruning.setdefault(step.block.stack, []).append(clock.now() - between)
    seconds = 0.0
    for stack, depth in clock.depths.items():
        later = gathering[stack][1:] or gathering[stack]  # the first block's batches need not pass one before it
        seconds += depth * (share * sum(later) / len(later) + sum(pruning[stack]) / len(pruning[stack]))
    passes = len(batches) * (2 if propagate == "pruned" else 1)
    rows = sum(len(batch["input_ids"]) for batch in batches)
    return Cost(rows, passes, sizes[0] * passes / len(batches), seconds)


def training_cost(
    batches: Sequence[list[list[int]]], model: PreTrainedModel, optimizer: Any, clock: BlockClock, larger: float
) -> Cost:
    """Return what an epoch of recovery training costs.

    Args:
        batches: Token ids of its texts, by batch.
        model: The shallow model.
        optimizer: Makes the optimizer from parameters.
        clock: The model's clock.
        larger: How many times as many parameters the whole model has.
    """
    sizes = [len(batch) * max(map(len, batch)) for batch in batches]
    batch = batches[sorted(range(len(batches)), key=lambda i: sizes[i])[len(batches) // 2]]
    ids, mask = pad_right([torch.tensor(row, device=clock.device) for row in batch])
    labels = ids.masked_fill(mask == 0, -100)
    stepping = optimizer(model.parameters())
    model.train()
    with torch.enable_grad(), clock.watching():
        start = clock.now()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        forward = clock.now() - start
        loss.backward()
        both = clock.now() - start
        stepping.step()
        updated = clock.now() - start - both
    model.eval()
    model.zero_grad()
    passing = both * clock.whole(forward) / forward  # backward passes take time where forward passes do
    return Cost(
        sum(map(len, batches)),
        len(batches),
        sum(sizes),
        passing * sum(sizes) / ids.numel() + len(batches) * larger * updated,
    )
