"""Pruning a model larger than memory in ``validate``: which blocks are in memory, and what is written when."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlprune.models.saving import write_card
from mlprune.models.streaming import StreamedModel
from mlprune.pruning import LayerReport
from mlprune.pruning.hidden import HiddenFolder
from mlprune.pruning.streaming import MaskWriter

HIDDEN = ".hidden"


class Streaming:
    """The streamed model of one run.

    Args:
        source: The :class:`mlprune.models.loading.ModelSource`.
        run: The run's folder.
        writes: Whether this process writes; one does.
        save_model: Whether ``pruned/`` is written.
        hidden_on_disk: Keep hidden states in memory-mapped files in the run's folder.
        rank: This process' number.
        device: Where blocks are computed.
    """

    def __init__(
        self, source: Any, run: Path, writes: bool, save_model: bool, hidden_on_disk: bool, rank: int, device: Any
    ) -> None:
        self.source, self.run, self.writes = source, run, writes
        target = run / "pruned" if writes and save_model else None
        self.model = StreamedModel(source.checkpoint, target, source.dtype, device)
        self.hidden = HiddenFolder(run / HIDDEN / str(rank)) if hidden_on_disk else None
        self.masks: MaskWriter | None = None

    def start(self, blocks: list[Any]) -> None:
        """Open the mask file, once the layers to be pruned are known."""
        if self.writes:
            self.run.mkdir(parents=True, exist_ok=True)
            self.masks = MaskWriter(self.run / "masks.safetensors", blocks)

    def keep(self, k: int, reports: Mapping[str, LayerReport]) -> None:
        """Write a pruned block and its masks."""
        if self.masks is not None:
            self.masks.write(reports)
        self.model.write(k)

    def finish(self, recipe: dict[str, Any]) -> None:
        """Name the checkpoint and the masks."""
        self.model.finish()
        if self.masks is not None:
            self.masks.finish()
        if self.model.target is not None:
            write_card(self.model.target, recipe, self.source.card())
        self._remove_hidden()

    def abandon(self) -> None:
        """Remove what has no final name yet."""
        self.model.abandon()
        if self.masks is not None:
            self.masks.abandon()
        self._remove_hidden()

    def _remove_hidden(self) -> None:
        if self.hidden is not None:
            self.hidden.remove()
        if self.writes:
            shutil.rmtree(self.run / HIDDEN, ignore_errors=True)
