"""Warnings that a run's folder keeps: what could not be shown, though it was computed."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mlprune.errors import UserError
from mlprune.files import write_json
from mlprune.runs.reading import read_json

RESULTS, ALONE = "results.json", "warnings.json"


def keep_warnings(folder: Path, warnings: Sequence[str]) -> None:
    """Write warnings into results.json, or into warnings.json while there are no results.

    Where that fails too, nothing happens: they were on stderr already.

    Args:
        folder: The run's folder.
        warnings: All of them, a line each.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     keep_warnings(Path(folder), ["report.html failed: disk full"])
        ...     read_warnings(Path(folder))
        ['report.html failed: disk full']
    """
    with suppress(UserError, OSError):
        if results := read_json(folder / RESULTS):
            write_json(folder / RESULTS, results | {"warnings": list(warnings)})
        else:
            write_json(folder / ALONE, {"warnings": list(warnings)})


def read_warnings(folder: Path) -> list[str]:
    """Return the warnings of a run.

    Raises:
        UserError: If a file is damaged.
    """
    kept = read_json(folder / RESULTS).get("warnings") or read_json(folder / ALONE).get("warnings") or []
    return [str(text) for text in kept]
