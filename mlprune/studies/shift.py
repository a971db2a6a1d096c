"""Whether a gain is a shift of labels: what constants on the dense model's scores give on the same rows."""

from collections.abc import Sequence

from mlprune.comparison.controls import fitted, matched, named
from mlprune.comparison.records import TaskRecords
from mlprune.metrics import Accuracy
from mlprune.studies.decision import Shift
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.evidence import Evidence, evidence_of

MEASURE = Accuracy.measures[0].name
Side = Sequence[TaskRecords]


def shifts_of(
    sides: Sequence[tuple[Side, Side]], endpoint: Endpoint, recipe: str, seed: int = 0, reference: str = "dense"
) -> list[Shift] | list[None]:
    """Return what constants with the recipe's own label shares explain of each piece of its evidence.

    Of constants that all languages share and constants of each language, the ones that leave less of the gain count.

    Args:
        sides: For each calibration seed the reference's records and the recipe's, of the same examples in one order.
        endpoint: What decides.
        recipe: The recipe's name.
        seed: Seed of resampling and swapping.
        reference: The reference's name.

    Returns:
        One for each piece of evidence; None where the endpoint is no accuracy, or a task has no fixed set of labels.
    """
    if endpoint.metric != MEASURE:
        return [None]
    kinds = []
    for by_language in (False, True):
        controls = [
            [matched(one, two, by_language) for one, two in zip(dense, pruned, strict=True) if _decides(one, endpoint)]
            for dense, pruned in sides
        ]
        if any(control is None for found in controls for control in found):
            return [None]
        shifted = [[control.records for control in found if control is not None] for found in controls]
        system = named(reference, next(control.name for found in controls for control in found if control is not None))
        plain = [[one for one in dense if _decides(one, endpoint)] for dense, _ in sides]
        judged = [[two for two in side if _decides(two, endpoint)] for _, side in sides]
        alone = evidence_of(plain[0], shifted, endpoint, system, reference, seed, plain)
        beyond = evidence_of(shifted[0], judged, endpoint, recipe, system, seed, shifted)
        kinds.append([Shift(*pair) for pair in zip(alone, beyond, strict=True)])
    return [min(pair, key=lambda shift: _low(shift.beyond)) for pair in zip(*kinds, strict=True)]


def fitted_evidence(judged: Side, chosen: Side, endpoint: Endpoint, seed: int = 0) -> list[tuple[Evidence, Side]]:
    """Return what the constants of highest accuracy on the rows that choose give on those that judge.

    Args:
        judged: The dense model's records of the rows that judge.
        chosen: Its records of the rows that choose.
        endpoint: What decides.
        seed: Seed of resampling and swapping.

    Returns:
        For constants that languages share and of each language, evidence of the average and the dense model with them;
        none where the endpoint is no accuracy, or a task has no fixed set of labels.
    """
    by_task = {task.task: task for task in chosen}
    pairs = [(task, by_task[task.task]) for task in judged if task.task in by_task and _decides(task, endpoint)]
    if endpoint.metric != MEASURE or not pairs:
        return []
    found: list[tuple[Evidence, Side]] = []
    for by_language in (False, True):
        controls = [fitted(*pair, by_language) for pair in pairs]
        records = [control.records for control in controls if control is not None]
        if len(records) < len(pairs) or controls[0] is None:
            return []
        system = named("dense", controls[0].name)
        (evidence, *_) = evidence_of([task for task, _ in pairs], [records], endpoint, system, seed=seed)
        found.append((evidence, records))
    return found


def _decides(task: TaskRecords, endpoint: Endpoint) -> bool:
    return endpoint.tasks is None or task.task in endpoint.tasks


def _low(evidence: Evidence) -> float:
    return evidence.total[0] if evidence.total is not None else float("-inf")
