"""A sweep of ``fit``: many sparsities from one calibration of the dense model, evaluated at each."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from mlprune.analysis.figures import sparsity_curves
from mlprune.callbacks.console import console, sweep_table
from mlprune.callbacks.pruning import PruningCallback
from mlprune.callbacks.run_folder import describe
from mlprune.callbacks.unfinished import Unfinished
from mlprune.comparison import compare
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.evaluation.sweep import COLUMNS, sweep_curves, sweep_rows
from mlprune.experiment import keep_dense
from mlprune.files import whole_file, write_json, write_text
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.pruning import LayerStatistics, collect_statistics, load_statistics, save_statistics, sweep
from mlprune.run import run_folder, run_of


def run_sweep(trainer: Trainer, model: PruningModule, datamodule: PruningDataModule, pruning: PruningCallback) -> None:
    """Evaluate the dense model and, from one calibration, the model pruned to each of ``pruning.sweep``.

    Writes ``sweep.csv`` (a line a sparsity, task, language and metric), ``figures/sweep.png``, and for each sparsity a
    folder ``sweep/<sparsity>`` with results.json, predictions and comparison.json, which comes last. A resumed
    run takes up what is there. The model is dense again at the end.

    Args:
        trainer: The trainer.
        model: The dense model.
        datamodule: Calibration prompts and tasks.
        pruning: The pruning callback, whose settings all sparsities share.

    Raises:
        UserError: If the run would train.
    """
    if trainer.max_epochs:
        raise UserError(f"pruning.sweep trains nothing; leave trainer.max_epochs {trainer.max_epochs} out")
    run = run_of(trainer)
    run.is_experiment = run.is_sweep = True
    pruners = pruning.sweep_pruners()
    datamodule.choose_prompts(model.tokenizer)
    steps = len(pruners) + 2
    log.info("(1/%d) evaluating the dense model", steps)
    trainer.test(model, datamodule=datamodule, verbose=False)
    folder, device = run_folder(trainer), trainer.strategy.root_device
    if trainer.is_global_zero:
        keep_dense(folder)
    finished = {level for level in pruning.sweep or [] if (_own(folder, level) / "comparison.json").is_file()}
    trainer.strategy.barrier("mlprune-finished")  # nobody finishes a sparsity before all have looked
    model.to(device)  # Lightning leaves it on the CPU after each evaluation
    log.info("(2/%d) calibrating the dense model, once", steps)
    statistics = _calibrate(trainer, model, datamodule, pruning)
    left = [pruner for pruner in pruners if pruner.pattern.sparsity not in finished]
    for pruner, masks in sweep(model.model, statistics, left):
        asked = pruner.pattern.sparsity
        pruned = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
        model.recipe = {"sparsity": pruned, "pattern": describe(pruner.pattern)}
        log.info("(%d/%d) evaluating at sparsity %g", pruners.index(pruner) + 3, steps, asked)
        trainer.test(model, datamodule=datamodule, verbose=False)
        if trainer.is_global_zero:
            _keep(folder, asked, datamodule.seed)
        trainer.strategy.barrier("mlprune-swept")
        model.to(device)
    model.recipe = {}
    if trainer.is_global_zero:
        rows = [row for level in pruning.sweep or [] for row in sweep_rows(level, _comparison(folder, level))]
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / "sweep.csv", out.getvalue())
        curves = sweep_curves(rows)
        with whole_file(folder / "figures" / "sweep.png") as partial:
            sparsity_curves(curves).savefig(partial, dpi=120, format="png")
        console().print(sweep_table(curves))
        console().print(f"Run folder: {folder}", soft_wrap=True)
        Unfinished(folder).remove()
    for callback in trainer.callbacks:
        if hasattr(callback, "on_experiment_end"):
            callback.on_experiment_end(trainer)
    trainer.strategy.barrier("mlprune-sweep")


def _calibrate(
    trainer: Trainer, model: PruningModule, datamodule: PruningDataModule, pruning: PruningCallback
) -> Mapping[str, LayerStatistics]:
    """Return the dense model's statistics; an earlier start of the run may have left them."""
    file = run_folder(trainer) / "statistics.safetensors"
    if run_of(trainer).resumes and file.is_file():
        return load_statistics(file)
    batches, groups = datamodule.calibration_batches(), list(datamodule.demonstrations)
    statistics = collect_statistics(model.model, batches, pruning.pruner, pruning.count_padding, groups)
    if trainer.is_global_zero and pruning.pruner.importance.needs == "energy":
        save_statistics(statistics, file)
    return statistics


def _own(folder: Path, sparsity: float) -> Path:
    return folder / "sweep" / f"{sparsity:g}"


def _comparison(folder: Path, sparsity: float) -> dict[str, Any]:
    return json.loads((_own(folder, sparsity) / "comparison.json").read_text(encoding="utf-8"))


def _keep(folder: Path, sparsity: float, seed: int) -> None:
    """Give an evaluation a folder of its own and compare it with the dense model's."""
    Unfinished(folder).forget_records("pruned")  # the next sparsity has records of its own
    own = _own(folder, sparsity)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    (folder / "predictions").rename(own / "predictions")
    (folder / "results.json").rename(own / "results.json")
    write_json(own / "comparison.json", compare(folder / "predictions.dense", own / "predictions", seed))
