"""The tables of a study: columns are there where there is something to say."""

import pytest

from mlprune.comparison import Difference
from mlprune.metrics.measure import Measure
from mlprune.present.study import EACH_DENSE, language_tables, leaderboard, study_csv


def confirmed(language: str = "average", reference: str = "dense", seeds: int = 1) -> dict:
    measure = Measure("bits_per_char", "bits per character", higher_is_better=False)
    row = Difference("wanda", reference, "perplexity", language, measure, 2.0, 2.1, 0.1, 0.05, 0.15, 0.01, n=12)
    found = {"by_seed": [0.1] * seeds, "seeds_deviation": 0.0, "total_low": 0.04, "total_high": 0.16}
    return row.to_json() | found | {"p_holm": 0.02, "verdict": "hurt"}


@pytest.mark.parametrize(
    ("rows", "selection", "title", "columns"),
    [
        ([confirmed()], [], "perplexity bits per character", []),
        ([confirmed("fr")], [], "perplexity bits per character, fr", []),
        ([confirmed(reference="other")], [], "perplexity bits per character, against other", []),
        ([confirmed("fr"), confirmed("sw")], [], "bits per character", ["where"]),
        ([confirmed(seeds=2)], [], "perplexity bits per character", ["over rows alone", "between seeds"]),
        ([confirmed()], [confirmed()], "perplexity bits per character", ["difference where chosen"]),
    ],
)
def test_columns_are_there_where_they_say_something(rows, selection, title: str, columns: list[str]) -> None:
    table = leaderboard({"confirmed": rows, "selection": selection})[0]
    assert table.title == f"Confirmed: {title}"
    always = ["recipe", "difference", "95% CI", "p", "p (Holm)", "verdict"]
    assert [column for column in table.columns if column not in always] == columns
    cells = dict(zip(table.columns, table.rows[-1], strict=True))
    assert (cells["difference"], cells["95% CI"], cells["verdict"]) == ("+0.100", "+0.040 to +0.160", "hurt")
    assert cells.get("where", "perplexity, sw") == "perplexity, sw"


def lines(*recipes: tuple[str, str, float]) -> list[dict[str, str]]:
    """Lines of study.csv: recipe, language and the dense model's value, all 0.1 better."""
    rows = [Difference(name, "dense", "nli", lang, Measure("f1"), dense, 0.8, 0.1) for name, lang, dense in recipes]
    table = study_csv([({"recipe": row.system, "seed": 0, "role": "confirm"}, row) for row in rows])
    return [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]


def test_each_recipe_stands_below_the_dense_model_that_it_is_compared_with() -> None:
    (table,) = language_tables(
        lines(("a", "fr", 0.7), ("b", "fr", 0.6), ("c", "fr", 0.7), ("b 2", "fr", 0.6)), "confirm"
    )
    assert [row[:2] for row in table.rows if row[0] == "dense"] == [("dense", "0.700"), ("dense", "0.600")]
    assert [row[0] for row in table.rows] == ["dense", "a", "c", "dense", "b", "b 2"]
    assert EACH_DENSE in table.notes


def test_recipes_of_one_model_share_its_row_in_every_language() -> None:
    (table,) = language_tables(lines(("a", "fr", 0.7), ("b", "sw", 0.5), ("c", "sw", 0.5), ("c", "fr", 0.7)), "confirm")
    assert [row[0] for row in table.rows] == ["dense", "a", "b", "c"]
    assert table.rows[0] == ("dense", "0.700", "0.500")
    assert EACH_DENSE not in table.notes
