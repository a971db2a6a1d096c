"""Files and folders that are whole or absent under their names, and errors of one line where they cannot be written.

A writer works beside the target, under a hidden name; when it is done the content is flushed to the disk and renamed.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from mlprune.errors import NOT_FINITE, CannotWrite, UserError, reason_of

LONGEST_NAME = 120  # bytes, of the 255 that file systems take; endings and ".partial" come on top


def file_name(name: str) -> str:
    """Return a file name for a name that people chose: no separators, not hidden, not too long, as distinct as it was.

    Example:
        >>> file_name("fr/en"), file_name("中文.nli"), len(file_name("a" * 300))
        ('fr%2Fen', '中文.nli', 120)
    """
    safe = "".join(c if c.isalnum() or c in " ,+-_." else f"%{ord(c):02X}" for c in name)
    safe = re.sub(r"^\.", "%2E", safe)
    if len(safe.encode()) <= LONGEST_NAME:
        return safe
    end = "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return safe.encode()[: LONGEST_NAME - len(end)].decode(errors="ignore") + end


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn whatever a writer raises into one line that names the path.

    Raises:
        UserError: If the body raises an exception; a UserError of the body's passes as it is.

    Example:
        >>> with writing("masks.safetensors"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        ...
        mlprune.errors.CannotWrite: 'masks.safetensors' cannot be written: No space left on device
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # OSError, SafetensorError, RuntimeError, ...: each library has its own
        raise CannotWrite(f"'{_final(Path(path))}' cannot be written: {_reason(error)}") from error


def _final(path: Path) -> Path:
    """The path as it will be called when it, or the folder it lies in, is complete."""
    return Path(*(re.sub(r"^\.(.+)\.partial$", r"\1", part) for part in path.parts))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = reason_of(error)
    wrapped = re.search(r"I/O error: (.*?)(?: \(os error \d+\))?$", text)  # safetensors writes in Rust
    return wrapped[1] if wrapped else text


class Partial:
    """A file or folder that is being written; what a killed run left of an earlier attempt is removed.

    Args:
        target: The name it gets in :meth:`complete`; missing parents are created.

    Raises:
        UserError: If the parent folder cannot be created or written.
    """

    def __init__(self, target: str | Path) -> None:
        self.target = Path(target)
        self.path = self.target.with_name(f".{self.target.name}.partial")  # where to write
        with writing(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.abandon()

    def complete(self) -> None:
        """Flush the content to the disk and give it its name."""
        with writing(self.target):
            for path in (*self.path.rglob("*"), self.path):
                _flush(path)
            os.replace(self.path, self.target)
            _flush(self.target.parent)

    def abandon(self) -> None:
        """Remove what was written so far."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with suppress(OSError):
                self.path.unlink()


def _flush(path: Path) -> None:
    """Flush a file's content, or a folder's names, to the disk before anything that depends on them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # some file systems cannot flush a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Give the path under which a file is to be written; it gets its name when the body ends.

    Pipes and devices, such as ``/dev/stdout``, are written as they are.

    Raises:
        UserError: If the file cannot be written, whatever the body raised; then the target is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(f"{folder}/a.txt") as path:
        ...         _ = path.write_text("whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['a.txt']
    """
    if _is_stream(Path(target)):
        with writing(target):
            yield Path(target)
        return
    with _completed(Partial(target)) as path:
        yield path


@contextmanager
def _completed(partial: Partial) -> Iterator[Path]:
    """Give the path to write to; complete it if the body succeeds, else remove it."""
    try:
        with writing(partial.target):
            yield partial.path
        partial.complete()
    finally:
        partial.abandon()


def _is_stream(path: Path) -> bool:
    return path.absolute().is_relative_to("/dev") or path.is_fifo() or path.is_char_device()


@contextmanager
def whole_folder(target: str | Path) -> Iterator[Path]:
    """Make a folder to be filled, which gets its name when the body ends.

    Raises:
        UserError: If the target exists or cannot be written, whatever the body raised.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_folder(f"{folder}/model") as path:
        ...         _ = (path / "config.json").write_text("{}")
        ...     [str(file.relative_to(folder)) for file in Path(folder).rglob("*")]
        ['model', 'model/config.json']
    """
    with _completed(new_folder(target)) as path:
        yield path


def new_folder(target: str | Path) -> Partial:
    """Begin a folder that is filled over time.

    Raises:
        UserError: If the target exists or cannot be written.
    """
    if os.path.lexists(target):
        raise UserError(f"'{target}' exists already; remove it or choose another folder")
    partial = Partial(target)
    with writing(target):
        partial.path.mkdir()
    return partial


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        UserError: If it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def to_json(content: Any, what: str, indent: int | None = None) -> str:
    """Return a content as JSON, which has no NaN and no infinity.

    Args:
        content: Mappings, lists, texts and numbers.
        what: What it is, for errors.
        indent: As of ``json.dumps``.

    Raises:
        UserError: If a number in it is not finite.

    Example:
        >>> to_json({"tasks": {"nli": {"fr": {"score": [1.0, float("nan")]}}}}, "results.json")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: results.json: tasks.nli.fr.score.1 is not finite (nan); check the weights, or use ...
    """
    try:
        return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        for place, number in _numbers(content):
            if not math.isfinite(number):
                raise UserError(f"{what}: {place} is not finite ({number}); {NOT_FINITE}") from None
        raise


def _numbers(content: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(content, float):
        yield place, content
    elif isinstance(content, (dict, list, tuple)):
        for name, part in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _numbers(part, f"{place}.{name}" if place else str(name))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented, whole or not at all.

    Raises:
        UserError: If it cannot be written, or a number in it is not finite.
    """
    write_text(path, to_json(content, f"'{path}'", indent=2) + "\n")
