"""Corpora in local files: a folder in the layout of FLORES, or one file for each language."""

from pathlib import Path

from mlprune.data.columns import with_columns
from mlprune.data.corpora.base import Blank, Corpus, checked_blank
from mlprune.data.reading import read_file
from mlprune.data.rows import Rows
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import language

EXTENSIONS = ("jsonl", "json", "csv", "tsv", "parquet")


class FloresFolder(Corpus):
    """A folder in the layout of FLORES: ``eng_Latn.dev``, ``fra_Latn.dev``, ... one sentence a line, column ``text``.

    Args:
        path: The folder, or its parent if the files lie in ``dev/`` and ``devtest/``.
        split: ``dev`` or ``devtest``, the files' extension.
        blank: ``leave_out`` to leave a row with a blank line out in every language, ``error`` to refuse it.

    Raises:
        UserError: If the folder does not exist.
    """

    numbered = True

    def __init__(self, path: str, split: str = "dev", blank: Blank = "leave_out") -> None:
        self.path = Path(path).expanduser()
        self.split = split
        self.blank = checked_blank(blank)
        if not self.path.is_dir():
            raise UserError(f"FLORES folder '{path}' does not exist; give the folder that holds eng_Latn.{split}")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("flores", str(self.path.resolve()), self.split)

    def _file(self, lang: str) -> Path:
        names = [f"{code}.{self.split}" for code in language(lang).flores_codes]
        candidates = [folder / name for name in names for folder in (self.path, self.path / self.split)]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        raise UserError(f"FLORES folder '{self.path}' has no file {' or '.join(names)} for language '{lang}'")

    def check(self, lang: str) -> None:
        self._file(lang)

    def origin(self, lang: str) -> str:
        return str(self._file(lang))

    def rows(self, lang: str) -> Rows:
        return with_columns(read_file(self._file(lang), "text"), None, None, self.origin(lang))


class LocalFiles(Corpus):
    """Local files, one for each language: jsonl, csv, tsv or parquet.

    Text is read unchanged: nothing is interpreted as a number, a date or a missing value, and cells of tsv are not
    quoted. A column ``translation`` that holds one text for each language gives the column ``text``; one file without
    ``{lang}`` in its path then serves all languages.

    Args:
        path: File name with ``{lang}`` in place of the language code, such as ``data/xnli.{lang}.tsv``.
        columns: Which file column gives which column, as ``{text: review_body}``; the file's names if omitted.
            In files without a header, columns are named ``0``, ``1``, ...
        id_column: Column that identifies a row over the languages; the row's number if omitted, and then the files of
            languages that are compared must have equally many rows.
        language_codes: Language codes of the files where they differ, as ``{zh: zh-CN}``.
        header: Whether csv and tsv files start with a line of column names.
        blank: ``leave_out`` to leave a row with a blank cell out in every language, ``error`` to refuse it.

    Raises:
        UserError: If the extension is not one of those, or several languages use a path without ``{lang}``.
    """

    def __init__(
        self,
        path: str,
        columns: dict[str, str] | None = None,
        id_column: str | None = None,
        language_codes: dict[str, str] | None = None,
        header: bool = True,
        blank: Blank = "leave_out",
    ) -> None:
        extension = path.rsplit(".", 1)[-1].lower()
        if extension not in EXTENSIONS:
            hint = did_you_mean(extension, EXTENSIONS)
            raise UserError(f"path '{path}' has no known extension; give one of {', '.join(EXTENSIONS)}{hint}")
        self.path = path
        self.columns = columns
        self.id_column = id_column
        self.language_codes = language_codes or {}
        self.header = header
        self.blank = checked_blank(blank)
        self.numbered = id_column is None
        self._languages: set[str] = set()

    @property
    def identity(self) -> tuple[str, ...]:
        return ("files", str(Path(self.path).expanduser().resolve()))

    def _code(self, lang: str) -> str:
        return self.language_codes.get(lang, lang)

    def _file(self, lang: str) -> Path:
        return Path(self.path.replace("{lang}", self._code(lang))).expanduser()

    def origin(self, lang: str) -> str:
        return str(self._file(lang))

    def check(self, lang: str) -> None:
        file = self._file(lang)
        if not file.is_file():
            what = "is a folder; give the file" if file.is_dir() else "does not exist"
            raise UserError(f"corpus file '{file}' for language '{lang}' {what}")
        self._languages.add(lang)
        if len(self._languages) > 1 and "{lang}" not in self.path and not self._holds_translations(file):
            raise UserError(
                f"path '{self.path}' is used for {', '.join(sorted(self._languages))}; "
                "put {lang} in place of the code"
            )

    def _holds_translations(self, file: Path) -> bool:
        return "translation" in read_file(file, header=self.header).names

    def rows(self, lang: str) -> Rows:
        self.check(lang)
        rows = read_file(self._file(lang), header=self.header)
        return with_columns(rows, self.columns, self.id_column, self.origin(lang), self._code(lang))
