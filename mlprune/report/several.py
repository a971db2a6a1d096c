"""Several runs on one page: which systems they hold, the dense one once, and how they compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlprune.comparison import Difference, compare_all, read_differences, read_figures
from mlprune.errors import UserError
from mlprune.metrics import Figure
from mlprune.present import Table
from mlprune.present.rows import matrix_tables, several_tables
from mlprune.runs.content import RunContent
from mlprune.runs.reading import Json


@dataclass(frozen=True)
class System:
    """One evaluation of one run.

    Args:
        name: What tables and charts call it.
        run: The run.
        stage: ``dense``, ``pruned`` or ``trained``.
    """

    name: str
    run: RunContent
    stage: str


def systems_of(runs: Sequence[RunContent]) -> list[System]:
    """Return the evaluations of one run or several, dense ones first; equal dense results are one system.

    Args:
        runs: At least one.
    """
    if len(runs) == 1:
        return [System(stage, runs[0], stage) for stage in runs[0].results]
    dense = [_values(run.results["dense"]) for run in runs if "dense" in run.results]
    one_dense = all(other[key] == dense[0][key] for other in dense for key in other.keys() & dense[0].keys())
    found: dict[str, System] = {}
    for stage in dict.fromkeys(stage for run in runs for stage in run.results):
        for run in runs:
            if stage in run.results:
                name = "dense" if one_dense and stage == "dense" else f"{run.name} {stage}"
                found.setdefault(name, System(name, run, stage))
    return list(found.values())


def _values(results: Json) -> dict[tuple[str, str, str], tuple[float | None, int]]:
    """Value and number of examples by task, measure and language."""
    return {(row.task, row.measure.name, row.language): (row.value, row.n) for row in read_figures(results)}


def figures_by_system(systems: Sequence[System]) -> dict[str, list[Figure]]:
    """Return the figures of each system by its name."""
    return {system.name: read_figures(system.run.results[system.stage]) for system in systems}


@dataclass(frozen=True)
class Compared:
    """How several systems compare.

    Args:
        differences: Each with the first one.
        tables: The first one's figures once, beside the differences of all others; then every pair's averages.
        problem: Why nothing was compared; empty if it was.
    """

    differences: Sequence[Difference] = ()
    tables: Sequence[Table] = ()
    problem: str = ""

    def of(self, name: str) -> list[Difference]:
        """Return the differences of one system from the first."""
        return [row for row in self.differences if row.system == name]


def compared(systems: Sequence[System]) -> Compared:
    """Compare systems on the examples that they have in common, without loading a model.

    Args:
        systems: At least two; those whose predictions were removed are left out.
    """
    known = [system for system in systems if system.run.predictions.get(system.stage)]
    if len(known) < 2:
        return Compared(problem="fewer than two of the runs have their predictions")
    names = [system.name for system in known]
    try:
        found = compare_all([system.run.predictions_folder(system.stage) for system in known], names)
    except UserError as error:
        return Compared(problem=str(error))
    rows = read_differences(found)
    shown = [row for row in rows if not row.measure.detail]
    pairs = [row for row in map(Difference.from_json, found["matrix"]) if not row.measure.detail]
    return Compared(rows, [*several_tables(shown), *(matrix_tables(pairs, names) if len(names) > 2 else [])])


def steps(systems: Sequence[System]) -> list[Compared]:
    """Compare each system of a run with the one before it: what pruning did, then what training did.

    Args:
        systems: The run's systems in their order.
    """
    return [compared(pair) for pair in pairwise(systems)]
