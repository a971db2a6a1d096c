"""The dense model's results: kept under separate names, or taken from a run that already has them."""

import json
import shutil
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_json
from mlprune.inputs import INPUTS, evaluated_parts
from mlprune.run import Run
from mlprune.runs.inputs import hashes
from mlprune.runs.unfinished import Unfinished

RESULTS, PREDICTIONS = "results.dense.json", "predictions.dense"
PRUNED_RESULTS, PRUNED_PREDICTIONS = "results.pruned.json", "predictions.pruned"  # before recovery training


def has_dense(folder: Path) -> bool:
    """Return whether a run's folder has the dense model's results."""
    return (folder / RESULTS).is_file()


def keep_dense(folder: Path) -> None:
    """Rename the dense model's results."""
    _rename(folder, RESULTS, PREDICTIONS)


def has_pruned(folder: Path) -> bool:
    """Return whether a run's folder has the results of the pruned model before recovery training."""
    return (folder / PRUNED_RESULTS).is_file()


def keep_pruned(folder: Path) -> None:
    """Rename the results of the pruned model, which recovery training follows."""
    Unfinished(folder).forget_records("pruned")  # first, since the trained model's are kept under the same name
    _rename(folder, PRUNED_RESULTS, PRUNED_PREDICTIONS)


def _rename(folder: Path, results: str, predictions: str) -> None:
    """Rename an evaluation; results.json comes last, since its new name marks the step as done."""
    shutil.rmtree(folder / predictions, ignore_errors=True)
    (folder / "predictions").rename(folder / predictions)
    (folder / "results.json").rename(folder / results)


def find_dense(other: Path) -> tuple[Path, Path]:
    """Return the results file and the predictions of a run's dense evaluation.

    Args:
        other: Folder of a run of ``fit``, or of ``test`` on a dense model.

    Raises:
        UserError: If it has none.
    """
    for results, predictions in ((RESULTS, PREDICTIONS), ("results.json", "predictions")):
        if (other / results).is_file() and (other / predictions).is_dir():
            if _read(other / results).get("stage") != "dense":
                break
            return other / results, other / predictions
    raise UserError(f"--dense '{other}': no results of a dense model there; give the folder of a run of fit or test")


def check_dense(other: Path, run: Run) -> None:
    """Raise UserError, naming what differs, unless a run's dense results are those that this run would compute.

    Args:
        other: The other run's folder.
        run: This run, whose examples have been read.
    """
    there = _read(find_dense(other)[0]).get(INPUTS)
    if not isinstance(there, dict):
        raise UserError(f"--dense '{other}': its results do not say what they were computed from; leave --dense out")
    here = hashes(evaluated_parts(run.module, run.data))
    differing = [part for part in {**here, **there} if here.get(part) != there.get(part)]
    if differing:
        named = "; ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise UserError(f"--dense '{other}' evaluated something else: {named}; leave --dense out")


def take_dense(other: Path, folder: Path) -> None:
    """Copy a run's dense results and predictions into this run's folder; the results come last.

    Args:
        other: The other run's folder.
        folder: This run's folder.
    """
    results, predictions = find_dense(other)
    shutil.rmtree(folder / PREDICTIONS, ignore_errors=True)
    with whole_folder(folder / PREDICTIONS) as partial:
        shutil.copytree(predictions, partial, dirs_exist_ok=True)
    write_json(folder / RESULTS, _read(results))


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
