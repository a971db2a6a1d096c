"""Reading and writing safetensors shards one tensor at a time, without ever holding a whole file.

The format: 8 bytes with the header's length, a JSON header (name to dtype, shape, offsets), then the data.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from mlprune.errors import UserError
from mlprune.files import writing

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
COPY_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Entry:
    """Where a tensor is: file, dtype, shape and the bytes it takes there."""

    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata.

    Raises:
        UserError: If the file is no safetensors file, or holds a dtype that cannot be read here.
    """
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        if size > path.stat().st_size:
            raise UserError(f"'{path}' is not a complete safetensors file")
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    entries = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            allowed = ", ".join(DTYPES)
            raise UserError(f"'{path}': dtype {entry['dtype']} of {name} cannot be read; it may be {allowed}")
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        entries[name] = Entry(path.name, DTYPES[entry["dtype"]], tuple(entry["shape"]), start, end)
    return entries, metadata


class ShardReader:
    """The tensors of a checkpoint folder, read one at a time.

    Args:
        folder: A folder with ``model.safetensors`` or an index of shards.

    Raises:
        UserError: If the folder has neither.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / INDEX).is_file():
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self.files = sorted(set(index["weight_map"].values()))
        elif (folder / SINGLE).is_file():
            self.files = [SINGLE]
        else:
            raise UserError(f"'{folder}' has neither {SINGLE} nor {INDEX}; streaming reads safetensors only")
        self.entries: dict[str, Entry] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        for file in self.files:
            entries, self.metadata[file] = read_header(folder / file)
            self.entries |= entries
        self.bytes_read = 0

    def read(self, name: str) -> Tensor:
        """Return a tensor in memory of its own."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        if tensor.numel():
            target = memoryview(tensor.view(-1).view(torch.uint8).numpy())
            with (self.folder / entry.file).open("rb", buffering=0) as file:
                file.seek(entry.start)
                done = 0
                while done < len(target):
                    done += file.readinto(target[done : done + 2**30]) or _truncated(self.folder / entry.file)
        self.bytes_read += entry.end - entry.start
        return tensor


def _truncated(path: Path) -> int:
    raise UserError(f"'{path}' ends before its last tensor; download it again")


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
        self._put(file, offset, memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b""))
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
                chunk = source.read(min(left, COPY_BYTES)) or bytes(_truncated(reader.folder / entry.file))
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
