"""Running a model up to its output head, and log-probabilities without ever holding (tokens x vocabulary) in float32.

Shapes: B texts, T tokens, N positions, M targets, H hidden size, V vocabulary.
"""

import inspect
import re
from typing import Any
from weakref import WeakKeyDictionary

import torch
from greenlet import getcurrent
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from mlprune.errors import NOT_FINITE, UserError
from mlprune.evaluation.causality import CausalProbe, output_head, probe_inputs, probe_text
from mlprune.evaluation.lengths import max_length
from mlprune.exact import NARROW, accumulator_dtype
from mlprune.models.split import abreast

VOCABULARY_SLICE = 2048  # so few logits fit in the CPU cache while they are reduced
MAX_SLICE_LOGITS = 1 << 26
MAX_SLICE_WEIGHTS = 1 << 27  # entries of the output head that are converted to float32 at a time
WIDE_PRODUCTS = hasattr(torch.ops.aten.mm, "dtype")  # narrow matrices with a float32 product, on CUDA (torch 2.8)


class _Stop(Exception):
    """Ends a forward pass before the output head."""


def hidden_states(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    """Run the model and return what its output head would receive, (B, T, H); the head itself does not run.

    A cache among the inputs is filled in place.

    Args:
        model: A transformers model with an output head.
        inputs: Arguments of its forward; those that only some models accept are dropped for the others.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> hidden_states(model, {"input_ids": torch.tensor([[1, 2, 3]])}).shape
        torch.Size([1, 3, 4])
    """
    seen: list[Tensor] = []
    running = getcurrent()

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if getcurrent() is running:  # others may run abreast
            seen.append(args[0])
            raise _Stop

    absent = {"position_ids", "decoder_attention_mask"} - _arguments(model)
    inputs = {name: value for name, value in inputs.items() if name not in absent}
    handle = output_head(model).register_forward_pre_hook(stop)
    try:
        model(**inputs)
    except _Stop:
        pass
    finally:
        handle.remove()
    return seen[0][:, 0] if seen[0].dim() == 4 else seen[0]  # of several streams the first predicts the next token


def head_product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear output head, in float32 for bfloat16 and float16 models.

    The model itself rounds logits to its dtype, to the nearest 1/8 between 16 and 32 in bfloat16, which exceeds the
    margin of many examples.

    Args:
        hidden: (N, H).
        weight: (V, H).
        bias: (V,), or None.

    Returns:
        (N, V), float32 unless the head is wider.

    Example:
        >>> head_product(torch.ones(1, 2).bfloat16(), torch.tensor([[16.0, 0.0625]]).bfloat16(), None)
        tensor([[16.0625]])
    """
    if weight.dtype not in NARROW:
        return nn.functional.linear(hidden, weight, bias)
    if hidden.is_cuda and WIDE_PRODUCTS:
        logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    else:
        logits = hidden.float() @ weight.float().t()
    return logits if bias is None else logits + bias.float()


class Scorer:
    """Log-probabilities from what the output head receives, in slices of the vocabulary.

    The head of a bfloat16 or float16 model works in float32: see :func:`head_product`.

    What a model does to logits after its head (a soft cap, a scale) is determined once, by comparison with the model's
    logits on two tokens.

    Args:
        model: A transformers model with a linear output head.

    Raises:
        UserError: If the model is not causal, or its logits cannot be derived from its head.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> with torch.no_grad():
        ...     hidden = hidden_states(model, {"input_ids": torch.tensor([[1, 2]])})[0]
        ...     found = Scorer(model).log_probs(hidden, rows=torch.tensor([0, 0]), targets=torch.tensor([2, 5]))
        ...     expected = model(torch.tensor([[1, 2]])).logits[0, 0].log_softmax(-1)[[2, 5]]
        >>> torch.allclose(found, expected)
        True
    """

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel) -> None:
        head = output_head(model)
        if not isinstance(head, nn.Linear):
            raise UserError(f"{type(model).__name__}: its output head is not an nn.Linear; candidates cannot be scored")
        self.head = head
        self.cap: float | None = None
        self.scale = 1.0
        causal, inputs = CausalProbe(model, max_length(model)), probe_inputs(model, probe_text(model, 2, seed=0))
        two = [lambda: model(**inputs).logits[0].float(), lambda: hidden_states(model, inputs)[0]]
        found = iter(abreast(model, [*causal.calls, *two]))
        causal.check(found)
        self._match(model, *found)

    def _match(self, model: PreTrainedModel, expected: Tensor, hidden: Tensor) -> None:
        """Determine the soft cap or scale that turns the head's output into the model's logits, (T, V)."""
        if (expected.isnan() | expected.isposinf()).any():
            raise UserError(f"{type(model).__name__}: its logits are not finite; {NOT_FINITE}")
        got = self._logits(hidden, 0, expected.shape[-1])
        for cap in [*_caps(model), None]:
            self.cap = cap
            if _alike(self._finish(got), expected):
                return
        wide, both = got.to(accumulator_dtype(got.device)), got.isfinite() & expected.isfinite()
        self.scale = float((wide * expected)[both].sum() / (wide * wide)[both].sum())
        if not _alike(self._finish(got), expected):
            raise UserError(f"{type(model).__name__}: logits are not its head's output; candidates cannot be scored")

    def _finish(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def _logits(self, hidden: Tensor, start: int, end: int) -> Tensor:
        bias = None if self.head.bias is None else self.head.bias[start:end]
        return self._finish(head_product(hidden, self.head.weight[start:end], bias))

    def log_probs(self, hidden: Tensor, rows: Tensor, targets: Tensor, likeliest: Tensor | None = None) -> Tensor:
        """Return natural log-probabilities; a position may have several targets.

        Args:
            hidden: (N, H).
            rows: int64 (M,), the position (0..N-1) that predicts each target.
            targets: int64 (M,).
            likeliest: int64 (N,), filled with the likeliest token at each position (the first of equal ones), if given.

        Returns:
            float32 (M,).
        """
        step = VOCABULARY_SLICE if hidden.device.type == "cpu" else max(MAX_SLICE_LOGITS // len(hidden), 1)
        if self.head.weight.dtype in NARROW and not (hidden.is_cuda and WIDE_PRODUCTS):
            step = max(min(step, MAX_SLICE_WEIGHTS // hidden.shape[-1]), 1)
        total: Tensor | None = None
        picked = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        highest = torch.full((len(hidden),), -torch.inf, device=hidden.device)
        for start in range(0, self.head.weight.shape[0], step):
            logits = self._logits(hidden, start, start + step)
            inside = (targets >= start) & (targets < start + step)  # no list of them, for which the host would wait
            found = logits[rows, (targets - start).clamp(0, logits.shape[-1] - 1)]
            picked = torch.where(inside, found, picked)
            if likeliest is not None:
                top = logits.max(-1)
                likeliest.copy_(torch.where(top.values > highest, top.indices + start, likeliest))
                highest = torch.maximum(highest, top.values)
            part = _log_sum_exp(logits)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return picked - total[rows]


def _log_sum_exp(logits: Tensor) -> Tensor:
    """``logits.logsumexp(-1)`` to the bit, overwriting the logits, which are still in the cache."""
    highest = logits.amax(-1, keepdim=True)
    highest.masked_fill_(highest.isinf(), 0)
    return logits.sub_(highest).exp_().sum(-1).log_().add_(highest.squeeze(-1))


def _caps(model: PreTrainedModel) -> list[float]:
    """Soft caps of logits in the configuration, whatever their name: final_logit_softcapping, logits_soft_cap, ..."""
    named = vars(model.config.get_text_config()).items()
    return [cap for name, cap in named if cap and re.fullmatch("(final_|output_)?logits?_soft_?cap(ping)?", name)]


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether logits are equal up to rounding; a huge one (-1e9, -Inf), which masks a token, hides no difference."""
    if not torch.equal(a == -torch.inf, b == -torch.inf):
        return False
    finite = b != -torch.inf
    a, b = a[finite], b[finite]
    return bool(((a - b).abs() <= 1e-2 * b.abs().clamp(min=3 * b.abs().median())).all())


_SCORERS: WeakKeyDictionary[PreTrainedModel, Scorer] = WeakKeyDictionary()


def scorer_of(model: PreTrainedModel) -> Scorer:
    """Return the model's scorer, created once per model because that takes forward passes.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> scorer_of(model) is scorer_of(model)
        True
    """
    scorer = _SCORERS.get(model)
    if scorer is None or scorer.head is not output_head(model):
        scorer = _SCORERS[model] = Scorer(model)
    return scorer


@torch.no_grad()
def cache_bytes_per_token(model: PreTrainedModel) -> int | None:
    """Return how many bytes a token takes in the cache; None where a model's state is more than keys and values.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> cache_bytes_per_token(GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=1, n_embd=4, vocab_size=8)))
        64
    """
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
    if not kinds <= {"full_attention", "sliding_attention"} or "past_key_values" not in _arguments(model):
        return None
    cache = DynamicCache()
    ids = torch.tensor([[0]], device=output_head(model).weight.device)
    hidden_states(model, {"input_ids": ids, "past_key_values": cache, "use_cache": True})
    layers = [layer for layer in cache.layers if isinstance(layer, CacheLayerMixin)]
    if not layers or len(layers) < len(cache.layers) or any(layer.get_seq_length() != 1 for layer in layers):
        return None
    return sum(states.nbytes for layer in layers for states in keys_and_values(layer))


def keys_and_values(layer: object) -> tuple[Tensor, Tensor]:
    """Return a cache layer's keys and values, each (B, heads, T, head size)."""
    assert isinstance(layer, CacheLayerMixin)
    assert layer.keys is not None
    assert layer.values is not None
    return layer.keys, layer.values


def _arguments(model: PreTrainedModel) -> set[str]:
    return set(inspect.signature(model.forward).parameters)
