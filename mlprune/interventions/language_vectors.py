"""Language vectors: where in a model's hidden states a language is, layer by layer.

Shapes: L blocks, H hidden size; B texts, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.batching import token_batches
from mlprune.evaluation.causality import output_head
from mlprune.evaluation.forward import hidden_states
from mlprune.evaluation.prefixes import Node
from mlprune.evaluation.shared import text_batch
from mlprune.exact import accumulator_dtype
from mlprune.models.blocks import Block, find_blocks
from mlprune.models.hooks import at_layers

BATCH_TOKENS = 1024


@torch.no_grad()
def language_vectors(
    model: PreTrainedModel, sentences: Sequence[Sequence[int]], blocks: list[Block] | None = None
) -> list[Tensor]:
    """Return the mean over sentences of each sentence's mean hidden state, at every layer.

    Source: the published code of Kim et al. 2024 (``src/get_lang_vector.py``). Cost: one forward pass of the sentences.

    Args:
        model: A causal model, in evaluation mode.
        sentences: Token ids of each.
        blocks: The model's blocks, if they are known.

    Returns:
        L + 1 vectors (H,) on the CPU: k is of what block k receives, the last of what the output head does, behind the
        final norm. Float64, or the most exact dtype of the device.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> [tuple(vector.shape) for vector in language_vectors(model, [[1, 2, 3], [4]])]
        [(4,), (4,), (4,)]
    """
    blocks = find_blocks(model) if blocks is None else blocks
    means: list[list[Tensor]] = [[] for _ in range(len(blocks) + 1)]
    for batch in token_batches(list(map(len, sentences)), BATCH_TOKENS):
        ids, real, _ = text_batch(model, [Node(sentences[i], None, start=0, level=0) for i in batch])

        def see(layer: int, hidden: Tensor, real: Tensor = real) -> Tensor:
            exact = hidden.to(accumulator_dtype(hidden.device))
            weights = real.to(exact)[:, :, None]
            means[layer].append((exact * weights).sum(1) / weights.sum(1))
            return hidden

        with at_layers(blocks, output_head(model), see):
            hidden_states(model, {"input_ids": ids, "attention_mask": real, "use_cache": False})
    return [torch.cat(layer).mean(0).cpu() for layer in means]
