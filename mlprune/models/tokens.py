"""Special tokens, decided in one place. Embeddings are never resized: only tokens the model knows are used."""

from typing import cast

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError


def embedding_rows(model: PreTrainedModel) -> int:
    """Return how many tokens a model knows.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> embedding_rows(LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)))
        8
    """
    return len(cast(Tensor, model.get_input_embeddings().weight))


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return an id to fill padded positions with: pad, else eos, bos, unk, else 0; they are masked in any case."""
    for token in ("pad_token_id", "eos_token_id", "bos_token_id", "unk_token_id"):
        found: int | None = getattr(tokenizer, token, None)
        if found is not None:
            return found
    return 0


def separator_text(tokenizer: PreTrainedTokenizerBase, separator: str) -> str:
    """Return the text that stands between demonstrations.

    Args:
        tokenizer: The model's tokenizer.
        separator: ``eos`` for the tokenizer's end-of-text token, else the text itself.

    Raises:
        UserError: If the separator is ``eos`` and the tokenizer has none.
    """
    if separator != "eos":
        return separator
    eos: str | None = tokenizer.eos_token
    if eos is None:
        raise UserError(
            "separator 'eos': the tokenizer has no end-of-text token; give the text itself, such as \"\\n\""
        )
    return eos


def encode(tokenizer: PreTrainedTokenizerBase, text: str, vocabulary: int) -> list[int]:
    """Tokenize a text with the tokenizer's own special tokens.

    Args:
        tokenizer: The model's tokenizer.
        text: The text.
        vocabulary: Rows of the model's embedding.

    Raises:
        UserError: If the tokenizer gives an id the embedding does not have.
    """
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    if ids and max(ids) >= vocabulary:
        token = tokenizer.convert_ids_to_tokens(max(ids))
        raise UserError(f"tokenizer gives id {max(ids)} ({token!r}), but the model's embedding has {vocabulary} rows")
    return ids
