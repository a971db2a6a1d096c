"""Checks of a configuration, made before a model is loaded."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from torch.nn import Parameter

from mlprune.callbacks import PruningCallback
from mlprune.errors import UserError, one_line
from mlprune.runs.checkpoints import is_checkpoint

WHOLE_LOADERS = {  # a part of these would be only part of a model or of a test
    "overfit_batches": (0.0, "data.num_prompts or data.limit"),
    "limit_val_batches": (1.0, "data.num_prompts"),
    "limit_test_batches": (1.0, "data.limit"),
}


LAUNCHERS: dict[type, tuple[str, str]] = {  # what they are called, and what to give to them
    TorchElasticEnvironment: ("torchrun", "--nproc-per-node={devices} and --nnodes={nodes} to torchrun"),
    SLURMEnvironment: ("SLURM", "--ntasks-per-node={devices} and --nodes={nodes} to SLURM"),
}
FLATTENING = ("fsdp", "deepspeed")  # beginnings of strategies' names
SPAWNS = "trainer.strategy: spawned or forked processes return nothing; give ddp"
FLATTENS = (
    "trainer.strategy {} splits weights in ways that masks do not support; give auto, ddp or "
    "ModelParallelStrategy, and prune a model that is too large for a device with --pruning.streaming true"
)


def _strategy_name(given: Any) -> str:
    """What a strategy is called, given as a name or by its class."""
    path = given if isinstance(given, str) else given.class_path if hasattr(given, "class_path") else ""
    return path.rpartition(".")[2]


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
    strategy = _strategy_name(trainer.strategy)
    if strategy.lower().startswith(FLATTENING):  # Lightning asks for more first
        raise UserError(FLATTENS.format(strategy))
    if strategy.lower() in ("xla", "xlastrategy"):
        raise UserError(SPAWNS)
    if strategy == trainer.strategy and strategy.endswith("Strategy"):
        raise UserError(f"trainer.strategy {strategy} is a class; give lightning.pytorch.strategies.{strategy}")
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
    elif isinstance(strategy, XLAStrategy) or getattr(strategy, "_start_method", "popen") != "popen":
        raise UserError(SPAWNS)


def is_slurm_step() -> bool:
    """Whether SLURM starts the processes; inside of its jobs torchrun may, too."""
    return SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()


def check_slurm_tasks() -> None:
    """Raise UserError if SLURM's tasks are set in a way that Lightning cannot divide among nodes."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if is_slurm_step() and tasks != "1" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(f"SLURM: --ntasks={tasks} is not supported; give --ntasks=1, or --ntasks-per-node={tasks}")


def check_processes(trainer: Trainer) -> None:
    """Raise UserError if a launcher starts other processes than the trainer has devices."""
    environment = trainer._accelerator_connector.cluster_environment
    devices, nodes = trainer.num_devices, trainer.num_nodes
    port = os.environ.get("MASTER_PORT", "29500")
    if devices * nodes > 1 and not (port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"MASTER_PORT '{port}' is not allowed; give a port from 1 to 65535")
    if isinstance(environment, LightningEnvironment) or not environment.creates_processes_externally:
        return
    name, remedy = LAUNCHERS.get(type(environment), (type(environment).__name__, "that many processes"))
    if (started := environment.world_size()) != devices * nodes:
        raise UserError(
            f"trainer.devices: {devices} times trainer.num_nodes {nodes} is {devices * nodes}, but {name} starts "
            f"{started}; give devices and num_nodes that fit, or {remedy.format(devices=devices, nodes=nodes)}"
        )
    try:
        environment.validate_settings(devices, nodes)
    except ValueError as error:  # as many, but in other places
        raise UserError(f"trainer.devices: {one_line(str(error))}") from error


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
