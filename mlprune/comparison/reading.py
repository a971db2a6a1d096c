"""A run's predictions read back, with what results.json says of how they are measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlprune.comparison import schema1
from mlprune.comparison.records import TaskRecords
from mlprune.comparison.samples import as_in, by_language, measured_by, read_samples, sample_files
from mlprune.errors import UserError
from mlprune.log import log
from mlprune.metrics import Record
from mlprune.runs import reading

Predictions = dict[str, dict[str, list[Record]]]  # task, language
System = tuple[Predictions, dict[str, Any]]  # and what measured them, as results.json has it


def read_predictions(folder: Path) -> Predictions:
    """Read a run's predictions.

    Args:
        folder: A run's ``predictions`` folder.

    Returns:
        Task to language to records, in the order of the corpus.

    Raises:
        UserError: If there are none, or a file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "xnli.fr.jsonl").write_text('{"id": "0", "prediction": "neutral"}')
        ...     read_predictions(Path(folder))
        {'xnli': {'fr': [{'id': '0', 'prediction': 'neutral'}]}}
    """
    found = {
        task: {lang: list(records.values()) for lang, records in languages.items()}
        for task, languages in reading.read_predictions(folder).items()
    }
    if not found:
        raise UserError(f"'{folder}' holds no predictions; give a run folder that `test` or `fit` wrote")
    return found


def read_results(predictions: Path) -> dict[str, Any]:
    """Return the results that lie beside a predictions folder; empty if there are none.

    Args:
        predictions: ``predictions``, beside results.json, or ``predictions.dense``, beside results.dense.json.

    Raises:
        UserError: If they cannot be read, or a newer version wrote them.
    """
    file = predictions.with_name(predictions.name.replace("predictions", "results", 1) + ".json")
    return reading.read_json(file)


def read_systems(folders: Sequence[Path]) -> list[System]:
    """Return several systems' predictions and what measured them, as results.json has it.

    A folder is a run's predictions, or holds ``samples_*.jsonl`` of lm-evaluation-harness; these are read under the
    tasks, languages and ids of the first run of ours, where there is one.

    Args:
        folders: The systems' folders.

    Raises:
        UserError: If one holds neither, or a file is damaged.
    """
    files = [
        {} if any(folder.glob("*.jsonl")) and not list(folder.glob("samples_*")) else sample_files(folder)
        for folder in folders
    ]
    runs = {i: read_predictions(folder) for i, folder in enumerate(folders) if not files[i]}
    run = next((folders[i] for i in runs), None)
    found: list[System] = []
    measured: dict[str, Any] = {} if run is None else read_results(run).get("measured_by", {})  # of samples too
    for i, folder in enumerate(folders):
        if i in runs:
            found.append((runs[i], read_results(folder).get("measured_by", {})))
            continue
        samples = read_samples(files[i])
        predictions = by_language(samples) if run is None else as_in(samples, next(iter(runs.values())))
        measured = measured or measured_by(files[i], predictions)
        found.append((predictions, measured))
    return found


def measured_tasks(predictions: Predictions, measured: dict[str, Any]) -> list[TaskRecords]:
    """Return predictions with the metrics that measure them, tasks and languages in the order they were evaluated in.

    A task whose metric cannot be imported is left out with a warning.

    Args:
        predictions: What a system answered.
        measured: That part of results.json; a task that it lacks is recognized by the keys of its records.
    """
    found = []
    for task in [*(task for task in measured if task in predictions), *(predictions.keys() - measured.keys())]:
        languages = predictions[task]
        if task not in measured:
            found += [guessed] if (guessed := schema1.guess_task(task, languages)) else []
            continue
        order = [*measured[task]["metrics"], *languages]
        try:
            records = {lang: languages[lang] for lang in dict.fromkeys(order) if lang in languages}
            found.append(TaskRecords.from_json(task, records, measured[task]))
        except UserError as error:
            log.warning("task '%s' is left out: %s", task, error)
    return found
