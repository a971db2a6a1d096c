"""Compressed files: what is inside, as a plain file that can be read from any place."""

import bz2
import gzip
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from weakref import WeakValueDictionary

import pyarrow as pa

from mlprune.errors import UserError, first_line


def _open_zstd(path: Path) -> IO[bytes]:
    stream: IO[bytes] = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return stream


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}


class Unpacked:
    """A file's content as a plain file, which is temporary if the file is compressed.

    Args:
        path: The file; one that ends in ``.gz``, ``.bz2``, ``.xz`` or ``.zst`` is unpacked.

    Raises:
        UserError: If it is damaged or cut short, or there is no room for its content.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with gzip.open(f"{folder}/corpus.fr.gz", "wb") as file:
        ...         _ = file.write(b"Un.")
        ...     content = Unpacked(Path(folder, "corpus.fr.gz"))
        ...     content.plain.read_bytes()
        b'Un.'
    """

    def __init__(self, path: Path) -> None:
        self.plain = path
        if (opener := OPENERS.get(path.suffix.lower())) is None:
            return
        self._content = tempfile.NamedTemporaryFile(prefix="mlprune-")  # noqa: SIM115 (removed with self)
        self.plain = Path(self._content.name)
        try:
            with opener(path) as packed:
                shutil.copyfileobj(packed, self._content, 2**20)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise UserError(f"{path}: cannot be unpacked: {first_line(error)}") from error
        self._content.flush()


_OPEN: "WeakValueDictionary[tuple[str, int, int], Unpacked]" = WeakValueDictionary()


def unpacked(path: Path) -> Unpacked:
    """Return a file's content, unpacked once as long as anything reads it.

    Raises:
        OSError: If it cannot be opened.
        UserError: As :class:`Unpacked`.
    """
    state = path.stat()
    key = (str(path.resolve()), state.st_mtime_ns, state.st_size)
    found = _OPEN.get(key)
    if found is None:
        found = _OPEN[key] = Unpacked(path)
    return found


def without_compression(name: str) -> str:
    """Return a file's name without the extension that says how it is compressed.

    Example:
        >>> without_compression("corpus.fr.GZ"), without_compression("corpus.fr")
        ('corpus.fr', 'corpus.fr')
    """
    return next((name[: -len(end)] for end in OPENERS if name.lower().endswith(end)), name)
