"""The tables of a study: columns are there where there is something to say."""

import pytest

from mlprune.comparison import Difference
from mlprune.metrics.measure import Measure
from mlprune.present.study import leaderboard


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
