"""Adding vectors to the hidden states of marked tokens, between a model's blocks.

Shapes: L blocks, H hidden size; B texts, T tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.evaluation.causality import output_head, probe_inputs, probe_text
from mlprune.evaluation.forward import hidden_states
from mlprune.evaluation.marks import Marks, watched_marks
from mlprune.models.blocks import Block, find_blocks
from mlprune.models.encoder import has_encoder
from mlprune.models.hooks import at_layers

PROBE_TOKENS = 7
Shifts = Mapping[int, Tensor]  # layer to the vector (H,) that is added there


def steered_blocks(model: PreTrainedModel, name: str) -> list[Block]:
    """Return a model's blocks, if vectors can be added between them.

    Args:
        model: A transformers model.
        name: What is to be done with it, for messages.

    Raises:
        UserError: If the model has an encoder, or its blocks do not pass on one hidden state for each token.
    """
    kind = type(model).__name__
    if has_encoder(model):
        raise UserError(f"{name} needs a model that continues text; {kind} has an encoder")
    blocks, seen = find_blocks(model), []
    inputs = probe_inputs(model, probe_text(model, PROBE_TOKENS, seed=0))

    def see(layer: int, hidden: Tensor) -> Tensor:
        seen.append((layer, tuple(hidden.shape[:-1])))
        return hidden

    with torch.no_grad(), at_layers(blocks, output_head(model), see):
        hidden_states(model, inputs)
    if seen != [(layer, (1, PROBE_TOKENS)) for layer in range(len(blocks) + 1)]:
        raise UserError(f"{name} needs one row of blocks with one hidden state for each token; {kind} has others")
    return blocks


def pair_shifts(pivot: Sequence[Tensor], target: Sequence[Tensor], layers: tuple[int, int]) -> dict[int, Tensor]:
    """Return what LRP2 adds: ``pivot - target`` at the first layer, ``target - pivot`` at the second.

    Args:
        pivot: Vectors of the language that the model is to work in, for each layer.
        target: Those of the language of the text.
        layers: The two layers.

    Example:
        >>> import torch
        >>> pair_shifts([torch.ones(1)] * 3, [torch.zeros(1)] * 3, (0, 2))
        {0: tensor([1.]), 2: tensor([-1.])}
    """
    first, second = layers
    return {first: pivot[first] - target[first], second: target[second] - pivot[second]}


@contextmanager
def steering(model: PreTrainedModel, blocks: list[Block], shifts_for: Callable[[Marks], Shifts]) -> Iterator[None]:
    """While open, vectors are added to the hidden states of marked tokens.

    Args:
        model: A causal model.
        blocks: From :func:`steered_blocks`.
        shifts_for: Returns what is added, given the task and language of the text.
    """
    with watched_marks(model) as marks:

        def change(layer: int, hidden: Tensor) -> Tensor:
            if marks.tokens is None:
                return hidden
            shift = shifts_for(marks).get(layer)
            return hidden if shift is None else shifted(hidden, marks.tokens, shift)

        with at_layers(blocks, output_head(model), change):
            yield


@contextmanager
def lrp2(
    model: PreTrainedModel, pivot: Sequence[Tensor], target: Sequence[Tensor], layers: tuple[int, int]
) -> Iterator[None]:
    """While open, :class:`mlprune.interventions.LRP2` is in effect with given vectors, whatever the language.

    Args:
        model: A causal model.
        pivot: L + 1 vectors (H,) of the language that the model is to work in.
        target: Those of the language of the text.
        layers: The two layers.

    Raises:
        UserError: If the model's structure does not allow it.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from mlprune.evaluation.marks import marking
        >>> from mlprune.interventions import language_vectors
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> pivot, target = (language_vectors(model, ids) for ids in ([[1, 2]], [[3, 4, 5]]))
        >>> ids, marked = torch.tensor([[6, 7, 1]]), torch.tensor([[False, True, True]])
        >>> with lrp2(model, pivot, target, layers=(0, 1)), marking(model, marked):
        ...     model(ids).logits.shape
        torch.Size([1, 3, 8])
    """
    shifts = pair_shifts(pivot, target, layers)
    with steering(model, steered_blocks(model, "LRP2"), lambda marks: shifts):
        yield


def shifted(hidden: Tensor, marked: Tensor, shift: Tensor) -> Tensor:
    """Return hidden states (B, T, H) with a vector (H,) added where tokens are marked, bool (B, T).

    Example:
        >>> import torch
        >>> shifted(torch.zeros(1, 2, 1), torch.tensor([[True, False]]), torch.ones(1))
        tensor([[[1.],
                 [0.]]])
    """
    return hidden + marked.to(hidden.device)[:, :, None] * shift.to(hidden)
