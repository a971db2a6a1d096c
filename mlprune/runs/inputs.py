"""What a run is computed from, kept as ``inputs.json`` in its folder, so that a resumed run continues from the same.

Contents are compared by hash. A file's size and times only save hashing it again: where they differ, the hash decides.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mlprune.errors import UserError
from mlprune.files import write_json

INPUTS_FILE = "inputs.json"
MISSING = object()


class Stamp(NamedTuple):
    """What tells without reading a file that it is the same as before."""

    path: str
    size: int
    modified_ns: int
    changed_ns: int  # which no program can set back


_hashes: dict[Stamp, str] = {}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, computed once for each state of it.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     file_hash(Path(file.name))[:8]
        'e3b0c442'
    """
    stamp = _stamp(path)
    if stamp not in _hashes:
        with path.open("rb") as file:
            _hashes[stamp] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[stamp]


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return Stamp(str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Part:
    """One part of what a run is computed from.

    Args:
        sha256: Hash of its content.
        origin: Where it comes from, for messages.
        file: The file that it is, if it is one.
    """

    sha256: str
    origin: str = ""
    file: Path | None = None

    @classmethod
    def of_file(cls, path: Path) -> "Part":
        """Hash a file."""
        return cls(file_hash(path), str(path), path)


@dataclass(frozen=True)
class Inputs:
    """What a run began with.

    Args:
        config: Its configuration, one level deep (:func:`flat`).
        versions: Versions of Python and packages.
        machine: What the last bits depend on besides: threads, instruction set.
        contents: Name of a part, such as ``task nli, examples fr``, to the hash of its content.
        stamps: The files among them, with their hashes.
    """

    config: dict[str, Any]
    versions: dict[str, Any]
    machine: dict[str, Any]
    contents: dict[str, str]
    stamps: list[tuple[Stamp, str]] = field(default_factory=list)

    def write(self, run: Path) -> None:
        """Write ``inputs.json`` into a run's folder."""
        write_json(run / INPUTS_FILE, {"schema_version": 1, **asdict(self)})


def hashes(parts: Mapping[str, Part]) -> dict[str, str]:
    """Return name to hash of parts.

    Example:
        >>> hashes({"model settings": Part("3a31")})
        {'model settings': '3a31'}
    """
    return {name: part.sha256 for name, part in parts.items()}


def stamps_of(parts: Iterable[Part]) -> list[tuple[Stamp, str]]:
    """Return the stamps and hashes of those parts that are files."""
    return [(_stamp(part.file), part.sha256) for part in parts if part.file is not None]


def read_inputs(run: Path) -> Inputs | None:
    """Return what a run began with; None if its folder does not say, or no longer.

    Files that look as they did then need not be hashed again in this process.
    """
    try:
        content = json.loads((run / INPUTS_FILE).read_bytes())
        stamps = [(Stamp(*stamp), str(sha256)) for stamp, sha256 in content["stamps"]]
        names = ("config", "versions", "machine", "contents")
        config, versions, machine, contents = (dict(content[name]) for name in names)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    _hashes.update(stamps)
    return Inputs(config, versions, machine, contents, stamps)


def refuse_changes(
    run: Path, before: Mapping[str, Any], now: Mapping[str, Any], what: str = "", origins: Mapping[str, str] = {}
) -> None:
    """Raise UserError that names the first of a run's inputs that is not as it was.

    Args:
        run: The run's folder.
        before: Name to value, or to hash, when the run began.
        now: The same now.
        what: What they are, such as ``version of``.
        origins: Name to where it comes from.

    Example:
        >>> refuse_changes(Path("r"), {"torch": "2.13.0"}, {"torch": "2.14.0"}, "version of")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: --resume 'r': version of torch was 2.13.0 when the run began and is 2.14.0 now; ...
    """
    for name in [*before, *(name for name in now if name not in before)]:
        was, given = before.get(name, MISSING), now.get(name, MISSING)
        if was != given:
            origin = f" ({origins[name]})" if origins.get(name) else ""
            raise UserError(
                f"--resume '{run}': {what}{' ' if what else ''}{name}{origin} was {_shown(was)} when the run began and "
                f"is {_shown(given)} now; restore it, or start a new run"
            )


def _shown(value: Any) -> str:
    if value is MISSING:
        return "not there"
    if isinstance(value, str):
        is_hash = len(value) in (16, 64) and all(letter in "0123456789abcdef" for letter in value)
        return f"sha256 {value[:12]}..." if is_hash else value if len(value) <= 80 else f"{value[:77]}..."
    return repr(value)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as one level.

    Example:
        >>> flat({"data": {"tasks": ["a"], "limit": None}})
        {'data.tasks.0': 'a', 'data.limit': None}
    """
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {prefix: tree}
    return {
        key: value
        for name, branch in items
        for key, value in flat(branch, f"{prefix}.{name}" if prefix else str(name)).items()
    }
