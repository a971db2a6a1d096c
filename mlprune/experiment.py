"""The whole experiment of ``fit``: evaluate dense, prune, train if asked to, evaluate again, compare."""

import json
import shutil

from lightning.pytorch import LightningDataModule, Trainer

from mlprune.callbacks.console import comparison_tables, console
from mlprune.callbacks.run_folder import run_folder, write_json, write_text
from mlprune.evaluation.compare import compare, markdown
from mlprune.log import log
from mlprune.module import PruningModule


def run_experiment(
    trainer: Trainer, model: PruningModule, datamodule: LightningDataModule, ckpt_path: str | None = None
) -> None:
    """Run the experiment in the trainer's run folder.

    Args:
        trainer: The trainer; ``max_epochs`` above 0 adds recovery training with the masks held.
        model: The dense model.
        datamodule: Calibration prompts and tasks.
        ckpt_path: Lightning checkpoint that recovery training resumes from.
    """
    trains = bool(trainer.max_epochs)
    steps = 4 if trains else 3
    folder = run_folder(trainer)
    log.info("(1/%d) evaluating the dense model", steps)
    trainer.test(model, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        (folder / "results.json").rename(folder / "results.dense.json")
        (folder / "predictions").rename(folder / "predictions.dense")
    trainer.strategy.barrier("mlprune-dense")
    log.info("(2/%d) calibrating and pruning", steps)
    trainer.recovery_follows = trains
    trainer.validate(model, datamodule=datamodule, verbose=False)
    if trains:
        log.info("(3/%d) recovery training with the masks held", steps)
        trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
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
        out.print(f"Run folder: {folder}", soft_wrap=True)
        shutil.rmtree(folder / ".partial", ignore_errors=True)
    trainer.strategy.barrier("mlprune-compared")
