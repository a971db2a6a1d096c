"""Which rows of a corpus can be used: those without blanks, in every language with aligned rows."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mlprune.data.cells import cell_of, is_blank, text_of
from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row, Rows
from mlprune.errors import UserError
from mlprune.log import log

NAMED = 3  # number of rows that a warning names


@dataclass(frozen=True)
class Needs:
    """What a row must have to be used.

    Args:
        texts: Columns that must hold text.
        labels: Columns that must hold a label, which may be a number.
        fault: Returns what else is wrong with a row, or None.
        skip: Whether a row does not belong to the task, so that it is neither used nor counted as left out.

    Example:
        >>> Needs(texts=("text",)).fault({"text": "Oui."}) is None
        True
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    fault: Callable[[Row], str | None] = lambda row: None
    skip: Callable[[Row], bool] = lambda row: False


class UsableRows:
    """The usable rows of some languages; all rows are read, few are kept in memory.

    Args:
        corpus: Where they come from.
        languages: Their codes.
        needs: Returns what the rows of a language must have, given its code and first row.
        aligned: Whether rows of one id are translations of each other: rows unusable in one are left out in all.
        who: What uses the rows, for messages.

    Raises:
        UserError: If a row has something other than text where text is needed, or a blank with ``blank: error``, or if
            languages without an id column have different numbers of rows.

    Example:
        >>> from mlprune.data.corpora import Bundled
        >>> usable = UsableRows(Bundled("parallel", "test"), ["en", "fr"], lambda lang, row: Needs(("text",)))
        >>> usable.left_out
        {}
    """

    def __init__(
        self,
        corpus: Corpus,
        languages: Sequence[str],
        needs: Callable[[str, Row], Needs],
        aligned: bool = True,
        who: str = "the corpus",
    ) -> None:
        self.corpus = corpus
        self.who = who
        self.rows: dict[str, Sequence[Row]] = {lang: corpus.rows(lang) for lang in languages}
        self._places: dict[str, dict[str, int]] = {}
        self._skipped: dict[str, set[str]] = {lang: set() for lang in languages}
        faults = {lang: self._scan(lang, needs) for lang in languages}
        if aligned and corpus.numbered:
            self._check_counts(faults)
        everywhere = {row_id for found in faults.values() for row_id in found}
        self._unusable = {
            lang: everywhere - self._skipped[lang] if aligned else set(found) for lang, found in faults.items()
        }
        self._warn(faults, aligned)

    @property
    def left_out(self) -> dict[str, int]:
        """Number of rows left out, by language."""
        counts = {lang: sum(self._has(lang, i) for i in found) for lang, found in self._unusable.items()}
        return {lang: count for lang, count in counts.items() if count}

    def ids(self, lang: str) -> list[str]:
        """Return the ids of all rows of a language, in order."""
        if self.corpus.numbered:
            return [str(number) for number in range(len(self.rows[lang]))]
        return list(self._places[lang])

    def unusable(self, lang: str) -> set[str]:
        """Return the ids of a language's unusable rows."""
        return self._unusable[lang] | self._skipped[lang]

    def shared(self, languages: Collection[str]) -> list[str]:
        """Return the ids that all given languages have, in the order of the first."""
        first, *others = languages
        if self.corpus.numbered:
            return self.ids(min(languages, key=lambda lang: len(self.rows[lang])))
        return [row_id for row_id in self.ids(first) if all(self._has(lang, row_id) for lang in others)]

    def take(self, lang: str, ids: Sequence[str]) -> list[Row]:
        """Return the rows of some ids, in the order given."""
        places = [int(row_id) if self.corpus.numbered else self._places[lang][row_id] for row_id in ids]
        rows = self.rows[lang]
        return rows.take(places) if isinstance(rows, Rows) else [rows[place] for place in places]

    def _has(self, lang: str, row_id: str) -> bool:
        return int(row_id) < len(self.rows[lang]) if self.corpus.numbered else row_id in self._places[lang]

    def _scan(self, lang: str, needs_of: Callable[[str, Row], Needs]) -> dict[str, str]:
        """Return the ids of rows that cannot be used, and why."""
        faults: dict[str, str] = {}
        if not self.rows[lang]:
            return faults
        needs = needs_of(lang, self.rows[lang][0])
        places = self._places[lang] = {}
        for number, row in enumerate(self.rows[lang]):
            if not self.corpus.numbered:
                places[row["id"]] = number
            try:
                if needs.skip(row):
                    self._skipped[lang].add(row["id"])
                elif fault := self._fault(row, needs):
                    faults[row["id"]] = fault
            except UserError as error:
                raise UserError(f"{self.who}, {self.corpus.where(lang, row['id'])}: {error}") from error
        return faults

    def _fault(self, row: Row, needs: Needs) -> str | None:
        for column in (*needs.labels, *needs.texts):
            if is_blank(cell_of(row, column)):
                if self.corpus.blank == "error":
                    raise UserError(f"{column} is blank; fill it, or set blank: leave_out")
                return f"{column} is blank"
        for column in needs.texts:
            text_of(row, column)
        return needs.fault(row)

    def _check_counts(self, faults: dict[str, dict[str, str]]) -> None:
        """Refuse files of unequal length, except for trailing blank rows."""
        shortest = min(self.rows, key=lambda lang: len(self.rows[lang]))
        count = len(self.rows[shortest])
        for lang, rows in self.rows.items():
            if any(str(number) not in faults[lang] for number in range(count, len(rows))):
                first, second = (code for code in self.rows if code in (lang, shortest))
                raise UserError(
                    f"{self.who}: {self.corpus.origin(first)} has {len(self.rows[first])} rows, "
                    f"{self.corpus.origin(second)} has {len(self.rows[second])}; rows are paired by their number: "
                    "give equally many, or id_column"
                )

    def _warn(self, faults: dict[str, dict[str, str]], aligned: bool) -> None:
        """Warn once, naming the rows that are left out."""
        found = [(lang, row_id, why) for lang, rows in faults.items() for row_id, why in rows.items()]
        if found:
            count = len({row_id for _, row_id, _ in found}) if aligned else len(found)
            named = [f"{self.corpus.where(lang, row_id)} ({why})" for lang, row_id, why in found[:NAMED]]
            more = [f"{len(found) - NAMED} more"] if len(found) > NAMED else []
            rows = "1 row is" if count == 1 else f"{count} rows are"
            every = " in every language" if aligned and len(faults) > 1 else ""
            log.warning("%s: %s left out%s: %s", self.who, rows, every, ", ".join([*named, *more]))
