"""The one exception that means "the user can mend this"."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

from mlprune.text import visible

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class UserError(ValueError):
    """A mistake in what the user gave: shown as one line, without a traceback.

    The message names the key, the value and what is allowed.

    Example:
        >>> raise UserError("data.num_prompts: 0 is not allowed; give at least 1")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: data.num_prompts: 0 is not allowed; give at least 1
    """


class CannotWrite(UserError):
    """A disk or folder that refuses to be written: not the run's mistake, which can be resumed once there is room.

    Example:
        >>> raise CannotWrite("'masks.safetensors' cannot be written: No space left on device")
        Traceback (most recent call last):
        ...
        mlprune.errors.CannotWrite: 'masks.safetensors' cannot be written: No space left on device
    """


OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
LESS_MEMORY = (
    "lower data.max_batch_tokens (calibration, training) or data.max_batch_chars (evaluation), give model.dtype: "
    "bfloat16, train with model.lora, prune with --pruning.streaming true, or split the model with trainer.strategy "
    "ModelParallelStrategy"
)
NOT_FINITE = "check the weights, or use a wider model.dtype"  # the way out where a model's numbers are NaN or infinite


class ExampleError(UserError):
    """A mistake at one of several examples, which the caller may name by more than its position.

    Example:
        >>> raise ExampleError(3, "its context has no tokens")
        Traceback (most recent call last):
        ...
        mlprune.errors.ExampleError: example 3: its context has no tokens
    """

    def __init__(self, example: int, reason: str) -> None:
        super().__init__(f"example {example}: {reason}")
        self.example = example
        self.reason = reason


def one_line(message: str) -> str:
    r"""Fold a message of several lines into one, its control characters written out.

    Example:
        >>> one_line("Parser key 'a':\n  not allowed\n")
        "Parser key 'a': not allowed"
    """
    return visible(" ".join(part.strip() for part in message.splitlines() if part.strip()))


def reason_of(error: BaseException) -> str:
    r"""Return an error's text on one line, or its class where it has none.

    Example:
        >>> reason_of(ValueError("no such\n  split")), reason_of(ValueError())
        ('no such split', 'ValueError')
    """
    return visible(" ".join(str(error).split())) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class where it has none.

    Example:
        >>> first_line(ValueError("no such split\\nmore"))
        'no such split'
    """
    return visible((str(error).strip() or type(error).__name__).splitlines()[0])


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or the host, has no memory left.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        True
    """
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))
    )


def lack_of(error: BaseException) -> str:
    """Say what the machine had too little of, if that is what an error is about; empty if not.

    Example:
        >>> lack_of(OSError(28, "No space left on device", "run/a.jsonl"))
        "'run/a.jsonl': No space left on device"
        >>> lack_of(MemoryError()).partition(";")[0], lack_of(ValueError("wrong"))
        ('out of memory', '')
    """
    if isinstance(error, CannotWrite):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        path = error.filename2 or error.filename  # where a file was to be copied
        return f"{'the disk' if path is None else repr(str(path))}: {error.strerror}"
    if is_out_of_memory(error):
        said = ". ".join(one_line(str(error)).split(". ")[:2]).rstrip(".")  # which device, and what it was asked for
        return f"{said or 'out of memory'}; {LESS_MEMORY}"
    return ""


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest allowed word, or an empty string.

    Args:
        value: What the user wrote.
        allowed: What could have been written.

    Example:
        >>> did_you_mean("frr", ["en", "fr"])
        "; did you mean 'fr'?"
        >>> did_you_mean("klingon", ["en", "fr"])
        ''
    """
    close = get_close_matches(value, list(allowed), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
