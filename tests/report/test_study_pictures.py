"""Pictures of a study show every claim, also where each task and language is one."""

from pathlib import Path
from typing import Any

from mlprune.comparison import Difference
from mlprune.metrics import Accuracy
from mlprune.report.study import study_section
from mlprune.runs.content import RunContent

SPARSITIES, LANGUAGES = (0.1, 0.2), ("fr", "sw")


def row(sparsity: float, lang: str) -> dict[str, Any]:
    name = f"wanda, sparsity {sparsity:g}"
    (measure,) = Accuracy.measures
    found = Difference(name, "dense", "reviews", lang, measure, 0.5, 0.5 + sparsity, sparsity, 0.0, 0.3, 0.2, n=60)
    said = {"by_seed": [0.0, 0.1], "seeds_deviation": 0.1, "total_low": -0.1, "total_high": 0.3}
    return found.to_json() | said | {"p_holm": 0.4, "verdict": "too few to tell"}


def test_each_language_that_is_a_claim_is_in_every_picture() -> None:
    rows = [row(sparsity, lang) for sparsity in SPARSITIES for lang in LANGUAGES]
    recipes = [
        {"name": f"wanda, sparsity {value:g}", "values": {"pruning.pattern.sparsity": value, "data.shuffled": True}}
        for value in SPARSITIES
    ]
    study = {"recipes": recipes, "selection": rows, "confirmed": rows}
    section = study_section(RunContent(Path("v0"), "v0", study=study))
    assert section is not None
    figures = dict(section["figures"])
    curves = "Difference by sparsity on the rows that choose"
    assert list(figures) == ["Selection against confirmation", "Calibration seeds", curves], (
        "true is no place on an axis"
    )
    for lang in LANGUAGES:
        assert f"wanda, shuffled True, {lang}" in figures[curves]
        assert all(f"wanda, sparsity {value:g}, {lang}" in figures["Calibration seeds"] for value in SPARSITIES)
    assert all("points" in figure for figure in figures.values())
