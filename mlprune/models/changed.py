"""A model as it would be with other values in its configuration, without weights."""

import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from mlprune.errors import UserError
from mlprune.models.checkpoint import Checkpoint
from mlprune.models.config import read_config
from mlprune.models.skeleton import build_on_meta

BIASES = ("attention_bias", "mlp_bias")  # switches of configurations that give layers a bias


def changed_config(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> PreTrainedConfig:
    """Return a copy of a checkpoint's configuration with other values, which nothing has checked.

    Args:
        checkpoint: The checkpoint.
        changes: Field of the text model's configuration to value.
    """
    config = deepcopy(checkpoint.config)
    for field, value in changes.items():
        setattr(config.get_text_config(), field, value)
    return config


def check_config(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> None:
    """Raise UserError if transformers would not read a configuration with other values."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            changed_config(checkpoint, changes).save_pretrained(folder)
            read_config(Path(folder), checkpoint.options.get("trust_remote_code", False))
        except Exception as error:  # what configurations check
            name = type(checkpoint.skeleton).__name__
            values = ", ".join(f"{field} {value}" for field, value in changes.items())
            reason = str(error).strip().rpartition("\n")[2].strip().removeprefix("ValueError: ")
            raise UserError(f"transformers does not load {name} with {values}: {reason}") from error


def built_from(checkpoint: Checkpoint, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a checkpoint's model as another configuration describes it, without weights.

    Raises:
        UserError: If it cannot be built.
    """
    return build_on_meta(config, checkpoint.folder, len(checkpoint.reader.entries), **checkpoint.options)


def changed_skeleton(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> PreTrainedModel | None:
    """Return the model of a configuration with other values, without weights; None if it cannot be built."""
    try:
        return built_from(checkpoint, changed_config(checkpoint, changes))
    except UserError:
        return None


def added_biases(checkpoint: Checkpoint, paths: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the switches of a configuration that give layers a bias, and the names of all biases that come with them.

    Args:
        checkpoint: The checkpoint.
        paths: Layers without a bias.
    """
    text, known = checkpoint.config.get_text_config(), set(checkpoint.skeleton.state_dict())
    switches: dict[str, Any] = {}
    names: list[str] = []
    for switch in BIASES:
        if getattr(text, switch, None) is not False:
            continue
        other = changed_skeleton(checkpoint, {switch: True})
        new = [] if other is None else [name for name in other.state_dict() if name not in known]
        if all(name.endswith(".bias") for name in new) and any(f"{path}.bias" in new for path in paths):
            switches[switch] = True
            names += new
    return switches, names
