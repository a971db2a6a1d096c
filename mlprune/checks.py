"""What is wrong with a configuration, told before anything is built."""

from collections.abc import Hashable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml

from mlprune.errors import UserError
from mlprune.plain import one_line

SECTIONS = ("model", "data", "trainer", "pruning")
WHOLE_LOADERS = {  # a part of these would be a part of a model, or of a test
    "overfit_batches": (0.0, "data.num_prompts or data.limit"),
    "limit_val_batches": (1.0, "data.num_prompts"),
    "limit_test_batches": (1.0, "data.limit"),
}


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML readers silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise UserError(f"key '{key.value}' is given twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def check_files(args: list[str]) -> None:
    """Raise UserError if a configuration file on the command line holds something else than settings.

    Args:
        args: The command line after the program's name.
    """
    for flag, following in pairwise([*args, ""]):
        name = following if flag in ("--config", "-c") else flag.removeprefix("--config=")
        if not flag.startswith(("--config", "-c")) or not Path(name).is_file():
            continue  # the parser tells what is missing
        try:
            settings = yaml.load(Path(name).read_text(encoding="utf-8"), _UniqueKeys)
        except yaml.YAMLError as error:
            raise UserError(f"--config {name}: not YAML: {one_line(str(error))}") from error
        except UserError as error:
            raise UserError(f"--config {name}: {error}") from error
        if not isinstance(settings, dict):
            raise UserError(
                f"--config {name}: holds no settings; give keys and values, such as `model: {{name: demo}}`"
            )
        for section in SECTIONS:
            if section in settings and not isinstance(settings[section], dict):
                value = settings[section]
                told = "is empty; leave it out or give" if value is None else f"'{value}' is not allowed; give"
                raise UserError(f"--config {name}: {section}: {told} keys and values")
        if "seed" in settings.get("data", {}):
            raise UserError(f"--config {name}: data.seed follows seed_everything, the run's one seed; give that")


def check_trainer(subcommand: str, trainer: Any) -> None:
    """Raise UserError if a trainer's setting makes no sense here, or would only fail when the model is pruned.

    Args:
        subcommand: fit, validate or test.
        trainer: The section ``trainer`` as parsed.
    """
    for key, (whole, instead) in WHOLE_LOADERS.items():
        value = trainer[key]
        if value not in (None, whole):
            what = "evaluate a part of each test" if key == "limit_test_batches" else "prune half a model"
            raise UserError(f"trainer.{key} {value} would {what}; leave it out and use {instead} instead")
    if subcommand != "fit":
        return
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs is not None and epochs < 0 and steps < 0:
        raise UserError(f"trainer.max_epochs {epochs} would never end; give 0 or more")
    if epochs is None and steps < 0:
        raise UserError("trainer.max_epochs null would train for a thousand epochs; give a number, or max_steps")
    for key in ("max_steps", "min_steps", "min_epochs"):
        if epochs == 0 and (trainer[key] or 0) > 0:
            raise UserError(
                f"trainer.{key} {trainer[key]} trains nothing with trainer.max_epochs 0; give max_epochs too"
            )
    for key in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        if trainer[key] is not None and trainer[key] < 1:
            raise UserError(f"trainer.{key} {trainer[key]} is not allowed; give at least 1")
    if trainer.val_check_interval not in (None, 1.0):
        value = trainer.val_check_interval
        raise UserError(f"trainer.val_check_interval {value}: recovery training validates nothing; leave it out")


def check_checkpoint(path: str | None) -> None:
    """Raise UserError if a file is no Lightning checkpoint, or holds more than tensors and plain values.

    Args:
        path: The file, of which only the index is read; None if there is none.
    """
    if path is None:
        return
    if not Path(path).is_file():
        raise UserError(f"ckpt_path '{path}' does not exist; give a Lightning checkpoint")
    try:
        known = "state_dict" in torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch raises pickle, zip, OS and runtime errors here, all meaning the same
        known = False
    if not known:
        raise UserError(f"ckpt_path '{path}' is no Lightning checkpoint of tensors and plain values alone")
