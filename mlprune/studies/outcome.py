"""What a study found: evidence of every recipe, what is claimed of the confirmed ones, and the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlprune.comparison.difference import Difference
from mlprune.files import write_json, write_text
from mlprune.present.study import study_csv, tables_of
from mlprune.present.table import to_csv, to_latex
from mlprune.studies.decision import Claim, Confirmation, decide
from mlprune.studies.evidence import Evidence, evidence_of
from mlprune.studies.judging import Entry, Judge
from mlprune.studies.looks import STUDY
from mlprune.studies.plan import CONFIRM
from mlprune.studies.shift import fitted_evidence

SELECT, CONTROL = "select", "control"  # roles of lines, beside CONFIRM
ALL_SEEDS = "all"


@dataclass(frozen=True)
class Line:
    """A row of study.csv.

    Args:
        entry: The recipe.
        seed: The calibration seed, or ``all``.
        role: ``select``, ``confirm`` or ``control``.
        row: The difference.
    """

    entry: Entry
    seed: int | str
    role: str
    row: Difference

    @property
    def before(self) -> dict[str, Any]:
        """What stands before the row: recipe, seed, role, and the values of the grid."""
        keys = [key.rpartition(".")[2] for key in self.entry.values]
        values = {
            last if keys.count(last) == 1 else key: value
            for (key, value), last in zip(self.entry.values.items(), keys, strict=True)
        }
        return {"recipe": self.entry.name, "seed": self.seed, "role": self.role, **values}


@dataclass(frozen=True)
class Beside:
    """A control of a confirmed recipe.

    Args:
        control: The control against dense.
        beyond: The recipe against the control.
    """

    control: Evidence
    beyond: Evidence


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Args:
        lines: Every difference, for study.csv.
        selection: Recipe to evidence on the rows that choose, as far as it was evaluated there.
        gains: For each round, recipe to gain in what recipes are chosen by.
        claims: What may be said of each confirmed recipe.
        controls: The controls on the confirmation rows.
        answer: The answer in one sentence.
        screening: What recipes were not asked, if anything.
    """

    lines: list[Line]
    selection: Mapping[str, list[Evidence]] = field(default_factory=dict)
    gains: Sequence[Mapping[str, float]] = ()
    claims: Sequence[Claim] = ()
    controls: Sequence[Beside] = ()
    answer: str = ""
    screening: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what study.json has of it."""
        return {
            "answer": self.answer,
            "screening": self.screening,
            "gains": [dict(gain) for gain in self.gains],
            "selected": list(dict.fromkeys(claim.recipe for claim in self.claims)),
            "selection": [evidence.to_json() for found in self.selection.values() for evidence in found],
            "confirmed": [claim_to_json(claim) for claim in self.claims],
            "controls": [beside.control.to_json() | {"beyond": beside.beyond.to_json()} for beside in self.controls],
        }


def claim_to_json(claim: Claim) -> dict[str, Any]:
    """Return a claim as study.json has it."""
    shift = claim.confirmation.shift
    constants = None if shift is None else {"matched": shift.matched.to_json(), "beyond": shift.beyond.to_json()}
    return claim.confirmation.evidence.to_json() | {
        "p_holm": claim.p_holm,
        "verdict": claim.verdict,
        "constants": constants,
    }


def write_outcome(folder: Path, declared: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Write study.json, study.csv and study.tex, and return the content of the first.

    Args:
        folder: The study's folder.
        declared: What was declared.
        outcome: What was found.
    """
    content = declared | outcome.to_json()
    table = study_csv([(line.before, line.row) for line in outcome.lines])
    lines = [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]
    write_text(folder / "study.csv", to_csv(table))
    write_text(folder / "study.tex", "\n\n".join(map(to_latex, tables_of(content, lines))) + "\n")
    write_json(folder / STUDY, content)
    return content


