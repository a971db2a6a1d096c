"""The recipes of a study as study.json has them, from the variants that were built of them."""

from collections.abc import Sequence

from mlprune.evaluation.tasks import Task
from mlprune.experiments.variants import Variant
from mlprune.module import PruningModule
from mlprune.studies.judging import Entry


def entries_of(variants: Sequence[Variant], base: PruningModule, tasks: Sequence[Task]) -> list[Entry]:
    """Return the recipes of variants, with their seeds and where the results of their dense model are.

    Args:
        variants: All variants.
        base: The run's own model, whose results are the run's.
        tasks: The tasks.
    """
    found: dict[str, Entry] = {}
    modules = {id(base): 0}
    for variant in variants:
        recipe = variant.recipe
        number = 0 if _compares_with(variant.module, base) else modules.setdefault(id(variant.module), len(modules))
        dense = f"dense/{number}" if number else ""
        differs = dict(recipe.values), dict(recipe.differs)
        left_out, endpoint = variant.left_out(tasks), dict(recipe.endpoint)
        entry = Entry(recipe.name, recipe.folder, [], *differs, dense, recipe.control, endpoint, left_out)
        found.setdefault(recipe.folder, entry).seeds.append(variant.seed)
    return list(found.values())


def _compares_with(module: PruningModule, base: PruningModule) -> bool:
    """Whether a model is the run's, made smaller in a way that leaves likelihoods comparable."""
    return bool(module.smaller) and module.given == base.given and all(step.keeps_tokens for step in module.smaller)
