"""Reading local files: text stays as it stands in them, and what cannot be read is refused by file, row and reason."""

import csv
import json
from abc import abstractmethod
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlprune.data.rows import TWICE, Columns, Row, Rows
from mlprune.errors import UserError

csv.field_size_limit(2**31 - 1)  # the module's own limit of 131,072 characters ends files of whole documents


def read_file(path: Path, kind: str | None = None, header: bool = True) -> Rows:
    """Open a local file as rows; blank lines are rows, too, so that row numbers of parallel files agree.

    Args:
        path: The file.
        kind: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or ``text`` (one line a row, column ``text``); the
            file's extension if omitted. Cells of ``tsv`` are not quoted.
        header: Whether the first line of csv and tsv names the columns; else they are named ``0``, ``1``, ...

    Raises:
        UserError: If the file cannot be read, naming file, row (1 is the first below the header) and reason.
    """
    kind = kind or path.suffix[1:].lower()
    try:
        if kind == "parquet":
            from mlprune.data.parquet import ParquetRows

            return ParquetRows(path)
        if kind in ("csv", "tsv"):
            return TableRows(path, "\t" if kind == "tsv" else ",", quoted=kind == "csv", header=header)
        return LineRows(path) if kind == "text" else JsonRows(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from error


class FileRows(Rows):
    """Rows of a text file, of which only the places where they start are kept.

    Args:
        path: A file in UTF-8, whose lines end in line feeds; U+2028 and its like stand within cells.

    Raises:
        UserError: If a row cannot be read, or there are none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")
        with path.open("rb") as file:
            for start, row in self._scan(file):
                self._starts.append(start)
                self._see(len(self._starts) - 1, row)
        if not self._starts or not self.names:
            raise UserError(f"{path}: there are no rows")
        self._starts.append(path.stat().st_size)

    @abstractmethod
    def _scan(self, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
        """Yield where each row starts, and what it is checked by."""

    @abstractmethod
    def _parse(self, number: int, raw: bytes) -> Row:
        """Return a row from its position and its bytes."""

    def _see(self, number: int, row: Any) -> None:
        """Look at a row when the file is opened."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        with self.path.open("rb") as file:
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


class JsonRows(FileRows):
    """One JSON object a line; a blank line is a row of empty cells."""

    def __init__(self, path: Path) -> None:
        self._columns = Columns()
        super().__init__(path)

        self.lacking = self._columns.lacking

    def _scan(self, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
        for number, (start, _, raw) in enumerate(self._lines(file)):
            yield start, self._object(number, raw)

    def _see(self, number: int, row: Row | None) -> None:
        if row is not None and row.keys() != self._columns.names.keys():
            self._columns.see(number, row)
            self.names = list(self._columns.names)

    def _parse(self, number: int, raw: bytes) -> Row:
        row = self._object(number, raw)
        return dict.fromkeys(self.names, "") if row is None else row

    def _object(self, number: int, raw: bytes) -> Row | None:
        """The object of a line, or None if it is blank."""
        text = self._decode(raw, f"row {number + 1}")
        if not text.strip():
            return None
        try:
            value = DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
            raise UserError(f"{self.path}: row {number + 1} is not JSON: {reason}; write one object a line") from error
        if not isinstance(value, dict):
            raise UserError(f"{self.path}: row {number + 1} is not a JSON object; write one object a line")
        return value


def _marked(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        row |= {name: TWICE for name in row if names.count(name) > 1}
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_marked)


class TableRows(FileRows):
    """Rows of a table with a separator.

    Args:
        path: The file.
        separator: What stands between cells.
        quoted: Whether cells that hold a separator, a line feed or a quotation mark stand in quotation marks.
        header: Whether the first line that is not blank names the columns.
    """

    def __init__(self, path: Path, separator: str, quoted: bool, header: bool) -> None:
        self.separator = separator
        self.quoted = quoted
        self.header = header
        self._twice: Row = {}
        super().__init__(path)

    def _scan(self, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
        names = None
        for start, cells in self._records(file):
            if names is None and any(map(str.strip, cells)):
                names = cells if self.header else [str(i) for i in range(len(cells))]
                self.names = names
                self._twice = {name: TWICE for name in names if names.count(name) > 1}
                if self.header:
                    continue
            if names is not None or not self.header:
                yield start, cells

    def _records(self, file: Iterable[bytes]) -> Iterator[tuple[int, list[str]]]:
        """Yield where each record starts, and its cells; a quoted cell may hold line feeds."""
        start, end = -1, 0

        def lines() -> Iterator[str]:
            nonlocal start, end
            for first, after, raw in self._lines(file):
                start, end = first if start < 0 else start, after
                yield self._decode(raw, self._here())

        if not self.quoted:
            for text in lines():
                yield start, without_line_end(text).split(self.separator)
                start = end
            return
        reader = csv.reader(lines(), delimiter=self.separator, strict=True)
        try:
            for cells in reader:
                yield start, cells
                start = end
        except csv.Error as error:
            raise UserError(f"{self.path}: {self._here()} is not csv: {first_line(error)}") from error

    def _here(self) -> str:
        """The record after those found so far."""
        return f"row {len(self._starts) + 1}" if self.names or not self.header else "the header"

    def _see(self, number: int, row: list[str]) -> None:
        self._cells(number, row)

    def _parse(self, number: int, raw: bytes) -> Row:
        text = self._decode(raw, f"row {number + 1}")
        if self.quoted:
            cells = next(csv.reader([text], delimiter=self.separator, strict=True))
        else:
            cells = without_line_end(text).split(self.separator)
        row = dict(zip(self.names, self._cells(number, cells), strict=True))
        return row | self._twice if self._twice else row

    def _cells(self, number: int, cells: list[str]) -> list[str]:
        """The cells of a row, as many as there are columns: of a blank line empty ones."""
        width = len(self.names)
        if len(cells) == width:
            return cells
        if len(cells) <= 1 and not "".join(cells).strip():
            return [""] * width
        if len(cells) > width and not any(cells[width:]):  # separators at the end of a line
            return cells[:width]
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        first = "the header" if self.header else "the first row"
        raise UserError(f"{self.path}: row {number + 1} has {count}, {first} has {width}")


def without_line_end(text: str) -> str:
    """Return a line without its line feed, or carriage return and line feed.

    Example:
        >>> without_line_end("Un.\\r\\n")
        'Un.'
    """
    return text.removesuffix("\n").removesuffix("\r")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text.

    Example:
        >>> first_line(ValueError("no such split\\nmore"))
        'no such split'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
