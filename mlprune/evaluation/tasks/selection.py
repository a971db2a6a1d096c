"""Which rows of a corpus a task evaluates: all, named ones, or a seeded share, up to a limit."""

import itertools
import math
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlprune.errors import UserError

NamedRows = str | int | list[str | int] | dict[str, float | bool]
RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True)
class Selection:
    """Which rows are evaluated; ``limit`` applies to those that ``rows`` selects.

    Args:
        limit: At most this many examples per language; all if omitted.
        seed: Seed for choosing them.
        rows: Only these rows of the corpus: positions counted from 0, as ``0-199`` or ``0-99,150-199``; a list of ids;
            or a random share of them, as ``{share: 0.5, seed: 0}``, or, with ``complement: true``, all that this share
            leaves. All if omitted.

    Raises:
        UserError: If a value is not allowed.

    Example:
        >>> Selection(rows="1-2").choose(["a", "b", "c", "d"])
        ['b', 'c']
        >>> Selection(rows={"share": 0.5, "seed": 0}).choose(["a", "b", "c", "d"])
        ['b', 'c']
        >>> Selection(rows={"share": 0.5, "seed": 0, "complement": True}).choose(["a", "b", "c", "d"])
        ['a', 'd']
    """

    limit: int | None = None
    seed: int = 0
    rows: NamedRows | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit {self.limit} is not allowed; give at least 1")
        if isinstance(self.rows, dict):
            _check_share(self.rows)
        elif isinstance(self.rows, list):
            names = list(map(str, self.rows))
            twice = next((name for name in names if names.count(name) > 1), None)
            if not names or twice is not None:
                what = "an empty list" if not names else f"'{twice}' twice"
                raise UserError(f"rows: {what} is not allowed; give each id once, at least one")
        elif self.rows is not None:
            if not RANGES.fullmatch(_spaceless(self.rows)):
                raise UserError(
                    f"rows '{self.rows}' is not allowed; give positions such as 0-199, a list of ids, or "
                    "{share: 0.5, seed: 0}"
                )
            for part in _ranges(self.rows):
                if not part:
                    raise UserError(f"rows '{self.rows}': {part.start}-{part.stop - 1} is empty")

    def choose(
        self,
        ids: Sequence[str],
        reference: Sequence[str] | None = None,
        group_size: int = 1,
        left_out: Collection[str] = (),
    ) -> list[str]:
        """Return the ids of the rows that are evaluated.

        Args:
            ids: Ids of a language's rows, in order.
            reference: Ids that positions and shares refer to; ``ids`` if omitted.
            group_size: See :func:`sample_groups`.
            left_out: Ids of rows that cannot be used.

        Raises:
            UserError: If a named row does not exist.
        """
        named = self._named(list(ids if reference is None else reference), group_size)
        others = set() if named is None else set(ids) - named
        return sample_groups(ids, self.limit, group_size, self.seed, others | set(left_out))

    def _named(self, ids: list[str], group_size: int) -> set[str] | None:
        """The ids that ``rows`` names; None for all."""
        if self.rows is None:
            return None
        if isinstance(self.rows, dict):
            groups = [ids[start : start + group_size] for start in range(0, len(ids), group_size)]
            chosen = random.Random(f"{int(self.rows.get('seed', 0))}:rows")
            count = max(round(self.rows["share"] * len(groups)), 1)
            taken = {row_id for group in chosen.sample(groups, min(count, len(groups))) for row_id in group}
            return set(ids) - taken if self.rows.get("complement") else taken
        if isinstance(self.rows, list):
            known = set(ids)
            missing = next((row_id for row_id in map(str, self.rows) if row_id not in known), None)
            if missing is not None:
                raise UserError(f"rows: no row has the id '{missing}'")
            return set(map(str, self.rows))
        parts = _ranges(self.rows)
        if (last := max(part.stop for part in parts)) > len(ids):
            raise UserError(f"rows '{self.rows}': there is no row {last - 1}; the corpus has 0 to {len(ids) - 1}")
        return {ids[position] for part in parts for position in part}


def _spaceless(rows: str | int) -> str:
    return str(rows).replace(" ", "")


def _ranges(rows: str | int) -> list[range]:
    """Ranges of positions in a text such as ``0-99,150-199``."""
    ends = [part.partition("-") for part in _spaceless(rows).split(",")]
    return [range(int(first), int(last or first) + 1) for first, _, last in ends]


def _check_share(rows: Mapping[str, Any]) -> None:
    if unknown := [key for key in rows if key not in ("share", "seed", "complement")]:
        raise UserError(f"rows.{unknown[0]} is not allowed; give share and seed, and complement for the others")
    share, seed = rows.get("share"), rows.get("seed", 0)
    if not isinstance(share, int | float) or not (math.isfinite(share) and 0 < share <= 1):
        raise UserError(f"rows.share {share} is not allowed; give a number above 0, at most 1")
    if not isinstance(rows.get("complement", False), bool):
        raise UserError(f"rows.complement {rows['complement']} is not allowed; give true or false")
    if seed != int(seed):
        raise UserError(f"rows.seed {seed} is not allowed; give an integer")


def sample_groups(
    rows: Sequence[str], limit: int | None, group_size: int, seed: int, left_out: Collection[str] = ()
) -> list[str]:
    """Return at most ``limit`` rows as whole groups, spread evenly over the list.

    Args:
        rows: Ids of all rows; ``group_size`` consecutive ones belong together.
        limit: Maximum number of rows.
        group_size: Rows per group (three for XNLI, where a premise has three hypotheses).
        seed: Seed for choosing a group in each section of the list.
        left_out: Rows that must not be used; others of their group may be.

    Example:
        >>> sample_groups([str(i) for i in range(12)], 6, 3, seed=0)
        ['3', '4', '5', '9', '10', '11']
    """
    kept = [row not in left_out for row in rows]
    if limit is None or limit >= sum(kept):
        return list(itertools.compress(rows, kept))
    groups = [start for start in range(0, len(rows), group_size) if any(kept[start : start + group_size])]
    wanted = min(max(limit // group_size, 1), len(groups))
    generator = random.Random(seed)
    edges = [round(i * len(groups) / wanted) for i in range(wanted + 1)]
    starts = [groups[generator.randrange(start, end)] for start, end in itertools.pairwise(edges)]
    members = (i for start in starts for i in range(start, min(start + group_size, len(rows))) if kept[i])
    return [rows[i] for i in members][:limit]
