"""Source code as a corpus."""

import sysconfig
import tokenize
from pathlib import Path

from mlprune.data.corpora.base import Corpus
from mlprune.data.rows import Row
from mlprune.errors import UserError


class PythonFiles(Corpus):
    """Python source files, one a row, column ``text``; by default those of the standard library on this machine.

    Files that Python cannot decode are left out.

    Args:
        path: Folder to search for ``*.py``; the standard library's folder if omitted.
        min_chars: Shorter files are left out.
        max_chars: Maximum length of a file's text; the rest is cut off.
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
        """The folder was checked at construction; code has no language."""

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
