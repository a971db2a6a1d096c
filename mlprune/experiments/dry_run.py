"""A dry run: what a run would do and what it would cost, on this machine; no weights are read and nothing is written.

Rows, parameters and sizes are counted. Time is that of a few blocks of the model, with random weights, on a few batches
of every task, times the blocks and batches that there are.
"""

import math
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from transformers import PreTrainedModel

from mlprune.batching import deal
from mlprune.callbacks import LanguageUnits, PruningCallback
from mlprune.callbacks.base import Analysis
from mlprune.errors import UserError
from mlprune.evaluation.batch import EvaluationBatch
from mlprune.evaluation.tasks import Task
from mlprune.experiments.costs import BlockClock, Cost, calibration_cost, evaluation_cost, training_cost
from mlprune.experiments.experiment import check_training, prunes_while_training
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.models.shallow import blueprint, shallow_model
from mlprune.present import Table
from mlprune.run import Run
from mlprune.studies.plan import make_plan
from mlprune.studies.recipes import expand
from mlprune.studies.spec import Study

DEPTH = 3  # blocks of each stack that are timed
STREAMED = 5  # blocks in memory at a time, as measured
WHOLE = 3  # blocks of split weights that are whole at a time: two in calibration, and one that is received


@dataclass
class Estimate:
    """What a run would cost.

    Args:
        title: What would be run, and where.
        phases: Caption of a phase to what it costs; of an evaluation by task.
        parameters: Of the whole model.
        matrices: Entries of the blocks' matrices: multiplications for a token.
        scored: How many of them are scored.
        pruned: How many of them become zero.
        memory: Peak in bytes, on the device that computes.
        disk: Bytes of the run's folder.
        notes: What is not in it, or assumed.
    """

    title: str = ""
    phases: dict[str, dict[str, Cost]] = field(default_factory=dict)
    parameters: int = 0
    matrices: int = 0
    scored: int = 0
    pruned: int = 0
    memory: float = 0.0
    disk: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> Cost:
        """The costs of all phases together."""
        return sum((cost for parts in self.phases.values() for cost in parts.values()), Cost())


