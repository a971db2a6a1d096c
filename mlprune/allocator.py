"""Memory that is freed and allocated again at once, as activations are, should not return to the system in between.

By default glibc returns large freed blocks, and the system then clears every page again for the next activation of the
same size: on CPUs this costs a tenth of a forward pass or more.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # the parameters' numbers in malloc.h
KEPT_BYTES = 2**30
LARGEST_BYTES = 2**25  # glibc allows no more


@contextmanager
def reusing_memory() -> Iterator[None]:
    """Let glibc keep up to 1 GiB of freed memory while open, and return it at the end; without glibc do nothing.

    The limits stay as they are set here, since glibc cannot report the old ones; an environment variable of the
    user's (``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``) applies only outside this context.

    Example:
        >>> with reusing_memory():
        ...     pass
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    try:
        yield
    finally:
        return_freed_memory()


def return_freed_memory() -> None:
    """Return to the system what was freed and lies between what is still in use; without glibc do nothing.

    Where many large tensors are made and a small one of them is kept, again and again, it would add up.

    Example:
        >>> return_freed_memory()
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
