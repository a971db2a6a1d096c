"""Writing a checkpoint of which only parts of some tensors are left, tensor by tensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.models.conversion import Conversion
from mlprune.models.folder import read_object, weights_file, write_index
from mlprune.models.shards import Entry, ShardReader, ShardWriter

Cut = tuple[int, Tensor]  # a dimension, and the places along it that stay
Layout = dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]]


@dataclass(frozen=True)
class Cuts:
    """What a smaller checkpoint has in place of the original's tensors.

    Args:
        parts: Tensor to the parts of it that stay.
        added: Tensor to what is added to the values that stay, in their shape.
        new: Name of a tensor that the original lacks, to the file it goes into and its values.
    """

    parts: Mapping[str, Sequence[Cut]] = field(default_factory=dict)
    added: Mapping[str, Tensor] = field(default_factory=dict)
    new: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)

    def shape(self, name: str, entry: Entry) -> tuple[int, ...]:
        """Return a tensor's shape in the smaller checkpoint."""
        shape = list(entry.shape)
        for dim, index in self.parts.get(name, ()):
            shape[dim] = len(index)
        return tuple(shape)

    def sizes(self, reader: ShardReader) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return parameters and bytes, each before and after."""
        entries = reader.entries.items()
        before = [(math.prod(entry.shape), entry.dtype.itemsize) for _, entry in entries]
        after = [(math.prod(self.shape(name, entry)), entry.dtype.itemsize) for name, entry in entries]
        after += [(tensor.numel(), tensor.itemsize) for _, tensor in self.new.values()]
        (parameters, num_bytes), (parameters_after, bytes_after) = map(_totals, (before, after))
        return (parameters, parameters_after), (num_bytes, bytes_after)

    def write(self, reader: ShardReader, folder: Path) -> None:
        """Write the smaller shards; never more than one tensor is in memory.

        Args:
            reader: The original's tensors.
            folder: An existing folder.

        Raises:
            UserError: If a file cannot be read or written.
        """
        layout: Layout = {file: {} for file in reader.files}
        for name, entry in reader.entries.items():
            layout[entry.file][name] = (entry.dtype, self.shape(name, entry))
        for name, (file, tensor) in self.new.items():
            layout[file][name] = (tensor.dtype, tuple(tensor.shape))
        with ShardWriter(folder, layout, reader.metadata) as writer:
            for name in reader.entries:
                if name in self.parts or name in self.added:
                    writer.write(name, self._tensor(reader, name))
                else:
                    writer.copy(name, reader)
            for name, (_, tensor) in self.new.items():
                writer.write(name, tensor)
        if (index := weights_file(reader.folder)).endswith(".index.json"):
            places = {name: file for file, tensors in layout.items() for name in tensors}
            metadata = dict(read_object(reader.folder / index).get("metadata") or {})
            metadata.pop("total_parameters", None)  # of the original
            write_index(folder / index, places, writer.bytes_written, metadata)

    def _tensor(self, reader: ShardReader, name: str) -> Tensor:
        tensor = reader.read(name)
        for dim, index in self.parts.get(name, ()):
            tensor = tensor.index_select(dim, index)
        if name in self.added:
            tensor = tensor.double() + self.added[name].double()
        return tensor


def _totals(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Numbers and bytes of tensors, given the numbers of each and the bytes of one."""
    return sum(count for count, _ in sizes), sum(count * size for count, size in sizes)


def stored_name(conversion: Conversion, name: str) -> str:
    """Return the name of the one tensor that a parameter is stored as.

    Args:
        conversion: From the checkpoint to the model.
        name: The parameter.

    Raises:
        UserError: If it is stored as several.
    """
    keys = conversion.keys(name)
    if len(keys) != 1:
        raise UserError(f"'{name}' is stored as {len(keys)} tensors of the checkpoint; its widths stay")
    return keys[0]
