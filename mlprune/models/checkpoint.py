"""A model folder of which all is known before a weight is read, and loading what is in it."""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from mlprune.errors import UserError
from mlprune.models.config import auto_class, config_error, read_config
from mlprune.models.folder import CONFIG, read_object
from mlprune.models.integrity import check_finite, check_report, verdict
from mlprune.models.shards import ShardReader
from mlprune.models.skeleton import build_on_meta
from mlprune.models.wrappers import unwrapped

GENERATION = "generation_config.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that fits its config.json.

    Args:
        folder: Where it is.
        config: The configuration.
        reader: Its tensors, under the names that the model knows.
        stored: The model's name of each tensor to its name in the file, which prefixes of wrappers make another.
        skeleton: The model, its tensors on the meta device.
        options: Arguments for building it.
    """

    folder: Path
    config: PreTrainedConfig
    reader: ShardReader
    stored: dict[str, str]
    skeleton: PreTrainedModel
    options: dict[str, Any]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the weights are meant to be used: that of config.json, else that of the first of them."""
        floating = (entry.dtype for entry in self.reader.entries.values() if entry.dtype.is_floating_point)
        given = self.config.dtype or next(floating, torch.float32)
        return given if isinstance(given, torch.dtype) else getattr(torch, given)

    @property
    def is_quantized(self) -> bool:
        """Whether the tensors are those of a quantizer, which the model is built with."""
        return getattr(self.config, "quantization_config", None) is not None

    def load(self, dtype: str | torch.dtype = "auto") -> PreTrainedModel:
        """Return the model with its weights, on the CPU, in evaluation mode.

        Args:
            dtype: A torch dtype; ``auto`` for that of the checkpoint.

        Raises:
            UserError: If that fails, or transformers could not load every weight.
        """
        try:
            model, report = self._load_renamed(dtype) if self._is_renamed else self._load(dtype)
        except Exception as error:  # what architectures and quantizers raise
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise UserError(f"'{self.folder}' does not fit into memory: {self._gib(dtype):.1f} GiB") from error
            raise config_error(self.folder / CONFIG, error) from error
        check_report(model, report, self.folder)
        check_finite(model, self.folder)
        model.eval()
        return model

    def _gib(self, dtype: str | torch.dtype) -> float:
        chosen = self.dtype if isinstance(dtype, str) else dtype
        return sum(parameter.numel() for parameter in self.skeleton.parameters()) * chosen.itemsize / 2**30

    @property
    def _is_renamed(self) -> bool:
        return any(name != stored for name, stored in self.stored.items())

    def _load(self, dtype: str | torch.dtype) -> tuple[PreTrainedModel, dict[str, Any]]:
        options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True, **self.options}
        loaded: tuple[PreTrainedModel, dict[str, Any]] = auto_class(self.config).from_pretrained(self.folder, **options)
        return loaded

    def _load_renamed(self, dtype: str | torch.dtype) -> tuple[PreTrainedModel, dict[str, Any]]:
        """Load from the single tensors: transformers' own renaming would bring the prefixes back when it saves."""
        chosen = self.dtype if dtype == "auto" else dtype
        options = {name: value for name, value in self.options.items() if name != "trust_remote_code"}
        loader: Any = type(self.skeleton)
        with ExitStack() as stack:
            files = {
                file: stack.enter_context(safe_open(self.folder / file, framework="pt")) for file in self.reader.files
            }
            tensors = {
                name: files[entry.file].get_slice(self.stored[name]) for name, entry in self.reader.entries.items()
            }
            model, report = loader.from_pretrained(
                None,
                config=deepcopy(self.skeleton.config),
                state_dict=tensors,
                dtype=chosen,
                output_loading_info=True,
                **options,
            )
        self.set_generation(model)
        return model, report

    def set_generation(self, model: PreTrainedModel) -> None:
        """Give a model the folder's settings of generation, as loading does."""
        if (self.folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(self.folder)


def read_checkpoint(folder: str | Path, trust_remote_code: bool = False, **options: Any) -> Checkpoint:
    """Read everything of a model folder but its weights, and see that these fit.

    Args:
        folder: A folder with config.json and safetensors.
        trust_remote_code: Run code that config.json names.
        options: Further arguments for building the model, such as ``attn_implementation``.

    Raises:
        UserError: If a file is damaged, or the checkpoint does not hold the weights of the model that config.json
            describes.
    """
    folder = Path(folder)
    reader = ShardReader(folder)
    config = read_config(folder, trust_remote_code, len(reader.entries))
    _check_quantizer(folder / CONFIG, config)
    _check_generation(folder / GENERATION)
    options = {"trust_remote_code": trust_remote_code, **options}
    skeleton = build_on_meta(deepcopy(config), folder, len(reader.entries), **options)
    checkpoint = Checkpoint(folder, config, reader, {name: name for name in reader.entries}, skeleton, options)
    if not checkpoint.is_quantized:
        names = unwrapped(reader.entries, skeleton, folder)
        reader.rename(names)
        checkpoint.stored.update({new: old for old, new in names.items()})
        verdict(skeleton, reader.entries).check(folder)
    return checkpoint


def _check_quantizer(file: Path, config: PreTrainedConfig) -> None:
    """transformers passes over a quantizer that it does not know, and takes its tensors for plain weights."""
    given: Any = getattr(config, "quantization_config", None)
    given = given.to_dict() if hasattr(given, "to_dict") else given
    if not isinstance(given, dict) or given.get("quant_method") is None:
        return  # none, or transformers refuses it
    if given.get("load_in_4bit") or given.get("load_in_8bit"):
        return  # bitsandbytes
    method = given["quant_method"]
    if not isinstance(method, str) or method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise UserError(
            f"'{file}': transformers {transformers.__version__} cannot read weights quantized by "
            f"{method!r:.80}; give the model they were made of"
        )


def _check_generation(file: Path) -> None:
    """Settings of generation that transformers refuses would end a run when it saves the model."""
    if not file.is_file():
        return
    read_object(file)
    try:
        GenerationConfig.from_pretrained(file.parent).validate()
    except Exception as error:  # any kind of value can stand at any key
        reason = " ".join(str(error).split())
        raise UserError(f"'{file}' is not valid: {reason[:240]}; mend it or take the file away") from error
