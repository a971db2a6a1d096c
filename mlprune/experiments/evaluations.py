"""The evaluations of a study: each recipe is pruned in place, evaluated on a part of the rows, and put back."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from mlprune.callbacks.calibration import Job, RecipeCalibration
from mlprune.experiments.calibrations import Calibrations, groups_of, needs_statistics
from mlprune.experiments.stages import Stages
from mlprune.experiments.time_left import TimeLeft
from mlprune.experiments.variants import Variant
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.pruning import DenseWeights, prune_from_statistics
from mlprune.run import Run
from mlprune.runs.facts import describe
from mlprune.runs.unfinished import Unfinished
from mlprune.studies.judging import Entry, Judge
from mlprune.studies.plan import Plan
from mlprune.studies.screening import SCREENED, Rows
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
        self._expected: Mapping[str, int] = {}
        self._left: TimeLeft | None = None
        self._asked: dict[tuple[str, str], Rows] = {}  # of recipes and parts, where rows are screened

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
        pairs = [(variant, entry) for entry in entries for variant in self.variants[entry.folder]]
        left = []
        for variant, entry in pairs:
            if self.agreed(partial(self.store.has, entry.folder, variant.seed, part)):
                self.time_left.skip(self._size(entry, part))
            else:
                left.append((variant, entry))
        for module in {id(variant.module): variant.module for variant, _ in left}.values():
            chosen = [(variant, entry) for variant, entry in left if variant.module is module]
            self._use(module)
            self._evaluate_dense(chosen[0][1].dense)
            self._check_interventions([variant for variant, _ in chosen])
            self.calibrations.prepare([variant for variant, _ in chosen])
            for variant, entry in chosen:
                log.info("%s: %s%s", caption, variant.caption, self.time_left)
                self._evaluate(variant, entry, part)
                self.time_left.count(self._size(entry, part))
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
        judge, key = self.judge(), (entry.folder, part)
        if judge.screen is None or part not in (SCREENED, *judge.screen.parts):
            return ids
        if key not in self._asked:
            screen = judge.screen
            self._asked[key] = self.agreed(lambda: screen.asked(part, ids, judge.dense(entry)))
        return self._asked[key]

    def _rows_of(self, dense: str) -> list[Mapping[str, list[str]]]:
        """The rows that any recipe of a dense model is evaluated on, part by part."""
        wanted = {task for entry in self.entries if entry.dense == dense for task in entry.tasks(self.plan.deciding)}
        left = set(self.plan.deciding) - wanted
        return [{task: ids for task, ids in part.items() if task not in left} for part in self.plan.parts.values()]

    def _size(self, entry: Entry, part: str) -> int:
        """How many rows of a part a recipe is asked, in all tasks and languages."""
        return self.run.data.num_rows(self._rows(entry, part))

    def expect(self, evaluations: Mapping[str, int]) -> None:
        """Know for the time left about how many recipes are evaluated on each part of the rows."""
        self._expected = evaluations

    @property
    def time_left(self) -> TimeLeft:
        """The time left, counted from the first recipe on; what is screened is known once the dense model was asked."""
        if self._left is None:
            like_most = next((entry for entry in self.entries if not entry.dense), None)
            sizes = {part: self._size(like_most, part) for part in self._expected} if like_most else self.plan.sizes
            seeds = sum(map(len, self.variants.values())) / len(self.variants)
            self._left = TimeLeft(seeds * sum(count * sizes.get(part, 0) for part, count in self._expected.items()))
        return self._left

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
