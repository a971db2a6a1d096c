"""Rows of a file, parsed on access, so that using a few of a million costs little."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

Row = dict[str, Any]


class Twice:
    """Placeholder for the cell of a column whose name is not unique."""

    def __repr__(self) -> str:
        return "two columns of one name"


TWICE = Twice()


class Rows(Sequence[Row]):
    """A sequence of rows that need not be in memory; equal to any sequence of the same rows.

    Example:
        >>> rows = ListRows([{"text": "Un."}, {"text": "Deux."}])
        >>> rows[-1], len(rows), rows == [{"text": "Un."}, {"text": "Deux."}]
        ({'text': 'Deux.'}, 2, True)
    """

    names: Sequence[str] = ()  # of every column
    lacking: Mapping[str, int] = {}  # column that some rows lack, to the position of the first such row

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        """Yield the rows at ascending positions."""

    def take(self, positions: Sequence[int]) -> list[Row]:
        """Return the rows at some positions, in the order given."""
        ascending = sorted(set(positions))
        found = dict(zip(ascending, self.read(ascending), strict=True))
        return [found[position] for position in positions]

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        chosen = range(len(self))[index]
        return self.take(chosen) if isinstance(chosen, range) else self.take([chosen])[0]

    def __iter__(self) -> Iterator[Row]:
        return self.read(range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


class ListRows(Rows):
    """Rows in memory."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        columns = Columns()
        for number, row in enumerate(rows):
            columns.see(number, row)
        self.names, self.lacking = list(columns.names), columns.lacking

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        return (self._rows[position] for position in positions)


class Columns:
    """Collects which columns rows have, and which of them some rows lack.

    Example:
        >>> columns = Columns()
        >>> columns.see(0, {"text": "a"})
        >>> columns.see(1, {"text": "b", "note": 1})
        >>> list(columns.names), columns.lacking
        (['text', 'note'], {'note': 0})
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.lacking: dict[str, int] = {}
        self._first: int | None = None

    def see(self, number: int, row: Row) -> None:
        """Add a row by its position."""
        if row.keys() == self.names.keys():
            return
        if self._first is None:
            self._first = number
        else:
            self.lacking |= dict.fromkeys(row.keys() - self.names.keys(), self._first)
        self.names |= dict.fromkeys(row)
        for name in self.names.keys() - row.keys():
            self.lacking.setdefault(name, number)


class MappedRows(Rows):
    """Rows computed from all or chosen rows of another sequence.

    Args:
        source: Where they come from.
        make: Makes a row from its position and the source's row.
        places: Positions in the source; all if omitted.
    """

    def __init__(self, source: Rows, make: Callable[[int, Row], Row], places: Sequence[int] | None = None) -> None:
        self._source = source
        self._make = make
        self._places = range(len(source)) if places is None else places
        self.names, self.lacking = source.names, source.lacking

    def __len__(self) -> int:
        return len(self._places)

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        chosen = positions if isinstance(positions, range) else list(positions)
        rows = self._source.read(self._places[position] for position in chosen)
        return (self._make(position, row) for position, row in zip(chosen, rows, strict=True))


class ChainedRows(Rows):
    """Ranges of several sequences, concatenated.

    Args:
        parts: Sequences, each with the range to use.
    """

    def __init__(self, parts: Sequence[tuple[Rows, range]]) -> None:
        self._parts = parts
        self.names = list(dict.fromkeys(name for rows, _ in parts for name in rows.names))
        self.lacking = {name: first for rows, _ in reversed(parts) for name, first in rows.lacking.items()}

    def __len__(self) -> int:
        return sum(len(stretch) for _, stretch in self._parts)

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        chosen, start = list(positions), 0
        for rows, stretch in self._parts:
            inside = [stretch[position - start] for position in chosen if start <= position < start + len(stretch)]
            yield from rows.read(inside)
            start += len(stretch)
