"""Models that continue a text: full texts are scored along a tree of shared prefixes, each of which runs once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError
from mlprune.evaluation.encoding import TextEncoder, encode_candidates
from mlprune.evaluation.model_kinds.base import CandidateTexts, ModelKind, Request
from mlprune.evaluation.padding import left_padding_is_neutral
from mlprune.evaluation.prefixes import Node, prefix_tree
from mlprune.evaluation.shared import PrefixCache, run_tree, sharing_of
from mlprune.evaluation.spans import Span
from mlprune.evaluation.targets import Key, Scored, Targets

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
        return Request(*encode_candidates(tokenizer, [texts.full for texts in examples], start_token, special_tokens))

    def score(
        self, model: PreTrainedModel, targets: Targets, spans: Sequence[Span], request: Request, batch_size: int | None
    ) -> list[Scored]:
        found = [Scored()] * len(spans)
        sharing = sharing_of(model)
        for chunk in _chunks(spans, sharing.cache_bytes):
            # the last token is only predicted; empty spans need no forward pass
            inputs = {i: spans[i].ids[:-1] for i in chunk if spans[i].start < len(spans[i].ids)}
            levels, ends = prefix_tree(inputs.values(), sharing.min_saved)
            wanted: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
            keys: dict[int, list[Key]] = {}
            for i, run in inputs.items():
                keys[i] = list(_keys(ends[run], spans[i]))
                for node, at, target in keys[i]:
                    wanted[node][at].add(target)
            for nodes, hidden in run_tree(model, levels, sharing.cache_bytes, batch_size):
                places = [(row, at) for row, node in enumerate(nodes) for at in sorted(wanted.get(id(node), ()))]
                tokens = {(row, at): sorted(wanted[id(nodes[row])][at]) for row, at in places}
                targets.add(hidden, places, [[(id(nodes[r]), at, t) for t in tokens[r, at]] for r, at in places])
            for i, scored in targets.take(keys):
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


def _keys(end: Node, span: Span) -> Iterator[Key]:
    """For each scored token: the node and the position in it that predict it, and the token."""
    for node in end.path():
        for t in range(max(node.start, span.start - 1), min(node.end, len(span.ids) - 1)):
            yield id(node), t - node.start, span.ids[t + 1]


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
