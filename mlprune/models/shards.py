"""Reading and writing safetensors shards one tensor at a time, without ever holding a whole file.

The format: 8 bytes with the header's length, a JSON header (name to dtype, shape, offsets), then the data.
"""

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.files import writing
from mlprune.models.folder import refuse_placeholder, shard_files

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
COPY_BYTES = 16 * 2**20
MAX_HEADER_BYTES = 100_000_000  # as safetensors itself has it


@dataclass(frozen=True)
class Entry:
    """Where a tensor is: file, dtype, shape and the bytes it takes there."""

    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor holds neither NaN nor infinities, in most cases by its sum alone.

    Example:
        >>> is_finite(torch.tensor([1.0, 2.0])), is_finite(torch.tensor([1.0, float("nan")]))
        (True, False)
    """
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata.

    Args:
        path: The file; only its header is read.

    Raises:
        UserError: If the file is not a complete safetensors file, or holds a dtype that cannot be read here.
    """
    refuse_placeholder(path)
    with path.open("rb") as file:
        length = path.stat().st_size
        size = int.from_bytes(file.read(8), "little") if length >= 8 else 0
        if not 0 < size <= min(length - 8, MAX_HEADER_BYTES):
            raise UserError(f"'{path}' is not a complete safetensors file ({length} bytes); download it again")
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata does not map strings to strings")
    entries = {name: _entry(path, name, entry, 8 + size) for name, entry in header.items()}
    _check_layout(path, entries, 8 + size, length)
    return entries, metadata


def _entry(path: Path, name: str, entry: Any, data: int) -> Entry:
    """Where a tensor is; its shape and offsets must be integers of at least 0 that match."""
    try:
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, end]
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(path, f"{name!r:.80} has no dtype, shape and data_offsets") from error
    if not isinstance(kind, str) or kind not in DTYPES:
        raise UserError(f"'{path}': dtype {kind!s:.20} of {name:.80} cannot be read; it may be {', '.join(DTYPES)}")
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise _damaged(path, f"{name!r:.80} has a shape or offsets that are not integers")
    if end - start != math.prod(shape) * DTYPES[kind].itemsize:
        raise _damaged(path, f"{name!r:.80} has offsets that do not fit its shape")
    return Entry(path.name, DTYPES[kind], tuple(shape), data + start, data + end)


def _check_layout(path: Path, entries: Mapping[str, Entry], start: int, length: int) -> None:
    """Tensors follow one another without a gap, from the header to the end of the file."""
    place = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place:
            raise _damaged(path, f"{name!r:.80} overlaps another tensor or leaves a gap")
        place = entry.end
    if place > length:
        raise _truncated(path)
    if place < length:
        raise _damaged(path, f"it has {length - place} trailing bytes")


