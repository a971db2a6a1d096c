"""Sparse weights as they are: a bit for each weight, and the values that are not zero.

File format: safetensors named ``*.bitmask.safetensors``. A tensor that is smaller this way is two: ``<name>.mask``,
``numpy.packbits(values != 0, bitorder="little")`` over its entries in order, and ``<name>.values``, those whose bits
are not all zero, in its own dtype. Any other tensor is stored as it is. The header's metadata has JSON: ``shapes``, and
``metadata``, those of the original file; and ``index``, the name of the file that says what is where.
"""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.files import whole_folder
from mlprune.models.folder import copy_rest, is_plain, weights_file, write_index
from mlprune.models.loading import ModelSource
from mlprune.models.saving import check_disk
from mlprune.models.shards import Entry, ShardReader, ShardWriter

ENDING = ".bitmask.safetensors"
WIDTHS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
REMEDY = "choose a folder on another disk"
Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclass(frozen=True)
class Sizes:
    """How large a checkpoint and its archive are.

    Args:
        num_bytes: Of the checkpoint's weights.
        num_compressed: Of the archive's.
        num_weights: Entries of the tensors that were compressed.
        num_nonzero: Those that are not zero.
    """

    num_bytes: int
    num_compressed: int
    num_weights: int
    num_nonzero: int


def _bits(tensor: Tensor) -> Tensor:
    """Entries as integers, so that minus zero is not taken for zero."""
    return tensor.contiguous().view(-1).view(WIDTHS[tensor.dtype.itemsize])


def pack(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a bit for each entry, packed, and the values whose bits are not all zero.

    Example:
        >>> mask, values = pack(torch.tensor([[0.0, 3.0], [0.0, -0.0]]))
        >>> mask.tolist(), values.tolist()
        ([10], [3.0, -0.0])
    """
    bits = _bits(tensor)
    mask = bits != 0
    return torch.from_numpy(np.packbits(mask.numpy(), bitorder="little")), bits[mask].view(tensor.dtype)


def unpack(mask: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor that :func:`pack` was given.

    Example:
        >>> unpack(*pack(torch.tensor([[0.0, 3.0]])), (1, 2))
        tensor([[0., 3.]])
    """
    width, count = WIDTHS[values.dtype.itemsize], math.prod(shape)
    bits = torch.zeros(count, dtype=width)
    kept = torch.from_numpy(np.unpackbits(mask.numpy(), count=count, bitorder="little").astype(bool))
    bits[kept] = values.view(width)
    return bits.view(values.dtype).view(shape)


def compress(source: str | Path, target: str | Path) -> Sizes:
    """Write a checkpoint as an archive, tensor by tensor.

    Args:
        source: Folder of a model.
        target: New folder; it appears only when complete.

    Raises:
        UserError: If the source holds no safetensors, or the target exists.
    """
    source = Path(source)
    reader = ShardReader(source)
    sizes = {name: _packed_size(reader.read(name)) for name in reader.entries}
    packed = {name: nonzero for name, nonzero in sizes.items() if _is_worth_it(reader.entries[name], nonzero)}
    layouts = {f"{file.removesuffix('.safetensors')}{ENDING}": _layout(reader, file, packed) for file in reader.files}
    total = sum(_num_bytes(layout) for layout in layouts.values())
    check_disk(Path(target).parent, total, REMEDY)
    with whole_folder(target) as partial:
        metadata = {
            archive: _metadata(reader, file, packed) for archive, file in zip(layouts, reader.files, strict=True)
        }
        with ShardWriter(partial, layouts, metadata) as writer:
            for name in reader.entries:
                if name in packed:
                    mask, values = pack(reader.read(name))
                    writer.write(f"{name}.mask", mask)
                    writer.write(f"{name}.values", values)
                else:
                    writer.copy(name, reader)
        copy_rest(source, partial)
    weights = sum(math.prod(reader.entries[name].shape) for name in packed)
    whole = sum(entry.end - entry.start for entry in reader.entries.values())
    return Sizes(whole, total, weights, sum(packed.values()))


def _packed_size(tensor: Tensor) -> int:
    return int((_bits(tensor) != 0).sum())


def _is_worth_it(entry: Entry, nonzero: int) -> bool:
    count = math.prod(entry.shape)
    return nonzero * entry.dtype.itemsize + _mask_bytes(entry.shape) < count * entry.dtype.itemsize


def _layout(reader: ShardReader, file: str, packed: dict[str, int]) -> Layout:
    found: Layout = {}
    for name, entry in reader.entries.items():
        if entry.file != file:
            continue
        if name in packed:
            found[f"{name}.mask"] = (torch.uint8, (_mask_bytes(entry.shape),))
            found[f"{name}.values"] = (entry.dtype, (packed[name],))
        else:
            found[name] = (entry.dtype, entry.shape)
    return found


def _num_bytes(layout: Layout) -> int:
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())


