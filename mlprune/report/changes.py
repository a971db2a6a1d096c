"""Examples whose prediction changed between the dense and the pruned model, for better and for worse."""

from typing import Any

from mlprune.report.reading import Predictions

Example = dict[str, Any]


def changed_predictions(before: Predictions, after: Predictions, limit: int = 10) -> dict[str, list[Example]]:
    """Return changed examples, taken in turn from every task and language.

    Args:
        before: Predictions of the dense model.
        after: Predictions of the pruned model.
        limit: At most so many of each kind.

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
            kind = {True: "better", False: "worse"}.get(second["prediction"] == first["label"])
            if kind == "better" or first["prediction"] == first["label"]:
                found[kind].append({"task": task, "lang": lang, "dense": first, "pruned": second})
        for kind, examples in found.items():
            queues[kind].append(examples)
    return {kind: _in_turn(examples, limit) for kind, examples in queues.items()}


def translations(before: Predictions, after: Predictions, limit: int = 10) -> list[Example]:
    """Return translations of both models side by side, different ones first.

    Args:
        before: Predictions of the dense model.
        after: Predictions of the pruned model; may be empty.
        limit: At most so many.
    """
    queues = []
    for task, lang, pairs in _paired(before, after or before):
        found = [
            {"task": task, "lang": lang, "dense": first, "pruned": second if after else None}
            for first, second in pairs
            if "output" in first
        ]
        queues.append(sorted(found, key=lambda e: after is not None and e["dense"] == e["pruned"]))
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
