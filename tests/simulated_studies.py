"""Studies without a model: simulated margins of twenty recipes, chosen on some rows and judged on others."""

from dataclasses import dataclass

import numpy as np

from mlprune.comparison import TaskRecords
from mlprune.comparison.controls import matched
from mlprune.metrics import Accuracy, LabelShares
from mlprune.studies.decision import Claim, Confirmation, Decision, Shift, decide
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.evidence import evidence_of
from mlprune.studies.selection import select

LABELS = ["negative", "positive"]
LANGUAGES = ("fr", "es", "sw")
RECIPES = [f"recipe {i}" for i in range(20)]
SHARED = 0.8  # correlation of a row's noise over languages, and over recipes


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Args:
        skill: Added to the margins of the right answer of recipe 7, in standard deviations of what recipes change.
        bias: What the dense model adds to the second label's score, and no recipe.
        rows: Rows that choose, and as many that judge.
        top: How many recipes are judged.
    """

    skill: float = 0.0
    bias: float = 0.0
    rows: int = 100
    top: int = 3


def correlated(generator: np.random.Generator, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Standard normal numbers, correlated along an axis."""
    common = generator.normal(size=tuple(1 if i == axis else size for i, size in enumerate(shape)))
    return np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * generator.normal(size=shape)


@dataclass(frozen=True)
class Answers:
    """Scores of the second label less the first, dense and of every recipe, and the right labels.

    Args:
        right: 0 or 1, (languages, rows).
        dense: (languages, rows).
        recipes: (recipes, languages, rows).
    """

    right: np.ndarray
    dense: np.ndarray
    recipes: np.ndarray

    def gains(self) -> dict[str, np.ndarray]:
        """Each recipe's gain in the probability of the right answer, a mean over languages, (rows,)."""
        sign = 2 * self.right - 1
        soft = [1 / (1 + np.exp(-sign * scores)) for scores in (self.dense, self.recipes)]
        return dict(zip(RECIPES, (soft[1] - soft[0]).mean(1), strict=True))

    def records(self, recipe: int | None = None) -> list[TaskRecords]:
        """The records of a recipe, or dense."""
        scores = self.dense if recipe is None else self.recipes[recipe]
        records = {
            lang: [
                {"id": str(i), "label": LABELS[gold], "scores": [0.0, score], "prediction": LABELS[int(score > 0)]}
                for i, (gold, score) in enumerate(zip(right.tolist(), own.tolist(), strict=True))
            ]
            for lang, right, own in zip(LANGUAGES, self.right, scores, strict=True)
        }
        return [TaskRecords("reviews", records, {lang: [Accuracy(), LabelShares(LABELS)] for lang in records})]


def draw(generator: np.random.Generator, plan: Plan) -> Answers:
    """Draw a study's answers; without skill and bias, dense and every recipe are exchangeable row by row.

    A row is as hard, and is changed alike, in all languages, and recipes change it alike.
    """
    shape = (len(LANGUAGES), plan.rows)
    right = np.broadcast_to(generator.integers(0, 2, plan.rows), shape)
    ease = 0.5 + correlated(generator, shape, 0)
    changes = np.stack([correlated(generator, shape, 0) for _ in RECIPES])
    changes = np.sqrt(SHARED) * correlated(generator, shape, 0) + np.sqrt(1 - SHARED) * changes
    changes[7] += plan.skill
    sign = 2 * right - 1
    dense = sign * (ease + 0.4 * correlated(generator, shape, 0)) + plan.bias
    return Answers(right, dense, sign * (ease + 0.4 * changes))


def study(seed: int, number: int, plan: Plan) -> Decision:
    """Choose recipes on rows, judge them once on others, decide; with constants where a recipe seems to help."""
    generator = np.random.default_rng([seed, number])
    chosen = select(draw(generator, plan).gains(), plan.top)
    judged = draw(generator, plan)
    dense = judged.records()
    found = []
    for name in chosen:
        own = judged.records(RECIPES.index(name))
        found.append(Confirmation(evidence_of(dense, [own], Endpoint(), name, seed=number)[0], None))
    decision = decide(found, len(RECIPES))
    if any(claim.verdict == "helped" for claim in decision.claims):
        decision = decide([_controlled(claim, judged) for claim in decision.claims], len(RECIPES))
    return decision


def _controlled(claim: Claim, judged: Answers) -> Confirmation:
    """A confirmation with matched constants, where the recipe seems to help."""
    if claim.verdict != "helped":
        return claim.confirmation
    dense, own = judged.records(), judged.records(RECIPES.index(claim.recipe))
    control = matched(dense[0], own[0])
    assert control is not None
    shifted = [control.records]
    gain, beyond = (
        evidence_of(*sides, Endpoint(), claim.recipe)[0] for sides in ((dense, [shifted]), (shifted, [own]))
    )
    return Confirmation(claim.confirmation.evidence, Shift(gain, beyond))


def verdicts(decision: Decision) -> set[str]:
    """What was claimed."""
    return {claim.verdict for claim in decision.claims} - {"too few to tell"}
