"""Text files in UTF-8, read line by line and unchanged."""

from abc import abstractmethod
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlprune.data.rows import Row, Rows
from mlprune.data.unpacked import unpacked
from mlprune.errors import UserError


class FileRows(Rows):
    """Rows of a text file; only their start positions are kept in memory.

    Args:
        path: A file in UTF-8, perhaps compressed, whose lines end in line feeds; U+2028 and the like may be inside
            cells.

    Raises:
        UserError: If a row cannot be read, or there are none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")
        self._content = unpacked(path)
        with self._content.plain.open("rb") as file:
            for start, row in self._scan(file):
                self._starts.append(start)
                self._see(len(self._starts) - 1, row)
        if not self._starts or not self.names:
            raise UserError(f"{path}: there are no rows")
        self._starts.append(self._content.plain.stat().st_size)

    @abstractmethod
    def _scan(self, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
        """Yield each row's start, and what is needed to check it."""

    @abstractmethod
    def _parse(self, number: int, raw: bytes) -> Row:
        """Return a row from its position and its bytes."""

    def _see(self, number: int, row: Any) -> None:
        """Check a row when the file is opened."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        with self._content.plain.open("rb") as file:
            for position in positions:
                start = self._starts[position]
                file.seek(start)
                yield self._parse(position, file.read(self._starts[position + 1] - start))

    def _lines(self, file: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
        """Yield where each line starts and ends, and its bytes."""
        end = 0
        for line in file:
            start, end = end, end + len(line)
            if start == 0 and line.startswith(BOM_UTF8):
                start, line = len(BOM_UTF8), line.removeprefix(BOM_UTF8)
            yield start, end, line
        if end and start <= len(BOM_UTF8) and b"\r" in line.rstrip(b"\r\n"):
            raise UserError(f"{self.path}: its lines end in carriage returns alone; save it with line feeds")

    def _decode(self, raw: bytes, what: str) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: {what} is not UTF-8 ({error.reason}); save the file as UTF-8") from error


class LineRows(FileRows):
    """Lines of a text file, each the column ``text`` of a row."""

    names = ("text",)

    def _scan(self, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
        for number, (start, _, raw) in enumerate(self._lines(file)):
            yield start, self._parse(number, raw)

    def _parse(self, number: int, raw: bytes) -> Row:
        return {"text": without_line_end(self._decode(raw, f"row {number + 1}"))}


def without_line_end(text: str) -> str:
    """Return a line without its line feed, or carriage return and line feed.

    Example:
        >>> without_line_end("Un.\\r\\n")
        'Un.'
    """
    return text.removesuffix("\n").removesuffix("\r")
