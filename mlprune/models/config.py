"""Reading config.json, which others wrote: it may be damaged, name code to run, or describe an absurd model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig

from mlprune.errors import UserError, reason_of
from mlprune.models.encoder import has_encoder
from mlprune.models.folder import CONFIG, read_object

MAX_LAYERS = 1000
REMOTE_CODE = "needs code of its own repository; read it, then set model.trust_remote_code: true"


def read_config(folder: Path, trust_remote_code: bool = False, num_tensors: int = 0) -> PreTrainedConfig:
    """Return a model's configuration.

    Args:
        folder: A folder with config.json.
        trust_remote_code: Run code that it names.
        num_tensors: Tensors in the checkpoint, as far as known; a model has no more layers than that.

    Raises:
        UserError: If the file is damaged, does not describe a language model, or needs code that is not trusted.
    """
    file = folder / CONFIG
    content = read_object(file)
    if not isinstance(content.get("model_type"), str) or not content["model_type"]:
        raise UserError(f"'{file}' has no model_type, which says what the model is; download it again")
    if not trust_remote_code:
        _refuse_kernels(file, content)
    _refuse_absurd_depth(file, content, max(num_tensors, MAX_LAYERS))
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # checks of hundreds of architectures raise what they like
        raise config_error(file, error) from error
    return config


def auto_class(config: PreTrainedConfig) -> Any:
    """Return what builds a model: one that continues text, or one that reads a text and writes another."""
    return AutoModelForSeq2SeqLM if has_encoder(config) else AutoModelForCausalLM


def config_error(file: Path, error: BaseException) -> UserError:
    """Return an error that a config.json caused as one line for the user.

    Args:
        file: The config.json.
        error: What transformers raised.
    """
    reason = reason_of(error)
    if "trust_remote_code" in reason or "custom code" in reason:
        return UserError(f"model.name '{file.parent}' {REMOTE_CODE}")
    if "attn_implementation" in reason:
        return UserError(f"model.name '{file.parent}': {_shortened(reason, 600)}")
    if "does not recognize this architecture" in reason:
        return UserError(f"'{file}': this version of transformers does not know its model_type; {_shortened(reason)}")
    if "Unrecognized configuration class" in reason:
        return UserError(f"'{file}' does not describe a language model that continues or translates text")
    return UserError(f"'{file}' does not describe a model that can be built: {_shortened(reason)}")


def _shortened(reason: str, limit: int = 240) -> str:
    return reason if len(reason) <= limit else f"{reason[:limit]}..."


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value in nested mappings and lists, with its dotted key."""
    left: list[tuple[str, Any]] = list(content.items())
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{key}.{name}", item) for name, item in value.items()]
        elif isinstance(value, list):
            left += [(key, item) for item in value]
        else:
            yield key, value


def _refuse_kernels(file: Path, content: dict[str, Any]) -> None:
    """transformers fetches native code from the hub where an implementation is named as a repository."""
    for key, value in _entries(content):
        if "_implementation" in key and isinstance(value, str) and "/" in value:
            raise UserError(
                f"'{file}': {key} {value!r:.80} is native code of the hub; read it, then set model.trust_remote_code: "
                "true, or take the key out"
            )


def _refuse_absurd_depth(file: Path, content: dict[str, Any], limit: int) -> None:
    """Lists of as many items as there are layers are made before anything else is looked at."""
    for key, value in _entries(content):
        if "layer" in key.rpartition(".")[2] and type(value) is int and value > limit:
            raise UserError(f"'{file}': {key} {value} is not allowed; the weights are of at most {limit} layers")
