"""Tables with separators between cells: csv and tsv."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlprune.data.lines import FileRows, without_line_end
from mlprune.data.rows import TWICE, Row
from mlprune.errors import UserError, first_line

csv.field_size_limit(2**31 - 1)  # the default limit of 131,072 characters is too low for whole documents


class TableRows(FileRows):
    """Rows of a table with a separator.

    Args:
        path: The file.
        separator: The character between cells.
        quoted: Whether cells with a separator, a line feed or a quotation mark are quoted.
        header: Whether the first nonblank line names the columns.
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
        """Yield each record's start and its cells; a quoted cell may contain line feeds."""
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
        """The record that cannot be parsed, for messages."""
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
        """The cells of a row, one per column; empty ones for a blank line."""
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
