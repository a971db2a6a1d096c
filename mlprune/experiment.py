"""The whole experiment of ``fit``: evaluate dense, prune, train if asked to, evaluate again, compare."""

import json
import shutil
from pathlib import Path

from lightning.pytorch import Trainer

from mlprune.callbacks.console import comparison_tables, console
from mlprune.callbacks.run_folder import run_folder, write_json, write_text
from mlprune.callbacks.unfinished import Unfinished
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.evaluation.compare import compare, markdown
from mlprune.log import log
from mlprune.module import PruningModule


def run_experiment(
    trainer: Trainer, model: PruningModule, datamodule: PruningDataModule, ckpt_path: str | None = None
) -> None:
    """Run the experiment in the trainer's run folder.

    Args:
        trainer: The trainer; ``max_epochs`` above 0 adds recovery training with the masks held.
        model: The dense model.
        datamodule: Calibration prompts and tasks.
        ckpt_path: Lightning checkpoint that recovery training resumes from.

    Raises:
        UserError: If settings of recovery training do not go with the model or with one another.
    """
    trains = bool(trainer.max_epochs)
    if model.lora is not None and not trains:
        raise UserError("model.lora trains adapters; give trainer.max_epochs above 0, or leave it out")
    if trains and model.source.has_encoder():
        raise UserError(
            f"trainer.max_epochs {trainer.max_epochs}: recovery training is of models that continue text; "
            f"{model.source.name} has an encoder; leave it out"
        )
    steps = 4 if trains else 3
    trainer.experiment = True
    trainer.recovery_follows = trains
    datamodule.choose_prompts(model.tokenizer)
    if trains:
        datamodule.choose_training(model.tokenizer)
    resumes = getattr(trainer, "resumes", False)
    if not (resumes and (run_folder(trainer) / "results.dense.json").is_file()):
        log.info("(1/%d) evaluating the dense model", steps)
        trainer.test(model, datamodule=datamodule, verbose=False)
        if trainer.is_global_zero:
            keep_dense(run_folder(trainer))
        trainer.strategy.barrier("mlprune-dense")
    folder = run_folder(trainer)  # settled by now on every process
    log.info("(2/%d) calibrating and pruning", steps)
    trainer.validate(model, datamodule=datamodule, verbose=False)
    if trains:
        log.info("(3/%d) recovery training with the masks held", steps)
        checkpoint = ckpt_path or _last_checkpoint(folder)
        trainer.fit(model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    log.info("(%d/%d) evaluating the pruned model", steps, steps)
    trainer.test(model, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        comparison = compare(folder / "predictions.dense", folder / "predictions", datamodule.seed)
        write_json(folder / "comparison.json", comparison)
        write_text(folder / "comparison.md", markdown(comparison))
        dense, pruned = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("results.dense.json", "results.json")
        )
        out = console()
        for table in comparison_tables(comparison, dense, pruned):
            out.print(table)
        out.print(f"[bold]{comparison['headline']}[/bold]")
        shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        out.print(f"Run folder: {shown}", soft_wrap=True)
        Unfinished(folder).remove()
    for callback in trainer.callbacks:
        if hasattr(callback, "on_experiment_end"):
            callback.on_experiment_end(trainer)
    trainer.strategy.barrier("mlprune-compared")


def keep_dense(folder: Path) -> None:
    """Name the dense model's results so; results.json comes last, since its new name says that this is done."""
    shutil.rmtree(folder / "predictions.dense", ignore_errors=True)
    (folder / "predictions").rename(folder / "predictions.dense")
    (folder / "results.json").rename(folder / "results.dense.json")


def _last_checkpoint(folder: Path) -> str | None:
    """The newest Lightning checkpoint of an earlier start (with ``trainer.enable_checkpointing: true``)."""
    files = sorted((folder / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    return str(files[-1]) if files else None
