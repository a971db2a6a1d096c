"""Several passes through a model, side by side: each waits for what it needs, such as a block, and runs it in turn.

Every pass has a greenlet of its own, so one runs at a time, and computes what it would alone.
"""

import contextvars
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class Pass(greenlet):
    """A call that hands control back wherever it stops.

    Args:
        call: What is run.

    Attributes:
        stands_at: Where it has stopped; None before it has begun and once it is over.
        result: What the call has returned.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(call)
        self.gr_context = contextvars.copy_context()
        self.stands_at: Any = None
        self.result: Any = None

    def go_on(self) -> None:
        """Run until the next stop, or to the end."""
        found = self.switch()
        self.stands_at, self.result = (None, found) if self.dead else (found, None)


def stop_at(place: object) -> bool:
    """Stop if this is one of several passes; return whether it is, once it goes on.

    Args:
        place: Where, such as the position of a block.

    Example:
        >>> stop_at(0)
        False
    """
    current = getcurrent()
    if not isinstance(current, Pass):
        return False
    assert current.parent is not None
    current.parent.switch(place)
    return True


@contextmanager
def none_left(passes: Sequence[Pass]) -> Iterator[None]:
    """End the passes that have not come to their ends when this is closed, as after an error."""
    try:
        yield
    finally:
        for each in passes:
            if not each.dead:
                each.throw()


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
    passes = [Pass(call) for call in calls]
    with none_left(passes):
        for each in passes:
            each.go_on()
        while places := [each.stands_at for each in passes if each.stands_at is not None]:
            furthest = max(places)
            with whole(furthest):
                for each in passes:
                    if each.stands_at == furthest:
                        each.go_on()
    return [each.result for each in passes]
