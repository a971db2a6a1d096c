"""Checks of a configuration, made before a model is loaded."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch.nn import Parameter

from mlprune.callbacks import PruningCallback
from mlprune.errors import UserError, one_line
from mlprune.runs.checkpoints import is_checkpoint

WHOLE_LOADERS = {  # a part of these would be only part of a model or of a test
    "overfit_batches": (0.0, "data.num_prompts or data.limit"),
    "limit_val_batches": (1.0, "data.num_prompts"),
    "limit_test_batches": (1.0, "data.limit"),
}


FLATTENING = ("fsdp", "deepspeed")  # beginnings of strategies' names
FLATTENS = (
    "trainer.strategy {} splits weights in ways that masks do not support; give auto, ddp or "
    "ModelParallelStrategy, and prune a model that is too large for a device with --pruning.streaming true"
)


def check_trainer(subcommand: str, trainer: Any) -> None:
    """Raise UserError if a trainer's setting makes no sense here, or would only fail when the model is pruned.

    Args:
        subcommand: fit, validate or test.
        trainer: The section ``trainer`` as parsed.
    """
    for key, (whole, instead) in WHOLE_LOADERS.items():
        value = trainer[key]
        if value not in (None, whole):
            what = "evaluate only part of each test" if key == "limit_test_batches" else "prune half a model"
            raise UserError(f"trainer.{key} {value} would {what}; leave it out and use {instead} instead")
    _check_accelerator(trainer.accelerator)
    if isinstance(trainer.strategy, str) and trainer.strategy.startswith(FLATTENING):  # Lightning asks for more first
        raise UserError(FLATTENS.format(trainer.strategy))
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
                f"trainer.{key} {trainer[key]} has no effect with trainer.max_epochs 0; give max_epochs too"
            )
    for key in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        if trainer[key] is not None and trainer[key] < 1:
            raise UserError(f"trainer.{key} {trainer[key]} is not allowed; give at least 1")
    if trainer.val_check_interval not in (None, 1.0):
        value = trainer.val_check_interval
        raise UserError(f"trainer.val_check_interval {value}: recovery training validates nothing; leave it out")


def _check_accelerator(name: Any) -> None:
    """Refuse a kind of device that PyTorch does not see on this machine."""
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"cuda": has_cuda, "mps": has_mps, "gpu": has_cuda or has_mps}
    if not there.get(name, True):
        raise UserError(
            f"trainer.accelerator {name}: PyTorch {torch.__version__} finds no such device here; give cpu, or auto for "
            "the best there is"
        )


def check_checkpoint(path: str | None) -> None:
    """Raise UserError if a file is not a Lightning checkpoint, or holds more than tensors and plain values.

    Args:
        path: The file; None if there is none.
    """
    if path is None:
        return
    if Path(path).is_dir():
        raise UserError(f"ckpt_path '{path}' is a folder; give a checkpoint of one file, or --resume its run")
    if not Path(path).is_file():
        raise UserError(f"ckpt_path '{path}' does not exist; give a Lightning checkpoint")
    if not is_checkpoint(Path(path)):
        raise UserError(f"ckpt_path '{path}' is not a whole Lightning checkpoint of tensors and plain values alone")


def check_strategy(trainer: Trainer) -> None:
    """Raise UserError if a strategy cannot calibrate, or cannot hold masks while a model trains."""
    strategy, world = trainer.strategy, trainer.num_devices * trainer.num_nodes
    name = type(strategy).__name__
    if isinstance(strategy, ModelParallelStrategy):
        sizes = strategy._data_parallel_size, strategy._tensor_parallel_size
        if sizes != (world, 1):
            raise UserError(
                f"trainer.strategy {name}: data_parallel_size {sizes[0]}, tensor_parallel_size {sizes[1]} is not "
                f"supported; give data_parallel_size: {world}, the number of processes, and tensor_parallel_size: 1"
            )
    elif not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise UserError(FLATTENS.format(name))
    elif getattr(strategy, "_start_method", "popen") != "popen":
        raise UserError("trainer.strategy: spawned or forked processes return nothing; give ddp")


def check_slurm_tasks() -> None:
    """Raise UserError if SLURM's tasks are set in a way that Lightning cannot divide among nodes."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if SLURMEnvironment.detect() and tasks != "1" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(f"SLURM: --ntasks={tasks} is not supported; give --ntasks=1, or --ntasks-per-node={tasks}")


def check_slurm(trainer: Trainer) -> None:
    """Raise UserError if SLURM starts another number of processes than the trainer has devices."""
    tasks, processes = os.environ.get("SLURM_NTASKS", "1"), trainer.num_devices * trainer.num_nodes
    if SLURMEnvironment.detect() and tasks != str(processes):
        raise UserError(
            f"trainer.devices: {trainer.num_devices} on {trainer.num_nodes} nodes are {processes} processes, but SLURM "
            f"starts {tasks}; give --ntasks-per-node={trainer.num_devices} and --nodes={trainer.num_nodes} to SLURM"
        )


def check_torchrun(trainer: Trainer) -> None:
    """Raise UserError if torchrun starts another number of processes, which would each do the whole run."""
    started, processes = os.environ.get("WORLD_SIZE", "1"), trainer.num_devices * trainer.num_nodes
    if TorchElasticEnvironment.detect() and started != str(processes):
        raise UserError(
            f"trainer.devices: {trainer.num_devices} on {trainer.num_nodes} nodes are {processes} processes, but "
            f"torchrun starts {started}; give --trainer.devices the number of --nproc-per-node, and "
            "--trainer.num_nodes that of --nnodes"
        )


def check_callbacks(callbacks: list[Callback]) -> None:
    """Raise UserError if one of the user's callbacks cannot work here."""
    for callback in callbacks:
        if isinstance(callback, PruningCallback):
            raise UserError("trainer.callbacks: PruningCallback is there already; its settings are the section pruning")
        if isinstance(callback, EarlyStopping) and callback.strict and callback.monitor != "fit/loss":
            raise UserError(
                f"trainer.callbacks: EarlyStopping monitor '{callback.monitor}' is not logged; give fit/loss, or "
                "strict: false"
            )


def check_optimizer(optimizer: Any) -> None:
    """Raise UserError if an optimizer refuses its settings, which would otherwise fail only after pruning."""
    try:
        optimizer([Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"model.optimizer: {one_line(str(error))}") from error
