"""Renaming a file's columns to what tasks expect, and an id for every row."""

from collections.abc import Sequence
from typing import Any

from mlprune.data.cells import cell_of, is_blank
from mlprune.data.rows import TWICE, MappedRows, Row, Rows
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import same_language

TRANSLATION = "translation"  # the column of `datasets` that holds a text for each language


def with_columns(
    rows: Rows, columns: dict[str, str] | None, id_column: str | None, origin: str, code: str = ""
) -> Rows:
    """Rename columns, give every row an id and check that no column is missing.

    Args:
        rows: Rows of a file.
        columns: Column to the file's column, in which ``{lang}`` stands for the code; the file's names if omitted.
        id_column: The file's column of ids, which skips completely blank rows; the row's number if omitted.
        origin: The file, for messages.
        code: The language's code in the file.

    Raises:
        UserError: If a column or an id is missing or appears twice, naming file and row.

    Example:
        >>> from mlprune.data.rows import ListRows
        >>> with_columns(ListRows([{"body": "Fine."}]), {"text": "body"}, None, "reviews.csv")
        [{'id': '0', 'text': 'Fine.'}]
    """
    if columns is not None:
        columns = {ours: theirs.replace("{lang}", code) for ours, theirs in columns.items()}
    for name in [*(columns or {}).values(), *([id_column] if id_column else [])]:
        _check_column(rows, name, origin)
    ids, places = (None, None) if id_column is None else _ids(rows, id_column, origin)

    def make(position: int, row: Row) -> Row:
        row_id = str(position) if ids is None else ids[position]
        try:
            if columns is None:
                return {"id": row_id, **own_columns(row, code)}
            return {"id": row_id, **{ours: _translated(row, theirs, code) for ours, theirs in columns.items()}}
        except UserError as error:
            number = position if places is None else places[position]
            raise UserError(f"{origin}: row {number + 1}: {error}") from error

    named = MappedRows(rows, make, places)
    if rows:
        named[0]  # report problems of every row at once
    return named


def own_columns(row: Row, code: str) -> Row:
    """Return a row's columns, and its text if a column of translations has it."""
    cells = {name: cell for name, cell in row.items() if name != "id"}
    if isinstance(row.get(TRANSLATION), dict) and "text" not in row:
        cells["text"] = _translated(row, TRANSLATION, code)
    return cells


def _translated(row: Row, name: str, code: str) -> Any:
    cell = cell_of(row, name)
    if name != TRANSLATION or not isinstance(cell, dict):
        return cell
    if code in cell:
        return cell[code]
    found = same_language(code, map(str, cell))
    if not found:
        raise UserError(f"{TRANSLATION} has no '{code}'; it has {', '.join(map(str, cell))}")
    if len(found) > 1:
        raise UserError(f"{TRANSLATION} has {' and '.join(found)} for '{code}'; choose one with language_codes")
    return cell[found[0]]


def _check_column(rows: Rows, name: str, origin: str) -> None:
    if name not in rows.names:
        hint = did_you_mean(name, rows.names)
        raise UserError(f"{origin}: no column '{name}'; it has {', '.join(rows.names)}{hint}")
    if name in rows.lacking:
        raise UserError(f"{origin}: row {rows.lacking[name] + 1} has no column '{name}'")


def _ids(rows: Rows, column: str, origin: str) -> tuple[Sequence[str], Sequence[int]]:
    """Return the ids and the positions of their rows."""
    places: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row[column] is TWICE:
            raise UserError(f"{origin}: two columns are named '{column}'; rename one")
        if is_blank(row[column]):
            if all(map(is_blank, row.values())):
                continue
            raise UserError(f"{origin}: row {number + 1} has no value in column '{column}'")
        row_id = str(row[column])
        if row_id in places:
            raise UserError(f"{origin}: rows {places[row_id] + 1} and {number + 1} have the same id '{row_id}'")
        places[row_id] = number
    return list(places), list(places.values())
