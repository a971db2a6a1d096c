"""The recipes of a study built: for each recipe and calibration seed its model, its prompts and how it is pruned."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from mlprune.callbacks import PruningCallback
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError, one_line
from mlprune.evaluation.tasks import Task
from mlprune.inputs import plain
from mlprune.interventions import Intervention
from mlprune.module import PruningModule
from mlprune.pruning import Pruner, Random
from mlprune.pruning.propagation import Propagate
from mlprune.run import Run
from mlprune.runs.facts import digest
from mlprune.studies.recipes import SECTIONS, Recipe, applied

SPARSITY = "pruning.pattern.sparsity"


@dataclass(frozen=True)
class Variant:
    """One recipe with one calibration seed.

    Args:
        recipe: The recipe.
        seed: Seed of its calibration prompts.
        module: The model that it prunes; recipes of one model share it.
        data: Its calibration prompts.
        pruner: How it prunes.
        propagate: As in :class:`mlprune.callbacks.PruningCallback`.
        count_padding: As there.
        interventions: What changes activations while it is evaluated.
        model: Key of the model's settings; that of the run's own model is empty.
    """

    recipe: Recipe
    seed: int
    module: PruningModule
    data: PruningDataModule
    pruner: Pruner
    propagate: Propagate
    count_padding: bool = False
    interventions: list[Intervention] = field(default_factory=list)
    model: str = ""

    @property
    def prunes(self) -> bool:
        """Whether any weight is pruned: a recipe may only intervene, or use another model."""
        return self.pruner.pattern.sparsity > 0

    def left_out(self, tasks: Iterable[Task]) -> list[str]:
        """Return the names of the tasks that it is not evaluated on, since its interventions do not work with them."""
        return [task.name for task in tasks if not all(found.covers(task) for found in self.interventions)]

    @property
    def caption(self) -> str:
        """What progress lines call it."""
        return f"{self.recipe.name}, seed {self.seed}"


class Builder:
    """Builds the variants of a study from the run's configuration; what is alike is built once.

    Args:
        run: The run, whose model and data recipes share where they do not differ.
        pruning: The run's pruning callback.
        config: The run's configuration, in which recipes differ.
        parser: An empty parser, whose errors are raised as :class:`mlprune.errors.UserError` or ArgumentError.
    """

    def __init__(
        self, run: Run, pruning: PruningCallback, config: Mapping[str, Any] | None, parser: ArgumentParser | None = None
    ) -> None:
        self.run = run
        self.pruning = pruning
        self.config = {name: (config or {}).get(name) or {} for name in SECTIONS}
        self.has_config = config is not None
        self._parser = parser or ArgumentParser(exit_on_error=False)
        for name, kind in (("model", PruningModule), ("data", PruningDataModule), ("pruning", PruningCallback)):
            self._parser.add_class_arguments(kind, name)
        self._modules = {self._model_key(self.config, run.data.seed): run.module}
        self._data = {self._data_key(self.config, run.data.seed): run.data}

    def _model_key(self, settings: Mapping[str, Any], seed: int) -> str:
        given = {name: value for name, value in settings["model"].items() if name != "interventions"}
        return digest([given, self._data_key(settings, seed)] if self._takes_steps(settings) else given)

    def _takes_steps(self, settings: Mapping[str, Any]) -> bool:
        """Whether a recipe makes the model smaller in a way of its own, which depends on demonstrations."""
        steps: Any = settings["model"].get("smaller")
        return bool(steps) and steps != self.config["model"].get("smaller")

    @staticmethod
    def _data_key(settings: Mapping[str, Any], seed: int) -> str:
        return digest([{name: value for name, value in settings["data"].items() if name != "seed"}, seed])

    def build(self, recipe: Recipe, seeds: Sequence[int]) -> list[Variant]:
        """Return a recipe's variants, one a seed; one alone where no seed makes a difference.

        Args:
            recipe: The recipe.
            seeds: Calibration seeds.

        Raises:
            UserError: If a key or a value is not allowed, naming the recipe.
        """
        if not recipe.differs:
            interventions = list(self.run.module.interventions)
            return [
                self._variant(recipe, seed, self.config, deepcopy(self.pruning.pruner), self.pruning, interventions)
                for seed in seeds
            ]
        if not self.has_config:
            raise UserError("study.recipes: recipes differ from a configuration; give Engine its config")
        settings = applied(self.config, recipe.differs)
        variants = []
        for seed in seeds:
            built = self._parsed(recipe, settings)
            interventions = list(built.model.interventions)
            self._modules.setdefault(self._model_key(settings, seed), built.model)
            pruner = built.pruning.pruner
            variants.append(self._variant(recipe, seed, settings, pruner, built.pruning, interventions, built.data))
        return variants if self._takes_steps(settings) or depends_on_seed(variants[0]) else variants[:1]

    def _variant(
        self,
        recipe: Recipe,
        seed: int,
        settings: Mapping[str, Any],
        pruner: Pruner,
        pruning: PruningCallback,
        interventions: list[Intervention],
        data: PruningDataModule | None = None,
    ) -> Variant:
        key = self._data_key(settings, seed)
        if key not in self._data:
            chosen = data or self.run.data
            self._data[key] = chosen.with_demonstrations(chosen.demonstrations, seed)
        if isinstance(pruner.importance, Random):
            pruner.importance.seed += seed
        model = self._model_key(settings, seed)
        return Variant(
            recipe,
            seed,
            self._modules[model],
            self._data[key],
            pruner,
            pruning.propagation.name,
            pruning.count_padding,
            interventions,
            "" if self._modules[model] is self.run.module else model,
        )

    def _parsed(self, recipe: Recipe, settings: Mapping[str, Any]) -> Namespace:
        try:
            parsed = self._parser.parse_object(deepcopy(dict(settings)))  # it builds lists in place
            found: Namespace = self._parser.instantiate(parsed)
            return found
        except (UserError, ArgumentError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"study, recipe '{recipe.name}': {one_line(str(error))}") from error


def depends_on_seed(variant: Variant) -> bool:
    """Return whether another calibration seed gives other masks."""
    importance = variant.pruner.importance
    return variant.prunes and (importance.needs is not None or isinstance(importance, Random))


def sweep_variants(run: Run, pruning: PruningCallback) -> list[Variant]:
    """Return the variants of ``pruning.sweep``: the run's own recipe at each sparsity.

    Args:
        run: The run.
        pruning: Its pruning callback.
    """
    return [
        Variant(
            Recipe(f"pruned, sparsity {pruner.pattern.sparsity:g}", values={SPARSITY: pruner.pattern.sparsity}),
            run.data.seed,
            run.module,
            run.data,
            pruner,
            pruning.propagation.name,
            pruning.count_padding,
            list(run.module.interventions),
        )
        for pruner in pruning.sweep_pruners()
    ]


def demonstrations_key(data: PruningDataModule, group: str) -> str:
    """Return the hash of a group's demonstrations and of the settings that choose its prompts."""
    return digest([plain(data.demonstrations[group]), *prompt_settings(data)])


def prompt_settings(data: PruningDataModule) -> tuple[int | None, ...]:
    """Return what decides, besides demonstrations and tasks, which prompts a data module chooses."""
    return data.num_prompts, data.max_tokens, data.num_tokens, data.seed
