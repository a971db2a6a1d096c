"""Figures over languages: the non-English average and cross-lingual consistency."""

import math
from typing import Any

import torch

from mlprune.metrics import RankC

Figures = dict[str, Any]


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


def consistency(records: dict[str, list[dict[str, Any]]], device: torch.device | str = "cpu") -> dict[str, float]:
    """Return RankC of English (or the first language) against every other, paired by example id.

    A collective under torch.distributed: every process calls it with its own records.

    Args:
        records: Language to records with ``id`` and ``scores``.
        device: Where collectives run.

    Example:
        >>> consistency({"en": [{"id": "0", "scores": [2.0, 1.0]}], "fr": [{"id": "0", "scores": [0.5, 0.1]}]})
        {'en-fr': 1.0}
    """
    pivot = "en" if "en" in records else next(iter(records))
    result = {}
    for lang in (lang for lang in records if lang != pivot):
        other = {record["id"]: record["scores"] for record in records[lang]}
        pairs = [(record["scores"], other[record["id"]]) for record in records[pivot] if record["id"] in other]
        metric = RankC().to(device)
        for width in sorted({len(first) for first, _ in pairs}):
            same = [(first, second) for first, second in pairs if len(first) == width and len(second) == width]
            first, second = (torch.tensor(part, dtype=torch.float64) for part in zip(*same, strict=True))
            metric.update(first, second)
        value = float(metric.compute())
        if not math.isnan(value):
            result[f"{pivot}-{lang}"] = value
    return result
