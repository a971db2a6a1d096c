"""Finding and loading models and tokenizers: hub id, local folder, or a packaged model.

Weights are read from safetensors only; code of a repository runs only if the user says so.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mlprune.errors import UserError, did_you_mean
from mlprune.models.packaged import PACKAGED, check_packaged, packaged_folder
from mlprune.models.tokenizer_options import check_names, check_taken

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
NO_SAFETENSORS = (
    "has pickled weights only, which can run code when read; give a model.revision that has safetensors, or convert "
    "it with `python -m mlprune.models.convert SRC DST`"
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from and how it is to be loaded.

    Args:
        name: Hub id, local folder, or the name of a packaged model (``demo``).
        dtype: ``auto`` (as stored), ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        revision: Commit, tag or branch of a hub repository.
        attn_implementation: ``eager``, ``sdpa``, ... as transformers names them; its default if omitted.
        trust_remote_code: Run the repository's own code.
        tokenizer_options: Further arguments for ``AutoTokenizer.from_pretrained``.

    Raises:
        UserError: If a value is not allowed, or a local folder or packaged model is missing or unsafe to load.
    """

    name: str
    dtype: str = "auto"
    revision: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    tokenizer_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            hint = did_you_mean(self.dtype, DTYPES)
            raise UserError(f"model.dtype '{self.dtype}' is not allowed; give one of {', '.join(DTYPES)}{hint}")
        check_names(self.tokenizer_options)
        for key in self.tokenizer_options:
            if key in ("token", "use_auth_token"):
                raise UserError(
                    f"model.tokenizer_options.{key}: secrets do not belong into configs; run `hf auth login` once"
                )
        if self.name in PACKAGED:
            check_packaged(self.name)
        elif self.name and Path(self.name).is_dir():
            _check_folder(Path(self.name))
        elif self.name.count("/") > 1 or self.name.startswith((".", "/", "~")) or not self.name:
            raise UserError(f"model.name '{self.name}' is no folder; give a folder, a hub id or {', '.join(PACKAGED)}")
        elif "/" not in self.name and (hint := did_you_mean(self.name, PACKAGED)):
            raise UserError(f"model.name '{self.name}' is not known{hint}")

    @cached_property
    def location(self) -> str:
        """The folder or hub id transformers loads from."""
        return str(packaged_folder(self.name)) if self.name in PACKAGED else self.name

    @property
    def _hub_options(self) -> dict[str, Any]:
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer.

        Raises:
            UserError: If it cannot be loaded.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.location, **self._hub_options, **self.tokenizer_options)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"tokenizer of model.name '{self.name}' cannot be loaded: {_reason(error)}") from error
        check_taken(tokenizer, self.tokenizer_options)
        return tokenizer

    def has_encoder(self) -> bool:
        """Tell from the configuration alone whether this is an encoder-decoder model; False if none can be read."""
        try:
            return AutoConfig.from_pretrained(self.location, **self._hub_options).is_encoder_decoder
        except (OSError, ValueError, KeyError):
            return False  # loading the model says what is wrong

    def load_model(self) -> PreTrainedModel:
        """Load the model, on the CPU, in evaluation mode.

        Raises:
            UserError: If it cannot be loaded, with the way out.
        """
        options: dict[str, Any] = {"dtype": "auto" if self.dtype == "auto" else getattr(torch, self.dtype)}
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        try:
            config = AutoConfig.from_pretrained(self.location, **self._hub_options)
            loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            model = loader.from_pretrained(self.location, use_safetensors=True, **self._hub_options, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            text = str(error).lower()
            if "safetensors" in text and ("does not appear" in text or "no file named" in text):
                raise UserError(f"model.name '{self.name}' {NO_SAFETENSORS}") from error
            if "trust_remote_code" in text or "custom code" in text:
                told = "needs code of its own repository; read it, then set model.trust_remote_code: true"
                raise UserError(f"model.name '{self.name}' {told}") from error
            raise UserError(f"model.name '{self.name}' cannot be loaded: {_reason(error)}") from error
        return model.eval()

    def folder(self) -> Path:
        """Return the checkpoint's folder, downloading it from the hub if it is there.

        Raises:
            UserError: If it cannot be had.
        """
        if Path(self.location).is_dir():
            return Path(self.location)
        try:
            wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "*.md", "*.jinja"]
            return Path(snapshot_download(self.location, revision=self.revision, allow_patterns=wanted))
        except (OSError, ValueError) as error:
            raise UserError(f"model.name '{self.name}' cannot be loaded: {_reason(error)}") from error

    def card(self) -> dict[str, str]:
        """Return the licence and notice of the base model, as far as they are in its folder."""
        folder = Path(self.location)
        base = self.recipe().get("base_model", self.name)
        card = {"base_model": PACKAGED[base].title if base in PACKAGED else base, "license": "", "notice": ""}
        if (folder / "README.md").is_file():
            lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
            card["license"] = next((line[8:].strip() for line in lines if line.startswith("license:")), "")
        if (folder / "NOTICE").is_file():
            card["notice"] = (folder / "NOTICE").read_text(encoding="utf-8").strip()
        return card

    def recipe(self) -> dict[str, Any]:
        """Return what ``mlprune.json`` in the model's folder says of its pruning; empty for a dense model."""
        file = Path(self.name) / "mlprune.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"model.name '{folder}' has no config.json; give a folder that save_pretrained wrote")
    if not any(folder.glob("*.safetensors")):
        pickled = any(any(folder.glob(pattern)) for pattern in PICKLED)
        raise UserError(f"model.name '{folder}' {NO_SAFETENSORS if pickled else 'has no *.safetensors'}")


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
