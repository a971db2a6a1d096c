"""A checkpoint whose model is split over processes: read, trained and written a block at a time."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from mlprune.models.checkpoint import Checkpoint
from mlprune.models.sharding import Sharded
from mlprune.models.split import SplitModel
from mlprune.models.streamed import StreamedModel


class SplitCheckpoint:
    """A checkpoint's model, no block of which is whole on a process that does not need it. Every process makes one.

    Args:
        checkpoint: The checkpoint.
        dtype: ``auto`` (as config.json says) or a torch dtype's name.
        device: Where this process computes.
        timeout: How long a process waits for the others; PyTorch's default if omitted.

    Raises:
        UserError: If the checkpoint cannot be read block by block.
    """

    def __init__(
        self, checkpoint: Checkpoint, dtype: str, device: torch.device, timeout: timedelta | None = None
    ) -> None:
        self._streamed = StreamedModel(checkpoint, None, dtype, device)
        self._device, self._timeout = device, timeout
        self.split = SplitModel(self._streamed.model, device, self._streamed.enter, timeout)
        self._streamed.read_rest()

    @property
    def model(self) -> PreTrainedModel:
        """The model."""
        return self._streamed.model

    def save(self, target: Path, describe: Callable[[Path], None], writes: bool) -> None:
        """Write the model as it is now, in the shards of its checkpoint; all or nothing. A collective.

        Args:
            target: Folder, which appears only when complete.
            describe: Writes what is to be in it besides weights.
            writes: Whether this process writes.

        Raises:
            UserError: If the folder exists, cannot be written, or the disk has too little room.
        """
        if writes:
            self._streamed.open(target)
        try:
            for position in range(len(self.split.blocks)):
                self.split.enter(position)
                self._streamed.write(position)
            self.split.leave()
            self._streamed.write_rest()
            if writes:
                self._streamed.finish(describe)
        except BaseException:
            self._streamed.abandon()
            raise

    def shard(self, mesh: DeviceMesh) -> Sharded:
        """Split all weights the way they are trained, until :meth:`resume`. A collective.

        Args:
            mesh: The processes.
        """
        self.split.close()
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return Sharded(self.model, mesh, self.split.take)

    def join(self) -> PreTrainedModel:
        """Make the model whole on every process, until :meth:`resume`. A collective."""
        self.split.close()
        for position in range(len(self.split.blocks)):
            self.split.take(position)
        return self.model.requires_grad_()

    def resume(self, model: PreTrainedModel, fill: Callable[[int], None] | None = None) -> None:
        """Go on with a model that was trained. A collective.

        Args:
            model: A plain model of the same structure, on the CPU or on this process' device.
            fill: As for :class:`mlprune.models.split.SplitModel`.
        """
        for tensor in (*model.parameters(), *model.buffers()):
            if not tensor.is_meta:
                tensor.data = tensor.data.to(self._device)
        self.split = SplitModel(model, self._device, fill, self._timeout)
        self._streamed.use(model)
