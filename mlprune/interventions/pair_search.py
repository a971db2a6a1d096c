"""Every pair of layers for LRP2 on the same texts: hidden states up to a pair's layers are computed once for all.

With L blocks, the states after the first addition at layer i are shared by all pairs (i, .), so that the L (L + 1) / 2
pairs cost about L² / 6 + L / 2 forward passes instead of L (L + 1) / 2.

Shapes: B texts, T tokens, H hidden size; n examples, k candidates.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.batching import deal, token_batches
from mlprune.distributed import gather_objects, rank, world_size
from mlprune.errors import UserError
from mlprune.evaluation.forward import hidden_states, scorer_of
from mlprune.evaluation.marks import watched_marks
from mlprune.evaluation.prefixes import Node
from mlprune.evaluation.scored_tree import ScoredTree
from mlprune.evaluation.scoring import fitted
from mlprune.evaluation.shared import text_batch
from mlprune.evaluation.spans import spans_of
from mlprune.evaluation.targets import Targets
from mlprune.evaluation.tasks.scored import ScoredTask
from mlprune.interventions.steering import shifted
from mlprune.metrics import measures_of
from mlprune.metrics.states import single_process
from mlprune.models.blocks import Block
from mlprune.models.probe import patched_forwards
from mlprune.models.room import token_budget
from mlprune.pruning.capture import capture, probe_outputs, replayed

Pair = tuple[int, int]
HOST_TOKENS = 512  # so few keep a CPU busy, and processes get alike shares of few rows


@dataclass(frozen=True)
class Found:
    """What the search over layer pairs found.

    Args:
        values: Pair to the task's main figure on the validation rows.
        plain: The same figure without intervention.
        best: The best pair; of equal ones the first.
        metric: Name of the figure.
        n: Number of validation rows.
        seconds: How long it took.
        forwards: What it cost, in forward passes of all rows through all blocks.
    """

    values: Mapping[Pair, float]
    plain: float
    best: Pair
    metric: str
    n: int
    seconds: float
    forwards: float


@torch.no_grad()
def search_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: list[Block],
    task: ScoredTask,
    lang: str,
    toward_pivot: Sequence[Tensor],
) -> Found:
    """Try every pair of layers on a task's rows in one language.

    The rows' batches are dealt to processes, which find the same pair.

    Args:
        model: A causal model, in evaluation mode.
        tokenizer: Its tokenizer.
        blocks: Its blocks.
        task: The task with the validation rows.
        lang: The language.
        toward_pivot: For each layer what is added to get to the pivot's language, (H,).

    Raises:
        UserError: If the model's blocks cannot be run one by one.
    """
    start = time.perf_counter()
    examples = task.examples(lang)
    with watched_marks(model):
        request = fitted(model, task.request(model, tokenizer, lang, examples), task.scoring)
    spans = spans_of(request.ids, request.given, replace(task.scoring, ranking_only=True))
    tree = ScoredTree(dict(enumerate(spans)), min_saved=None)
    nodes = [node for level in tree.levels for node in level]
    budget = min(gather_objects(token_budget(model, HOST_TOKENS)))  # one for all, since batches are dealt
    batches = token_batches([len(node.tokens) for node in nodes], budget)
    dealt: dict[int, dict[Pair | None, float]] = {}
    for batch in deal(batches, rank(), world_size()):
        dealt |= _scores(model, blocks, tree, [nodes[i] for i in batch], toward_pivot)
    by_span = {number: scores for part in gather_objects(dealt) for number, scores in part.items()}
    values = {}
    for pair in [None, *_pairs(len(blocks))]:
        scores = torch.full((len(examples), max(map(len, request.ids))), float("nan"), dtype=torch.float64)
        for number, span in enumerate(spans):
            scores[span.example, span.candidate] = by_span.get(number, {}).get(pair, 0.0) / span.divisor
        metric = single_process(task.metric(lang))  # each has all scores
        metric.update(task.records(examples, scores))
        values[pair] = float(metric.compute()[measures_of(metric)[0].name])
    plain = values.pop(None)
    pairs = {pair: value for pair, value in values.items() if pair is not None}
    sign = -1 if measures_of(metric)[0].higher_is_better is False else 1
    best = max(pairs, key=lambda pair: sign * pairs[pair])
    forwards = block_passes(len(blocks)) / len(blocks)
    seconds = time.perf_counter() - start
    return Found(pairs, plain, best, measures_of(metric)[0].name, len(examples), seconds, forwards)


def _pairs(num_blocks: int) -> list[Pair]:
    return [(first, second) for first in range(num_blocks) for second in range(first + 1, num_blocks + 1)]


def block_passes(num_blocks: int) -> int:
    """Return how many times a batch passes a block in the search.

    Example:
        >>> block_passes(18), 18 * 171  # for 171 pairs
        (1158, 3078)
    """
    chains = sum(num_blocks - first for first in range(num_blocks))
    ends = sum(num_blocks - second for _, second in _pairs(num_blocks))
    return num_blocks + chains + ends


def _scores(
    model: PreTrainedModel, blocks: list[Block], tree: ScoredTree, nodes: list[Node], toward_pivot: Sequence[Tensor]
) -> dict[int, dict[Pair | None, float]]:
    """The summed log-probability of each span in a batch, for each pair and without intervention (None)."""
    ids, real, marked = text_batch(model, nodes)
    passage = _Passage(model, blocks, {"input_ids": ids, "attention_mask": real})
    targets = Targets(scorer_of(model), find_likeliest=False)
    runs: list[Pair | None] = []
    for pair, hidden in passage.of_pairs(marked, toward_pivot):
        tree.add(targets, nodes, hidden, run=pair)
        runs.append(pair)
    inside = {id(node) for node in nodes}
    keys = {(number, pair): tree.keys(number, pair) for number in tree.numbers_in(inside) for pair in runs}
    found: dict[int, dict[Pair | None, float]] = {}
    for (number, pair), scored in targets.take(keys):
        found.setdefault(number, {})[pair] = scored.log_prob
    return found


class _Passage:
    """A batch's way through the blocks of a model, from any layer on."""

    def __init__(self, model: PreTrainedModel, blocks: list[Block], inputs: dict[str, Tensor]) -> None:
        self.model = model
        self.blocks = blocks
        self.inputs = inputs
        self.kind = probe_outputs(model, blocks, inputs, [])
        self.captured = capture(model, blocks, inputs, self.kind, [])

    def of_pairs(self, marked: Tensor, toward_pivot: Sequence[Tensor]) -> Iterator[tuple[Pair | None, Tensor]]:
        """Yield what the output head receives without intervention (None) and for each pair, (B, T, H)."""
        plain, last = self.captured.hidden, len(self.blocks)
        for first in range(last):
            chain = shifted(plain, marked, toward_pivot[first])
            for second in range(first + 1, last + 1):
                chain = self._block(second - 1, chain)
                if second == last:
                    yield (first, last), shifted(self._end(chain), marked, -toward_pivot[last])
                else:
                    hidden = shifted(chain, marked, -toward_pivot[second])
                    for position in range(second, last):
                        hidden = self._block(position, hidden)
                    yield (first, second), self._end(hidden)
            plain = self._block(first, plain)
        end = self._end(plain)
        self._check(end)
        yield None, end

    def _block(self, position: int, hidden: Tensor) -> Tensor:
        return self.captured.calls[position].run(self.blocks[position], hidden)

    def _end(self, hidden: Tensor) -> Tensor:
        """What the output head receives, given what the last block returns."""
        with patched_forwards(replayed([(self.blocks, self.kind, hidden)])):
            return hidden_states(self.model, self.inputs | {"use_cache": False})

    def _check(self, end: Tensor) -> None:
        expected = hidden_states(self.model, self.inputs | {"use_cache": False})
        tolerance = 1e-3 if end.dtype.itemsize >= 4 else 5e-2
        real = self.inputs["attention_mask"].bool()
        if (end - expected)[real].abs().max() > tolerance * expected[real].abs().max():
            raise UserError(f"LRP2 cannot search layer pairs: blocks of {type(self.model).__name__} depend on others")
