"""The controls of a recipe: other scores, other texts, or the wrong end of its scores."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from mlprune.data.demonstrations import (
    CodeDemonstrations,
    Demonstrations,
    MonolingualDemonstrations,
    TranslationDemonstrations,
)
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.experiments.variants import Variant, depends_on_seed, prompt_settings
from mlprune.inputs import plain
from mlprune.log import log
from mlprune.pruning import Importance, Magnitude, Pattern, Pruner, Random, Unstructured
from mlprune.runs.facts import digest
from mlprune.studies.recipes import Recipe


def controls_of(variants: Sequence[Variant]) -> list[Variant]:
    """Return the controls of recipes, each with the recipe's calibration seeds; one that recipes share comes once.

    They are random scores and magnitudes at the same sparsity, the same recipe from monolingual text and from code
    where it reads translations, and the highest scores dropped where it drops the lowest. Monolingual prompts have as
    many shots, and thus about half as many tokens; where the recipe says ``num_tokens``, twice as many shots and just
    as many tokens.

    Args:
        variants: The variants of all confirmed recipes.
    """
    found: list[Variant] = []
    known: set[str] = set()
    first: dict[str, Variant] = {}
    for variant in (variant for variant in variants if variant.prunes):
        first.setdefault(variant.recipe.folder, variant)
        for control in _controls(variant):
            if variant is not first[variant.recipe.folder] and not depends_on_seed(control):
                continue
            key = digest([plain(control.pruner.importance), plain(control.pruner.pattern), *_settings(control)])
            if key not in known:
                known.add(key)
                found.append(control)
    return found


def _settings(variant: Variant) -> list[object]:
    """What else decides a variant's masks."""
    pruner = variant.pruner
    reads = {group: plain(demonstrations) for group, demonstrations in variant.data.demonstrations.items()}
    calibrated = [reads, *prompt_settings(variant.data), variant.propagate] if pruner.importance.needs else []
    regular = [[found.pattern for found in kind] for kind in (pruner.include, pruner.exclude)]
    return [*calibrated, regular, plain(pruner.allocation), variant.model, plain(variant.interventions)]


def _controls(variant: Variant) -> list[Variant]:
    pruner, score = variant.pruner, variant.pruner.importance
    found = []
    for name, kind in (("random scores", Random), ("magnitude", Magnitude)):
        if not isinstance(score, kind):
            importance = Random(variant.seed) if kind is Random else Magnitude()
            found.append(_named(variant, name, _pruner(pruner, importance, pruner.pattern)))
    if score.needs is not None:
        for name, texts in (("monolingual text", _monolingual), ("code", _code)):
            if (data := _reading(variant.data, texts)) is not None:
                control = replace(_named(variant, name, pruner), data=data)
                try:
                    data.choose_prompts(variant.module.tokenizer)
                except UserError as error:  # a corpus with too few rows
                    log.warning("warning: control '%s' is left out: %s", control.recipe.name, error)
                else:
                    found.append(control)
    pattern = pruner.pattern
    if isinstance(pattern, Unstructured) and pattern.drop == "lowest" and not score.lowest_only:
        highest = Unstructured(pattern.sparsity, pattern.scope, "highest")
        with suppress(UserError):  # a score that only knows the lowest
            found.append(_named(variant, "highest dropped", _pruner(pruner, score, highest)))
    return found


def _named(variant: Variant, name: str, pruner: Pruner) -> Variant:
    recipe = variant.recipe
    control = Recipe(f"{recipe.name}: {name}", control=recipe.name, endpoint=recipe.endpoint)
    return replace(variant, recipe=control, pruner=pruner)


def _pruner(pruner: Pruner, importance: Importance, pattern: Pattern) -> Pruner:
    """The same layers and sparsity with other scores; an allocation that looks at calibrated scores is left out."""
    include, exclude = ([found.pattern for found in kind] for kind in (pruner.include, pruner.exclude))
    uncalibrated = importance.needs is None and pruner.allocation is not None and pruner.allocation.needs_statistics
    return Pruner(importance, pattern, None if uncalibrated else pruner.allocation, include, exclude)


def _reading(
    data: PruningDataModule, texts: Callable[[TranslationDemonstrations, int | None], Demonstrations]
) -> PruningDataModule | None:
    """The data with other texts in place of translations; None where there are none."""
    replaced = {
        group: texts(source, source.num_tokens or data.num_tokens)
        if isinstance(source, TranslationDemonstrations)
        else source
        for group, source in data.demonstrations.items()
    }
    changed = any(replaced[group] is not source for group, source in data.demonstrations.items())
    return data.with_demonstrations(replaced) if changed else None


def _monolingual(source: TranslationDemonstrations, num_tokens: int | None) -> Demonstrations:
    return MonolingualDemonstrations(
        source.source_lang,
        shots=source.shots if num_tokens is None else 2 * source.shots,
        corpus=source.corpus,
        separator=source.separator,
        num_prompts=source.num_prompts,
        max_tokens=source.max_tokens,
        seed=source.seed,
        num_tokens=num_tokens,
    )


def _code(source: TranslationDemonstrations, num_tokens: int | None) -> Demonstrations:
    return CodeDemonstrations(
        num_prompts=source.num_prompts, max_tokens=source.max_tokens, seed=source.seed, num_tokens=num_tokens
    )
