"""Corpora: where rows of text come from. Each is a class, chosen by ``class_path`` in YAML.

A corpus gives, for a language, a list of rows (dicts). Every row has an ``id``; rows of two languages with the same id
are translations of each other. Two corpora with the same ``identity`` hold the same rows, which is how rows used for
calibration, few-shot prompts and tests are kept apart.
"""

import sysconfig
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from mlprune.data.reading import read_file, read_hub
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import language

Row = dict[str, Any]
BUNDLED_DIR = Path(__file__).parent / "bundled"
EXTENSIONS = ("jsonl", "json", "csv", "tsv", "parquet")


class Corpus(ABC):
    """Rows of text by language."""

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """What tells this corpus' rows from another's: equal identities mean the same rows."""

    @abstractmethod
    def rows(self, lang: str) -> list[Row]:
        """Return the rows of a language, in the order of the corpus, each with a unique ``id`` (str).

        Args:
            lang: ISO 639-1 code.

        Raises:
            UserError: If the language or the data is missing, with what to do.
        """

    def sentences(self, lang: str) -> list[Row]:
        """Return the rows of a language, which must have a column ``text``.

        Raises:
            UserError: As :meth:`rows`, and if the column is missing or holds something else than text.
        """
        rows = self.rows(lang)
        if rows and "text" not in rows[0]:
            raise UserError(f"the corpus has no column 'text' in '{lang}'; it has {', '.join(rows[0])}")
        for number, row in enumerate(rows, start=1):
            if not isinstance(row["text"], str):
                raise UserError(f"row {number} of the corpus in '{lang}': text is {row['text']!r}; quote it as text")
        return rows

    @abstractmethod
    def check(self, lang: str) -> None:
        """Raise UserError if ``rows(lang)`` cannot work, without reading the data."""


class Bundled(Corpus):
    """The corpora that come with the package: small, written for it, dedicated to the public domain.

    Args:
        name: ``parallel`` (column ``text``), ``nli`` (``premise``, ``hypothesis``, ``label``), ``reviews`` (``text``,
            ``stars``) or ``facts`` (``prompt`` with ``<mask>``, ``answer``, ``candidates``, ``subject``).
        split: ``dev`` or ``test`` of ``parallel``; all rows if omitted.

    Raises:
        UserError: If the name or the split does not exist.

    Example:
        >>> Bundled("parallel").rows("fr")[0]["id"]
        '0'
    """

    NAMES = ("parallel", "nli", "reviews", "facts")

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

    Raises:
        UserError: If the folder does not exist.
    """

    def __init__(self, path: str, split: str = "dev") -> None:
        self.path = Path(path)
        self.split = split
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

    def rows(self, lang: str) -> list[Row]:
        return [{"id": str(i), "text": row["text"]} for i, row in enumerate(read_file(self._file(lang), "text"))]


class LocalFiles(Corpus):
    """Local files, one for each language: jsonl, csv, tsv or parquet.

    Args:
        path: File name with ``{lang}`` where the language's code stands, such as ``data/xnli.{lang}.tsv``.
        columns: Which file column gives which column, as ``{text: review_body}``; the file's own names if omitted.
            In files without a header, columns are named ``0``, ``1``, ...
        id_column: Column that identifies a row over the languages; the row's number if omitted.
        language_codes: The files' own codes where they differ, as ``{zh: zh-CN}``.
        header: Whether csv and tsv files start with a line of column names.

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
    ) -> None:
        extension = path.rsplit(".", 1)[-1]
        if extension not in EXTENSIONS:
            hint = did_you_mean(extension, EXTENSIONS)
            raise UserError(f"path '{path}' has no known extension; give one of {', '.join(EXTENSIONS)}{hint}")
        self.path = path
        self.columns = columns
        self.id_column = id_column
        self.language_codes = language_codes or {}
        self.header = header
        self._asked: set[str] = set()

    @property
    def identity(self) -> tuple[str, ...]:
        return ("files", str(Path(self.path).resolve()))

    def _file(self, lang: str) -> Path:
        return Path(self.path.replace("{lang}", self.language_codes.get(lang, lang)))

    def check(self, lang: str) -> None:
        if not self._file(lang).is_file():
            raise UserError(f"corpus file '{self._file(lang)}' for language '{lang}' does not exist")
        self._asked.add(lang)
        if len(self._asked) > 1 and "{lang}" not in self.path:
            raise UserError(
                f"path '{self.path}' is asked for {', '.join(sorted(self._asked))}; put {{lang}} where the code stands"
            )

    def rows(self, lang: str) -> list[Row]:
        self.check(lang)
        rows = read_file(self._file(lang), header=self.header)
        return with_columns(rows, self.columns, self.id_column, str(self._file(lang)))


