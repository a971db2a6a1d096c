"""The map of recipes by languages: what is colored, and how strongly."""

import re

from mlprune.comparison import Difference
from mlprune.metrics.measure import Measure
from mlprune.present.study import study_csv
from mlprune.report.recipe_map import recipe_maps

ACCURACY = Measure("accuracy", unit="%", scale=100, digits=1)
BITS = Measure("bits_per_char", higher_is_better=False)


def lines(measure: Measure, *cells: tuple[str, str, float, bool]) -> list[dict[str, str]]:
    """Lines of study.csv: recipe, language, difference, whether it is clear."""
    rows = []
    for recipe, lang, delta, is_clear in cells:
        half = abs(delta) / 2 if is_clear else abs(delta) * 2
        bounds = {"low": delta - half, "high": delta + half}
        rows.append(
            (
                {"recipe": recipe, "seed": 0, "role": "confirm"},
                Difference(recipe, "dense", "nli", lang, measure, 0.5, 0.5 + delta, delta, **bounds),
            )
        )
    table = study_csv(rows)
    return [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]


def test_cells_are_colored_by_what_changed_and_pale_where_it_may_be_chance() -> None:
    given = [("a", "fr", 0.1, True), ("a", "sw", -0.1, False), ("b", "fr", -0.05, True)]
    ((title, svg),) = recipe_maps(lines(ACCURACY, *given), "confirm", "accuracy")
    assert "difference from dense" in title
    colors = re.findall(r"fill: var\(--(good|bad)\); opacity: ([\d.]+)", svg)
    assert [(name, round(float(opacity), 3)) for name, opacity in colors] == [
        ("good", 0.75),
        ("bad", 0.2),
        ("bad", 0.375),
    ]
    assert all(text in svg for text in ("+10.0*", ">-10.0<", "-5.0*", "French", "Swahili"))


def test_what_is_better_lower_is_green_where_it_fell() -> None:
    ((_, svg),) = recipe_maps(lines(BITS, ("a", "fr", -0.1, True)), "confirm", "bits_per_char")
    assert "fill: var(--good); opacity: 0.75" in svg
    assert recipe_maps(lines(BITS, ("a", "fr", -0.1, True)), "confirm", "accuracy") == []


def test_without_an_endpoint_a_tasks_first_measure_is_drawn() -> None:
    given = [*lines(ACCURACY, ("a", "fr", 0.1, True)), *lines(BITS, ("a", "fr", 0.1, True))]
    ((_, svg),) = recipe_maps(given, "confirm", None)
    assert "fill: var(--good); opacity: 0.75" in svg
