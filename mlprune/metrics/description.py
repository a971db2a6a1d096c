"""A metric as JSON, so that predictions can be measured again by whoever reads them, without the task."""

import importlib
import inspect
from typing import Any

from torchmetrics import Metric

from mlprune.errors import UserError

Description = dict[str, Any]


def describe_metric(metric: Metric) -> Description:
    """Return a metric's class and arguments, each kept by the metric as an attribute of the argument's name.

    Raises:
        UserError: If an argument without a default is not kept, or cannot be written as JSON.

    Example:
        >>> from mlprune.metrics import RankC
        >>> describe_metric(RankC("norm1"))
        {'class_path': 'mlprune.metrics.rankc.RankC', 'init_args': {'weighting': 'norm1', 'order': 'descending'}}
    """
    kind = type(metric)
    path = f"{kind.__module__}.{kind.__qualname__}"
    arguments = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if hasattr(metric, name):
            arguments[name] = _as_json(getattr(metric, name), f"{path}: argument '{name}'")
        elif parameter.default is parameter.empty:
            raise UserError(f"{path}: argument '{name}' is not kept as an attribute; set self.{name} in __init__")
    return {"class_path": path, "init_args": arguments}


def _as_json(value: Any, where: str) -> Any:
    if isinstance(value, Metric):
        return describe_metric(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_as_json(part, where) for part in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _as_json(part, where) for key, part in value.items()}
    raise UserError(f"{where} is a {type(value).__name__}; a metric's arguments must be plain values or metrics")


def make_metric(description: Description) -> Metric:
    """Return the metric that was described; imports its module.

    Raises:
        UserError: If there is no such class, it is not a metric, or its arguments do not fit.

    Example:
        >>> make_metric({"class_path": "mlprune.metrics.RankC", "init_args": {"order": "ascending"}}).order
        'ascending'
    """
    path = str(description.get("class_path"))
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
        if not (isinstance(kind, type) and issubclass(kind, Metric)):
            raise TypeError("it is not a torchmetrics Metric")
        arguments = {key: _from_json(value) for key, value in description.get("init_args", {}).items()}
        return kind(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"metric '{path}' cannot be made: {error}") from error


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and "class_path" in value:
        return make_metric(value)
    if isinstance(value, list):
        return [_from_json(part) for part in value]
    return value
