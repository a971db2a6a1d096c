"""Whether lm-evaluation-harness is there, and working with it without its messages."""

import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from unittest import mock

import numpy as np
import torch

from mlprune.errors import UserError

OLDEST = (0, 4, 10)  # the first that runs with transformers 5
INSTALL = 'run: pip install "mlprune[interop]"'
RANDOM_SEED, OTHER_SEED = 0, 1234  # simple_evaluate's own


def check_installed() -> None:
    """Raise UserError if lm-evaluation-harness is missing or too old.

    Raises:
        UserError: With the command that installs it.
    """
    try:
        found = version("lm_eval")
    except PackageNotFoundError:
        raise UserError(f"lm-evaluation-harness is not installed; {INSTALL}") from None
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < OLDEST:
        raise UserError(f"lm_eval {found} is too old; at least {'.'.join(map(str, OLDEST))} is needed; {INSTALL}")


@contextmanager
def quiet() -> Iterator[None]:
    """While open, the harness and its data sets show no progress bars, and no messages below an error."""
    import datasets
    from lm_eval.api import task

    logger = logging.getLogger("lm_eval")
    level, bars = logger.level, not datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with mock.patch.object(task, "tqdm", lambda items, **options: items):
            yield
    finally:
        logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def seeded() -> Iterator[None]:
    """While open, random numbers are those of the harness' ``simple_evaluate``; the states before are restored."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(RANDOM_SEED)
    np.random.seed(OTHER_SEED)
    torch.manual_seed(OTHER_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