class ShardReader:
    """The tensors of a checkpoint folder, read one at a time.

    Args:
        folder: A folder with ``model.safetensors`` or an index of shards.
        files: Names of the files to read, in place of these.

    Raises:
        UserError: If the folder has neither, or a file of it is damaged.
    """

    def __init__(self, folder: Path, files: Sequence[str] | None = None) -> None:
        self.folder = folder
        self.files = shard_files(folder) if files is None else list(files)
        self.entries: dict[str, Entry] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        for file in self.files:
            entries, self.metadata[file] = read_header(folder / file)
            for name in entries.keys() & self.entries.keys():
                raise UserError(f"'{folder}': {name!r:.80} is in '{self.entries[name].file}' and in '{file}'")
            self.entries |= entries
        self.bytes_read = 0

    def rename(self, names: Mapping[str, str]) -> None:
        """Give tensors other names.

        Args:
            names: Every tensor's name to its new one.
        """
        self.entries = {names[name]: entry for name, entry in self.entries.items()}

    def selected(self, names: Mapping[str, str]) -> "ShardReader":
        """Return a reader of some of the tensors only, under new names.

        Args:
            names: Name of each of them to its new one.
        """
        found = copy(self)
        found.entries = {new: self.entries[old] for old, new in names.items()}
        found.files = [file for file in self.files if any(entry.file == file for entry in found.entries.values())]
        return found

    def equal(self, name: str, other: str) -> bool:
        """Tell whether two tensors hold the same, comparing their bytes piece by piece."""
        first, second = self.entries[name], self.entries[other]
        if (first.dtype, first.shape) != (second.dtype, second.shape):
            return False
        with (self.folder / first.file).open("rb") as one, (self.folder / second.file).open("rb") as two:
            one.seek(first.start)
            two.seek(second.start)
            for start in range(0, first.end - first.start, COPY_BYTES):
                size = min(COPY_BYTES, first.end - first.start - start)
                if one.read(size) != two.read(size):
                    return False
        return True

    def is_finite(self, name: str, dtype: torch.dtype) -> bool:
        """Tell whether a tensor holds only finite numbers in a dtype, looking at it piece by piece."""
        entry = self.entries[name]
        with (self.folder / entry.file).open("rb") as file:
            file.seek(entry.start)
            for start in range(entry.start, entry.end, COPY_BYTES):
                piece = bytearray(file.read(min(COPY_BYTES, entry.end - start)))
                if not is_finite(torch.frombuffer(piece, dtype=entry.dtype).to(dtype)):
                    return False
        return True

    def read(self, name: str) -> Tensor:
        """Return a copy of a tensor."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        if tensor.numel():
            target = tensor.view(-1).view(torch.uint8).numpy().data
            with (self.folder / entry.file).open("rb", buffering=0) as file:
                file.seek(entry.start)
                done = 0
                while done < len(target):
                    if not (count := file.readinto(target[done : done + 2**30])):
                        raise _truncated(self.folder / entry.file)
                    done += count
        self.bytes_read += entry.end - entry.start
        return tensor


def _truncated(path: Path) -> UserError:
    return UserError(f"'{path}' ends before its last tensor; download it again")


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"'{path}' is damaged: {reason}; download it again")


class ShardWriter:
    """Safetensors files of a given layout whose tensors are written in any order, each once.

    Args:
        folder: Where the files go; it exists.
        layout: File name to (tensor name to (dtype, shape)).
        metadata: File name to its header's metadata.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import load_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ShardWriter(Path(folder), {"a.safetensors": {"x": (torch.float32, (2,))}}) as writer:
        ...         writer.write("x", torch.tensor([1.0, 2.0]))
        ...     load_file(f"{folder}/a.safetensors")
        {'x': tensor([1., 2.])}
    """

    def __init__(
        self,
        folder: Path,
        layout: Mapping[str, Mapping[str, tuple[torch.dtype, tuple[int, ...]]]],
        metadata: Mapping[str, dict[str, str]] | None = None,
    ) -> None:
        self.places: dict[str, tuple[str, int, torch.dtype]] = {}
        self.missing: set[str] = set()
        self.bytes_written = 0
        self._files = {}
        for file, tensors in layout.items():
            header: dict[str, object] = {"__metadata__": (metadata or {}).get(file) or {"format": "pt"}}
            offset = 0
            for name, (dtype, shape) in tensors.items():
                size = dtype.itemsize * torch.Size(shape).numel()
                header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
                self.places[name] = (file, offset, dtype)
                offset += size
            text = json.dumps(header, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)  # tensors start aligned
            with writing(folder / file):
                handle = (folder / file).open("w+b", buffering=0)
                handle.write(struct.pack("<Q", len(text)) + text)
                handle.truncate(8 + len(text) + offset)
            self._files[file] = (handle, 8 + len(text))
            self.missing |= set(tensors)

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor, in the dtype of the layout."""
        file, offset, dtype = self.places[name]
        flat = tensor.detach().to("cpu", dtype).contiguous().view(-1)
        self._put(file, offset, flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b""))
        self.missing.discard(name)

    def copy(self, name: str, reader: ShardReader) -> None:
        """Write a tensor of a checkpoint without holding more of it than a few MiB (all of it if the dtype differs)."""
        entry = reader.entries[name]
        file, offset, dtype = self.places[name]
        if dtype != entry.dtype:
            self.write(name, reader.read(name))
            return
        with (reader.folder / entry.file).open("rb", buffering=0) as source:
            source.seek(entry.start)
            left = entry.end - entry.start
            while left:
                if not (chunk := source.read(min(left, COPY_BYTES))):
                    raise _truncated(reader.folder / entry.file)
                self._put(file, offset + entry.end - entry.start - left, memoryview(chunk))
                left -= len(chunk)
        reader.bytes_read += entry.end - entry.start
        self.missing.discard(name)

    def _put(self, file: str, offset: int, data: memoryview) -> None:
        handle, start = self._files[file]
        done = 0
        with writing(handle.name):
            while done < len(data):
                done += os.pwrite(handle.fileno(), data[done : done + 2**30], start + offset + done)
        self.bytes_written += len(data)

    def close(self) -> None:
        """Close the files."""
        for handle, _ in self._files.values():
            handle.close()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