def conclude(
    judge: Judge,
    entries: Sequence[Entry],
    parts: Sequence[str],
    gains: Sequence[Mapping[str, float]] = (),
    chosen: Sequence[str] = (),
    looks: int = 1,
) -> Outcome:
    """Return what a study found, from its records.

    Args:
        judge: What reads the records.
        entries: All recipes, controls included.
        parts: The parts of the rows that choose.
        gains: For each round, recipe to gain.
        chosen: Names of the recipes that were confirmed, best first.
        looks: How often the confirmation rows were looked at.
    """
    lines: list[Line] = []
    selection: dict[str, list[Evidence]] = {}
    recipes = [entry for entry in entries if entry.control is None and entry is not judge.against]
    for role, seen in ((SELECT, parts), (CONFIRM, [CONFIRM] if chosen else [])):
        lines += _lines(judge, judge.against, role, seen) if judge.against is not None else []
    rounds = {
        entry.name: sum(entry.name in gain for gain in gains) if judge.endpoint is not None else None
        for entry in recipes
    }
    screening = judge.screening(recipes, {name: parts[:count] for name, count in rounds.items()})
    for entry in recipes if parts else []:
        seen = parts[: rounds[entry.name]]
        lines += _lines(judge, entry, SELECT, seen)
        if judge.endpoint is not None:
            selection[entry.name] = judge.evidence(entry, seen)
            lines += [Line(entry, ALL_SEEDS, SELECT, evidence.row) for evidence in selection[entry.name]]
    confirmed: list[Confirmation] = []
    by_name = {entry.name: entry for entry in entries}
    for entry in (by_name[name] for name in chosen):
        lines += _lines(judge, entry, CONFIRM, [CONFIRM])
        found, shifts = judge.evidence(entry, [CONFIRM]), judge.shifts(entry, [CONFIRM])
        confirmed += [
            Confirmation(evidence, shifts[place] if place < len(shifts) else None)
            for place, evidence in enumerate(found)
        ]
    controls = []
    for entry in entries:
        if entry.control is not None and chosen:
            lines += _lines(judge, entry, CONTROL, [CONFIRM])
            found, beyond = judge.evidence(entry, [CONFIRM]), judge.beyond(by_name[entry.control], entry, [CONFIRM])
            controls += [Beside(*pair) for pair in zip(found, beyond, strict=True)]
            lines += [Line(entry, ALL_SEEDS, CONTROL, evidence.row) for evidence in found]
    if confirmed and judge.against is None:
        controls += _constants(judge, by_name[chosen[0]], parts)
    if not confirmed:
        return Outcome(lines, selection, gains, answer=_explored(recipes, selection))
    decision = decide(confirmed, len(recipes), looks)
    rows = [confirmation.evidence.row for confirmation in confirmed]
    lines += [Line(by_name[row.system], ALL_SEEDS, CONFIRM, row) for row in rows]
    return Outcome(lines, selection, gains, decision.claims, controls, decision.sentence, screening)


def _constants(judge: Judge, best: Entry, parts: Sequence[str]) -> list[Beside]:
    """The dense model with fitted constants, and the best recipe beyond it."""
    sides, decides = judge.sides(best, [CONFIRM]), judge.endpoint_of(best)
    chose = judge.sides(best, parts)[0][0] if parts else None
    found = []
    for evidence, records in fitted_evidence(sides[0][0], chose, decides, judge.seed):
        system = evidence[0].row.system
        beyond = evidence_of(records, [two for _, two in sides], decides, best.name, system, judge.seed)
        found += [Beside(*pair) for pair in zip(evidence, beyond, strict=True)]
    return found


def _lines(judge: Judge, entry: Entry, role: str, parts: Sequence[str]) -> list[Line]:
    return [Line(entry, seed, role, row) for seed in entry.seeds for row in judge.differences(entry, seed, parts)]


def _explored(recipes: Sequence[Entry], selection: Mapping[str, list[Evidence]]) -> str:
    """Say what an exploration cannot: nothing in it was judged on rows that had not chosen."""
    many = f"{len(recipes)} recipe{'s' * (len(recipes) != 1)} {'was' if len(recipes) == 1 else 'were'} explored"
    rows = [evidence.row for found in selection.values() for evidence in found if evidence.row.delta is not None]
    if not rows:
        return f"{many}, and none was confirmed: no endpoint was declared."
    better = rows[0].measure.higher_is_better is not False
    best = max(rows, key=lambda row: (row.delta or 0.0) * (1 if better else -1))
    measure = best.measure
    return (
        f"{many}, and none was confirmed; the best of them, {best.system}, changed {best.task} "
        f"{measure.title or measure.name} by {measure.amount(best.delta)} on the rows that chose it, which "
        "overstates it."
    )
