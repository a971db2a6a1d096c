"""How a run came about, kept as ``run.json``: each start with its date, command, machine and the time of its phases."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.files import write_json
from mlprune.runs.reading import Json, read_json

JOURNAL = "run.json"


class Journal:
    """What one start of a run writes down; a resumed run's earlier starts stay before it.

    Args:
        command: What started the run, as it was typed.
        resumed: Folder of the run that is resumed; earlier starts that cannot be read are left out.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal("mlprune fit --config demo")
        ...     with journal.phase("recovery training") as phase:
        ...         phase["learning_rate"] = 1e-5
        ...     journal.note(dtype="float32")
        ...     journal.write(Path(folder))
        ...     (start,) = read_starts(Path(folder))
        >>> start["command"], start["phases"][0]["name"], start["dtype"]
        ('mlprune fit --config demo', 'recovery training', 'float32')
    """

    def __init__(self, command: str, resumed: Path | None = None) -> None:
        self._start: Json = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "command": command, "phases": []}
        self._earlier: list[Json] = []
        if resumed is not None:
            with suppress(UserError):  # people can damage it, and nothing is computed from it
                self._earlier = read_starts(resumed)

    def note(self, **facts: Any) -> None:
        """Take facts about this start down, such as its machine."""
        self._start |= facts

    @contextmanager
    def phase(self, name: str) -> Iterator[Json]:
        """Measure how long a phase takes; one that fails is not taken down.

        Args:
            name: What is done.
        """
        entry: Json = {"name": name}
        began = time.monotonic()
        yield entry
        self._start["phases"].append(entry | {"seconds": round(time.monotonic() - began, 2)})

    def write(self, folder: Path) -> None:
        """Write ``run.json`` into the run's folder.

        Raises:
            UserError: If it cannot be written.
        """
        write_starts(folder, [*self._earlier, self._start])


def write_starts(folder: Path, starts: Sequence[Json]) -> None:
    """Write the starts of a run into its folder, the first one first."""
    write_json(folder / JOURNAL, {"schema_version": 1, "starts": list(starts)})


def read_starts(folder: Path) -> list[Json]:
    """Return the starts of a run, the first one first; empty if its folder does not say.

    Raises:
        UserError: If the file is damaged.
    """
    starts = read_json(folder / JOURNAL).get("starts", [])
    if not isinstance(starts, list) or not all(isinstance(start, Mapping) for start in starts):
        raise UserError(f"'{folder / JOURNAL}' cannot be read: starts is not a list of mappings")
    return [dict(start) for start in starts]
