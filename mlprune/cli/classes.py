"""Which classes a configuration may name in a place, for messages and suggestions."""

import inspect
from importlib import import_module
from typing import Any

from mlprune.errors import did_you_mean


def class_of(path: str) -> type | None:
    """Return the class that an import path names; None if it names something else.

    Example:
        >>> class_of("collections.OrderedDict")
        <class 'collections.OrderedDict'>
    """
    module, _, name = path.rpartition(".")
    candidate: Any = getattr(import_module(module), name, None)
    return candidate if isinstance(candidate, type) else None


def allowed_classes(given: str, base: type | None) -> str:
    """Return what to give instead of a class, as the end of a message.

    Args:
        given: The class path that was given; empty if none was.
        base: What the class must derive from; None if that is not known.
    """
    module, _, last = given.rpartition(".")
    if base is None:
        return f"; give its import path{did_you_mean(last, _classes_in(module))}"
    public = [cls for cls in _subclasses(base) if not cls.__name__.startswith("_") and not inspect.isabstract(cls)]
    names = sorted({cls.__name__ for cls in public if cls.__module__.startswith(base.__module__.split(".")[0])})
    return f"; give one of {', '.join(names)}, or a class of your own{did_you_mean(last, names)}"


def _subclasses(base: type) -> list[type]:
    children: list[type] = base.__subclasses__()
    return [base, *(cls for child in children for cls in _subclasses(child))]


def _classes_in(module: str) -> list[str]:
    try:
        return [name for name, value in vars(import_module(module)).items() if isinstance(value, type)]
    except (ImportError, ValueError):  # there is no such module
        return []
