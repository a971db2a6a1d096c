"""Running a model up to its output head, and log-probabilities without ever holding (tokens x vocabulary) in float32.

Shapes: N scored positions, H hidden size, V vocabulary.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mlprune.errors import UserError

VOCABULARY_SLICE = 16384  # rows of the head at a time: N x 16384 logits stay small and the product stays efficient


class _Stop(Exception):
    """Ends a forward pass before the output head."""


def hidden_states(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    """Run the model and return what its output head would receive, (B, T, H); the head itself does not run.

    A cache among the inputs is filled in place.
    """
    seen: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])
        raise _Stop

    accepted = inspect.signature(model.forward).parameters
    if "position_ids" not in accepted:
        inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
    handle = model.get_output_embeddings().register_forward_pre_hook(stop)
    try:
        model(**inputs)
    except _Stop:
        pass
    finally:
        handle.remove()
    return seen[0]


def positions(mask: Tensor) -> Tensor:
    """Return position ids that count only real tokens, whatever the padding side.

    Args:
        mask: (B, T), 1 for tokens and 0 for padding.

    Example:
        >>> positions(torch.tensor([[0, 0, 1, 1]]))
        tensor([[0, 0, 0, 1]])
    """
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


class Head:
    """Log-probabilities from the output head's input, in slices over the vocabulary.

    What a model does to logits after its head (a soft cap, a scale) is found once, by comparing with the model's own
    logits on two tokens.

    Args:
        model: A transformers model with a linear output head.

    Raises:
        UserError: If the model's logits cannot be had from its head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise UserError(f"{type(model).__name__}: its output head is no nn.Linear; candidates cannot be scored")
        self.weight = head.weight
        self.bias = head.bias
        self.cap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self.scale = 1.0
        self._probe(model)

    @torch.no_grad()
    def _probe(self, model: PreTrainedModel) -> None:
        ids = torch.tensor([[0, 1]], device=self.weight.device)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = ids
        expected = model(**inputs).logits[0].float()
        got = self._logits(hidden_states(model, inputs)[0], 0, expected.shape[-1])
        if not torch.allclose(got, expected, atol=1e-2, rtol=1e-2):
            self.scale = float((expected * got).sum() / (got * got).sum())
            if not torch.allclose(got * self.scale, expected, atol=1e-2, rtol=1e-2):
                raise UserError(f"{type(model).__name__}: logits are not its head's output; candidates cannot be scored")

    def _finish(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def _logits(self, hidden: Tensor, start: int, end: int) -> Tensor:
        bias = None if self.bias is None else self.bias[start:end]
        return self._finish(nn.functional.linear(hidden, self.weight[start:end], bias))

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the natural log-probability of one target at each position.

        Args:
            hidden: (N, H).
            targets: int64 (N,).

        Returns:
            float32 (N,).
        """
        if not len(targets):
            return torch.zeros(0, device=hidden.device)
        picked = (hidden * self.weight[targets]).sum(-1, dtype=torch.float32)
        picked = self._finish(picked if self.bias is None else picked + self.bias[targets].float())
        total: Tensor | None = None
        for start in range(0, self.weight.shape[0], VOCABULARY_SLICE):
            part = self._logits(hidden, start, start + VOCABULARY_SLICE).logsumexp(-1)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return picked - total


def max_length(model: PreTrainedModel) -> int | None:
    """Return how many tokens the model's position table holds, or None where there is no table (BLOOM, T5).

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> max_length(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, n_positions=32)))
        32
    """
    if model.config.model_type in ("bloom", "mpt", "t5", "mt5", "umt5"):
        return None
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)
