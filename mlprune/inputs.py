"""What a run is computed from, hashed part by part: the model's files, prompts, tasks and their examples."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlprune.data.corpora import Corpus
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.models.folder import shard_files
from mlprune.module import PruningModule
from mlprune.runs.facts import digest
from mlprune.runs.inputs import Part

INPUTS = "inputs"  # their key in results.json
MODEL_FILE = "model file "
MODEL_FILES = (  # beside the weights
    *("*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.py"),
    *("*.txt", "*.model", "*.tiktoken", "*.bpe", "*.spm", "*.vocab"),
)


def model_parts(module: PruningModule) -> dict[str, Part]:
    """Return the model's settings and files: weights, configuration, tokenizer.

    Args:
        module: The model, which need not be loaded.
    """
    source = module.source
    settings = {
        "dtype": source.dtype,
        "attn_implementation": source.attn_implementation,
        "tokenizer_options": source.tokenizer_options,
        "interventions": plain(module.interventions),
        **({} if module.recheck else {"recheck": False}),
    }
    folder = source.folder()
    beside = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}
    files = [*sorted(beside), *(folder / name for name in shard_files(folder))]
    parts = {f"{MODEL_FILE}{file.relative_to(folder)}": Part.of_file(file) for file in files}
    return {"model settings": Part(digest(settings)), **parts}


def reduction_parts(module: PruningModule) -> dict[str, Part]:
    """Return what the steps that make the model smaller work from, besides the model.

    Args:
        module: The model, which need not be loaded.
    """
    return {
        f"inputs of step {i} of model.smaller": Part(digest(step.inputs())) for i, step in enumerate(module.smaller, 1)
    }


def task_parts(data: PruningDataModule) -> dict[str, Part]:
    """Return the tasks' settings and examples, solved ones included.

    Args:
        data: The tasks, whose examples have been read.
    """
    parts = {}
    for task in data.tasks:
        parts[f"task {task.name}, settings"] = Part(digest(plain(task)))
        for lang, examples in data.examples(task).items():
            content = digest(plain([examples, task.shots_for(lang)]))
            parts[f"task {task.name}, examples {lang}"] = Part(content, _origin(task.corpus, lang))
    return parts


def evaluated_parts(module: PruningModule, data: PruningDataModule) -> dict[str, Part]:
    """Return everything that an evaluation depends on.

    Args:
        module: The model, which need not be loaded.
        data: The tasks, whose examples have been read.
    """
    return {**model_parts(module), **task_parts(data)}


def prompt_parts(data: PruningDataModule) -> dict[str, Part]:
    """Return the prompts of calibration and the texts of recovery training, as far as they have been chosen.

    Args:
        data: Where they are.
    """
    parts = {}
    for kind, demonstrations, chosen in (
        ("calibration prompts", data.demonstrations, data.chosen),
        ("training texts", data.training, data.chosen_training),
    ):
        for group, prompts in chosen.items():
            source = demonstrations[group]
            origins = dict.fromkeys(_origin(source.corpus, lang) for lang in source.languages())
            parts[f"{kind} of group {group}"] = Part(digest(plain(prompts)), ", ".join(filter(None, origins)))
    return parts


def _origin(corpus: Corpus, lang: str) -> str:
    try:
        return corpus.origin(lang)
    except UserError:  # it is gone, and its rows were given otherwise
        return ""


def plain(value: Any) -> Any:
    """Return a value as JSON-able content: objects as the name of their class with their public settings.

    Example:
        >>> from mlprune.interventions import FeatureAblation
        >>> plain([FeatureAblation({1: [0]})])
        [{'class': 'FeatureAblation', 'features': {'1': [0]}, 'keep_only': False}]
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    if isinstance(value, Path) or not hasattr(value, "__dict__"):
        return re.sub(r" at 0x\w+", "", str(value))  # an address is another in every process
    settings = {name: plain(item) for name, item in vars(value).items() if not name.startswith("_")}
    return {"class": type(value).__name__, **settings}
