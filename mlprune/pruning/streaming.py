"""Prune a checkpoint that does not fit into memory."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.files import Partial
from mlprune.models.blocks import Block
from mlprune.models.checkpoint import Checkpoint
from mlprune.models.shards import ShardWriter
from mlprune.models.streamed import StreamedModel
from mlprune.pruning.batches import listed
from mlprune.pruning.calibration import Calibration, calibrating
from mlprune.pruning.hidden import HiddenFolder
from mlprune.pruning.propagation import Propagate
from mlprune.pruning.prune import form_batches
from mlprune.pruning.pruner import LayerReport, Pruner
from mlprune.pruning.steps import prune_blocks


class MaskWriter:
    """Writes masks to a file as they come, in the format of :func:`mlprune.pruning.save_masks`.

    Args:
        path: Target; it appears only when :meth:`finish` is called.
        blocks: All blocks, with the layers that will be pruned.
    """

    def __init__(self, path: str | Path, blocks: list[Block]) -> None:
        shapes = {name: list(layer.matrix().shape) for block in blocks for name, layer in block.layers.items()}
        layout = {name: (torch.uint8, (-(-int(np.prod(shape)) // 8),)) for name, shape in shapes.items()}
        self._partial = Partial(path)
        file = self._partial.path.name
        try:
            self._writer = ShardWriter(
                self._partial.path.parent, {file: layout}, {file: {"shapes": json.dumps(shapes)}}
            )
        except UserError:
            self._partial.abandon()
            raise

    def write(self, reports: Mapping[str, LayerReport]) -> None:
        """Write the masks of some layers."""
        for name, report in reports.items():
            packed = np.packbits(report.mask.numpy().ravel(), bitorder="little")
            self._writer.write(name, torch.from_numpy(packed))

    def finish(self) -> None:
        """Give the file its name."""
        self._writer.close()
        self._partial.complete()

    def abandon(self) -> None:
        """Remove what was written so far."""
        self._writer.close()
        self._partial.abandon()


class StreamedPruning:
    """What pruning a model larger than memory has in memory, and what it writes when.

    Args:
        source: Checkpoint folder with safetensors.
        target: Folder of the pruned checkpoint, which appears only when complete; none if omitted.
        dtype: ``auto`` (as config.json says) or a torch dtype's name.
        device: Where blocks are computed.
        masks_path: File for the masks; none if omitted.
        hidden_folder: Folder for the hidden states, which are then memory-mapped files; in memory if omitted.
    """

    def __init__(
        self,
        source: str | Path | Checkpoint,
        target: str | Path | None = None,
        dtype: str = "auto",
        device: torch.device | str = "cpu",
        masks_path: str | Path | None = None,
        hidden_folder: str | Path | None = None,
    ) -> None:
        self.streamed = StreamedModel(source, target, dtype, device)
        self.hidden = HiddenFolder(hidden_folder) if hidden_folder is not None else None
        self._masks_path = masks_path
        self._masks: MaskWriter | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The model, whose blocks have weights between their reading and their writing only."""
        return self.streamed.model

    def start(self, blocks: list[Block]) -> None:
        """Open the mask file, once the layers to be pruned are known."""
        if self._masks_path is not None:
            Path(self._masks_path).parent.mkdir(parents=True, exist_ok=True)
            self._masks = MaskWriter(self._masks_path, blocks)

    def keep(self, block: int, reports: Mapping[str, LayerReport]) -> None:
        """Write a pruned block and its masks."""
        if self._masks is not None:
            self._masks.write(reports)
        self.streamed.write(block)

    def finish(self, describe: Callable[[Path], None] | None = None) -> None:
        """Name the masks, and last the checkpoint.

        Args:
            describe: Writes what is to be in the checkpoint besides weights, before it has its name.
        """
        if self._masks is not None:
            self._masks.finish()
        self._remove_hidden()
        self.streamed.finish(describe)

    def abandon(self) -> None:
        """Remove what has no final name yet."""
        self.streamed.abandon()
        if self._masks is not None:
            self._masks.abandon()
        self._remove_hidden()

    def _remove_hidden(self) -> None:
        if self.hidden is not None:
            self.hidden.remove()


