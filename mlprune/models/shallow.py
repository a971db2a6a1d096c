"""A model from its configuration alone: all of it without weights, or a few of its blocks with random ones."""

from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from mlprune.models.config import MAX_LAYERS, auto_class, config_error, read_config
from mlprune.models.folder import CONFIG
from mlprune.models.loading import ModelSource
from mlprune.models.skeleton import build_on_meta

DEPTHS = ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")


def blueprint(source: ModelSource) -> PreTrainedModel:
    """Return a model all of whose tensors are on the meta device, weights tied as they will be.

    Raises:
        UserError: If its configuration cannot be read or built.
    """
    folder = source.folder(weights=False)
    config = read_config(folder, source.trust_remote_code)
    model = build_on_meta(deepcopy(config), folder, MAX_LAYERS, **_options(source))
    model.tie_weights()
    module: torch.nn.Module = model
    module.to(_dtype(source, config))
    return model


def shallow_model(source: ModelSource, depth: int, device: torch.device) -> PreTrainedModel:
    """Return a model of the same widths with few blocks and random weights, in evaluation mode.

    Args:
        source: Where the configuration comes from; weights are not read.
        depth: Number of blocks of each stack.
        device: Where it is to be.

    Raises:
        UserError: If its configuration cannot be read or built.
    """
    folder = source.folder(weights=False)
    config = read_config(folder, source.trust_remote_code)
    dtype = _dtype(source, config)
    try:
        with device:
            model: PreTrainedModel = auto_class(config).from_config(cut(config, depth), dtype=dtype, **_options(source))
            model.eval()
    except Exception as error:  # constructors of hundreds of architectures raise what they like
        raise config_error(folder / CONFIG, error) from error
    return model


def cut(config: PreTrainedConfig, depth: int) -> PreTrainedConfig:
    """Return a configuration of a model with few blocks; what it lists by block is cut too.

    Example:
        >>> from transformers import Gemma3TextConfig
        >>> short = cut(Gemma3TextConfig(num_hidden_layers=26), 2)
        >>> short.num_hidden_layers, len(short.layer_types)
        (2, 2)
    """
    config = deepcopy(config)
    text: Any = config.get_text_config()
    depths = {name: number for name in DEPTHS if isinstance(number := getattr(text, name, None), int)}
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) in depths.values():
            setattr(text, name, value[:depth])
    for name, number in depths.items():
        setattr(text, name, min(number, depth))
    return config


def _options(source: ModelSource) -> dict[str, Any]:
    options: dict[str, Any] = {"trust_remote_code": source.trust_remote_code}
    return options | ({"attn_implementation": source.attn_implementation} if source.attn_implementation else {})


def _dtype(source: ModelSource, config: PreTrainedConfig) -> torch.dtype:
    """The dtype that the weights will have: the user's choice, else that of config.json, else float32."""
    chosen = (config.dtype or torch.float32) if source.dtype == "auto" else source.dtype
    dtype: torch.dtype = chosen if isinstance(chosen, torch.dtype) else getattr(torch, str(chosen))
    return dtype