class DryRun:
    """Estimates a run.

    Args:
        run: The run, of which no stage has begun.
        pruning: How it prunes.
        command: fit, validate or test.
        dense: Whether the dense model's results are taken from another run.
        study: The study that fit runs, if there is one.
    """

    def __init__(
        self, run: Run, pruning: PruningCallback, command: str, dense: bool = False, study: Study | None = None
    ) -> None:
        self.run = run
        self.pruning = pruning
        self.command = command
        self.was_pruned = bool(run.module.recipe)
        self.prunes = command != "test" and not self.was_pruned
        self.epochs = (run.trainer.max_epochs or 0) if command == "fit" else 0
        self.study = study if study is not None and study.is_declared and command == "fit" else None
        self.recipes = _recipes(self.study) if self.study is not None else 1
        before, after = int(self.prunes and not dense), len(pruning.sweep or []) or self.recipes
        between = int(self.prunes and self.epochs > 0 and not prunes_while_training(run))
        self.evaluations = {"fit": before + between + after, "test": 1}.get(command, 0)

    def estimate(self) -> Estimate:
        """Read prompts and examples, time a few blocks, and add up.

        Raises:
            UserError: As the run itself would, as far as no weights are needed to know.
        """
        starting = time.process_time()
        if self.command == "fit" and any(isinstance(callback, LanguageUnits) for callback in self.run.callbacks):
            raise UserError(
                "LanguageUnits evaluates several times a language; estimate one evaluation by test --dry-run"
            )
        run, tokenizer = self.run, self.run.module.tokenizer
        run.data.join(run.trainer)
        whole = blueprint(run.module.source)
        layers = [layer for block in find_blocks(whole) for layer in block.layers.values()]
        dtype = str(next(whole.parameters()).dtype).removeprefix("torch.")
        found = Estimate(
            f"{self.command}: {run.module.source.name}, {dtype}, on {run.device}", parameters=_numel(whole)
        )
        found.matrices = sum(layer.matrix().numel() for layer in layers)
        found.phases["starting"] = {"": Cost(seconds=starting)}
        if self.prunes:
            self._count_pruned(whole, found)
            run.data.choose_prompts(tokenizer)
        if self.epochs:
            run.is_experiment = run.trains = True
            check_training(run)
            run.data.choose_training(tokenizer)
        if self.evaluations and (run.data.tasks or self.command == "test" or not self.was_pruned):
            run.data.read_examples(tokenizer)
        if self.study is not None:
            examples = {task.name: run.data.examples(task) for task in run.data.tasks}
            make_plan(self.study, run.data.tasks, examples, len(expand(self.study.recipes, self.study.grid)))
        shallow = shallow_model(run.module.source, DEPTH, run.device)
        clock = BlockClock(shallow, _depths(whole))
        log.info("timing %d of %d blocks on a few batches of each task", len(clock.blocks), sum(clock.depths.values()))
        found.phases |= self._phases(shallow, clock, _numel(whole) / _numel(shallow))
        found.memory = self._memory(whole, shallow, found)
        found.disk = self._disk(whole, found)
        found.notes = self._notes()
        return found

    def _phases(self, shallow: PreTrainedModel, clock: BlockClock, larger: float) -> dict[str, dict[str, Cost]]:
        run, tokenizer = self.run, self.run.module.tokenizer
        found: dict[str, dict[str, Cost]] = {}
        if self.evaluations:
            times = f", {self.evaluations} times" if self.evaluations > 1 else ""
            dealt = [batch for batches in run.data.dealt_batches() for batch in batches]
            found[f"evaluating{times}"] = {
                task.name: self._evaluation(
                    task, [batch for batch in dealt if batch.task is task], shallow, clock
                ).times(self.evaluations)
                for task in run.data.tasks
            }
        if self.prunes:
            run.measured = self.pruning.pruner.importance.needs
            batches = deal(run.data.calibration_batches(shallow, tokenizer, run.measured), 0, run.trainer.world_size)
            propagate = self.pruning.propagation.name
            cost = calibration_cost(batches, self.pruning.pruner, shallow, clock, propagate, self.pruning.count_padding)
            times = f", {self.recipes} times" if self.recipes > 1 else ""
            found[f"calibrating and pruning{times}"] = {"+".join(run.groups): cost.times(self.recipes)}
        if self.epochs:
            run.data.tokenize_training(shallow, tokenizer)
            cost = training_cost(run.data.training_batches(), shallow, run.module.optimizer, clock, larger)
            caption = f"recovery training, {self.epochs} epoch{'s' * (self.epochs > 1)}"
            found[caption] = {"+".join(run.data.training): cost.times(self.epochs)}
        return found

    def _evaluation(
        self, task: Task, batches: list[EvaluationBatch], shallow: PreTrainedModel, clock: BlockClock
    ) -> Cost:
        cost = evaluation_cost(batches, self.run.module.tokenizer, shallow, clock)
        return replace(cost, rows=sum(map(len, self.run.data.examples(task).values())))

    # -- what is counted ------------------------------------------------------------------------------------------

    def _count_pruned(self, whole: PreTrainedModel, found: Estimate) -> None:
        pruner = self.pruning.pruner
        pruner.check_groups(self.run.groups, "data.demonstrations has")
        blocks = pruner.select(find_blocks(whole))
        found.scored = sum(layer.matrix().numel() for block in blocks for layer in block.layers.values())
        found.pruned = round(found.scored * pruner.pattern.sparsity)

    def _memory(self, whole: PreTrainedModel, shallow: PreTrainedModel, found: Estimate) -> float:
        """What this process used, with what it holds of the model in the shallow one's place, and what grows."""
        model = self._held(whole)
        peak = _used(self.run.device) - _bytes(shallow) + model
        if self.prunes:
            item = next(whole.parameters()).dtype.itemsize
            prompts = self.run.data.prompts(shallow, self.run.module.tokenizer).values()
            tokens = sum(len(ids) for group in prompts for ids in group)
            peak += tokens * whole.config.get_text_config().hidden_size * item  # hidden states
            if self.run.device.type == "cpu":  # what is kept there: masks, and of many recipes the dense weights
                many = self.study is not None or self.pruning.sweep is not None
                masks = 0 if self.pruning.streaming else found.scored
                peak += masks + (found.matrices * item if many else 0)
        return peak + 3 * model if self.epochs else peak  # gradients, and two moments of AdamW

    def _held(self, whole: PreTrainedModel) -> float:
        """Bytes of the weights that this process holds at a time."""
        blocks = [_bytes(block.module) for block in find_blocks(whole)]
        outside, processes = _bytes(whole) - sum(blocks), self.run.trainer.world_size
        if self.pruning.streaming and self.command == "validate":
            return outside + STREAMED * max(blocks)
        if isinstance(self.run.trainer.strategy, ModelParallelStrategy):
            return outside + sum(blocks) / processes + WHOLE * max(blocks)
        return outside + sum(blocks)

    def _disk(self, whole: PreTrainedModel, found: Estimate) -> float:
        model = _bytes(whole) if self.prunes and self.pruning.save_model and self.command != "test" else 0
        return model + found.scored / 8 + found.total.bytes

    def _notes(self) -> list[str]:
        run = self.run
        notes = ["reading and writing weights, comparing, figures and reports take further seconds to minutes"]
        if self.study is not None:
            notes.append(
                f"{self.recipes} recipes and seeds are counted as if each was calibrated and evaluated on all rows; "
                "selection and confirmation take parts of them, and controls come on top"
            )
        if run.module.interventions:
            notes.append("what interventions do is not counted")
        if any(isinstance(callback, Analysis) for callback in run.callbacks):
            notes.append("an analysis is counted as calibrating and pruning")
        if isinstance(run.trainer.strategy, ModelParallelStrategy):
            notes.append("what processes send each other of split weights takes time that is not counted")
        if run.trainer.world_size > 1:
            notes.append(f"all but rows is of the first of {run.trainer.world_size} processes, which runs alone here")
        if any(getattr(task, "search", None) for task in run.data.tasks) and self.evaluations:
            notes.append("answers are taken to be about as long as their references")
        return notes


