"""The base of every corpus: rows of text by language."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, cast, get_args

from mlprune.data.cells import text_of
from mlprune.data.rows import Row
from mlprune.errors import UserError

Blank = Literal["leave_out", "error"]


class Corpus(ABC):
    """Rows of text by language."""

    numbered = False  # whether ids are row numbers, from 0
    blank: Blank = "leave_out"  # what to do with a row that has a blank cell in a used column

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """Identifies the corpus' rows: equal identities mean the same rows."""

    @abstractmethod
    def rows(self, lang: str) -> Sequence[Row]:
        """Return the rows of a language, in the order of the corpus, each with a unique ``id`` (str).

        Blank rows stay in place, so that numbered rows of two languages stay aligned.

        Args:
            lang: ISO 639-1 code.

        Raises:
            UserError: If the language or the data is missing, with what to do.
        """

    def sentences(self, lang: str) -> Sequence[Row]:
        """Return the rows of a language, which must have a column ``text``.

        Raises:
            UserError: As :meth:`rows`, and if the column is missing or holds something else than text, or null.
        """
        rows = self.rows(lang)
        for row in rows:
            try:
                _ = row.get("text", "") is None or text_of(row, "text")
            except UserError as error:
                raise UserError(f"{self.where(lang, row['id'])}: {error}") from error
        return rows

    def origin(self, lang: str) -> str:
        """Describe where the rows of a language come from."""
        return "the corpus"

    def hub_id(self, lang: str) -> str | None:
        """Return the id of the data set on the hub that a language's rows come from; None for other data."""
        return None

    def where(self, lang: str, row_id: str) -> str:
        """Describe the row with an id; rows are counted from 1."""
        row = f"row {int(row_id) + 1}" if self.numbered else f"row with id '{row_id}'"
        return f"{row} of {self.origin(lang)}"

    @abstractmethod
    def check(self, lang: str) -> None:
        """Raise UserError if ``rows(lang)`` cannot work, without reading the data."""


def checked_blank(value: str) -> Blank:
    """Return the setting ``blank``.

    Raises:
        UserError: If it is neither ``leave_out`` nor ``error``.

    Example:
        >>> checked_blank("error")
        'error'
    """
    if value not in get_args(Blank):
        raise UserError(f"blank '{value}' is not allowed; give {' or '.join(get_args(Blank))}")
    return cast(Blank, value)
