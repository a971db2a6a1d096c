"""What guessing gives: the level that a system has to exceed before its figures say anything of a task."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlprune.comparison.reading import Predictions, measured_tasks
from mlprune.comparison.records import TaskRecords
from mlprune.metrics import Record, measures_of
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL

Levels = dict[tuple[str, str, str], float]  # task, measure, language


def chance_levels(predictions: Predictions, measured: Mapping[str, Any]) -> Levels:
    """Return chance level by task, measure and language, of metrics that know what guessing gives.

    Args:
        predictions: Task to language to records.
        measured: ``measured_by`` of results.json.

    Example:
        >>> record = {"id": "0", "label": "a", "prediction": "b", "scores": [-1.0, -2.0, -3.0, -4.0]}
        >>> chance_levels({"nli": {"fr": [record]}}, {})["nli", "accuracy", "fr"]
        0.25
    """
    found: Levels = {}
    for task in measured_tasks(predictions, dict(measured)):
        for measure, levels in _by_measure(task).items():
            without_pivot = [level for lang, level in levels.items() if lang != task.pivot]
            averages = {AVERAGE: without_pivot, AVERAGE_ALL: list(levels.values())}
            levels |= {name: sum(values) / len(values) for name, values in averages.items() if values}
            found |= {(task.task, measure, lang): level for lang, level in levels.items()}
    return found


def _by_measure(task: TaskRecords) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for lang, records in task.records.items():
        for metric in task.metrics[lang]:
            levels = _guessed(metric, records)
            if levels:
                found.setdefault(measures_of(metric)[0].name, {})[lang] = sum(levels) / len(levels)
    return found


def _guessed(metric: Any, records: Sequence[Record]) -> list[float]:
    guess, selects = getattr(metric, "guessed", None), getattr(metric, "selects", None)
    if guess is None:
        return []
    levels = (guess(record) for record in records if selects is None or selects(record))
    return [level for level in levels if level is not None]
