"""Models that continue a text: full texts are scored along a tree of shared prefixes, each of which runs once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.evaluation.encoding import TextEncoder, encode_candidates
from mlprune.evaluation.marks import mark
from mlprune.evaluation.model_kinds.base import CandidateTexts, ModelKind, Request
from mlprune.evaluation.padding import left_padding_is_neutral
from mlprune.evaluation.prefixes import prefix_tree
from mlprune.evaluation.scored_tree import ScoredTree
from mlprune.evaluation.shared import PrefixCache, run_tree, sharing_of
from mlprune.evaluation.spans import Span
from mlprune.evaluation.targets import Scored, Targets

TREE_CACHE_BYTES = 1 << 28  # shared prefixes whose keys and values are held at a time


class Causal(ModelKind):
    """A model that continues text."""

    padding_side = "left"
    given = 1  # nothing predicts the first token

    def check_contexts(self, model: PreTrainedModel, contexts: Sequence[object] | None) -> None:
        if contexts is not None:
            raise UserError(f"{type(model).__name__} has no encoder: contexts are for encoder-decoder models")

    def request(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[CandidateTexts],
        start_token: bool = False,
        special_tokens: bool = True,
    ) -> Request:
        encoded = encode_candidates(tokenizer, [texts.full for texts in examples], start_token, special_tokens)
        marked = [_marked(tokenizer, texts, ids) for texts, ids in zip(examples, encoded.ids, strict=True)]
        return Request(marked, encoded.given, encoded.joined)

    def score(
        self, model: PreTrainedModel, targets: Targets, spans: Sequence[Span], request: Request, batch_size: int | None
    ) -> list[Scored]:
        found = [Scored()] * len(spans)
        sharing = sharing_of(model)
        for chunk in _chunks(spans, sharing.cache_bytes):
            tree = ScoredTree({i: spans[i] for i in chunk}, sharing.min_saved)
            for nodes, hidden in run_tree(model, tree.levels, sharing.cache_bytes, batch_size):
                tree.add(targets, nodes, hidden)
            for i, scored in targets.take({i: tree.keys(i) for i in tree.numbers}):
                found[i] = scored
        return found

    def prompt_ids(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], special_tokens: bool
    ) -> list[list[int]]:
        encoder = TextEncoder(tokenizer)
        return [encoder(prompt, special_tokens) for prompt in prompts]

    def prompt_limit(self, limit: int, max_new_tokens: int) -> int:
        return limit - max_new_tokens

    def mixes_lengths(self, model: PreTrainedModel) -> bool:
        return left_padding_is_neutral(model)

    def generation_options(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], num_beams: int
    ) -> tuple[dict[str, Any], int]:
        width, sharing = max(map(len, ids)), sharing_of(model)
        if sharing.min_saved is None or width == 1:
            return {}, width
        return {"past_key_values": _prefilled(model, ids, sharing.cache_bytes, num_beams)}, width


def _marked(tokenizer: PreTrainedTokenizerBase, texts: CandidateTexts, ids: list[list[int]]) -> list[list[int]]:
    """An example's candidates with the tokens marked that are to be."""
    if not texts.ranges:
        return ids
    found = zip(texts.full, ids, texts.ranges, strict=True)
    return [mark(tokenizer, text, tokens, ranges) for (text, _), tokens, ranges in found]


def _chunks(spans: Sequence[Span], cache_bytes: int) -> Iterator[list[int]]:
    """Cut the work so that the shared prefixes' cache fits into memory; texts with a common beginning stay together."""
    budget = max(TREE_CACHE_BYTES // max(cache_bytes, 1), 1)
    by_example: dict[int, list[int]] = defaultdict(list)
    for i, span in enumerate(spans):
        by_example[span.example].append(i)
    chunk: list[int] = []
    size = 0
    for members in sorted(by_example.values(), key=lambda members: min(spans[i].ids for i in members)):
        cost = max(len(spans[i].ids) for i in members)  # at most this much of an example is a shared prefix
        if chunk and size + cost > budget:
            yield chunk
            chunk, size = [], 0
        chunk += members
        size += cost
    if chunk:
        yield chunk


def _prefilled(model: PreTrainedModel, ids: list[list[int]], cache_bytes: int, num_beams: int) -> DynamicCache:
    """Run all prompts without their last tokens, shared prefixes once."""
    inputs = [tuple(prompt[:-1]) for prompt in ids]
    levels, ends = prefix_tree(inputs)
    prefixes = PrefixCache(keep_all=True)
    for _ in run_tree(model, levels, cache_bytes, prefixes=prefixes):
        pass
    cache, _ = prefixes.up_to([(ends[run], len(run)) for run in inputs])
    if num_beams > 1:
        cache.batch_repeat_interleave(num_beams)
    return cache
