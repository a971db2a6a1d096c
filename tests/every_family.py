"""Tiny random models of every causal and encoder-decoder family that transformers builds from sizes alone."""

import dataclasses
from typing import Any

import torch
import transformers
from tiny import VOCABULARY
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

CLASSES: dict[str, str] = {}  # class of the model to its model type
for _mapping in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES):
    for _model_type, _names in _mapping.items():
        for _name in [_names] if isinstance(_names, str) else _names:
            CLASSES.setdefault(_name, _model_type)

BY_SIZE = {
    2: "num_hidden_layers num_layers num_decoder_layers n_layer n_layers encoder_layers decoder_layers "
    "num_encoder_layers num_key_value_heads multi_query_group_num num_experts_per_tok "
    "num_experts_per_token moe_topk moe_k top_k_experts linear_num_key_heads index_n_heads "
    "zero_expert_num num_sparse_encoder_layers ngram",
    4: "num_attention_heads n_head num_heads n_heads attention_heads encoder_attention_heads "
    "decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads num_local_experts "
    "num_experts n_routed_experts moe_num_experts time_step_rank mamba_dt_rank block_size "
    "linear_num_value_heads prompt_length",
    8: "head_dim d_kv v_head_dim qk_rope_head_dim qk_nope_head_dim rotary_dim sliding_window "
    "attention_window kv_channels dim_head mamba_d_state mamba_n_heads mamba_d_head mamba_num_heads "
    "mamba_head_dim mamba_headdim ssm_state_size state_size attention_window_size linear_key_head_dim "
    "linear_value_head_dim query_pre_attn_scalar global_head_dim",
    16: "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size "
    "q_lora_rank kv_lora_rank qk_head_dim index_head_dim expert_ffn_hidden_size mamba_chunk_size "
    "shared_intermediate_size",
    32: "hidden_size d_model n_embd embed_dim word_embed_proj_dim embedding_size emb_dim lru_width "
    "attention_hidden_size",
    64: "intermediate_size n_inner ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim dim_ff ffn_hidden_size "
    "block_ff_dim",
    256: "max_position_embeddings n_positions n_ctx max_seq_len max_encoder_position_embeddings "
    "max_decoder_position_embeddings",
    VOCABULARY: "vocab_size src_vocab_size tgt_vocab_size vocab_size_per_layer_input",
    1: "n_group topk_group mamba_n_groups n_groups mamba_ngroups encoder_sparse_step decoder_sparse_step "
    "eos_token_id bos_token_id num_random_blocks",
    0: "first_k_dense_replace pad_token_id num_kv_shared_layers",
}  # fmt: skip
SIZES: dict[str, Any] = {name: size for size, names in BY_SIZE.items() for name in names.split()}
SIZES |= {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "layerdrop": 0.0}
# keys and values of all heads: they are made from one latent vector
LATENT = ("AXK1", "AXK2", "BailingHybrid", "DeepseekV2", "DeepseekV3", "DeepseekV32", "Glm4MoeLite", "GlmMoeDsa",
          "KimiLinear", "LongcatFlash", "MiniCPM3", "Youtu")  # fmt: skip
# multimodal models with large parts, models that this version of transformers cannot build, and those that need more
NOT_BUILT = {
    "AudioFlamingo3ForConditionalGeneration", "BltForCausalLM", "CohereCompassForCausalLM", "DbrxForCausalLM",
    "Dots1ForCausalLM", "Dots3NoteForCausalLM", "EncoderDecoderModel", "FuyuForCausalLM",
    "Gemma3ForConditionalGeneration", "Gemma3nForConditionalGeneration", "Gemma4AssistantForCausalLM",
    "Gemma4ForConditionalGeneration", "Gemma4UnifiedAssistantForCausalLM",
    "Gemma4UnifiedForConditionalGeneration", "GitForCausalLM", "GlmAsrForConditionalGeneration",
    "GotOcr2ForConditionalGeneration", "GraniteSpeechForConditionalGeneration",
    "GraniteSpeechPlusForConditionalGeneration", "MossTranscribeDiarizeForConditionalGeneration",
    "MusicFlamingoForConditionalGeneration", "MusicgenForCausalLM", "MusicgenMelodyForCausalLM",
    "Nemotron3_5TranscribeForConditionalGeneration", "Phi4MultimodalForCausalLM",
    "Qwen2AudioForConditionalGeneration", "Qwen3ASRForConditionalGeneration", "Qwen4ExpForCausalLM",
    "T5Gemma2ForConditionalGeneration", "VibeVoiceAsrForConditionalGeneration",
    "VoxtralForConditionalGeneration", "VoxtralRealtimeForConditionalGeneration", "XmodForCausalLM",
    "ZambaForCausalLM",
}  # fmt: skip

