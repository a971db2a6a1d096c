"""Corpora of the Hugging Face hub."""

from pathlib import Path

from mlprune.data.columns import with_columns
from mlprune.data.corpora.base import Blank, Corpus, checked_blank
from mlprune.data.hub import read_hub
from mlprune.data.rows import Rows
from mlprune.errors import UserError


class HubDataset(Corpus):
    """A data set of the Hugging Face hub, or a local folder in the hub's layout, read by ``datasets.load_dataset``.

    Args:
        name: Hub id such as ``facebook/xnli``; ``{lang}`` is replaced by the language's code.
        config: Configuration (``{lang}`` replaced likewise); the default one if omitted.
        split: Split such as ``validation``.
        revision: Commit, tag or branch to pin.
        data_files: File names in the repository (``{lang}`` replaced likewise).
        columns: Which column of the data set gives which column (``{lang}`` replaced likewise); its names if omitted.
            A column ``translation`` that holds one text for each language gives the column ``text``.
        id_column: Column that identifies a row over the languages; the row's number if omitted.
        language_codes: Language codes of the data set where they differ, as ``{zh: zho_Hans}``.
        blank: ``leave_out`` to leave a row with a blank cell out in every language, ``error`` to refuse it.
    """

    def __init__(
        self,
        name: str,
        config: str | None = None,
        split: str = "test",
        revision: str | None = None,
        data_files: str | None = None,
        columns: dict[str, str] | None = None,
        id_column: str | None = None,
        language_codes: dict[str, str] | None = None,
        blank: Blank = "leave_out",
    ) -> None:
        if not name:
            raise UserError("HubDataset: name '' is not allowed; give a hub id or a folder")
        self.name = name
        self.config = config
        self.split = split
        self.revision = revision
        self.data_files = data_files
        self.columns = columns
        self.id_column = id_column
        self.language_codes = language_codes or {}
        self.blank = checked_blank(blank)
        self.numbered = id_column is None

    @property
    def identity(self) -> tuple[str, ...]:
        return ("hub", self.name, self.config or "", self.split, self.revision or "", self.data_files or "")

    def check(self, lang: str) -> None:
        """Nothing is known before the data set is read."""

    def _fill(self, pattern: str, lang: str) -> str:
        return pattern.replace("{lang}", self.language_codes.get(lang, lang))

    def hub_id(self, lang: str) -> str | None:
        name = self._fill(self.name, lang)
        return None if Path(name).expanduser().is_dir() else name

    def origin(self, lang: str) -> str:
        parts = [self.config or "", self.split, self.data_files or ""]
        return f"{self._fill(self.name, lang)} ({self._fill(', '.join(filter(None, parts)), lang)})"

    def rows(self, lang: str) -> Rows:
        config, files = (None if part is None else self._fill(part, lang) for part in (self.config, self.data_files))
        rows = read_hub(self._fill(self.name, lang), config, self.split, self.revision, files)
        return with_columns(rows, self.columns, self.id_column, self.origin(lang), self._fill("{lang}", lang))
