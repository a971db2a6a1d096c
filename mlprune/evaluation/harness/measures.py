"""The harness' metrics of a task as metrics of ours."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torchmetrics import Metric

from mlprune.errors import UserError
from mlprune.evaluation.harness.loading import Loaded
from mlprune.log import log
from mlprune.metrics.harness import Better, harness_metric, judged

KEYS = {"multiple_choice": "best", "generate_until": "output", "loglikelihood": "greedy"}  # of answers in records


def metrics_of(name: str, loaded: Loaded, parts: Mapping[str, str]) -> list[Metric]:
    """Return the metrics of the harness' tasks, those of a group pooled as the group says.

    Args:
        name: Our task's name, for messages.
        loaded: The tasks.
        parts: Task to what it is called in every language.

    Raises:
        UserError: If none can be described.
    """
    found: dict[str, Metric] = {}
    for task in loaded.tasks.values():
        for metric, aggregate in task.aggregation().items():
            for ensemble in task._filters:
                key = metric if ensemble.name == "none" else f"{metric},{ensemble.name}"
                if key in found or metric == "bypass":
                    continue
                aggregation = aggregation_name(aggregate)
                if aggregation is None:
                    log.warning("task '%s': metric '%s' is left out: its aggregation has no name", name, metric)
                    continue
                several = list(parts.values()) if len(parts) > 1 else None
                by_size = loaded.by_size.get(metric, True)
                answer = judged(metric, {KEYS.get(task.OUTPUT_TYPE, ""): None})
                found[key] = harness_metric(key, aggregation, _better(task, metric), answer, several, by_size)
    if not found:
        raise UserError(f"task '{name}': the harness' tasks have no metric that can be used")
    return list(found.values())


def _better(task: Any, metric: str) -> Better:
    higher = task.higher_is_better().get(metric)
    return None if higher is None else "higher" if higher else "lower"


def aggregation_name(function: Callable[..., Any]) -> str | None:
    """Return by what name an aggregation is found again: the harness', or ``file.py:function``; None for neither.

    Args:
        function: The aggregation.
    """
    import lm_eval.api.metrics  # noqa: F401  # which registers them
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    for name, known in AGGREGATION_REGISTRY.items():
        if known is function:
            return str(name)
    file = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    return f"{file}:{function.__name__}" if file and "<" not in function.__qualname__ else None
