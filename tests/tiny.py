"""Tiny random models of every family the package is tested on, and a tokenizer made here.

Nothing is downloaded. Every model has the tokenizer's vocabulary, and every weight is random, biases and norms too, so
that no test passes because something was zero.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, EOS = "<pad>", "</s>"
HIDDEN, HEADS, FFN, BLOCKS, POSITIONS = 32, 4, 64, 3, 256

ROPE = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_hidden_layers": BLOCKS,
    "intermediate_size": FFN,
    "max_position_embeddings": POSITIONS,
}
GROUPED = ROPE | {"num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2, "output_router_logits": False}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "xglm": ("XGLM", {"d_model": HIDDEN, "attention_heads": HEADS, "num_layers": BLOCKS, "ffn_dim": FFN,
                      "max_position_embeddings": POSITIONS}),
    "gpt2": ("GPT2", {"n_embd": HIDDEN, "n_head": HEADS, "n_layer": BLOCKS, "n_positions": POSITIONS}),
    "bloom": ("Bloom", {"hidden_size": HIDDEN, "n_head": HEADS, "n_layer": BLOCKS}),
    "llama": ("Llama", GROUPED),
    "mistral": ("Mistral", GROUPED | {"sliding_window": 4}),
    "gemma3": ("Gemma3", GROUPED | {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8,
                                    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 8}),
    "opt": ("OPT", {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": BLOCKS, "ffn_dim": FFN,
                    "word_embed_proj_dim": HIDDEN, "max_position_embeddings": POSITIONS}),
    "gpt_neox": ("GPTNeoX", ROPE),
    "falcon": ("Falcon", {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": BLOCKS}),
    "phi": ("Phi", ROPE),
    "gptj": ("GPTJ", {"n_embd": HIDDEN, "n_head": HEADS, "n_layer": BLOCKS, "n_positions": POSITIONS, "rotary_dim": 4}),
    "mpt": ("Mpt", {"d_model": HIDDEN, "n_heads": HEADS, "n_layers": BLOCKS, "max_seq_len": POSITIONS,
                    "expansion_ratio": 2}),
    "mt5": ("MT5", {"d_model": HIDDEN, "d_kv": 8, "d_ff": FFN, "num_layers": BLOCKS, "num_decoder_layers": BLOCKS,
                    "num_heads": HEADS, "decoder_start_token_id": 0}),
    "m2m100": ("M2M100", {"d_model": HIDDEN, "encoder_layers": BLOCKS, "decoder_layers": BLOCKS,
                          "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": FFN,
                          "decoder_ffn_dim": FFN, "max_position_embeddings": POSITIONS, "encoder_layerdrop": 0.0,
                          "decoder_layerdrop": 0.0}),
    "mixtral": ("Mixtral", GROUPED | EXPERTS | {"num_local_experts": 4}),
    "qwen3_moe": ("Qwen3Moe", GROUPED | EXPERTS | {"head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16,
                                                   "decoder_sparse_step": 1, "mlp_only_layers": []}),
}  # fmt: skip
ENCODER_DECODER = ("mt5", "m2m100")
MIXTURES = ("mixtral", "qwen3_moe")
DECODERS = tuple(family for family in FAMILIES if family not in ENCODER_DECODER)


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level tokenizer: one token a byte, padding with id 0, end of sequence with id 1.

    It reads any language, needs no file, and text comes back from its ids unchanged.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
    )


VOCABULARY = 2 + 256


def tiny_config(family: str, **changes: Any) -> Any:
    """Return the configuration of a tiny model.

    Args:
        family: A key of ``FAMILIES``.
        changes: Settings that replace the family's own, by the names that the family uses.
    """
    prefix, settings = FAMILIES[family]
    name = "Gemma3TextConfig" if family == "gemma3" else f"{prefix}Config"
    common = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    return getattr(transformers, name)(**(common | settings | changes))


def tiny_model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Build a tiny random model, in evaluation mode.

    Args:
        family: A key of ``FAMILIES``.
        dtype: Dtype of its weights.
        seed: Seed of its weights; the global generator is left as it was.
        changes: Settings that replace the family's own.
    """
    auto = transformers.AutoModelForSeq2SeqLM if family in ENCODER_DECODER else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(tiny_config(family, **changes))
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                centre = 1.0 if "norm" in name.lower() or "ln_" in name else 0.0
                torch.nn.init.normal_(parameter, mean=centre if "bias" not in name else 0.0, std=0.1)
            else:
                torch.nn.init.normal_(parameter, std=0.5 / parameter.shape[-1] ** 0.5 if "emb" not in name else 1.0)
    return model.to(dtype).eval()


def tiny_batches(family: str, lengths: list[int], seed: int = 0, group: str = "default") -> list[dict[str, Any]]:
    """Make random prompts without padding, each a batch of its own.

    Args:
        family: Encoder-decoder families get a target side, two tokens longer than the source side.
        lengths: Length of each prompt.
        seed: Seed of the ids.
        group: Group of the prompts.
    """
    generator = torch.Generator().manual_seed(seed)

    def side(length: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.randint(2, VOCABULARY, (1, length), generator=generator)
        return ids, torch.ones_like(ids)

    batches = []
    for length in lengths:
        batch: dict[str, Any] = {"group": group}
        batch["input_ids"], batch["attention_mask"] = side(length)
        if family in ENCODER_DECODER:
            batch["decoder_input_ids"], batch["decoder_attention_mask"] = side(length + 2)
        batches.append(batch)
    return batches


def save_tiny(folder: str | Path, family: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 0) -> Path:
    """Write a tiny model and the tokenizer as a folder in the layout of the hub, and return the folder."""
    folder = Path(folder)
    tiny_model(family, dtype, seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
