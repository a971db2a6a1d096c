"""Corpora: where rows of text come from. Each is a class, chosen by ``class_path`` in YAML.

A corpus gives, for a language, a sequence of rows (dicts). Every row has an ``id``; rows of two languages with the same
id are translations of each other. Two corpora with the same ``identity`` hold the same rows, which is how rows used for
calibration, few-shot prompts and tests are kept apart.
"""

import sysconfig
import tokenize
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from mlprune.data.cells import text_of
from mlprune.data.columns import with_columns
from mlprune.data.hub import read_hub
from mlprune.data.reading import read_file
from mlprune.data.rows import Row, Rows
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import language

Blank = Literal["leave_out", "error"]
BUNDLED_DIR = Path(__file__).parent / "bundled"
EXTENSIONS = ("jsonl", "json", "csv", "tsv", "parquet")


class Corpus(ABC):
    """Rows of text by language."""

    numbered = False  # whether the ids are the rows' numbers, from 0
    blank: Blank = "leave_out"  # what becomes of a row with a blank cell in a column that is used

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """What tells this corpus' rows from another's: equal identities mean the same rows."""

    @abstractmethod
    def rows(self, lang: str) -> Sequence[Row]:
        """Return the rows of a language, in the order of the corpus, each with a unique ``id`` (str).

        Blank rows stay in place, so that rows of two languages that are told apart by their numbers alone stay in step.

        Args:
            lang: ISO 639-1 code.

        Raises:
            UserError: If the language or the data is missing, with what to do.
        """

    def sentences(self, lang: str) -> Sequence[Row]:
        """Return the rows of a language, which must have a column ``text``.

        Raises:
            UserError: As :meth:`rows`, and if the column is missing or holds something else than text, or null.
        """
        rows = self.rows(lang)
        for row in rows:
            try:
                _ = row.get("text", "") is None or text_of(row, "text")
            except UserError as error:
                raise UserError(f"{self.where(lang, row['id'])}: {error}") from error
        return rows

    def origin(self, lang: str) -> str:
        """Return where the rows of a language come from, in words."""
        return "the corpus"

    def where(self, lang: str, row_id: str) -> str:
        """Return in words which row an id means; rows are counted from 1."""
        row = f"row {int(row_id) + 1}" if self.numbered else f"row with id '{row_id}'"
        return f"{row} of {self.origin(lang)}"

    @abstractmethod
    def check(self, lang: str) -> None:
        """Raise UserError if ``rows(lang)`` cannot work, without reading the data."""


def checked_blank(value: str) -> Blank:
    """Return the setting ``blank``.

    Raises:
        UserError: If it is neither ``leave_out`` nor ``error``.

    Example:
        >>> checked_blank("error")
        'error'
    """
    if value not in get_args(Blank):
        raise UserError(f"blank '{value}' is not allowed; give {' or '.join(get_args(Blank))}")
    return cast(Blank, value)


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
        if not (BUNDLED_DIR / self.name / f"{lang}.jsonl").is_file():
            have = sorted(path.stem for path in (BUNDLED_DIR / self.name).glob("*.jsonl"))
            raise UserError(f"bundled corpus '{self.name}' has no language '{lang}'; it has {', '.join(have)}")

    def origin(self, lang: str) -> str:
        return f"bundled corpus '{self.name}' in '{lang}'"

    def rows(self, lang: str) -> list[Row]:
        self.check(lang)
        rows = read_file(BUNDLED_DIR / self.name / f"{lang}.jsonl")
        kept = [row for row in rows if self.split is None or row["split"] == self.split]
        return [{**row, "id": str(row["id"])} for row in kept]


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
        name = f"{language(lang).flores}.{self.split}"
        candidates = [self.path / name, self.path / self.split / name]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        raise UserError(f"FLORES folder '{self.path}' has no file {name} for language '{lang}'")

    def check(self, lang: str) -> None:
        self._file(lang)

    def origin(self, lang: str) -> str:
        return str(self._file(lang))

    def rows(self, lang: str) -> Rows:
        return with_columns(read_file(self._file(lang), "text"), None, None, self.origin(lang))


