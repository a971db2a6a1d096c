"""The content of results.json: one row per figure, how they were measured, and the sections of schema 1."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlprune.comparison import TaskRecords, figures_of
from mlprune.comparison.schema1 import result_sections
from mlprune.evaluation.tasks import Task
from mlprune.metrics import Record


def task_records(task: Task, records: dict[str, list[Record]]) -> TaskRecords:
    """Return a task's records with their metrics.

    Args:
        task: The task.
        records: Language to records.
    """
    return TaskRecords(
        task.name,
        records,
        {lang: task.metrics(lang) for lang in records},
        task.pair_metrics(),
        task.pairs(),
        task.pivot,
        task.aligned,
        task.headline,
    )


def summarize(
    tasks: Sequence[Task], records: Mapping[tuple[str, str], list[Record]], system: str, seed: int = 0
) -> dict[str, Any]:
    """Return the figures of an evaluation: the content of results.json except for settings.

    Args:
        tasks: The tasks.
        records: (Task name, language) to the records of all processes, in the order of the corpus.
        system: Name of the evaluated system, such as ``dense``.
        seed: Seed of the resampling.

    Returns:
        The sections of schema 1; ``left_out``: rows that could not be used; ``figures``; ``measured_by``: each
        task's metrics.

    Example:
        >>> from mlprune.evaluation.tasks import PerplexityTask
        >>> records = {("perplexity", "fr"): [{"id": "0", "log_prob": -6.0, "chars": 4}]}
        >>> found = summarize([PerplexityTask(["fr"])], records, "dense")
        >>> round(found["perplexity"]["fr"]["bits_per_char"], 3), found["figures"][0]["metric"]
        (2.164, 'bits_per_char')
    """
    measured = [task_records(task, {lang: records[task.name, lang] for lang in task.languages}) for task in tasks]
    figures = [figure for task in measured for figure in figures_of(task, system, seed)]
    left_out = {task.name: task.left_out for task in tasks if task.left_out}
    return {
        **result_sections(measured, figures),
        **({"left_out": left_out} if left_out else {}),
        "figures": [figure.to_json() for figure in figures],
        "measured_by": {task.task: task.to_json() for task in measured},
    }