def estimate_tables(found: Estimate) -> list[Table]:
    """Return an estimate as tables.

    Example:
        >>> phases, sizes = estimate_tables(Estimate("test", {"evaluating": {"nli": Cost(24, 9, 1200, 61.0)}}))
        >>> phases.rows
        [('evaluating', 'nli', '24', '9', '1,200', '0:01:01'), ('total', '', '24', '9', '1,200', '0:01:01')]
    """
    rows = [
        (caption if i == 0 else "", name, *_cells(cost))
        for caption, parts in found.phases.items()
        for i, (name, cost) in enumerate(parts.items())
    ]
    heads = ("phase", "task or prompts", "rows", "forward passes", "tokens", "time")
    phases = Table(found.title, heads, [*rows, ("total", "", *_cells(found.total))], tuple(found.notes))
    share = f" of {found.scored:,} scored" if found.scored else ""
    sizes = [
        ("parameters", f"{found.parameters:,}"),
        ("parameters pruned", f"{found.pruned:,}{share}"),
        ("peak memory", _size(found.memory)),
        ("disk", _size(found.disk)),
        ("operations in blocks", f"{2 * found.matrices * found.total.tokens / 1e12:,.1f} tera (10^12)"),
    ]
    return [phases, Table("Sizes", ("what", "size"), sizes)]


def _recipes(study: Study) -> int:
    place, total = study.part
    return len(expand(study.recipes, study.grid)[place::total]) * len(study.seeds or [0])


def _cells(cost: Cost) -> tuple[str, ...]:
    return (*(f"{round(value):,}" for value in (cost.rows, cost.passes, cost.tokens)), _duration(cost.seconds))


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number > 2**29 else f"{number / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=math.ceil(seconds)))


def _depths(model: PreTrainedModel) -> dict[str, int]:
    stacks = [block.stack for block in find_blocks(model)]
    return {stack: stacks.count(stack) for stack in dict.fromkeys(stacks)}


def _numel(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _bytes(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _used(device: torch.device) -> float:
    """The most memory that this process has used, of the device that computes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        from resource import RUSAGE_SELF, getrusage  # not on Windows
    except ImportError:
        return 0.0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
