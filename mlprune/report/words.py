"""The words of a page that are explained on it."""

from collections.abc import Iterable

from mlprune.metrics import Measure
from mlprune.metrics.meaning import meaning_of
from mlprune.present import Table
from mlprune.present.glossary import explained


def glossary_of(tables: Iterable[Table], measures: Iterable[Measure]) -> dict[str, str]:
    """Return what the heads and row names of tables mean, after what the measures mean.

    Example:
        >>> list(glossary_of([Table("", ("language", "n"), [("French", "4")])], [Measure("bleu", "BLEU")]))
        ['BLEU', 'n']
    """
    names = {measure.title or measure.name: meaning_of(measure) for measure in measures}
    words = [word for table in tables for word in (*table.columns, *(row[0] for row in table.rows))]
    return {name: meaning for name, meaning in names.items() if meaning} | explained(words)
