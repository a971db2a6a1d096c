"""Whether a gain is a shift of labels: what constants on the dense model's scores give on the same rows."""

from collections.abc import Sequence
from dataclasses import replace

from mlprune.comparison.controls import Control, cross_fitted, fitted, matched, named
from mlprune.comparison.records import TaskRecords
from mlprune.metrics import measures_of
from mlprune.studies.decision import Shift
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.evidence import Evidence, evidence_of

Side = Sequence[TaskRecords]


def shifts_of(
    sides: Sequence[tuple[Side, Side]], endpoint: Endpoint, recipe: str, seed: int = 0, reference: str = "dense"
) -> list[Shift | None]:
    """Return what constants with the recipe's own label shares explain of each piece of its evidence.

    Of constants that all languages share and constants of each language, the ones that leave less of the gain count.
    In an average over tasks, those without a fixed set of labels stand as they are.

    Args:
        sides: For each calibration seed the reference's records and the recipe's, of the same examples in one order.
        endpoint: What decides.
        recipe: The recipe's name.
        seed: Seed of resampling and swapping.
        reference: The reference's name.

    Returns:
        One for each piece of evidence; None where it is of tasks without a fixed set of labels, for all where no task
        has one, or the endpoint is not measured of single records.
    """
    references = [[one for one in dense if _decides(one, endpoint)] for dense, _ in sides]
    judged = [[two for two in side if _decides(two, endpoint)] for _, side in sides]
    kinds: list[list[Shift | None]] = []
    for by_language in (False, True):
        controls = [
            [matched(*pair, by_language) for pair in zip(one, two, strict=True)]
            for one, two in zip(references, judged, strict=True)
        ]
        if not all(map(any, controls)):
            return [None]
        shifted = [_with_constants(*pair) for pair in zip(references, controls, strict=True)]
        system = named(reference, next(control.name for control in controls[0] if control is not None))
        alone = evidence_of(references[0], shifted, endpoint, system, reference, seed, references)
        beyond = evidence_of(shifted[0], judged, endpoint, recipe, system, seed, shifted)
        plain = {task.task for task, control in zip(references[0], controls[0], strict=True) if control is None}
        kinds.append(
            [None if one.row.task in plain else Shift(one, two) for one, two in zip(alone, beyond, strict=True)]
        )
    return [None if one is None or two is None else min(one, two, key=_left) for one, two in zip(*kinds, strict=True)]


def fitted_evidence(
    judged: Side, chose: Side | None, endpoint: Endpoint, seed: int = 0
) -> list[tuple[list[Evidence], Side]]:
    """Return what the constants of highest accuracy on other rows give on those that judge.

    Args:
        judged: The dense model's records of the rows that judge.
        chose: Its records of the rows that choose, by which constants are fitted; if there are none, they are fitted
            by five-fold cross-fitting over clusters.
        endpoint: What decides.
        seed: Seed of resampling, swapping, and dealing clusters to folds.

    Returns:
        For constants that languages share and of each language, their evidence and the dense model with them; none
        where no task has a fixed set of labels, or the endpoint is not measured of single records.
    """
    tasks = [task for task in judged if _decides(task, endpoint)]
    by_task = None if chose is None else {task.task: task for task in chose}
    found: list[tuple[list[Evidence], Side]] = []
    for by_language in (False, True):
        controls = [
            cross_fitted(task, by_language, seed)
            if by_task is None
            else fitted(task, by_task[task.task], by_language)
            if task.task in by_task
            else None
            for task in tasks
        ]
        if not any(controls):
            continue
        records = _with_constants(tasks, controls)
        system = named("dense", next(control.name for control in controls if control is not None))
        found.append((evidence_of(tasks, [records], endpoint, system, seed=seed), records))
    return found


def _with_constants(tasks: Side, controls: Sequence[Control | None]) -> Side:
    """Tasks with constants, measured as without them; a task that has none as it is."""
    pairs = zip(tasks, controls, strict=True)
    return [task if control is None else replace(control.records, metrics=task.metrics) for task, control in pairs]


def _decides(task: TaskRecords, endpoint: Endpoint) -> bool:
    """Whether a task is among those that decide, by a measure of single records, not of pairs of languages."""
    if endpoint.tasks is not None and task.task not in endpoint.tasks:
        return False
    metrics = (metric for found in task.metrics.values() for metric in found)
    return any(measure.name == endpoint.metric for metric in metrics for measure in measures_of(metric))


def _left(shift: Shift) -> float:
    """The least gain that constants leave, as far as the interval tells."""
    beyond = shift.beyond
    if beyond.total is None:
        return float("-inf")
    return -beyond.total[1] if beyond.row.measure.higher_is_better is False else beyond.total[0]
