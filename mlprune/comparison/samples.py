"""What lm-evaluation-harness wrote with ``--log_samples``, read as a system's predictions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.languages import LISTED, language
from mlprune.log import log
from mlprune.metrics import Record
from mlprune.metrics.description import describe_metric
from mlprune.metrics.harness import aggregation_of, better_of, harness_metric, judged
from mlprune.runs.reading import read_json

Samples = dict[str, dict[int, Record]]  # the harness' task, document


def sample_files(folder: Path) -> dict[str, Path]:
    """Return task to the newest file of its samples in a folder; empty if there is none.

    Args:
        folder: What was given to the harness as ``--output_path``, or a model's folder in it.

    Raises:
        UserError: If it holds samples of several models.
    """
    files = sorted(folder.rglob("samples_*.jsonl"))
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        raise UserError(f"'{folder}' holds samples of several models; give one of {', '.join(folders)}")
    return {file.stem.removeprefix("samples_").rpartition("_")[0]: file for file in files}


def read_samples(files: Mapping[str, Path]) -> Samples:
    """Return the records of a system.

    Args:
        files: Task to the file of its samples.

    Raises:
        UserError: If a file is damaged.
    """
    found: Samples = {}
    for task, file in files.items():
        records = found.setdefault(task, {})
        try:
            for line in file.read_text(encoding="utf-8").split("\n"):  # U+2028 and its like stand within texts
                if line:
                    _add(records, task, json.loads(line))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"'{file}' cannot be read as samples of lm-evaluation-harness: {error}") from error
    return found


def _add(records: dict[int, Record], task: str, sample: dict[str, Any]) -> None:
    """Add a line: a document under one filter."""
    doc_id, key = int(sample["doc_id"]), sample.get("filter", "none")
    hashes = {name: sample[name] for name in ("prompt_hash", "target_hash")}
    start: Record = {
        "id": str(doc_id),
        "doc_id": doc_id,
        "harness_task": task,
        **hashes,
        "values": {},
        "aligned": False,
    }
    record = records.setdefault(doc_id, start | _answers(sample))
    for name in sample["metrics"]:
        record["values"][name if key == "none" else f"{name},{key}"] = sample[name]


def _answers(sample: dict[str, Any]) -> Record:
    """What the system answered, under the keys that records of the task LmEval have."""
    first = [response[0] for response in sample["resps"]]
    if len(first) > 1:
        scores = [float(score) for score, _ in first]
        choices = scores[: len(scores) // 2] if "acc_mutual_info" in sample["metrics"] else scores
        return {"scores": choices, "best": choices.index(max(choices))}
    if isinstance(first[0], list):
        return {"log_prob": float(first[0][0]), "greedy": str(first[0][1]) == "True"}
    return {"output": str(first[0])}


def by_language(samples: Samples) -> dict[str, dict[str, list[Record]]]:
    """Return samples as predictions: task without its language, language, records.

    Args:
        samples: The records.

    Example:
        >>> by_language({"xnli_fr": {0: {"id": "0"}}, "belebele_fra_Latn": {}, "piqa": {}}).keys()
        dict_keys(['xnli', 'belebele', 'piqa'])
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for task, records in samples.items():
        name, lang = split_name(task)
        found.setdefault(name, {})[lang] = list(records.values())
    return found


def split_name(task: str) -> tuple[str, str]:
    """Return a task's name without its language, and the language; ``all`` where it names none.

    Example:
        >>> split_name("global_mmlu_sw_law"), split_name("belebele_fra_Latn"), split_name("piqa")
        (('global_mmlu_law', 'sw'), ('belebele', 'fr'), ('piqa', 'all'))
    """
    parts = task.split("_")
    for code in LISTED:
        known = language(code)
        flores = known.flores.split("_")
        for i in range(1, len(parts)):
            size = 2 if parts[i : i + 2] == flores else 1 if parts[i] in (code, known.name.lower()) else 0
            if size:
                return "_".join(parts[:i] + parts[i + size :]), code
    return task, "all"


def as_in(
    samples: Samples, predictions: Mapping[str, Mapping[str, list[Record]]]
) -> dict[str, dict[str, list[Record]]]:
    """Return samples under the tasks, languages and ids that a run of ours has for the same documents.

    Args:
        samples: The harness' records.
        predictions: Ours.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for task, languages in predictions.items():
        for lang, records in languages.items():
            rows = [
                samples[record["harness_task"]][record["doc_id"]]
                | {name: record[name] for name in ("id", "part", "group") if name in record}
                for record in records
                if record.get("doc_id") in samples.get(record.get("harness_task", ""), {})
            ]
            if rows:
                found.setdefault(task, {})[lang] = rows
    return found


def measured_by(files: Mapping[str, Path], predictions: Mapping[str, Mapping[str, list[Record]]]) -> dict[str, Any]:
    """Return how samples are measured, as results.json has it: from the harness' results, else by the metrics' names.

    Args:
        files: Task to the file of its samples.
        predictions: Task to language to records.
    """
    results = [read_json(file) for file in sorted(next(iter(files.values())).parent.glob("results_*.json"))]
    content = results[-1] if results else {}
    found = {}
    for task, languages in predictions.items():
        metrics = {lang: _metrics(records, content) for lang, records in languages.items() if records}
        pivot = "en" if "en" in metrics else None
        # documents of one number may be translations: taken for one cluster, intervals are not too narrow
        shared: dict[str, Any] = {"pair_metrics": [], "pairs": [], "pivot": pivot, "aligned": True, "headline": True}
        found[task] = {"metrics": metrics, **shared}
    return found


def _metrics(records: list[Record], results: dict[str, Any]) -> list[dict[str, Any]]:
    task, first = records[0]["harness_task"], records[0]
    listed = results.get("configs", {}).get(task, {}).get("metric_list") or []
    named = {entry["metric"]: entry.get("aggregation") for entry in listed if isinstance(entry.get("metric"), str)}
    higher = results.get("higher_is_better", {}).get(task, {})
    found = []
    for key, value in first["values"].items():
        metric = key.partition(",")[0]
        aggregation = aggregation_of(named.get(metric), metric, value)
        if aggregation is None:
            log.warning("%s: metric '%s' is left out: samples do not hold its values", task, key)
            continue
        better = better_of(metric, higher.get(metric))
        found.append(describe_metric(harness_metric(key, aggregation, better, judged(metric, first))))
    return found
