"""A run's folder belongs to one run: it is claimed before anything is written, even if several runs start at once.

Making a folder is atomic on every file system, so whoever makes it owns it; the others take the next number. The marker
``.unfinished`` exists from the claim to the end of the run; config.yaml stays.
"""

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from mlprune.errors import UserError
from mlprune.files import writing
from mlprune.invocation import program

CONFIG = "config.yaml"
UNFINISHED = ".unfinished"
WORK = (  # what a run computes and a resumed run reuses
    *(
        "results.json",
        "predictions",
        "results.dense.json",
        "predictions.dense",
        "results.pruned.json",
        "predictions.pruned",
        "recipes",
        "dense",
        "checkpoints",
    ),
    *("masks.safetensors", "statistics.safetensors", "pruned", "smaller", "study.json"),
)
# what is there before anything is computed
BEGINNING = re.compile(r"run\.json|inputs\.json|config\.yaml|hparams\.yaml|metrics\.csv|events\.out\.tfevents\..*")


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
    """Make the first folder that does not exist yet, and mark it as a run's; one process of a run calls this.

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


def release(folder: Path) -> bool:
    """Remove a claimed folder if nothing was computed in it, so that a refused run leaves nothing behind."""
    marker = folder / UNFINISHED
    if not marker.is_dir() or any(marker.iterdir()):
        return False
    is_empty = all(BEGINNING.fullmatch(path.name) for path in folder.iterdir() if path != marker)
    if is_empty:
        shutil.rmtree(folder, ignore_errors=True)
    return is_empty


def has_work(folder: Path) -> bool:
    """Return whether something was computed in a run's folder."""
    marker = folder / UNFINISHED
    return any((folder / name).exists() for name in WORK) or (marker.is_dir() and any(marker.iterdir()))


def clear(folder: Path) -> None:
    """Remove what was computed in a run's folder; configuration and the logger's files stay."""
    for path in (*(folder / name for name in WORK), *(folder / UNFINISHED).glob("*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def resume_hint(folder: Path, subcommand: str) -> str:
    """Say how a run is resumed; one that Python started has no config.yaml.

    Args:
        folder: The run's folder.
        subcommand: fit, validate or test.
    """
    if (folder / CONFIG).is_file():
        return f"resume with: {program()} {subcommand} --resume {shlex.quote(str(folder))}"
    return f"resume with: Engine(..., resumed={str(folder)!r})"
