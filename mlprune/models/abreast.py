"""Several forward passes through a model, side by side: each waits at a block until it is there, and runs it in turn.

Every pass has a greenlet of its own, so one runs at a time, and computes what it would alone.
"""

import contextvars
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _Pass(greenlet):
    """A call that hands control back wherever it comes to a block."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(call)
        self.gr_context = contextvars.copy_context()
        self.stands_at: int | None = None
        self.result: Any = None

    def go_on(self) -> None:
        """Run until the next block, or to the end."""
        found = self.switch()
        self.stands_at, self.result = (None, found) if self.dead else (found, None)


def stop_at(position: int) -> bool:
    """Wait for a block if this is one of several passes; return whether it is.

    Example:
        >>> stop_at(0)
        False
    """
    current = getcurrent()
    if not isinstance(current, _Pass):
        return False
    assert current.parent is not None
    current.parent.switch(position)
    return True


def run_abreast(calls: Sequence[Callable[[], T]], whole: Callable[[int], AbstractContextManager[None]]) -> list[T]:
    """Run passes side by side: a block is made whole once for all that have come to it.

    Args:
        calls: Each calls :func:`stop_at` before every block. What it opens that holds for the thread, as
            ``torch.no_grad`` does, must be open already.
        whole: Makes the block of a position whole while open.

    Example:
        >>> from contextlib import nullcontext
        >>> def walk(name):
        ...     for position in (0, 1):
        ...         stop_at(position)
        ...         print(name, position)
        >>> run_abreast([lambda: walk("a"), lambda: walk("b")], lambda position: nullcontext())
        a 0
        b 0
        a 1
        b 1
        [None, None]
    """
    passes = [_Pass(call) for call in calls]
    try:
        for each in passes:
            each.go_on()
        while places := [each.stands_at for each in passes if each.stands_at is not None]:
            furthest = max(places)
            with whole(furthest):
                for each in passes:
                    if each.stands_at == furthest:
                        each.go_on()
    finally:
        for each in passes:
            if not each.dead:
                each.throw()
    return [each.result for each in passes]
