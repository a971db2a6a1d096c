"""Cells of rows: unchanged text, labels as text, and a test for blanks."""

import math
from typing import Any

from mlprune.data.rows import TWICE, Row
from mlprune.errors import UserError

SHOWN = 60  # characters of a cell that a message shows


def is_blank(cell: Any) -> bool:
    """Return whether a cell is null, empty or only white space.

    Example:
        >>> is_blank(None), is_blank(" "), is_blank(0)
        (True, True, False)
    """
    return cell is None or (isinstance(cell, str) and not cell.strip())


def cell_of(row: Row, column: str) -> Any:
    """Return a row's cell.

    Raises:
        UserError: If the row has no such column, or two of them.

    Example:
        >>> cell_of({"text": "Oui."}, "text")
        'Oui.'
    """
    if column not in row:
        raise UserError(f"the corpus has no column '{column}'; it has {', '.join(map(str, row))}")
    if row[column] is TWICE:
        raise UserError(f"two columns are named '{column}'; rename one")
    return row[column]


def text_of(row: Row, column: str) -> str:
    """Return a cell that must hold text, unchanged.

    Raises:
        UserError: If it holds anything else, such as a number or a list, or an unpaired surrogate.

    Example:
        >>> text_of({"year": 1984}, "year")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: year is 1984; quote it as text
    """
    return as_text(cell_of(row, column), column)


def as_text(cell: Any, column: str) -> str:
    """Return a cell, or part of one, that must be text.

    Example:
        >>> as_text("Oui.", "text")
        'Oui.'
    """
    if not isinstance(cell, str):
        advice = "give text" if isinstance(cell, dict | list) else "quote it as text"
        raise UserError(f"{column} is {repr(cell)[:SHOWN]}; {advice}")
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{column} holds an unpaired surrogate at character {error.start + 1}") from error
    return cell


def label_of(row: Row, column: str) -> str:
    """Return a label as text; it may be a number.

    Raises:
        UserError: If it is not a label.

    Example:
        >>> label_of({"stars": 5}, "stars")
        '5'
    """
    cell = cell_of(row, column)
    if not isinstance(cell, str | int | float) or (isinstance(cell, float) and not math.isfinite(cell)):
        raise UserError(f"{column} is {repr(cell)[:SHOWN]}; give a label")
    return str(cell)
