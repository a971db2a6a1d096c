"""Tasks and groups of the harness by name, each as its leaf tasks; the same in every version of its API."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlprune.errors import UserError, did_you_mean, reason_of
from mlprune.evaluation.harness.installed import quiet, seeded
from mlprune.files import to_json
from mlprune.log import log

OUTPUTS = ("loglikelihood", "loglikelihood_rolling", "generate_until", "multiple_choice")


@dataclass(frozen=True)
class Loaded:
    """What one name of the harness stands for.

    Args:
        name: The name.
        tasks: Leaf tasks by name: one for a task, several for a group or a tag.
        by_size: Metric to whether the group weighs its tasks by their number of documents.
    """

    name: str
    tasks: dict[str, Any]
    by_size: dict[str, bool]


def load(name: str, include_path: Sequence[str], metadata: Mapping[str, Any]) -> Loaded:
    """Load a task or group of the harness, with its data.

    Args:
        name: Its name.
        include_path: Folders with further task files.
        metadata: What tasks with data of their own making take.

    Raises:
        UserError: If there is no such task, it cannot be loaded, or it runs code or needs images.
    """
    try:
        with quiet(), seeded():
            loaded = _first_loaded(name, tuple(include_path), to_json(dict(sorted(metadata.items())), "metadata"))
    except UserError:
        raise
    except Exception as error:  # task files are programs, and data sets may fail in any way
        raise UserError(f"the harness' task '{name}' cannot be loaded: {reason_of(error)[:300]}") from error
    for task_name, task in loaded.tasks.items():
        _check(task_name, task)
    return loaded


def _first_loaded(name: str, include_path: tuple[str, ...], metadata: str) -> Loaded:
    """Load a task with a manager of few files that know it, since all files take a quarter of a minute; else of all."""
    for paths in (include_path, (*_folders_of(name), *include_path)):
        if paths and name in (few := _manager(paths, False, metadata)).all_tasks:
            try:
                return _load(few, name)
            except KeyError:  # a group's tasks may be elsewhere
                continue
    log.info("reading all task files of lm-evaluation-harness, to find '%s'", name)
    everything = _manager(include_path, True, metadata)
    if name not in everything.all_tasks:
        raise UserError(f"the harness has no task '{name}'{did_you_mean(name, everything.all_tasks)}")
    return _load(everything, name)


@lru_cache(maxsize=64)
def _manager(include_path: tuple[str, ...], include_defaults: bool, metadata: str) -> Any:
    from lm_eval.tasks import TaskManager

    for path in include_path:
        if not Path(path).is_dir():
            raise UserError(f"include_path '{path}' is not a folder; give one with task files")
    paths = list(include_path) or None
    return TaskManager(include_path=paths, include_defaults=include_defaults, metadata=json.loads(metadata))


def _folders_of(name: str) -> list[str]:
    """The harness' own folders that have a file of a task's name, as most have."""
    return sorted({str(path.parent) for path in _task_files().get(name, ())})


@lru_cache(maxsize=1)
def _task_files() -> dict[str, list[Path]]:
    import lm_eval.tasks

    found: dict[str, list[Path]] = {}
    for path in Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"):
        found.setdefault(path.stem.lstrip("_"), []).append(path)
    return found


def _load(manager: Any, name: str) -> Loaded:
    if hasattr(manager, "load"):
        found = manager.load([name])
        groups = found.get("groups", {})
        return Loaded(name, dict(found["tasks"]), _by_size(groups.get(name)))
    from lm_eval.tasks import get_task_dict  # before 0.4.12

    nested = get_task_dict([name], manager)
    group = next((key for key in nested if not isinstance(key, str)), None)
    return Loaded(name, dict(_leaves(nested)), _by_size(group))


def _leaves(nested: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield str(key), value[1] if isinstance(value, tuple) else value


def _by_size(group: Any) -> dict[str, bool]:
    """Metric to whether a group weighs its tasks by size, as far as it says."""
    if group is None:
        return {}
    listed = group.aggregate_metric_list if hasattr(group, "aggregate_metric_list") else None
    if listed is None and isinstance(getattr(group, "config", None), Mapping):
        listed = group.config.get("aggregate_metric_list")
    found = {}
    for entry in listed or []:
        content = entry if isinstance(entry, Mapping) and "metric" in entry else vars(entry)
        found[str(content["metric"])] = bool(content["weight_by_size"])
    return found


def _check(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"the harness' task '{name}' runs code that the model writes, which mlprune does not do")
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"the harness' task '{name}' needs images or sound; only texts can be evaluated")
    if task.OUTPUT_TYPE not in OUTPUTS:
        raise UserError(f"the harness' task '{name}' has output_type '{task.OUTPUT_TYPE}', which cannot be answered")


def part_names(name: str, tasks: Sequence[str], codes: Sequence[str]) -> dict[str, str]:
    """Return what a group's tasks are called in every language: their names without the group's and the language's.

    Args:
        name: The group's name.
        tasks: Names of its tasks.
        codes: What the language is called in names.

    Example:
        >>> part_names("global_mmlu_fr", ["global_mmlu_fr_law", "global_mmlu_fr_stem"], ["fr", "fra_Latn"])
        {'global_mmlu_fr_law': 'law', 'global_mmlu_fr_stem': 'stem'}
        >>> part_names("xnli", ["xnli"], ["fr"])
        {'xnli': ''}
    """
    if list(tasks) == [name]:
        return {name: ""}
    language = "|".join(re.escape(code) for code in sorted(codes, key=len, reverse=True))
    found = {}
    for task in tasks:
        rest = task.removeprefix(f"{name}_")
        found[task] = re.sub(rf"(^|[_-])({language})(?=[_-]|$)", "", rest, flags=re.IGNORECASE).strip("_-") or task
    return found if len(set(found.values())) == len(found) else {task: task for task in tasks}