# what sizes alone do not give; by class of the model
CHANGES: dict[str, dict[str, Any]] = {
    "BambaForCausalLM": {"attn_layer_indices": [1]},
    "BigBirdPegasusForConditionalGeneration": {"block_size": 16},  # more would be padded
    "FalconH1ForCausalLM": {"mamba_d_ssm": 64},
    "FSMTForConditionalGeneration": {"langs": ["en", "de"], "decoder_start_token_id": 1},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], 1]]},
    "GraniteMoeHybridForCausalLM": {"layer_types": ["mamba", "attention"]},
    "JambaForCausalLM": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8},
    "MarianMTModel": {"decoder_start_token_id": 0},
    "RecurrentGemmaForCausalLM": {"num_hidden_layers": 3},
    "ReformerModelWithLMHead": {"is_decoder": True, "axial_pos_shape": [16, 16], "axial_pos_embds_dim": [16, 16],
                                "attn_layers": ["local", "lsh"], "num_buckets": 4, "lsh_attn_chunk_length": 8},
    "ZayaForCausalLM": {"num_experts_per_tok": 1},
    **{
        f"{name}ForCausalLM": {"is_decoder": True}
        for name in ("Camembert", "Data2VecText", "Ernie", "BigBird", "MegatronBert", "RemBert", "RoCBert", "RoFormer",
                     "Roberta", "RobertaPreLayerNorm", "XLMRoberta", "XLMRobertaXL", "Electra")
    },
    **{f"{name}ForCausalLM": {"num_key_value_heads": 4} for name in LATENT},
    "BertLMHeadModel": {"is_decoder": True},
    "BertGenerationDecoder": {"is_decoder": True},
}  # fmt: skip


def small_config(config_class: type[PreTrainedConfig], **changes: Any) -> PreTrainedConfig:
    """Make a configuration of few and small layers.

    Args:
        config_class: Class of the configuration.
        changes: Settings by their own names.
    """
    names = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
    settings = {name: size for name, size in SIZES.items() if name in names}
    default = config_class()
    for name in ("layer_types", "mlp_layer_types", "layers_block_type"):
        kinds = getattr(default, name, None)
        own = getattr(config_class, config_class.attribute_map.get(name, name), None)
        if (
            isinstance(kinds, list)
            and kinds
            and name not in config_class.attribute_map
            and not isinstance(own, property)
        ):
            settings[name] = (list(dict.fromkeys(kinds)) * 2)[: max(2, len(set(kinds)))]
            settings["num_hidden_layers"] = len(settings[name])
    for name, own in config_class.sub_configs.items():
        if name in ("text_config", "encoder", "decoder") and dataclasses.is_dataclass(own):
            settings[name] = small_config(own)
    return config_class(**settings | changes)


def small_model(name: str, **changes: Any) -> PreTrainedModel:
    """Build a tiny random model, in evaluation mode; the global generator is left as it was.

    Args:
        name: A key of ``CLASSES``.
        changes: Settings that replace its own.
    """
    model_class = getattr(transformers, name)
    config = small_config(model_class.config_class, **CHANGES.get(name, {}) | changes)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in model_class(config).parameters())
    if count > 30e6:
        raise ValueError(f"{name} has {count} weights at the smallest sizes known here")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model_class(config).eval()
