"""Running a tree of shared prefixes through a causal model: each segment once, on the cache of what precedes it.

Every row of a batch is [padding, what precedes, segment, padding]: its tokens are contiguous, so sliding windows,
relative positions and ALiBi see what they would see in the full text.

Shapes: B rows, C tokens before the segments, T tokens of the segments, H hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from mlprune.batching import token_batches
from mlprune.errors import is_out_of_memory
from mlprune.evaluation.forward import cache_bytes_per_token, hidden_states, keys_and_values
from mlprune.evaluation.marks import marking
from mlprune.evaluation.prefixes import MIN_SAVED_TOKENS, Node, prefix_tree
from mlprune.models.blocks import model_device
from mlprune.models.room import byte_budget, token_budget
from mlprune.models.split import abreast

HOST_TOKENS = 1024  # so few keep a CPU busy
HOST_CACHE_BYTES, MOST_CACHE_BYTES = 1 << 28, 1 << 31  # limits of the copied context of a batch


class PrefixCache:
    """Keys and values of segments that others follow, one row per token, from which any context is gathered.

    Args:
        keep_all: Also keep segments that nothing follows.

    Example:
        >>> cache, mask = PrefixCache().before([Node([1, 2], parent=None, start=0, level=0)])
        >>> mask.shape
        torch.Size([1, 0])
    """

    def __init__(self, keep_all: bool = False) -> None:
        self.keep_all = keep_all
        # a layer's keys and values, (tokens, heads, head size), in parts
        self._layers: list[list[tuple[Tensor, Tensor]]] = []
        self._rows: dict[int, range] = {}  # node (by id) to its rows
        self._size = 0

    def add(self, nodes: Sequence[Node], cache: DynamicCache, width: int) -> None:
        """Keep the segments of nodes that others follow.

        Args:
            nodes: B nodes, in the order of the batch.
            cache: The cache after their batch.
            width: T: the last so many cached positions are the segments', padded on the right.
        """
        kept = [(row, node) for row, node in enumerate(nodes) if self.keep_all or node.children]
        for _, node in kept:
            self._rows[id(node)] = range(self._size, self._size + len(node.tokens))
            self._size += len(node.tokens)
        places = [(row, at) for row, node in kept for at in range(len(node.tokens))]
        device = keys_and_values(cache.layers[0])[0].device
        rows, columns = torch.tensor(places, dtype=torch.int64, device=device).reshape(-1, 2).T
        self._layers = self._layers or [[] for _ in cache.layers]
        for parts, layer in zip(self._layers, cache.layers, strict=True):
            new = (states[:, :, -width:].transpose(1, 2) for states in keys_and_values(layer))
            keys, values = (states[rows, columns] for states in new)
            parts.append((keys, values))

    def before(self, nodes: Sequence[Node]) -> tuple[DynamicCache, Tensor]:
        """Return the cache of what precedes each node, padded on the left, and its mask, int64 (B, C)."""
        return self._gather([[row for step in node.path()[:-1] for row in self._rows[id(step)]] for node in nodes])

    def up_to(self, ends: Sequence[tuple[Node, int]]) -> tuple[DynamicCache, Tensor]:
        """Return the cache of the first tokens of each node's path, left-padded, and its mask, int64 (B, C)."""
        paths = [[row for step in node.path() for row in self._rows[id(step)]][:count] for node, count in ends]
        return self._gather(paths)

    def _gather(self, rows: list[list[int]]) -> tuple[DynamicCache, Tensor]:
        width = max(map(len, rows))
        cache = DynamicCache()  # without a config it keeps all positions; the model's masks implement its windows
        if not width:
            return cache, torch.zeros(len(rows), 0, dtype=torch.int64)
        device = self._layers[0][0][0].device
        index = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        for i, parts in enumerate(self._layers):
            if len(parts) > 1:
                parts[:] = [(torch.cat([keys for keys, _ in parts]), torch.cat([values for _, values in parts]))]
            keys, values = parts[0]
            cache.update(keys[index].transpose(1, 2), values[index].transpose(1, 2), i)
        return cache, mask


@dataclass(frozen=True)
class Sharing:
    """Whether a model's prefixes can be shared, and at what cost.

    Args:
        min_saved: Tokens that sharing a prefix must save; None shares nothing.
        cache_bytes: Bytes that one token takes in the cache.

    Example:
        >>> Sharing(min_saved=None, cache_bytes=1).min_saved is None
        True
    """

    min_saved: int | None
    cache_bytes: int


_SHARING: WeakKeyDictionary[PreTrainedModel, Sharing] = WeakKeyDictionary()
PROBES = [(1, 2, 3, 4, 5), (1, 2, 3, 5, 4), (2, 1, 3), (2, 1, 4)]  # contexts of unequal lengths


def sharing_of(model: PreTrainedModel) -> Sharing:
    """Determine, once per model, whether running on a shared prefix gives the same as running in full.

    Models for which it does not (recurrent states, states shared by layers) run every text in full.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> sharing_of(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval())
        Sharing(min_saved=16, cache_bytes=32)
    """
    if model not in _SHARING:
        try:
            size = _shared_bytes(model)
        except Exception as error:  # it cannot continue from a cache with several tokens; architectures raise anything
            if is_out_of_memory(error):
                raise
            size = None
        _SHARING[model] = Sharing(MIN_SAVED_TOKENS, size) if size else Sharing(None, 1)
    return _SHARING[model]


