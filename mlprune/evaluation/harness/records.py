"""What the harness found for a document, as a record of ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlprune.metrics import Record


def values_of(task: Any, instances: Sequence[Any]) -> Record:
    """Return the harness' value of each metric, and filter where it is not ``none``, for one document.

    Args:
        task: The harness' task.
        instances: The document's requests, answered and filtered.
    """
    found: Record = {}
    for key in instances[0].filtered_resps:
        values = task.process_results(instances[0].doc, [instance.filtered_resps[key] for instance in instances])
        found |= {name if key == "none" else f"{name},{key}": plain(value) for name, value in values.items()}
    return found


def answers_of(task: Any, instances: Sequence[Any]) -> Record:
    """Return the requests and responses, for readers and for RankC.

    Args:
        task: The harness' task.
        instances: The document's requests, answered.
    """
    kind, first = task.OUTPUT_TYPE, instances[0]
    doc = first.doc
    if kind == "generate_until":
        return {"source": first.args[0], "reference": str(task.doc_to_target(doc)), "output": str(first.resps[0])}
    if kind == "loglikelihood_rolling":
        return {"text": first.args[0], "log_prob": float(first.resps[0])}
    if kind == "loglikelihood":
        log_prob, greedy = first.resps[0]
        return {"text": "".join(first.args[:2]), "log_prob": float(log_prob), "greedy": bool(greedy)}
    choices = [str(choice) for choice in task.doc_to_choice(doc)]
    scores = [float(instance.resps[0][0]) for instance in instances[: len(choices)]]
    best = int(np.argmax(scores))
    right = _right(task, doc, choices)
    label = best if best in right else right[0] if right else None
    text = "".join(instances[0 if label is None else label].args[:2])
    names = choices if len(set(choices)) == len(choices) else [f"{i}: {choice}" for i, choice in enumerate(choices)]
    found: Record = {"scores": scores, "best": best, "prediction": names[best], "text": text}
    return found | {"label": None if label is None else names[label]}


def _right(task: Any, doc: Any, choices: Sequence[str]) -> list[int]:
    """Positions of the right choices, as the harness finds them."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    found = [choices.index(one) if one in choices else one for one in (gold if isinstance(gold, list) else [gold])]
    return [one for one in found if isinstance(one, int) and 0 <= one < len(choices)]


def plain(value: Any) -> Any:
    """Return a value of the harness as JSON has it: numbers of NumPy as Python's, tuples and arrays as lists.

    Example:
        >>> plain((np.int64(1), np.array([0.5, 0.5])))
        [1, [0.5, 0.5]]
    """
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
