"""Controls that need no further pass over a model: the first system with constants added to the scores of its labels.

A recipe that moves all scores towards a label can raise accuracy without any skill; so can a constant, one number a
label, that of the first label 0, alike for all examples of a task, or of a language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlprune.comparison.choices import Choices
from mlprune.comparison.clusters import Indices, cluster_records
from mlprune.comparison.difference import Difference
from mlprune.comparison.fitting import fitted_constants
from mlprune.comparison.labelled import Labelled, accuracy_only, labelled, with_constants
from mlprune.comparison.matching import matched_constants
from mlprune.comparison.records import TaskRecords
from mlprune.comparison.rows import differences_of
from mlprune.metrics.additive import Array

FOLDS = 5
MATCHED, FITTED = "matched constants", "fitted constants"
BY_LANGUAGE = " by language"
POOLED = "all"  # language of constants that all languages share


@dataclass(frozen=True)
class Control:
    """A system with constants.

    Args:
        name: ``matched constants``, ``fitted constants``, or one of these ``by language``.
        records: Its records.
        constants: For each ``language`` (``all`` where they are pooled), and ``fold`` where there are several, the
            ``constants``, label to number.
    """

    name: str
    records: TaskRecords
    constants: list[dict[str, Any]]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the constants as comparison.json has them."""
        return [{"control": self.name, **entry} for entry in self.constants]


def matched(dense: TaskRecords, other: TaskRecords, by_language: bool = False) -> Control | None:
    """Return a system with the constants that give it another's label shares on the same rows; no right answers needed.

    Args:
        dense: The system's records.
        other: The other's, of the same examples in the same order.
        by_language: Match the shares of each language; else of all together.

    Returns:
        None where rows have candidates of their own.
    """
    arrays, wanted = labelled(dense), labelled(other)
    if arrays is None or wanted is None or sorted(arrays.labels) != sorted(wanted.labels):
        return None
    order = np.array([arrays.labels.index(label) for label in wanted.labels])

    def match(languages: Sequence[str]) -> Array:
        chosen = order[np.concatenate([wanted.chosen[lang] for lang in languages])]
        counts = np.bincount(chosen, minlength=len(arrays.labels))
        return matched_constants(*_pooled(arrays, languages)[:2], counts)

    groups = _groups(arrays, by_language)
    found = {lang: constants for group in groups for constants in [match(group)] for lang in group}
    listed = [_listed(arrays, group, found[group[0]]) for group in groups]
    return Control(_name(MATCHED, by_language), with_constants(dense, arrays, found), listed)


def fitted(dense: TaskRecords, selection: TaskRecords, by_language: bool = False) -> Control | None:
    """Return a system with the constants of highest accuracy on other rows, as in a study that chooses on these.

    Args:
        dense: The system's records of the rows it is judged by.
        selection: Its records of the rows that choose.
        by_language: Fit each language by itself; else all together.

    Returns:
        None where rows have candidates of their own, or languages have no rows that choose: all, or by language any.
    """
    arrays, chosen = labelled(dense), labelled(selection)
    if arrays is None or chosen is None or arrays.labels != chosen.labels:
        return None
    groups = _groups(arrays, by_language)
    known = [[lang for lang in group if lang in chosen.scores] for group in groups]
    if not all(known):
        return None
    parts = [fitted_constants(*_pooled(chosen, group)) for group in known]
    found = {lang: part for group, part in zip(groups, parts, strict=True) for lang in group}
    listed = [_listed(arrays, group, part) for group, part in zip(groups, parts, strict=True)]
    return Control(_name(FITTED, by_language), with_constants(dense, arrays, found), listed)


def cross_fitted(dense: TaskRecords, by_language: bool = False, seed: int = 0) -> Control | None:
    """Return a system with the constants of highest accuracy, by five-fold cross-fitting over clusters.

    Each fifth of the clusters gets the constants that are best on the other four, so that no row chooses its own.

    Args:
        dense: The system's records.
        by_language: Fit each language by itself; else all together.
        seed: Seed of dealing clusters to folds.

    Returns:
        None where rows have candidates of their own, or there are fewer than two clusters.
    """
    arrays = labelled(dense)
    if arrays is None:
        return None
    folds = _folds(cluster_records(dense.records, dense.aligned), seed)
    num = 1 + max((int(fold.max(initial=-1)) for fold in folds.values()), default=-1)
    if num < 2:
        return None
    added = {lang: np.zeros_like(scores) for lang, scores in arrays.scores.items()}
    listed = []
    for group in _groups(arrays, by_language):
        inside = np.concatenate([folds[lang] for lang in group])
        for fold in range(num):
            constants = fitted_constants(*(part[inside != fold] for part in _pooled(arrays, group)))
            listed.append(_listed(arrays, group, constants) | {"fold": fold})
            for lang in group:
                added[lang][folds[lang] == fold] = constants
    return Control(_name(FITTED, by_language), with_constants(dense, arrays, added), listed)


