"""Losses over demonstrations, for scores that ask by gradient what a task needs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from mlprune.errors import UserError
from mlprune.models.encoder import has_encoder


class Loss(ABC):
    """A loss of one prompt; subclass it to ask for something else by gradient.

    Example:
        >>> class Margin(Loss):
        ...     def __call__(self, model, inputs):
        ...         best = model(**inputs, use_cache=False).logits.topk(2).values
        ...         return -(best[..., 0] - best[..., 1]).mean()
    """

    @abstractmethod
    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one prompt, a scalar with a graph.

        Args:
            model: The transformers model, in evaluation mode.
            inputs: What its forward takes, of one prompt without padding: ``input_ids`` and ``attention_mask``, both
                (1, T), and of encoder-decoder models ``decoder_input_ids`` and ``decoder_attention_mask``.
        """

    def __str__(self) -> str:
        """Its class and settings, which tell the gradients of one loss from those of another."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class NextToken(Loss):
    """Mean cross-entropy of every token but the first, of what the decoder reads; nats.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> _ = nn.init.zeros_(model.lm_head.weight)
        >>> with torch.no_grad():
        ...     round(float(NextToken()(model, {"input_ids": torch.tensor([[3, 1, 4]])})), 1)  # ln 8
        2.1
    """

    @override
    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        losses = self.losses(model, inputs)
        counted = self.counted(model, _ids(inputs)[1:])
        return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)

    def losses(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of every token but the first, (T - 1,)."""
        logits = model(**inputs, use_cache=False).logits[0, :-1]
        return nn.functional.cross_entropy(logits.float(), _ids(inputs)[1:], reduction="none")

    def counted(self, model: nn.Module, ids: Tensor) -> Tensor:
        """Return which tokens count, bool (T - 1,)."""
        return torch.ones_like(ids, dtype=torch.bool)


class TranslationLoss(NextToken):
    """Mean cross-entropy of the translations only, in demonstrations of one sentence after the other; nats.

    Of ``French: <s1><eos>English: <t1><eos>...`` it counts every second piece, its closing token included. An
    encoder-decoder model's decoder reads translations only, so there it is :class:`NextToken`.

    Args:
        separator_id: The token that ends each sentence; the model's end-of-text token if omitted.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, eos_token_id=0))
        >>> TranslationLoss().counted(model, torch.tensor([3, 0, 5, 6, 0, 3, 0, 5]))
        tensor([False, False,  True,  True,  True, False, False,  True])
    """

    def __init__(self, separator_id: int | None = None) -> None:
        self.separator_id = separator_id

    @override
    def counted(self, model: nn.Module, ids: Tensor) -> Tensor:
        if has_encoder(model):
            return super().counted(model, ids)
        ends = torch.isin(ids, torch.tensor(self._separators(model), device=ids.device)).long()
        counted = (ends.cumsum(0) - ends) % 2 == 1
        if not counted.any():
            raise UserError(
                f"TranslationLoss: a prompt of {len(ids) + 1} tokens holds no second sentence; raise max_tokens, give "
                "separator_id, or use NextToken"
            )
        return counted

    def _separators(self, model: Any) -> list[int]:
        if self.separator_id is not None:
            return [self.separator_id]
        found = model.config.get_text_config().eos_token_id
        if found is None:
            raise UserError(f"TranslationLoss: {type(model).__name__} names no end-of-text token; give separator_id")
        return found if isinstance(found, list) else [found]


def _ids(inputs: Mapping[str, Tensor]) -> Tensor:
    """The token ids that a loss predicts, (T,)."""
    return inputs.get("decoder_input_ids", inputs["input_ids"])[0]
