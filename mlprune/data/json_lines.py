"""Files with one JSON object per line."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlprune.data.lines import FileRows
from mlprune.data.rows import TWICE, Columns, Row
from mlprune.errors import UserError, first_line


class JsonRows(FileRows):
    """One JSON object per line; a blank line is a row of empty cells."""

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
            raise UserError(
                f"{self.path}: row {number + 1} is not JSON: {reason}; write one object per line"
            ) from error
        if not isinstance(value, dict):
            raise UserError(f"{self.path}: row {number + 1} is not a JSON object; write one object per line")
        return value


def _marked(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        row |= {name: TWICE for name in row if names.count(name) > 1}
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_marked)
