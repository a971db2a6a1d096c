"""Lightning checkpoints of recovery training: which of a run's are whole, and which is the newest."""

import zipfile
from pathlib import Path

import torch

from mlprune.log import log

CHECKPOINTS = "checkpoints"


def is_checkpoint(file: Path) -> bool:
    """Return whether a file is a whole Lightning checkpoint that holds nothing but tensors and plain values.

    Args:
        file: The file, which is read once.

    Example:
        >>> is_checkpoint(Path("pyproject.toml"))
        False
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return False
        return "state_dict" in torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # zip, pickle, OS and runtime errors, all meaning the same
        return False


def newest_checkpoint(run: Path) -> Path | None:
    """Return the newest checkpoint of a run that is whole; those that a kill or a full disk damaged are passed over.

    Args:
        run: The run's folder.
    """
    files = [file for file in (run / CHECKPOINTS).glob("*.ckpt") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name), reverse=True):
        if is_checkpoint(file):
            return file
        log.warning("'%s' is damaged; recovery training resumes from an older checkpoint, or starts again", file)
    return None
