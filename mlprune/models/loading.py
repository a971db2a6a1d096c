"""Finding and loading models and tokenizers: hub id, local folder, or a packaged model.

Weights are read from safetensors only; code of a repository runs only if the user says so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, snapshot_download
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError, did_you_mean, first_line
from mlprune.models.card import CARD, read_header
from mlprune.models.checkpoint import Checkpoint, read_checkpoint
from mlprune.models.config import read_config
from mlprune.models.encoder import has_encoder
from mlprune.models.folder import (
    INDEX,
    SINGLE,
    WEIGHTS,
    check_folder,
    in_place_of_weights,
    read_object,
    weight_map,
)
from mlprune.models.packaged import PACKAGED, check_packaged, packaged_folder
from mlprune.models.tokenizer import load_tokenizer
from mlprune.models.tokenizer_options import check_names, check_taken

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
SMALLER = ("blocks.json", "narrow.json", "trim.json")  # what steps that make a model smaller write beside it


_WITHOUT_WEIGHTS: ContextVar[bool] = ContextVar("without_weights", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside this context, model folders need not hold weights, which are not going to be read.

    Example:
        >>> with without_weights():
        ...     ModelSource("demo").name
        'demo'
    """
    token = _WITHOUT_WEIGHTS.set(True)
    try:
        yield
    finally:
        _WITHOUT_WEIGHTS.reset(token)


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
        if "/" in (self.attn_implementation or "") and not self.trust_remote_code:
            raise UserError(
                f"model.attn_implementation '{self.attn_implementation}' is native code of the hub; read it, then set "
                "model.trust_remote_code: true"
            )
        if self.name in PACKAGED:
            check_packaged(self.name)
        elif self.name and self._path.is_dir():
            check_folder(self._path, weights=not _WITHOUT_WEIGHTS.get())
        else:
            self._check_hub_id()

    def _check_hub_id(self) -> None:
        if self._path.is_file():
            gguf = "a GGUF file; give a folder with the model's safetensors"
            kind = gguf if self.name.endswith(".gguf") else "a file; give the folder that it is in"
            raise UserError(f"model.name '{self.name}' is {kind}")
        if self.name.count("/") > 1 or self.name.startswith((".", "/", "~")) or not self.name:
            hint = f"give a folder, a hub id or {', '.join(PACKAGED)}"
            raise UserError(f"model.name '{self.name}' is not a folder; {hint}")
        if "/" not in self.name and (hint := did_you_mean(self.name, PACKAGED)):
            raise UserError(f"model.name '{self.name}' is not known{hint}")

    @property
    def hub_id(self) -> str | None:
        """The model's id on the hub; None for a local folder or a packaged model."""
        return None if self.name in PACKAGED or self._path.is_dir() else self.name

    @property
    def _path(self) -> Path:
        return Path(self.name).expanduser()

    @cached_property
    def location(self) -> str:
        """The folder or hub id transformers loads from."""
        if self.name in PACKAGED:
            return str(packaged_folder(self.name))
        return str(self._path) if self._path.is_dir() else self.name

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer.

        Raises:
            UserError: If it cannot be loaded.
        """
        read_config(self.folder(weights=False), self.trust_remote_code)  # which transformers reads here too
        options = {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}
        tokenizer = load_tokenizer(self.location, self.name, options | self.tokenizer_options)
        check_taken(tokenizer, self.tokenizer_options)
        return tokenizer

    def has_encoder(self) -> bool:
        """Tell from the configuration alone whether this is an encoder-decoder model."""
        return has_encoder(read_config(self.folder(weights=False), self.trust_remote_code))

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, of which everything but the weights is read, once.

        Raises:
            UserError: If it is damaged, or its weights do not fit its configuration.
        """
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        return read_checkpoint(self.folder(), **options)

    def load_model(self) -> PreTrainedModel:
        """Load the model, on the CPU, in evaluation mode.

        Raises:
            UserError: If it cannot be loaded, or its weights do not fit its configuration.
        """
        return self.checkpoint.load("auto" if self.dtype == "auto" else getattr(torch, self.dtype))

    def skeleton(self) -> PreTrainedModel:
        """Return the model with tensors that hold nothing, so that settings can be checked before it is loaded.

        Raises:
            UserError: As :meth:`load_model`.
        """
        checkpoint = self.checkpoint
        skeleton: torch.nn.Module = checkpoint.skeleton
        skeleton.to(checkpoint.dtype if self.dtype == "auto" else getattr(torch, self.dtype))
        return checkpoint.skeleton

    def folder(self, weights: bool = True) -> Path:
        """Return the model's folder, downloading it from the hub if it is there.

        Args:
            weights: Download the weights too.

        Raises:
            UserError: If it cannot be found, or is unsafe to load.
        """
        if Path(self.location).is_dir():
            return Path(self.location)
        found = self._download(ignore=[*(pattern for pattern in WEIGHTS if "index" not in pattern), "*/*"])
        if weights:
            shards = set(weight_map(found / INDEX).values()) if (found / INDEX).is_file() else set()
            self._download(allow=[SINGLE, *sorted(shards)], revision=found.name)  # the same commit
            if not shards and not (found / SINGLE).is_file():
                raise UserError(f"model.name '{self.name}' {in_place_of_weights(self._names_on_hub(found))}")
            check_folder(found)
        return found

    def _names_on_hub(self, downloaded: Path) -> list[str]:
        """Names of the files in a repository; of those that are here, where the hub cannot be reached."""
        try:
            return HfApi().list_repo_files(self.location, revision=self.revision)
        except (OSError, ValueError):
            return [path.name for path in downloaded.iterdir()]

    def _download(
        self, allow: list[str] | None = None, ignore: list[str] | None = None, revision: str | None = None
    ) -> Path:
        try:
            return Path(
                snapshot_download(
                    self.location,
                    revision=revision or self.revision,
                    allow_patterns=allow,
                    ignore_patterns=ignore,
                    local_files_only=constants.HF_HUB_OFFLINE,  # older versions list a commit's files even offline
                )
            )
        except (OSError, ValueError) as error:
            raise UserError(f"model.name '{self.name}' cannot be loaded: {first_line(error)}") from error

    def card(self) -> dict[str, str]:
        """Return what a model card says of the base model: its name and hub id, license and notice, as far as known.

        A hub id is empty for a local or packaged model, whose name is then that of its folder, not its path.
        """
        recipe = self.recipe() or self._smaller()
        base = str(recipe.get("base_model", self.name))
        hub_id = str(recipe.get("hub_id") or "") if recipe else self.hub_id or ""
        title = PACKAGED[base].title if base in PACKAGED else hub_id or Path(base).expanduser().resolve().name
        header = read_header(self._text(CARD))
        licensed = {name: header.get(name, "") for name in ("license", "license_name", "license_link")}
        return {"base_model": title, "hub_id": hub_id, **licensed, "notice": self._text("NOTICE").strip()}

    def _text(self, name: str) -> str:
        """A file of the model's folder; empty if it is not there."""
        file = self.folder(weights=False) / name
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def base(self) -> dict[str, str | None]:
        """Return name and hub id of the model that steps made smaller, or of this one if none did."""
        found = self._smaller() or {"base_model": self.name, "hub_id": self.hub_id}
        return {name: found.get(name) for name in ("base_model", "hub_id")}

    def _smaller(self) -> dict[str, Any]:
        """What the last step that made the model smaller says of its base; empty if there was none."""
        files = [self._path / name for name in SMALLER if (self._path / name).is_file()]
        return read_object(files[0]) if files else {}

    def recipe(self) -> dict[str, Any]:
        """Return what ``mlprune.json`` in the model's folder says of its pruning; empty for a dense model."""
        file = self._path / "mlprune.json"
        if not file.is_file():
            return {}
        recipe = read_object(file)
        if not isinstance(recipe.get("base_model", ""), str) or not isinstance(recipe.get("layers"), dict):
            raise UserError(f"'{file}' is damaged: base_model is a name, layers maps each layer to its sparsity")
        sparsity = recipe.get("sparsity", 0.0)
        if not isinstance(sparsity, int | float) or not 0 <= sparsity <= 1:
            raise UserError(f"'{file}' is damaged: sparsity {sparsity} is not a number from 0 to 1")
        return recipe