def _metadata(reader: ShardReader, file: str, packed: dict[str, int]) -> dict[str, str]:
    shapes = {
        name: list(entry.shape) for name, entry in reader.entries.items() if entry.file == file and name in packed
    }
    return {
        "shapes": json.dumps(shapes),
        "metadata": json.dumps(reader.metadata[file]),
        "index": weights_file(reader.folder),
    }


def restore(archive: str | Path, target: str | Path) -> None:
    """Write an archive as the checkpoint that it was made of, every tensor to the bit.

    Args:
        archive: Folder that :func:`compress` wrote.
        target: New folder; it appears only when complete.

    Raises:
        UserError: If it is no archive or is damaged, or the target exists.
    """
    archive = Path(archive)
    files = sorted(path.name for path in archive.glob(f"*{ENDING}")) if archive.is_dir() else []
    if not files:
        raise UserError(f"'{archive}' holds no *{ENDING}; give a folder that `mlprune compress` wrote")
    reader = ShardReader(archive, files)
    shapes = _shapes(reader)
    layouts = {_plain_name(file): _plain_layout(reader, file, shapes) for file in files}
    check_disk(Path(target).parent, sum(map(_num_bytes, layouts.values())), REMEDY)
    metadata = {_plain_name(file): json.loads(reader.metadata[file]["metadata"]) for file in files}
    with whole_folder(target) as partial:
        with ShardWriter(partial, layouts, metadata) as writer:
            for name in (name for layout in layouts.values() for name in layout):
                if name in shapes:
                    writer.write(name, _restored(reader, name, shapes[name]))
                else:
                    writer.copy(name, reader)
        index = reader.metadata[files[0]]["index"]
        if is_plain(index) and index.endswith(".index.json"):
            places = {name: file for file, layout in layouts.items() for name in layout}
            write_index(partial / index, places, writer.bytes_written)
        copy_rest(archive, partial)


def _plain_name(file: str) -> str:
    return f"{file.removesuffix(ENDING)}.safetensors"


def _shapes(reader: ShardReader) -> dict[str, tuple[int, ...]]:
    """Shapes of the compressed tensors, which the headers' metadata have.

    Raises:
        UserError: If a header has no such metadata, or they do not fit its tensors.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file, metadata in reader.metadata.items():
        try:
            shapes = {name: tuple(map(int, shape)) for name, shape in json.loads(metadata["shapes"]).items()}
            fits = [reader.entries[f"{name}.mask"].shape == (_mask_bytes(shape),) for name, shape in shapes.items()]
            _ = [reader.entries[f"{name}.values"] for name in shapes], metadata["index"]
            _ = dict(json.loads(metadata["metadata"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise _damaged(reader, file) from error
        if not all(fits):
            raise _damaged(reader, file)
        found |= shapes
    return found


def _damaged(reader: ShardReader, file: str) -> UserError:
    return UserError(f"'{reader.folder / file}' is no archive that `mlprune compress` wrote, or it is damaged")


def _mask_bytes(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // 8)


def _plain_layout(reader: ShardReader, file: str, shapes: dict[str, tuple[int, ...]]) -> Layout:
    found: Layout = {}
    for name, entry in reader.entries.items():
        base, _, part = name.rpartition(".")
        if entry.file != file or (part == "mask" and base in shapes):
            continue
        if part == "values" and base in shapes:
            found[base] = (entry.dtype, shapes[base])
        else:
            found[name] = (entry.dtype, entry.shape)
    return found


def _restored(reader: ShardReader, name: str, shape: tuple[int, ...]) -> Tensor:
    mask, values = reader.read(f"{name}.mask"), reader.read(f"{name}.values")
    if int(np.unpackbits(mask.numpy()).sum()) != len(values):
        raise _damaged(reader, reader.entries[f"{name}.mask"].file)
    return unpack(mask, values, shape)


def load_compressed(archive: str | Path, dtype: str = "auto") -> PreTrainedModel:
    """Load a model from an archive, on the CPU, in evaluation mode; its weights are those of the checkpoint to the bit.

    The checkpoint is restored among the temporary files first.

    Args:
        archive: Folder that ``mlprune compress`` wrote.
        dtype: ``auto`` (as stored), ``float32``, ``bfloat16``, ``float16`` or ``float64``.

    Raises:
        UserError: If it is no archive, is damaged, or cannot be loaded.

    Example:
        >>> load_compressed("nowhere")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: 'nowhere' holds no *.bitmask.safetensors; give a folder that `mlprune compress` wrote
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        restore(archive, folder)
        model = ModelSource(str(folder), dtype).load_model()
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()  # read from the file now, before it is removed
    model.config.name_or_path = str(archive)
    return model
