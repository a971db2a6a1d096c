"""The corpora that come with the package."""

from pathlib import Path

from mlprune.data.corpora.base import Corpus
from mlprune.data.reading import read_file
from mlprune.data.rows import Row
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import is_language, language

BUNDLED_DIR = Path(__file__).parent.parent / "bundled"


class Bundled(Corpus):
    """The corpora that come with the package: small, written for it, dedicated to the public domain.

    Args:
        name: ``parallel`` (column ``text``), ``nli`` (``premise``, ``hypothesis``, ``label``), ``reviews`` (``text``,
            ``stars``), ``facts`` (``prompt`` with ``<mask>``, ``answer``, ``candidates``, ``subject``) or ``pairs``
            (``good``, ``bad``, ``phenomenon``; its rows are not translations of each other).
        split: ``dev`` or ``test`` of ``parallel``; all rows if omitted.

    Raises:
        UserError: If the name or the split does not exist.

    Example:
        >>> Bundled("parallel").rows("fr")[0]["id"]
        '0'
    """

    NAMES = ("parallel", "nli", "reviews", "facts", "pairs")

    def __init__(self, name: str, split: str | None = None) -> None:
        if name not in self.NAMES:
            raise UserError(f"bundled corpus '{name}' does not exist; give one of {', '.join(self.NAMES)}")
        allowed = ("dev", "test") if name == "parallel" else ()
        if split is not None and split not in allowed:
            kinds = "dev or test" if allowed else "no split (the corpus has none)"
            raise UserError(f"split '{split}' of bundled corpus '{name}' does not exist; give {kinds}")
        self.name = name
        self.split = split

    @property
    def identity(self) -> tuple[str, ...]:
        return ("bundled", self.name)

    def check(self, lang: str) -> None:
        self._file(lang)

    def languages(self) -> list[str]:
        """Return the codes of its languages.

        Example:
            >>> Bundled("parallel").languages()
            ['en', 'es', 'fr', 'hi', 'sw', 'zh']
        """
        return sorted(path.stem for path in (BUNDLED_DIR / self.name).glob("*.jsonl"))

    def _file(self, lang: str) -> Path:
        """The file of a language, whatever code it is given by."""
        files = {language(code).flores: BUNDLED_DIR / self.name / f"{code}.jsonl" for code in self.languages()}
        if is_language(lang) and language(lang).flores in files:
            return files[language(lang).flores]
        have = [path.stem for path in files.values()]
        hint = f"; it has {', '.join(have)}{did_you_mean(lang, have)}"
        raise UserError(f"bundled corpus '{self.name}' has no language '{lang}'{hint}")

    def origin(self, lang: str) -> str:
        return f"bundled corpus '{self.name}' in '{lang}'"

    def rows(self, lang: str) -> list[Row]:
        rows = read_file(self._file(lang))
        kept = [row for row in rows if self.split is None or row["split"] == self.split]
        return [{**row, "id": str(row["id"])} for row in kept]