def check_streaming(pruner: Pruner, key: str = "streaming") -> None:
    """Raise UserError if a method needs all blocks at once.

    Args:
        pruner: The method.
        key: What the user calls streaming.

    Example:
        >>> from mlprune.pruning import GBLM
        >>> check_streaming(Pruner(GBLM()))
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: streaming: GBLM needs the gradients of the whole model, which is never in memory; ...
    """
    needs = pruner.importance.needs
    if pruner.allocation is not None:
        name = type(pruner.allocation).__name__
        raise UserError(f"{key}: {name} looks at all blocks first; use one sparsity for all, without an allocation")
    if needs is not None and needs.scope == "model":
        name = type(pruner.importance).__name__
        raise UserError(
            f"{key}: {name} needs the gradients of the whole model, which is never in memory; use RegionalGradient"
        )


def prune_streaming(
    source: str | Path,
    target: str | Path,
    batches: Iterable[Mapping[str, Any]],
    pruner: Pruner | None = None,
    *,
    propagate: Propagate = "pruned",
    count_padding: bool = False,
    dtype: str = "auto",
    device: torch.device | str = "cpu",
    masks_path: str | Path | None = None,
    hidden_folder: str | Path | None = None,
    max_batch_tokens: int = 2048,
) -> dict[str, float]:
    """Prune a checkpoint folder into another one, with two blocks in memory at a time.

    The masks are bit for bit those of :func:`mlprune.pruning.prune_model` on the model in memory. What is in memory at
    most: embeddings, two blocks, the prompts' hidden states, and one block's statistics and scores.

    Args:
        source: Checkpoint folder with safetensors.
        target: Folder of the pruned checkpoint, with the same shards; it appears only when complete.
        batches: As for :func:`mlprune.pruning.prune_model`.
        pruner: Importance, pattern, allocation and which layers; Wanda at 0.3 if omitted.
        propagate: As for :func:`mlprune.pruning.prune_model`.
        count_padding: As for :func:`mlprune.pruning.prune_model`.
        dtype: ``auto`` (as config.json says) or a torch dtype's name.
        device: Where blocks are computed.
        masks_path: File for the masks; none if omitted.
        hidden_folder: Folder for the hidden states, which are then memory-mapped files; in memory if omitted.
        max_batch_tokens: Token budget of a calibration batch.

    Returns:
        Layer path to the share of its weights that was pruned.

    Raises:
        UserError: If a method needs the whole dense model, or as :func:`mlprune.pruning.prune_model`.

    Example:
        >>> import tempfile
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> batches = [{"input_ids": torch.tensor([[3, 1, 4, 1, 5]])}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).save_pretrained(f"{folder}/dense")
        ...     sparsities = prune_streaming(f"{folder}/dense", f"{folder}/pruned", batches)
        >>> sparsities["model.layers.0.mlp.down_proj"]
        0.25
    """
    pruner = pruner or Pruner()
    check_streaming(pruner)
    batches = listed(batches)
    pruner.check_batches(batches)
    streaming = StreamedPruning(source, target, dtype, device, masks_path, hidden_folder)
    sparsities: dict[str, float] = {}
    try:
        if batches:
            batches = form_batches(streaming.model, batches, max_batch_tokens, pruner.importance.needs, count_padding)
        with calibrating(streaming.model):
            calibration = Calibration(
                streaming.model,
                batches,
                pruner=pruner,
                propagate=propagate,
                count_padding=count_padding,
                device=streaming.streamed.device,
                hidden=streaming.hidden,
                enter_block=streaming.streamed.enter,
            )
            streaming.start(calibration.blocks)
            for step in prune_blocks(calibration):
                reports = step.prune()
                streaming.keep(step.position, reports)
                sparsities |= {path: report.sparsity for path, report in reports.items()}
        streaming.finish()
    except BaseException:
        streaming.abandon()
        raise
    return sparsities
