"""The decision of a study: from what was confirmed to what is claimed, and the one sentence that says it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlprune.comparison.difference import Difference
from mlprune.comparison.inference import holm
from mlprune.metrics.measure import AVERAGE, Measure
from mlprune.studies.evidence import Evidence

LEVEL = 0.05
FEW = 3  # how many claims of which nothing can be told are each told in full
Verdict = Literal["helped", "hurt", "rose", "fell", "a shift of labels", "too few to tell"]


@dataclass(frozen=True)
class Shift:
    """What constants on the dense model's scores give on the same rows.

    Args:
        matched: Dense with the constants that give it the recipe's own label shares, against dense.
        beyond: The recipe against dense with these constants.
    """

    matched: Evidence
    beyond: Evidence


@dataclass(frozen=True)
class Confirmation:
    """A recipe judged on the confirmation rows.

    Args:
        evidence: The recipe against dense.
        shift: The same with constants; None where the tasks have no fixed set of labels.
    """

    evidence: Evidence
    shift: Shift | None = None


@dataclass(frozen=True)
class Claim:
    """What may be said of a confirmed recipe.

    Args:
        confirmation: What it rests on.
        p_holm: Its p value, corrected over all that was confirmed.
        verdict: Whether it helped.
    """

    confirmation: Confirmation
    p_holm: float
    verdict: Verdict

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.confirmation.evidence.row.system


@dataclass(frozen=True)
class Decision:
    """What a study found.

    Args:
        claims: One for each confirmation, in their order.
        sentence: The answer.
    """

    claims: list[Claim]
    sentence: str


def decide(confirmations: Sequence[Confirmation], num_recipes: int, looks: int = 1) -> Decision:
    """Decide what may be claimed of the recipes that were confirmed.

    A recipe helped or hurt where its p value, after Holm's correction over all confirmations, is at most 0.05 and its
    interval over rows and calibration seeds excludes zero. One that helped is "a shift of labels" where it is not above
    the dense model with constants that give it the recipe's own label shares, at 95%.

    Args:
        confirmations: At least one.
        num_recipes: How many recipes they were chosen from.
        looks: How often the confirmation rows were looked at, this time included.

    Example:
        >>> from mlprune.comparison import Difference
        >>> accuracy = Measure("accuracy", unit="%", scale=100, digits=1)
        >>> row = Difference("wanda", "dense", "nli", "fr", accuracy, 0.5, 0.6, 0.1, 0.06, 0.14, 0.01, n=400)
        >>> print(decide([Confirmation(Evidence(row))], 20).sentence)
        Of 20 recipes, 1 was judged once on rows that had chosen none: wanda changed nli accuracy in fr by +10.0 points
        (95% CI +6.0 to +14.0, p = 0.010, n = 400): it helped.
    """
    p_values = [confirmation.evidence.row.p for confirmation in confirmations]
    corrected = holm([1.0 if p is None else p for p in p_values])
    claims = [Claim(evidence, p, _verdict(evidence, p)) for evidence, p in zip(confirmations, corrected, strict=True)]
    return Decision(claims, _sentence(claims, num_recipes, looks))


def _verdict(confirmation: Confirmation, p_holm: float) -> Verdict:
    evidence = confirmation.evidence
    if p_holm > LEVEL or not evidence.clear or evidence.row.delta is None:
        return "too few to tell"
    better = evidence.row.measure.higher_is_better
    if better is None:
        return "rose" if evidence.row.delta > 0 else "fell"
    if (evidence.row.delta > 0) != better:
        return "hurt"
    beyond = confirmation.shift.beyond if confirmation.shift is not None else None
    if beyond is not None and not _above_zero(beyond, better):
        return "a shift of labels"
    return "helped"


def _above_zero(evidence: Evidence, higher_is_better: bool) -> bool:
    """Whether the whole interval is on the better side of zero."""
    if evidence.total is None:
        return False
    return evidence.total[0] > 0 if higher_is_better else evidence.total[1] < 0


def _sentence(claims: Sequence[Claim], num_recipes: int, looks: int) -> str:
    names = {claim.recipe for claim in claims}
    count = f"{len(names)} recipe{'s' * (len(names) > 1)}" if num_recipes <= len(names) else str(len(names))
    chosen = f"Of {num_recipes} recipes, {count}" if num_recipes > len(names) else count
    rows = "once on rows that had chosen none" if looks == 1 else f"on rows that were looked at {looks} times"
    order: list[Verdict] = ["helped", "a shift of labels", "rose", "fell", "hurt", "too few to tell"]
    ordered = sorted(claims, key=lambda claim: order.index(claim.verdict))
    unclear = [claim for claim in ordered if claim.verdict == "too few to tell"]
    listed = unclear if len(unclear) > FEW else []
    said = "; ".join([*(_said(claim, len(claims)) for claim in ordered if claim not in listed), *_listed(listed)])
    caution = "" if looks == 1 else " These p values are too small: later looks know what earlier ones showed."
    return f"{chosen} {'was' if len(names) == 1 else 'were'} judged {rows}: {said}.{caution}"


def _listed(claims: Sequence[Claim]) -> list[str]:
    """Many of which nothing can be told, in one clause."""
    if not claims:
        return []
    pieces = [claim.confirmation.evidence for claim in claims]
    rows = [evidence.row for evidence in pieces]
    several = len({row.task for row in rows}) > 1
    names = ", ".join(f"{row.system}{f' on {row.task}' if several else ''}{_where(row)}" for row in rows)
    least = max(evidence.detectable or 0.0 for evidence in pieces)
    power = f" (detectable at 80% power: {rows[0].measure.amount(least, sign=False)} or less)" if least else ""
    return [f"too few to tell: {names}{power}"]


def _where(row: Difference) -> str:
    return "" if row.language == AVERAGE else f" in {row.language}"


def _said(claim: Claim, family: int) -> str:
    row, evidence = claim.confirmation.evidence.row, claim.confirmation.evidence
    measure = row.measure
    p = f"{'Holm ' if family > 1 else ''}p {'< 0.001' if claim.p_holm < 0.001 else f'= {claim.p_holm:.3f}'}"
    size = f"n = {row.n}" + ("" if row.clusters in (None, row.n) else f" in {row.clusters} clusters")
    said = f"{claim.recipe} changed {row.task} {measure.title or measure.name}{_where(row)}"
    said += f" by {measure.amount(row.delta)}"
    reference = "the dense model" if row.reference == "dense" else row.reference
    said += "" if row.reference == "dense" else f" against {row.reference}"
    said += f" ({_interval(evidence)}, {p}, {size})"
    if claim.verdict == "too few to tell":
        least = evidence.detectable
        power = f" (detectable at 80% power: {measure.amount(least, sign=False)})" if least else ""
        return f"{said}: too few to tell{power}"
    shift = claim.confirmation.shift
    if claim.verdict == "a shift of labels" and shift is not None:
        return (
            f"{said}: a shift of labels, for {reference} with constants added to its labels' scores changed by "
            f"{measure.amount(shift.matched.row.delta)}, and the recipe goes beyond that by "
            f"{measure.amount(shift.beyond.row.delta)} ({_interval(shift.beyond)})"
        )
    return f"{said}: it {claim.verdict}"


def _interval(evidence: Evidence) -> str:
    if evidence.total is None:
        return "no interval"
    measure: Measure = evidence.row.measure
    low, high = (measure.text(bound, sign=True) for bound in evidence.total)
    over = " over rows and seeds" if evidence.seeds_deviation else ""
    return f"95% CI{over} {low} to {high}"
