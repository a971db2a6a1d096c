"""Whether a model assigns texts a likelihood: whether its predictions are independent of later tokens.

Shapes: T tokens, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.blocks import model_device
from mlprune.models.encoder import has_encoder
from mlprune.models.tokens import embedding_rows

# text length to the positions from which on tokens are changed
PROBES = {2: (1,), 7: (3, 6), 24: (12, 23)}
CONTEXT = 5  # tokens for an encoder


def output_head(model: Any) -> Any:
    """Return the module that computes logits: the output embeddings, or the last linear layer of their shape (FSMT).

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> output_head(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)))
        Linear(in_features=4, out_features=8, bias=False)
    """
    head = model.get_output_embeddings()
    if head is None or isinstance(head, nn.Linear):
        return head
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return next((module for module in reversed(linear) if module.weight.shape == head.weight.shape), head)


def probe_text(model: PreTrainedModel, length: int, seed: int) -> Tensor:
    """Return random token ids (1, T) without the model's special tokens, which models may treat specially.

    Args:
        model: The model.
        length: T.
        seed: Seed of the ids.
    """
    configs: list[Any] = [model.config, model.config.get_text_config(), model.generation_config]
    special: set[Any] = set()
    for config in (config for config in configs if config is not None):
        for name, value in vars(config).items():
            if name.endswith("token_id") and value is not None:
                special |= set(value) if isinstance(value, list | tuple) else {value}
    rows = min(len(output_head(model).weight), embedding_rows(model))
    usual = [token for token in range(min(rows, 4096)) if token not in special]
    chosen = torch.tensor(usual if len(usual) > 1 else range(rows))
    generator = torch.Generator().manual_seed(seed)
    return chosen[torch.randint(len(chosen), (1, length), generator=generator)].to(model_device(model))


def probe_inputs(model: PreTrainedModel, ids: Tensor) -> dict[str, Any]:
    """Return forward inputs for token ids (1, T); an encoder gets a separate text."""
    sides = {"input_ids": ids}
    if has_encoder(model):
        sides = {"input_ids": probe_text(model, CONTEXT, seed=1), "decoder_input_ids": ids}
    masks = {name.replace("input_ids", "attention_mask"): torch.ones_like(side) for name, side in sides.items()}
    taken = inspect.signature(model.forward).parameters
    return {**sides, **{name: mask for name, mask in masks.items() if name in taken}, "use_cache": False}


class CausalProbe:
    """Finds whether a model's predictions depend on later tokens or on chance, by a few short forward passes.

    In texts of several lengths, the tokens from several positions on are replaced. Logits before those positions must
    not change, except for rounding, which in mixtures of experts depends on how many tokens an expert gets. The passes
    can be run with others.

    Args:
        model: A causal or encoder-decoder model, in evaluation mode.
        limit: How many tokens it takes.

    Attributes:
        calls: Each runs a pass and returns its logits, (T, V).

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> probe = CausalProbe(model, limit=8)
        >>> len(probe.calls)
        7
        >>> probe.check(call() for call in probe.calls)
    """

    def __init__(self, model: PreTrainedModel, limit: int | None) -> None:
        self._model = model
        self._probes = {length: places for length, places in PROBES.items() if limit is None or length <= limit}
        texts: list[Tensor] = []
        for length, places in self._probes.items():
            ids, others = (probe_text(model, length, seed) for seed in (length, length + 1))
            texts += [ids, ids, *(torch.cat([ids[:, :place], others[:, place:]], dim=1) for place in places)]
        self.calls: list[Callable[[], Tensor]] = [partial(_logits, model, text) for text in texts]

    def check(self, logits: Iterator[Tensor]) -> None:
        """Take what the calls return, in their order, and no more.

        Args:
            logits: Begins with theirs.

        Raises:
            UserError: If the model is not causal, or gives the same text different logits.
        """
        name, half = type(self._model).__name__, self._model.dtype.itemsize < 4
        for length, places in self._probes.items():
            expected = next(logits)
            if _depends(expected, next(logits), length, half):
                raise UserError(f"{name}: its logits for the same text differ from run to run")
            for place in places:
                if _depends(expected, next(logits), place, half):
                    raise UserError(
                        f"{name} lets tokens attend to later ones, so texts have no likelihood; use a causal model"
                    )


def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(**probe_inputs(model, ids)).logits
    return logits[0].float()


def _depends(expected: Tensor, found: Tensor, place: int, half: bool) -> bool:
    """Return whether logits (T, V) before a position changed with the tokens after it, beyond rounding."""
    moved = torch.where(expected == found, 0, (expected - found).abs())  # equal infinities do not differ
    before = moved[:place].max()
    scale = torch.where(moved > 0, expected.abs(), 0).max()  # among logits that depend on the text at all
    return bool(before > (2e-2 if half else 1e-5) * scale)