@torch.no_grad()
def _shared_bytes(model: PreTrainedModel) -> int | None:
    """How many bytes a token takes in the cache; None where texts on shared prefixes do not give the same."""
    device = model_device(model)
    texts = [{"input_ids": torch.tensor([ids], device=device), "use_cache": False} for ids in PROBES]
    calls: list[Callable[[], Any]] = [partial(cache_bytes_per_token, model), partial(_last_in_tree, model)]
    calls += [partial(hidden_states, model, text) for text in texts]
    found = iter(abreast(model, calls))
    size: int | None = next(found)
    if not size:
        return None
    for shared, hidden in zip(next(found), found, strict=True):
        plain = hidden[0, -1].float()
        tolerance = 1e-3 if plain.dtype == shared.dtype else 5e-2
        if (shared.float() - plain).abs().max() > tolerance * plain.abs().max():
            return None
    return size


def _last_in_tree(model: PreTrainedModel) -> list[Tensor]:
    """What the output head receives at the last token of each of ``PROBES``, run on shared prefixes."""
    found: dict[int, Tensor] = {}
    levels, ends = prefix_tree(PROBES, min_saved=1)
    for nodes, hidden in run_tree(model, levels, cache_bytes=1):
        found |= {id(node): hidden[row, len(node.tokens) - 1] for row, node in enumerate(nodes)}
    return [found[id(ends[ids])] for ids in PROBES]


def run_tree(
    model: PreTrainedModel,
    levels: Sequence[Sequence[Node]],
    cache_bytes: int,
    batch_size: int | None = None,
    prefixes: PrefixCache | None = None,
) -> Iterator[tuple[list[Node], Tensor]]:
    """Run all segments of a tree, level by level, in batches of similar length under a token budget.

    Args:
        model: A causal model.
        levels: Nodes by level.
        cache_bytes: Bytes that one token takes in the cache.
        batch_size: At most this many segments in a batch; a token budget alone decides if omitted.
        prefixes: Where keys and values are kept for later use.

    Yields:
        Nodes of a batch, and what the output head would receive for their segments, (B, T, H), padded on the right.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> levels, _ = prefix_tree([(1, 2, 3), (1, 2, 4)], min_saved=1)
        >>> with torch.no_grad():
        ...     [tuple(hidden.shape) for _, hidden in run_tree(model, levels, cache_bytes=32)]
        [(1, 2, 4), (2, 1, 4)]
    """
    budget = token_budget(model, HOST_TOKENS)
    cache_tokens = byte_budget(model, HOST_CACHE_BYTES, MOST_CACHE_BYTES) // max(cache_bytes, 1)
    prefixes = prefixes or PrefixCache()
    for level in levels:
        for batch in token_batches([len(node.tokens) for node in level], budget):
            for nodes in _split([level[i] for i in batch], cache_tokens, batch_size):
                yield nodes, _run(model, nodes, prefixes)


def text_batch(model: PreTrainedModel, nodes: Sequence[Node]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the segments of nodes as a batch: ids, which are tokens, and which are marked, each (B, T), right-padded.

    Args:
        model: Where they go.
        nodes: B nodes.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> text_batch(model, [Node([1, ~2], None, 0, 0), Node([3], None, 0, 0)])
        (tensor([[1, 2],
                [3, 0]]), tensor([[1, 1],
                [1, 0]]), tensor([[False,  True],
                [False, False]]))
    """
    width = max(len(node.tokens) for node in nodes)
    pads = [width - len(node.tokens) for node in nodes]
    device = model_device(model)
    tokens = torch.tensor([[*node.tokens, *[0] * pad] for node, pad in zip(nodes, pads, strict=True)], device=device)
    real = torch.tensor([[1] * (width - pad) + [0] * pad for pad in pads], device=device)
    marked = tokens < 0
    return torch.where(marked, ~tokens, tokens), real, marked


def _run(model: PreTrainedModel, nodes: list[Node], prefixes: PrefixCache) -> Tensor:
    cache, before = prefixes.before(nodes)
    ids, real, marked = text_batch(model, nodes)
    followed = prefixes.keep_all or any(node.children for node in nodes)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.cat([before.to(ids.device), real], dim=1),
        "use_cache": followed or before.shape[1] > 0,
    }
    if before.shape[1]:  # else the model's default positions, which may not begin at 0 (RoBERTa)
        width = ids.shape[1]
        places = [[min(node.start + t, node.end - 1) for t in range(width)] for node in nodes]
        inputs["position_ids"] = torch.tensor(places, device=ids.device)
    if inputs["use_cache"]:
        inputs["past_key_values"] = cache
    with marking(model, marked):
        hidden = hidden_states(model, inputs)
    if followed:
        prefixes.add(nodes, cache, ids.shape[1])
    return hidden


def _split(nodes: list[Node], cache_tokens: int, batch_size: int | None) -> Iterator[list[Node]]:
    """Split a batch whose copied context would take too much memory."""
    part: list[Node] = []
    longest = 0
    for node in nodes:
        longest = max(longest, node.end)
        too_many = batch_size is not None and len(part) >= batch_size
        if part and (too_many or (len(part) + 1) * longest > cache_tokens):
            yield part
            part, longest = [], node.end
        part.append(node)
    yield part
