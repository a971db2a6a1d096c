"""Examples whose prediction changed between two systems, for better and for worse, and what both generated."""

from collections.abc import Mapping
from typing import Any

from mlprune.runs.content import Predictions
from mlprune.runs.reading import Json

Example = dict[str, Any]
LEGACY: Json = {"answer": "output", "given": ["reference"]}  # a file of schema 1 does not say


def changed_predictions(before: Predictions, after: Predictions, limit: int = 10) -> dict[str, list[Example]]:
    """Return changed examples, taken in turn from every task and language.

    Args:
        before: Predictions of the first system.
        after: Predictions of the second.
        limit: Maximum number of each kind.

    Returns:
        ``better`` (wrong before, right after) and ``worse``.

    Example:
        >>> wrong = {"id": "0", "label": "a", "prediction": "b"}
        >>> right = wrong | {"prediction": "a"}
        >>> found = changed_predictions({"nli": {"fr": {"0": wrong}}}, {"nli": {"fr": {"0": right}}})
        >>> found["better"][0]["lang"], found["worse"]
        ('fr', [])
    """
    queues: dict[str, list[list[Example]]] = {"better": [], "worse": []}
    for task, lang, pairs in _paired(before, after):
        found: dict[str, list[Example]] = {"better": [], "worse": []}
        for first, second in pairs:
            if "prediction" not in first or first["prediction"] == second.get("prediction"):
                continue
            kind = "better" if second["prediction"] == first["label"] else "worse"
            if kind == "better" or first["prediction"] == first["label"]:
                found[kind].append({"task": task, "lang": lang, "before": first, "after": second})
        for kind, examples in found.items():
            queues[kind].append(examples)
    return {kind: _in_turn(examples, limit) for kind, examples in queues.items()}


def generated_answers(results: Json, systems: Mapping[str, Predictions], limit: int = 10) -> list[Example]:
    """Return what one system or two generated, side by side, different answers first.

    Args:
        results: Content of results.json, which says under which key a task's records have the answer.
        systems: Name to predictions.
        limit: Maximum number.

    Returns:
        Examples with ``shown``: what is shown of each, name to text.

    Example:
        >>> results = {"measured_by": {"qa": {"answer": "output", "given": ["gold"]}}}
        >>> record = {"id": "0", "gold": "a cat", "output": "cat"}
        >>> generated_answers(results, {"dense": {"qa": {"fr": {"0": record}}}})[0]["shown"]
        {'gold': 'a cat', 'dense': 'cat'}
    """
    queues = []
    names, sides = list(systems), list(systems.values())
    for task, lang, pairs in _paired(sides[0], sides[-1]) if sides else []:
        measured = results.get("measured_by", {}).get(task, LEGACY)
        key, found = measured["answer"], []
        for first, second in pairs:
            if key is None or not isinstance(first.get(key), str) or "label" in first:
                continue
            shown = {name: str(first[name]) for name in ("source", *measured["given"]) if name in first}
            shown |= {names[0]: first[key], names[-1]: str(second.get(key))}
            found.append({"task": task, "lang": lang, "id": first["id"], "shown": shown})
        queues.append(sorted(found, key=lambda e: e["shown"][names[0]] == e["shown"][names[-1]]))
    return _in_turn(queues, limit)


def _paired(before: Predictions, after: Predictions) -> list[tuple[str, str, list[tuple[Example, Example]]]]:
    return [
        (task, lang, [(records[key], after[task][lang][key]) for key in records if key in after[task][lang]])
        for task, languages in before.items()
        for lang, records in languages.items()
        if lang in after.get(task, {})
    ]


def _in_turn(queues: list[list[Example]], limit: int) -> list[Example]:
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)][:limit]
