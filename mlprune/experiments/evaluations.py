"""The evaluations of a study: each recipe is pruned in place, evaluated on a part of the rows, and put back."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from mlprune.callbacks.calibration import Job, RecipeCalibration
from mlprune.experiments.calibrations import Calibrations, groups_of, needs_statistics
from mlprune.experiments.stages import Stages
from mlprune.experiments.variants import Variant
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.pruning import DenseWeights, prune_from_statistics
from mlprune.run import Run
from mlprune.runs.facts import describe
from mlprune.runs.unfinished import Unfinished
from mlprune.studies.judging import Entry, Judge
from mlprune.studies.plan import Plan
from mlprune.studies.screening import SCREENED
from mlprune.studies.store import RESULTS, Store, move_evaluation

T = TypeVar("T")


class Evaluations:
    """Evaluates a study's recipes in the order of its plan, each pruned in place and put back.

    Args:
        run: The run.
        plan: What is evaluated on which rows.
        variants: Every recipe with every calibration seed.
        entries: The recipes.
        stages: The stages that its steps run.
        schedule: The callback that calibrates.
        judge: Makes what reads the records.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        variants: Sequence[Variant],
        entries: Sequence[Entry],
        stages: Stages,
        schedule: RecipeCalibration,
        judge: Callable[[], Judge],
    ) -> None:
        self.run = run
        self.plan = plan
        self.stages = stages
        self.schedule = schedule
        self.judge = judge
        self.calibrations = Calibrations(run, stages, schedule)
        self.variants: dict[str, list[Variant]] = {}
        self.entries: list[Entry] = []
        self.add(variants, entries)
        self._base = run.module
        self._weights: DenseWeights | None = None
        self._started, self._cost, self._done = time.monotonic(), 0, 0

    @property
    def store(self) -> Store:
        """What is kept; processes that do not write know the folder from the first stage on."""
        return Store(self.run.folder)

    def add(self, variants: Sequence[Variant], entries: Sequence[Entry]) -> None:
        """Know further variants, and the recipes that they are of."""
        self.entries += entries
        for variant in variants:
            self.variants.setdefault(variant.recipe.folder, []).append(variant)
        self.calibrations.expect(variants)

    def evaluate(self, entries: Sequence[Entry], part: str, caption: str) -> None:
        """Evaluate some recipes, with all their seeds, on a part of the rows, unless an earlier start did."""
        left = [
            (variant, entry)
            for entry in entries
            for variant in self.variants[entry.folder]
            if not self.agreed(partial(self.store.has, entry.folder, variant.seed, part))
        ]
        for module in {id(variant.module): variant.module for variant, _ in left}.values():
            chosen = [(variant, entry) for variant, entry in left if variant.module is module]
            self._use(module)
            self._evaluate_dense(chosen[0][1].dense)
            self._check_interventions([variant for variant, _ in chosen])
            self.calibrations.prepare([variant for variant, _ in chosen])
            for variant, entry in chosen:
                log.info("%s: %s%s", caption, variant.caption, self._time_left())
                self._evaluate(variant, entry, part)
                self._done += self.plan.sizes.get(part, 0)
        self._use(self._base)

    def _check_interventions(self, variants: Sequence[Variant]) -> None:
        """Refuse what does not work with the model before the first recipe is evaluated, not when its turn comes."""
        for intervention in (intervention for variant in variants for intervention in variant.interventions):
            self.run.module.load()
            intervention.check(self.run.model)

    def _use(self, module: PruningModule) -> None:
        """Work with a recipe's model; the weights of the one before are freed."""
        if module is not self.run.module:
            self._weights = None
            self.run.module.unload()
            self.run.use(module)
            if module.smaller:
                self.stages.begin()

    def _evaluate_dense(self, folder: str) -> None:
        """Evaluate another model than the run's, dense, once."""
        target, run = self.run.folder / folder, self.run
        if not folder or self.agreed((target / RESULTS).is_file):
            return
        log.info("evaluating %s, dense", run.module.source.name)
        if run.writes:
            Unfinished(run.folder).forget_records("dense")  # those of the model before
        run.barrier("forgotten")
        run.data.evaluate_parts(self._rows_of(folder))
        self.stages.evaluate()
        if run.writes:
            move_evaluation(run.folder, target)
        run.barrier("dense")

    def _rows(self, entry: Entry, part: str) -> Mapping[str, Collection[str] | Mapping[str, Collection[str]]]:
        """The rows of a part that a recipe is asked."""
        ids = self.plan.parts[part if part != SCREENED else self.plan.select_parts[0]]
        ids = entry.rows(ids, self.plan.deciding)
        judge = self.judge()
        if judge.screen is None or part not in (SCREENED, *judge.screen.parts):
            return ids
        screen = judge.screen
        return self.agreed(lambda: screen.asked(part, ids, judge.dense(entry)))

    def _rows_of(self, dense: str) -> list[Mapping[str, list[str]]]:
        """The rows that any recipe of a dense model is evaluated on, part by part."""
        wanted = {task for entry in self.entries if entry.dense == dense for task in entry.tasks(self.plan.deciding)}
        left = set(self.plan.deciding) - wanted
        return [{task: ids for task, ids in part.items() if task not in left} for part in self.plan.parts.values()]

    def expect(self, cost: int) -> None:
        """Know how many examples are to be evaluated in all, for the time left."""
        self._cost, self._done, self._started = cost, 0, time.monotonic()

    def _time_left(self) -> str:
        if not self._done or not self._cost:
            return ""
        seconds = (time.monotonic() - self._started) / self._done * max(self._cost - self._done, 0)
        return f" (whole study: {timedelta(seconds=round(seconds))} left)"

    def agreed(self, decide: Callable[[], T]) -> T:
        """Return what the process that writes finds in its files, on every process."""
        value: Any = self.run.trainer.strategy.broadcast(decide() if self.run.writes else None)
        found: T = value
        return found

    def _evaluate(self, variant: Variant, entry: Entry, part: str) -> None:
        run, module = self.run, self.run.module
        base = list(module.interventions)
        module.load()  # where an earlier start did all that comes before
        module.to(run.device)  # Lightning leaves it on the CPU after each stage
        self._weights = self._weights or DenseWeights(run.model)
        try:
            module.mark_pruned(self._recipe(variant, part, self._prune(variant)))
            module.intervene(variant.interventions)
            run.data.evaluate_parts([self._rows(entry, part)])
            self.stages.evaluate()
        finally:
            module.intervene(base)
            module.mark_pruned({})
            self._weights.restore()
        if run.writes:
            Unfinished(run.folder).forget_records("pruned")  # before the next recipe could take them for its own
            self.store.keep(variant.recipe.folder, variant.seed, part)
        run.barrier("kept")

    def _recipe(self, variant: Variant, part: str, masks: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is known of how the model is pruned, and under which name it is evaluated."""
        pruner = variant.pruner
        seeds = {variant.seed for variants in self.variants.values() for variant in variants}
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        label = [variant.recipe.folder, *([f"seed-{variant.seed}"] if len(seeds) > 1 else [])]
        return {
            "sparsity": pruned / max(sum(map(Tensor.numel, masks.values())), 1),
            "importance": describe(pruner.importance),
            "pattern": describe(pruner.pattern),
            "allocation": describe(pruner.allocation) if pruner.allocation else "uniform",
            "propagate": variant.propagate,
            "label": "-".join([*label, *([part] if len(self.plan.parts) > 1 else [])]),
        }

    def _prune(self, variant: Variant) -> dict[str, Any]:
        run = self.run
        if not variant.prunes:
            return {}
        dense = self.calibrations.of(variant) if needs_statistics(variant) else {}
        if variant.propagate == "dense" or variant.pruner.importance.needs is None:
            return prune_from_statistics(run.model, dense, variant.pruner)
        data = variant.data.with_demonstrations(
            {name: variant.data.demonstrations[name] for name in groups_of(variant)}
        )
        data.choose_prompts(run.module.tokenizer)
        self.schedule.take(Job(data, variant.pruner, variant.propagate, variant.count_padding, True, dense))
        self.stages.validate(self.schedule)
        run.module.to(run.device)
        return self.schedule.masks
