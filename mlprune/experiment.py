"""The whole experiment of ``fit``: evaluate dense, prune, train if asked to, evaluate again, compare."""

import shutil
from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console

from mlprune.callbacks.console import console
from mlprune.callbacks.unfinished import Unfinished
from mlprune.comparison import compare, read_differences, read_figures
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.files import write_json, write_text
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.present import comparison_files, comparison_tables, figure_tables, to_console
from mlprune.run import run_folder, run_of


def run_experiment(
    trainer: Trainer, model: PruningModule, datamodule: PruningDataModule, ckpt_path: str | None = None
) -> None:
    """Run the experiment in the trainer's run folder.

    A model that is pruned already is only trained, with its zeros held, and evaluated if there are tasks.

    Args:
        trainer: The trainer; ``max_epochs`` above 0 adds recovery training with the masks held.
        model: The dense model, or a pruned one to train.
        datamodule: Calibration prompts and tasks.
        ckpt_path: Lightning checkpoint that recovery training resumes from.

    Raises:
        UserError: If settings of recovery training do not go with the model or with one another.
    """
    trains, was_pruned = bool(trainer.max_epochs), bool(model.recipe)
    if model.lora is not None and not trains:
        raise UserError("model.lora trains adapters; give trainer.max_epochs above 0, or leave it out")
    if trains and model.source.has_encoder():
        raise UserError(
            f"trainer.max_epochs {trainer.max_epochs}: recovery training is of models that continue text; "
            f"{model.source.name} has an encoder; leave it out"
        )
    if was_pruned and not trains:
        raise UserError(
            f"model.name '{model.source.name}' is pruned already; give the dense model, or trainer.max_epochs above 0"
        )
    phases = [] if was_pruned else ["evaluating the dense model", "calibrating and pruning"]
    phases += ["recovery training with the masks held"] if trains else []
    phases += ["evaluating the pruned model"] if datamodule.tasks or not was_pruned else []
    phases = [f"({k}/{len(phases)}) {phase}" for k, phase in enumerate(phases, start=1)]
    run = run_of(trainer)
    run.is_experiment, run.trains = True, trains
    datamodule.choose_prompts(model.tokenizer)
    if trains:
        datamodule.choose_training(model.tokenizer)
    if not was_pruned:
        _evaluate_dense(trainer, model, datamodule, phases.pop(0))
        log.info(phases.pop(0))
        trainer.validate(model, datamodule=datamodule, verbose=False)
    if trains:
        log.info(phases.pop(0))
        checkpoint = ckpt_path or _last_checkpoint(trainer)
        trainer.fit(model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    if phases:
        log.info(phases.pop(0))
        trainer.test(model, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        folder, out = run_folder(trainer), console()
        for table in figure_tables({model.pruning_stage: read_figures(model.results)}) if was_pruned else []:
            out.print(to_console(table))
        if not was_pruned:
            _compare(folder, datamodule.seed, out)
        shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        out.print(f"Run folder: {shown}", soft_wrap=True)
        Unfinished(folder).remove()
    for callback in trainer.callbacks:
        if hasattr(callback, "on_experiment_end"):
            callback.on_experiment_end(trainer)
    trainer.strategy.barrier("mlprune-compared")


def _evaluate_dense(trainer: Trainer, model: PruningModule, datamodule: PruningDataModule, phase: str) -> None:
    """Evaluate the dense model, unless an earlier start of the run did."""
    if run_of(trainer).resumes and (run_folder(trainer) / "results.dense.json").is_file():
        return
    log.info(phase)
    trainer.test(model, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        keep_dense(run_folder(trainer))
    trainer.strategy.barrier("mlprune-dense")


def _compare(folder: Path, seed: int, out: Console) -> None:
    """Compare the two evaluations, on files and on the console."""
    comparison = compare(folder / "predictions.dense", folder / "predictions", seed)
    write_json(folder / "comparison.json", comparison)
    for name, text in comparison_files(comparison).items():
        write_text(folder / name, text)
    for table in comparison_tables(read_differences(comparison)):
        out.print(to_console(table))
    out.print(f"[bold]{comparison['headline']}[/bold]")


def keep_dense(folder: Path) -> None:
    """Name the dense model's results so; results.json comes last, since its new name says that this is done."""
    shutil.rmtree(folder / "predictions.dense", ignore_errors=True)
    (folder / "predictions").rename(folder / "predictions.dense")
    (folder / "results.json").rename(folder / "results.dense.json")


def _last_checkpoint(trainer: Trainer) -> str | None:
    """The newest Lightning checkpoint of an earlier start (with ``trainer.enable_checkpointing: true``)."""
    if not run_of(trainer).resumes:
        return None
    files = sorted((run_folder(trainer) / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    return str(files[-1]) if files else None
