"""The settings by which loggers tell runs apart; the same names in every run, so that they are columns."""

from typing import Any

import torch
from torch.nn import Parameter

from mlprune.callbacks.gradual import GradualPruning
from mlprune.callbacks.pruning import PruningCallback
from mlprune.run import Run
from mlprune.runs.facts import describe, digest
from mlprune.runs.inputs import read_inputs

METHOD = ("importance", "pattern", "allocation", "propagate")
NOT_DATA = ("model ", "ckpt_path")  # how the names of other inputs begin


def settings_of(run: Run) -> dict[str, Any]:
    """Return a run's settings, as text and numbers, when its first stage begins.

    Args:
        run: The run, whose folder is settled.
    """
    data, source = run.data, run.module.source
    return {
        "model": source.name,
        "dtype": source.dtype,
        **_method(run),
        "learning_rate": _learning_rate(run) if run.trains else 0.0,
        "languages": " ".join(_languages(run)),
        "groups": "+".join(run.groups),
        "num_prompts": max(map(len, data.chosen.values()), default=0),
        "data_hash": _data_hash(run),
        "seed": data.seed,
    }


def _method(run: Run) -> dict[str, Any]:
    """How the weights were or will be pruned; of a dense model that stays dense, nothing and 0."""
    recipe = run.module.recipe
    pruning = next((callback for callback in run.callbacks if isinstance(callback, PruningCallback)), None)
    if pruning is not None and pruning.sweep is not None:
        return _planned(run, pruning) | {"sparsity": " ".join(f"{level:g}" for level in pruning.sweep)}
    if run.is_study:
        return dict.fromkeys((*METHOD, "sparsity"), "by recipe")
    if pruning is not None and run.schedule is pruning and not recipe:
        return _planned(run, pruning)
    return {name: str(recipe.get(name, "none")) for name in METHOD} | {"sparsity": recipe.get("sparsity", 0.0)}


def _planned(run: Run, pruning: PruningCallback) -> dict[str, Any]:
    pruner = pruning.pruner
    final = next((callback.final for callback in run.callbacks if isinstance(callback, GradualPruning)), None)
    return {
        "importance": describe(pruner.importance),
        "pattern": describe(pruner.pattern),
        "allocation": describe(pruner.allocation) if pruner.allocation else "uniform",
        "propagate": pruning.propagation.name,
        "sparsity": pruner.pattern.sparsity if final is None else final,
    }


def _learning_rate(run: Run) -> float:
    """The optimizer's, of a parameter of its own."""
    rate: float = run.module.optimizer([Parameter(torch.zeros(1))]).param_groups[0]["lr"]
    return float(rate)


def _languages(run: Run) -> list[str]:
    """Those evaluated; without tasks, those of the prompts."""
    tasks = [lang for task in run.data.tasks for lang in task.languages]
    prompts = [lang for demonstrations in run.data.demonstrations.values() for lang in demonstrations.languages()]
    return list(dict.fromkeys(tasks or prompts))


def _data_hash(run: Run) -> str:
    """Of prompts, tasks and their examples, as far as the run uses them."""
    inputs = read_inputs(run.folder)
    contents = {} if inputs is None else inputs.contents
    return digest({name: sha for name, sha in contents.items() if not name.startswith(NOT_DATA)})
