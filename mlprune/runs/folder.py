"""A run's folder belongs to one run: it is claimed before anything is written, also among runs started at once.

Making a folder is atomic on every file system, so whoever makes it has it; the others take the next number. The marker
``.unfinished`` is there from the claim to the run's end, and config.yaml from the run's beginning for ever.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from mlprune.errors import UserError
from mlprune.files import writing

CONFIG = "config.yaml"
UNFINISHED = ".unfinished"
LOGGERS_OWN = re.compile(r"hparams\.yaml|metrics\.csv|events\.out\.tfevents\..*")  # made before anything is computed


def versions(parent: Path) -> Iterator[Path]:
    """Return the folders ``version_N`` that may come next, as Lightning's loggers count them.

    Example:
        >>> next(versions(Path("lightning_logs_of_nobody"))).name
        'version_0'
    """
    taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdecimal()]
    return (parent / f"version_{number}" for number in count(max(taken, default=-1) + 1))


def numbered(folder: Path) -> Iterator[Path]:
    """Return a folder and its numbered successors.

    Example:
        >>> names = numbered(Path("mlprune_run"))
        >>> [next(names).name for _ in range(3)]
        ['mlprune_run', 'mlprune_run_1', 'mlprune_run_2']
    """
    return (folder if number == 0 else folder.with_name(f"{folder.name}_{number}") for number in count())


def claim(candidates: Iterable[Path]) -> Path:
    """Make the first folder that nobody has made, and mark it as a run's; to be called by one process of a run.

    Args:
        candidates: Folders in order of preference, such as :func:`versions` or :func:`numbered`.

    Raises:
        UserError: If a folder cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     [claim(versions(Path(parent))).name for _ in range(2)]
        ['version_0', 'version_1']
    """
    for folder in candidates:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            try:
                (folder / UNFINISHED).mkdir()
            except OSError:
                folder.rmdir()
                raise
        return folder
    raise AssertionError("the candidates never end")


def claim_named(folder: Path) -> Path:
    """Mark a folder that the user named as a run's; it may exist, but must hold no run.

    Raises:
        UserError: If it holds a run, or cannot be written.
    """
    refused = UserError(f"run folder '{folder}' holds a run already; remove it or choose another folder")
    if (folder / CONFIG).exists():
        raise refused
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / UNFINISHED).mkdir()
        except FileExistsError:
            raise refused from None
    return folder


def release(folder: Path) -> None:
    """Remove a claimed folder in which nothing was computed, so that a run that was refused leaves nothing behind."""
    marker = folder / UNFINISHED
    if not marker.is_dir() or any(marker.iterdir()):
        return
    others = {path.name for path in folder.iterdir()} - {UNFINISHED, CONFIG}
    if all(LOGGERS_OWN.fullmatch(name) for name in others):
        shutil.rmtree(folder, ignore_errors=True)