class HubDataset(Corpus):
    """A data set of the Hugging Face hub, or a local folder in the hub's layout, read by ``datasets.load_dataset``.

    Args:
        name: Hub id such as ``facebook/xnli``; ``{lang}`` is replaced by the language's code.
        config: Configuration (``{lang}`` replaced likewise); the default one if omitted.
        split: Split such as ``validation``.
        revision: Commit, tag or branch to pin.
        data_files: File names in the repository (``{lang}`` replaced likewise).
        columns: Which column of the data set gives which column; its own names if omitted.
        id_column: Column that identifies a row over the languages; the row's number if omitted.
        language_codes: The data set's own codes where they differ, as ``{zh: zho_Hans}``.
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
    ) -> None:
        self.name = name
        self.config = config
        self.split = split
        self.revision = revision
        self.data_files = data_files
        self.columns = columns
        self.id_column = id_column
        self.language_codes = language_codes or {}

    @property
    def identity(self) -> tuple[str, ...]:
        return ("hub", self.name, self.config or "", self.split, self.revision or "", self.data_files or "")

    def check(self, lang: str) -> None:
        """Only reading the data set can tell what it has."""

    def rows(self, lang: str) -> list[Row]:
        code = self.language_codes.get(lang, lang)

        def fill(pattern: str | None) -> str | None:
            return None if pattern is None else pattern.replace("{lang}", code)

        rows = read_hub(str(fill(self.name)), fill(self.config), self.split, self.revision, fill(self.data_files))
        return with_columns(rows, self.columns, self.id_column, f"{fill(self.name)} ({self.split})")


class PythonFiles(Corpus):
    """Python source files, one a row, column ``text``; by default those of the standard library on this machine.

    Args:
        path: Folder to search for ``*.py``; the standard library's own folder if omitted.
        min_chars: Shorter files are left out.
        max_chars: A file's text is cut here; calibration prompts are short.
    """

    def __init__(self, path: str | None = None, min_chars: int = 1000, max_chars: int = 20000) -> None:
        self.path = Path(path or sysconfig.get_path("stdlib"))
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
                text = file.read_text(encoding="utf-8", errors="replace")
                if len(text) >= self.min_chars:
                    rows.append({"id": "/".join(parts), "text": text[: self.max_chars]})
        return rows


def with_columns(rows: list[Row], columns: dict[str, str] | None, id_column: str | None, origin: str) -> list[Row]:
    """Rename columns, give every row its id and check that none is missing.

    Raises:
        UserError: If a column is missing, a cell has no value or an id appears twice, naming file and row.

    Example:
        >>> with_columns([{"body": "Fine."}], {"text": "body"}, None, "reviews.csv")
        [{'id': '0', 'text': 'Fine.'}]
    """
    result, seen = [], {}
    for number, row in enumerate(rows):
        names = columns or {name: name for name in row if name != "id"}
        for wanted in [*names.values(), *([id_column] if id_column else [])]:
            if wanted not in row:
                hint = did_you_mean(wanted, row)
                raise UserError(f"{origin}: no column '{wanted}'; it has {', '.join(map(str, row))}{hint}")
            if row[wanted] is None:
                raise UserError(f"{origin}: row {number + 1} has no value in column '{wanted}'")
        row_id = str(row[id_column]) if id_column else str(number)
        if row_id in seen:
            raise UserError(f"{origin}: rows {seen[row_id] + 1} and {number + 1} have the same id '{row_id}'")
        seen[row_id] = number
        result.append({"id": row_id, **{canonical: row[name] for canonical, name in names.items()}})
    return result
