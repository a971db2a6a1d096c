"""Corpora in local files: a folder in the layout of FLORES, or one file for each language."""

from pathlib import Path

from mlprune.data.columns import TRANSLATION, with_columns
from mlprune.data.corpora.base import Blank, Corpus, checked_blank
from mlprune.data.reading import KINDS, kind_of, read_file
from mlprune.data.rows import Rows
from mlprune.data.unpacked import OPENERS, without_compression
from mlprune.errors import UserError, did_you_mean
from mlprune.languages import language

LANG = "{lang}"


class FloresFolder(Corpus):
    """A folder of FLORES-200 or FLORES+, column ``text``.

    FLORES-200 has plain text, a sentence a line: ``eng_Latn.dev``, ``fra_Latn.dev``, ... in the folder or in ``dev/``.
    FLORES+ has ``dev/eng_Latn.jsonl`` or ``.parquet`` with columns ``id`` and ``text``. Either may be compressed.

    Args:
        path: The folder, or its parent if the files lie in ``dev/`` and ``devtest/``.
        split: ``dev`` or ``devtest``.
        blank: ``leave_out`` to leave a row with a blank line out in every language, ``error`` to refuse it.

    Raises:
        UserError: If the folder does not exist.
    """

    def __init__(self, path: str, split: str = "dev", blank: Blank = "leave_out") -> None:
        self.path = Path(path).expanduser()
        self.split = split
        self.blank = checked_blank(blank)
        self._kinds: dict[str, str] = {}  # by language; ids of plain text are line numbers, so both do not go together
        if not self.path.is_dir():
            raise UserError(f"FLORES folder '{path}' does not exist; give the folder that holds eng_Latn.{split}")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("flores", str(self.path.resolve()), self.split)

    def _file(self, lang: str) -> Path:
        codes = language(lang).flores_codes
        subfolder = self.path if self.path.name == self.split else self.path / self.split
        plain = [folder / f"{code}.{self.split}" for code in codes for folder in (self.path, subfolder)]
        rows = [subfolder / f"{code}.{extension}" for extension in ("jsonl", "parquet") for code in codes]
        for candidate in (*plain, *rows):
            for ending in ("", *OPENERS):
                if (found := candidate.with_name(candidate.name + ending)).is_file():
                    return found
        names = " or ".join(f"{code}.{self.split}" for code in codes)
        raise UserError(
            f"FLORES folder '{self.path}' has no file {names} for language '{lang}', "
            f"and no {self.split}/{codes[-1]}.jsonl or .parquet"
        )

    def check(self, lang: str) -> None:
        file = self._file(lang)
        self._kinds[lang] = kind_of(file.name) or "text"
        self.numbered = self._kinds[lang] == "text"
        if len({kind == "text" for kind in self._kinds.values()}) > 1:
            raise UserError(
                f"FLORES folder '{self.path}' has plain text for one language and {file.name} for another; "
                "rows of FLORES-200 and FLORES+ are not paired: give a folder of one of them"
            )

    def origin(self, lang: str) -> str:
        return str(self._file(lang))

    def rows(self, lang: str) -> Rows:
        self.check(lang)
        rows = read_file(self._file(lang), self._kinds[lang])
        return with_columns(rows, None, None if self.numbered else "id", self.origin(lang))


class LocalFiles(Corpus):
    """Local files, one for each language or for all: jsonl, csv, tsv, parquet, plain text or tmx.

    Text is read unchanged: nothing is interpreted as a number, a date or a missing value, and cells of tsv are not
    quoted. Plain text has a row a line, column ``text``: ``.txt``, or the language as extension, as Moses and OPUS have
    it (``corpus.{lang}``). One file without ``{lang}`` in its path serves all languages if it is a translation memory
    (tmx), has a column ``translation`` that holds a text for each language, which gives the column ``text``, or has a
    column for each language, as ``columns: {text: "{lang}"}``. A further extension ``.gz``, ``.bz2``, ``.xz`` or
    ``.zst`` says that the file is compressed.

    Args:
        path: File name with ``{lang}`` in place of the language code, such as ``data/xnli.{lang}.tsv``.
        columns: Which file column gives which column, as ``{text: review_body}``; the file's names if omitted.
            In files without a header, columns are named ``0``, ``1``, ... ``{lang}`` is replaced as in ``path``.
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
        self.path = path
        self.kind = _kind(path)
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
        return Path(self.path.replace(LANG, self._code(lang))).expanduser()

    def origin(self, lang: str) -> str:
        return str(self._file(lang))

    def check(self, lang: str) -> None:
        file = self._file(lang)
        if not file.is_file():
            what = "is a folder; give the file" if file.is_dir() else "does not exist"
            raise UserError(f"corpus file '{file}' for language '{lang}' {what}")
        self._languages.add(lang)
        if len(self._languages) > 1 and not self._tells_languages_apart(file):
            raise UserError(
                f"path '{self.path}' is used for {', '.join(sorted(self._languages))}; put {LANG} in place of the "
                f"code, or in columns, as {{text: '{LANG}'}}, if each language is a column"
            )

    def _tells_languages_apart(self, file: Path) -> bool:
        if self.kind == "tmx" or any(LANG in name for name in (self.path, *(self.columns or {}).values())):
            return True
        return self.kind != "text" and TRANSLATION in self._open(file).names

    def _open(self, file: Path) -> Rows:
        return read_file(file, self.kind, self.header)

    def rows(self, lang: str) -> Rows:
        self.check(lang)
        rows = self._open(self._file(lang))
        return with_columns(rows, self.columns, self.id_column, self.origin(lang), self._code(lang))


def _kind(path: str) -> str:
    """What a file is by its extension; plain text if that is the language."""
    if (kind := kind_of(path)) is not None:
        return kind
    name = without_compression(path)
    if name.endswith(f".{LANG}"):
        return "text"
    extension = name.rpartition(".")[2].lower()
    endings = f"{', '.join(KINDS)}, or .{LANG} where that is the extension of plain text"
    raise UserError(
        f"path '{path}' has no known extension; give one of {endings}; {', '.join(OPENERS)} may follow"
        f"{did_you_mean(extension, KINDS)}"
    )