def _groups(arrays: Labelled, by_language: bool) -> list[list[str]]:
    """Languages that share constants."""
    languages = list(arrays.scores)
    return [[lang] for lang in languages] if by_language else [languages]


def _pooled(arrays: Labelled, languages: Sequence[str]) -> tuple[Array, Choices, Choices]:
    """Scores, choices and right labels of some languages together."""
    scores, chosen, right = (
        np.concatenate([part[lang] for lang in languages]) for part in (arrays.scores, arrays.chosen, arrays.right)
    )
    return scores, chosen, right


def _folds(clusters: Mapping[str, Indices], seed: int) -> dict[str, Indices]:
    """Language to the fold of each record: clusters dealt at random, evenly."""
    num = 1 + max((int(ids.max(initial=-1)) for ids in clusters.values()), default=-1)
    dealt = np.random.default_rng(seed).permutation(num) % FOLDS
    return {lang: dealt[ids] for lang, ids in clusters.items()}


def _name(kind: str, by_language: bool) -> str:
    return kind + BY_LANGUAGE * by_language


def _listed(arrays: Labelled, group: Sequence[str], constants: Array) -> dict[str, Any]:
    language = group[0] if len(group) == 1 < len(arrays.scores) else POOLED
    return {"language": language, "constants": dict(zip(arrays.labels, constants.tolist(), strict=True))}


def controls_of(before: TaskRecords, after: TaskRecords, seed: int = 0) -> list[Control]:
    """Return the first system with the constants that need no further rows; none where rows have their own candidates.

    Args:
        before: The first system's records.
        after: The second's, of the same examples in the same order.
        seed: Seed of dealing clusters to folds.
    """
    found = [matched(before, after, by_language) for by_language in (False, True)]
    found += [cross_fitted(before, by_language, seed) for by_language in (False, True)]
    return [control for control in found if control is not None]


def control_rows(
    before: TaskRecords, after: TaskRecords, controls: Sequence[Control], systems: tuple[str, str], seed: int = 0
) -> list[Difference]:
    """Return what constants do to the first system's accuracy, and what the second is beyond that, in pairs of rows.

    The constants are taken as they are: intervals and p values do not know that they were chosen on rows.

    Args:
        before: The first system's records.
        after: The second's.
        controls: The first system with constants.
        systems: What the systems are called.
        seed: Seed of resampling and swapping.
    """
    rows = []
    plain = [accuracy_only(task, task.records) for task in (before, after)]
    for control in controls:
        name = named(systems[0], control.name)
        gains = differences_of(plain[0], control.records, (systems[0], name), seed)
        beyond = differences_of(control.records, plain[1], (name, systems[1]), seed)
        rows += [row for pair in zip(gains, beyond, strict=True) for row in pair]
    return rows


def read_controls(comparison: dict[str, Any]) -> list[tuple[Difference, Difference]]:
    """Return the rows of :func:`control_rows` from comparison.json, in pairs; none in files of earlier versions."""
    rows = [Difference.from_json(row) for row in comparison.get("controls", [])]
    return list(zip(rows[::2], rows[1::2], strict=True))


def named(system: str, control: str) -> str:
    """Return what a system with constants is called.

    Example:
        >>> named("dense", MATCHED)
        'dense with matched constants'
    """
    return f"{system} with {control}"


def explained(row: Difference, controls: Sequence[Difference]) -> tuple[Difference, Difference] | None:
    """Return the constants that explain a gain: what they gain themselves, and what the second system is beyond them.

    A gain is explained unless the second system is above the first with matched constants, pooled and by language, at
    95%.

    Args:
        row: The gain.
        controls: What :func:`control_rows` returned.

    Returns:
        The pair that leaves least of the gain; None where nothing explains it.
    """
    names = [named(row.reference, kind) for kind in (MATCHED, MATCHED + BY_LANGUAGE)]
    key = (row.task, row.language, row.measure.name)
    pairs = [
        (gain, rest)
        for gain, rest in zip(controls[::2], controls[1::2], strict=True)
        if (gain.task, gain.language, gain.measure.name) == key and gain.system in names and not _above(rest)
    ]
    return min(pairs, key=lambda pair: pair[1].delta or 0.0, default=None)


def _above(row: Difference) -> bool:
    return row.low is not None and row.low > 0
