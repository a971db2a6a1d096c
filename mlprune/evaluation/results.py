"""What results.json says of a task: figures by language, and what only several languages together have."""

import math
from typing import TYPE_CHECKING, Any

import torch

from mlprune.metrics import ExpectedRankC, RankC

if TYPE_CHECKING:
    from mlprune.evaluation.tasks import Task

Figures = dict[str, Any]
Records = list[dict[str, Any]]


def summarize(
    task: "Task", figures: dict[str, Figures], records: dict[str, Records], device: torch.device | str = "cpu"
) -> dict[str, dict[str, Any]]:
    """Return a task's part of every section of results.json.

    A collective under torch.distributed: every process calls it with its own records.

    Args:
        task: The task.
        figures: Language to what its metric computed, over all processes.
        records: Language to this process' records.
        device: Where collectives run.

    Returns:
        Section name to entries, to be merged with those of the other tasks.

    Example:
        >>> from mlprune.evaluation.tasks import PerplexityTask
        >>> summarize(PerplexityTask(["fr"]), {"fr": {"bits_per_char": 1.5, "n": 3}}, {"fr": []})
        {'perplexity': {'fr': {'bits_per_char': 1.5, 'n': 3}}}
    """
    if task.kind == "perplexity":
        return {"perplexity": figures}
    if task.kind == "translation":
        prefix = "" if task.name == "translation" else f"{task.name}:"
        directions = {f"{prefix}{lang}-{task.target_lang}": entry for lang, entry in figures.items()}
        if len(directions) > 1:
            overall = task.metric(next(iter(figures))).to(device)
            for lang in figures:
                task.update(overall, records[lang])
            directions[f"{prefix}all-{task.target_lang}"] = overall.compute()
        return {"translation": directions}
    sections: dict[str, dict[str, Any]] = {
        "tasks": {task.name: figures},
        "average": {task.name: average_accuracy(figures)},
    }
    if task.aligned and len(records) > 1:
        pairs = consistency(records, device, task.rankc_matrix)
        sections["rankc"] = {task.name: {pair: entry["rankc"] for pair, entry in pairs.items()}}
        sections["rankc_expected"] = {task.name: {pair: entry["expected"] for pair, entry in pairs.items()}}
    return sections


def average_accuracy(figures: dict[str, Figures]) -> dict[str, Figures]:
    """Return the unweighted mean accuracy over the languages that are not English.

    The 95% interval is the normal one of a mean of independent proportions.

    Args:
        figures: Language to ``accuracy`` and ``n``.

    Returns:
        ``{"non_en": {"accuracy", "ci95"}}``, or nothing if there is no such language.

    Example:
        >>> average_accuracy({"en": {"accuracy": 1.0, "n": 4}, "fr": {"accuracy": 0.5, "n": 100}})["non_en"]["accuracy"]
        0.5
    """
    others = [entry for lang, entry in figures.items() if lang != "en" and "accuracy" in entry]
    if not others:
        return {}
    mean = sum(entry["accuracy"] for entry in others) / len(others)
    variance = sum(entry["accuracy"] * (1 - entry["accuracy"]) / entry["n"] for entry in others) / len(others) ** 2
    half = 1.959963984540054 * math.sqrt(variance)
    return {"non_en": {"accuracy": mean, "ci95": [max(0.0, mean - half), min(1.0, mean + half)]}}


def consistency(
    records: dict[str, Records], device: torch.device | str = "cpu", matrix: bool = False
) -> dict[str, dict[str, float]]:
    """Return RankC of English (or the first language) against every other, paired by example id.

    A collective under torch.distributed: every process calls it with its own records.

    Args:
        records: Language to records with ``id`` and ``scores``.
        device: Where collectives run.
        matrix: Return every pair of languages.

    Returns:
        Pair of languages to ``rankc``, and to ``expected``: what random rankings of as many candidates have on average.

    Example:
        >>> english, french = {"id": "0", "scores": [2.0, 1.0]}, {"id": "0", "scores": [0.5, 0.1]}
        >>> consistency({"en": [english], "fr": [french]})["en-fr"]["rankc"]
        1.0
    """
    languages = list(records)
    pivots = languages if matrix else ["en" if "en" in languages else languages[0]]
    by_id = {lang: {record["id"]: record["scores"] for record in records[lang]} for lang in languages}
    result = {}
    for i, pivot in enumerate(pivots):
        for lang in languages[i + 1 :] if matrix else [lang for lang in languages if lang != pivot]:
            pairs = [(scores, by_id[lang][key]) for key, scores in by_id[pivot].items() if key in by_id[lang]]
            entry = _compare(pairs, device)
            if not math.isnan(entry["rankc"]):
                result[f"{pivot}-{lang}"] = entry
    return result


def _compare(pairs: list[tuple[list[float], list[float]]], device: torch.device | str) -> dict[str, float]:
    metrics = {"rankc": RankC().to(device), "expected": ExpectedRankC().to(device)}
    for width in sorted({len(first) for first, _ in pairs}):
        same = [(first, second) for first, second in pairs if len(first) == width and len(second) == width]
        if same:
            first, second = (torch.tensor(part, dtype=torch.float64) for part in zip(*same, strict=True))
            for metric in metrics.values():
                metric.update(first, second)
    return {name: float(metric.compute()) for name, metric in metrics.items()}
