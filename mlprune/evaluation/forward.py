"""Running a model up to its output head, and log-probabilities without ever holding (tokens x vocabulary) in float32.

Shapes: B texts, T tokens, N positions, M targets, H hidden size, V vocabulary.
"""

import inspect
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from mlprune.errors import NOT_FINITE, UserError

VOCABULARY_SLICE = 2048  # so few logits are reduced while they are still in the processor's cache
MAX_SLICE_LOGITS = 1 << 26


class _Stop(Exception):
    """Ends a forward pass before the output head."""


def hidden_states(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    """Run the model and return what its output head would receive, (B, T, H); the head itself does not run.

    A cache among the inputs is filled in place.

    Args:
        model: A transformers model with an output head.
        inputs: Arguments of its forward; ``position_ids`` are left out where the model has none.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> hidden_states(model, {"input_ids": torch.tensor([[1, 2, 3]])}).shape
        torch.Size([1, 3, 4])
    """
    seen: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])
        raise _Stop

    if "position_ids" not in _arguments(model):
        inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
    handle = model.get_output_embeddings().register_forward_pre_hook(stop)
    try:
        model(**inputs)
    except _Stop:
        pass
    finally:
        handle.remove()
    return seen[0]


class Scorer:
    """Log-probabilities from what the output head receives, in slices of the vocabulary.

    What a model does to logits after its head (a soft cap, a scale) is found once, by comparing with the model's own
    logits on two tokens.

    Args:
        model: A transformers model with a linear output head.

    Raises:
        UserError: If the model is not causal, or its logits cannot be had from its head.

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

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise UserError(f"{type(model).__name__}: its output head is no nn.Linear; candidates cannot be scored")
        self.head = head
        self.cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self.scale = 1.0
        self._find_scale(model)

    @torch.no_grad()
    def _find_scale(self, model: PreTrainedModel) -> None:
        ids = torch.tensor([[0, 1]], device=self.head.weight.device)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = ids
        expected = model(**inputs).logits[0].float()
        side = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
        other = model(**inputs | {side: ids[:, [0, 0]]}).logits[0].float()
        if (expected.isnan() | expected.isposinf()).any():
            raise UserError(f"{type(model).__name__}: its logits are not finite; {NOT_FINITE}")
        if not _alike(other[0], expected[0]):
            raise UserError(
                f"{type(model).__name__} lets tokens see those after them, so its texts have no likelihood; "
                "use a causal model"
            )
        hidden = hidden_states(model, inputs)[0]
        got = self._logits(hidden, 0, expected.shape[-1])
        if not _alike(got, expected):
            self.scale = float((expected * got).sum() / (got * got).sum())
            if not _alike(got * self.scale, expected):
                raise UserError(
                    f"{type(model).__name__}: logits are not its head's output; candidates cannot be scored"
                )

    def _finish(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def _logits(self, hidden: Tensor, start: int, end: int) -> Tensor:
        bias = None if self.head.bias is None else self.head.bias[start:end]
        return self._finish(nn.functional.linear(hidden, self.head.weight[start:end], bias))

    def log_probs(self, hidden: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return natural log-probabilities; a position may have several targets.

        Args:
            hidden: (N, H).
            rows: int64 (M,), the position (0..N-1) that predicts each target.
            targets: int64 (M,).

        Returns:
            float32 (M,).
        """
        step = VOCABULARY_SLICE if hidden.device.type == "cpu" else max(MAX_SLICE_LOGITS // len(hidden), 1)
        total: Tensor | None = None
        picked = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        for start in range(0, self.head.weight.shape[0], step):
            logits = self._logits(hidden, start, start + step)
            inside = ((targets >= start) & (targets < start + step)).nonzero()[:, 0]
            picked[inside] = logits[rows[inside], targets[inside] - start]
            part = logits.logsumexp(-1)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return picked - total[rows]


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-2, rtol=1e-2)


_SCORERS: WeakKeyDictionary[PreTrainedModel, Scorer] = WeakKeyDictionary()


def scorer_of(model: PreTrainedModel) -> Scorer:
    """Return the model's scorer, made once a model, as it costs forward passes.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> scorer_of(model) is scorer_of(model)
        True
    """
    scorer = _SCORERS.get(model)
    if scorer is None or scorer.head is not model.get_output_embeddings():
        scorer = _SCORERS[model] = Scorer(model)
    return scorer


@torch.no_grad()
def cache_bytes_per_token(model: PreTrainedModel) -> int | None:
    """Return how many bytes one token takes in the cache; None where a model's state is not just keys and values.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> cache_bytes_per_token(GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=1, n_embd=4, vocab_size=8)))
        64
    """
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
    if not kinds <= {"full_attention", "sliding_attention"} or "past_key_values" not in _arguments(model):
        return None
    cache = DynamicCache()
    ids = torch.tensor([[0]], device=model.get_output_embeddings().weight.device)
    hidden_states(model, {"input_ids": ids, "past_key_values": cache, "use_cache": True})
    if not cache.layers or any(layer.get_seq_length() != 1 for layer in cache.layers):
        return None
    return sum(states.nbytes for layer in cache.layers for states in (layer.keys, layer.values))


def _arguments(model: PreTrainedModel) -> set[str]:
    return set(inspect.signature(model.forward).parameters)