class LocalFiles(Corpus):
    """Local files, one for each language: jsonl, csv, tsv or parquet.

    Text is read as it stands: nothing is taken for a number, a date or a missing value, and cells of tsv are not
    quoted. A column ``translation`` that holds one text for each language gives the column ``text``; one file without
    ``{lang}`` in its path then serves all languages.

    Args:
        path: File name with ``{lang}`` where the language's code stands, such as ``data/xnli.{lang}.tsv``.
        columns: Which file column gives which column, as ``{text: review_body}``; the file's own names if omitted.
            In files without a header, columns are named ``0``, ``1``, ...
        id_column: Column that identifies a row over the languages; the row's number if omitted, and then the files of
            languages that are compared must have equally many rows.
        language_codes: The files' own codes where they differ, as ``{zh: zh-CN}``.
        header: Whether csv and tsv files start with a line of column names.
        blank: ``leave_out`` to leave a row with a blank cell out in every language, ``error`` to refuse it.

    Raises:
        UserError: If the extension is not one of those, or two languages are asked of a path without ``{lang}``.
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
        self._asked: set[str] = set()

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
        self._asked.add(lang)
        if len(self._asked) > 1 and "{lang}" not in self.path and not self._holds_translations(file):
            raise UserError(
                f"path '{self.path}' is asked for {', '.join(sorted(self._asked))}; put {{lang}} where the code stands"
            )

    def _holds_translations(self, file: Path) -> bool:
        return "translation" in read_file(file, header=self.header).names

    def rows(self, lang: str) -> Rows:
        self.check(lang)
        rows = read_file(self._file(lang), header=self.header)
        return with_columns(rows, self.columns, self.id_column, self.origin(lang), self._code(lang))


class HubDataset(Corpus):
    """A data set of the Hugging Face hub, or a local folder in the hub's layout, read by ``datasets.load_dataset``.

    Args:
        name: Hub id such as ``facebook/xnli``; ``{lang}`` is replaced by the language's code.
        config: Configuration (``{lang}`` replaced likewise); the default one if omitted.
        split: Split such as ``validation``.
        revision: Commit, tag or branch to pin.
        data_files: File names in the repository (``{lang}`` replaced likewise).
        columns: Which column of the data set gives which column; its own names if omitted. A column ``translation``
            that holds one text for each language gives the column ``text``.
        id_column: Column that identifies a row over the languages; the row's number if omitted.
        language_codes: The data set's own codes where they differ, as ``{zh: zho_Hans}``.
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
        """Only reading the data set can tell what it has."""

    def _fill(self, pattern: str, lang: str) -> str:
        return pattern.replace("{lang}", self.language_codes.get(lang, lang))

    def origin(self, lang: str) -> str:
        parts = [self.config or "", self.split, self.data_files or ""]
        return f"{self._fill(self.name, lang)} ({self._fill(', '.join(filter(None, parts)), lang)})"

    def rows(self, lang: str) -> Rows:
        config, files = (None if part is None else self._fill(part, lang) for part in (self.config, self.data_files))
        rows = read_hub(self._fill(self.name, lang), config, self.split, self.revision, files)
        return with_columns(rows, self.columns, self.id_column, self.origin(lang), self._fill("{lang}", lang))


class PythonFiles(Corpus):
    """Python source files, one a row, column ``text``; by default those of the standard library on this machine.

    Files that Python itself could not decode are left out.

    Args:
        path: Folder to search for ``*.py``; the standard library's own folder if omitted.
        min_chars: Shorter files are left out.
        max_chars: A file's text is cut here; calibration prompts are short.
    """

    def __init__(self, path: str | None = None, min_chars: int = 1000, max_chars: int = 20000) -> None:
        self.path = Path(path or sysconfig.get_path("stdlib")).expanduser()
        self.min_chars = min_chars
        self.max_chars = max_chars
        if not self.path.is_dir():
            raise UserError(f"folder of Python files '{path}' does not exist")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("python", str(self.path.resolve()))

    def check(self, lang: str) -> None:
        """The folder was checked when the corpus was made; code has no language."""

    def rows(self, lang: str) -> list[Row]:
        rows = []
        for file in sorted(self.path.rglob("*.py")):
            parts = file.relative_to(self.path).parts
            if {"site-packages", "test", "tests", "idlelib", "lib2to3"}.isdisjoint(parts):
                text = source_of(file)
                if len(text) >= self.min_chars:
                    rows.append({"id": "/".join(parts), "text": text[: self.max_chars]})
        return rows


def source_of(file: Path) -> str:
    """Return a Python file's text in the encoding that it declares; empty if it cannot be decoded."""
    try:
        with tokenize.open(file) as opened:
            return opened.read()
    except (SyntaxError, UnicodeDecodeError):
        return ""
