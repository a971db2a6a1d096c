"""Unwanted output of the libraries below us."""

import logging
import os
import warnings
from pathlib import Path

# warnings of libraries that the user can do nothing about
UNHELPFUL = (
    ".*args parameter is intended to run from within Python.*",
    ".*does not have many workers.*",
    ".*was configured so `validation_step`.*",
    ".*litlogger.*",
    ".*LeafSpec.*is deprecated.*",
    ".*dataloader.*is empty.*|.*returned 0 length.*|.*Total length of.*zero.*",
    ".*sync_dist=True.*",
    ".*is_gradient_checkpointing.*is deprecated.*",
    ".*dirpath has changed.*",
    ".*Experiment logs directory.*is not empty.*",  # it is the run's own, and what an earlier start logged is kept
    ".*number of training batches.*smaller than the logging interval.*",
)


def keep_files_in_cache() -> None:
    """Have libraries write into the cache where they would make folders in the home or among temporary files."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "torchinductor"))
    configured = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "matplotlib"
    if not configured.is_dir() and not Path("~/.matplotlib").expanduser().is_dir():
        os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))


def quiet_libraries() -> None:
    """Silence what the user cannot change."""
    import lightning.pytorch  # which sets its own level when it is imported
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger(lightning.pytorch.__name__).setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for pattern in UNHELPFUL:
        warnings.filterwarnings("ignore", pattern)
