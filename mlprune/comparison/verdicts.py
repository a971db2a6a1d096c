"""Which way a difference went, as far as its interval tells, and what that is called."""

from collections.abc import Sequence

from mlprune.comparison.controls import explained
from mlprune.comparison.difference import Difference

VERDICTS = {  # the verdict of a row, said of a language and of a change
    "better": ("better", "it helped"),
    "shift": ("a shift of labels", "a shift of labels"),
    "worse": ("worse", "it hurt"),
    "higher": ("higher", "it rose"),
    "lower": ("lower", "it fell"),
    "same": ("no answer changed", "no answer changed"),
    "unclear": ("no clear change", "too few to tell"),
}
SURE = 0.05  # of a corrected p value


def is_sure(row: Difference) -> bool:
    """Return whether a difference is clear, also after correction where there is one."""
    return row.clear if row.p_holm is None else row.clear and row.p_holm < SURE


def verdict(row: Difference, clear: bool, controls: Sequence[Difference] = ()) -> str:
    """Return which way a difference went, as a key of ``VERDICTS``.

    ``higher`` and ``lower`` where neither is better, ``unclear`` if the interval does not tell, ``shift`` where
    constants on the scores of labels gain as much.

    Args:
        row: The difference.
        clear: Whether its interval counts as clear.
        controls: Rows of the first system with constants.

    Example:
        >>> from mlprune.metrics import Measure
        >>> row = Difference("b", "a", "nli", "fr", Measure("f1"), 0.5, 0.6, 0.1, low=0.05, high=0.15)
        >>> verdict(row, row.clear), verdict(row, clear=False)
        ('better', 'unclear')
    """
    if row.changed == 0:
        return "same"
    if not clear or not row.delta:
        return "unclear"
    rose, better = row.delta > 0, row.measure.higher_is_better
    if better is None:
        return "higher" if rose else "lower"
    if rose != better:
        return "worse"
    return "better" if explained(row, controls) is None else "shift"


def by_verdict(rows: Sequence[Difference], controls: Sequence[Difference] = ()) -> dict[str, list[Difference]]:
    """Return rows of several languages by which way they went, corrected for looking at several.

    Args:
        rows: A row a language.
        controls: Rows of the first system with constants.
    """
    found: dict[str, list[Difference]] = {name: [] for name in VERDICTS}
    for row in rows:
        found[verdict(row, is_sure(row), controls)].append(row)
    return {name: alike for name, alike in found.items() if alike}
