"""Translation memories (TMX): units that hold a text in each of several languages.

Source: TMX 1.4b specification, OSCAR 2005.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from mlprune.data.columns import TRANSLATION
from mlprune.data.json_lines import JsonRows
from mlprune.data.rows import Row, Rows
from mlprune.data.unpacked import unpacked
from mlprune.errors import UserError
from mlprune.languages import usual_tag

CODES = ("bpt", "ept", "it", "ph", "ut")  # elements of a text that hold another format's markup, not words


class TmxRows(Rows):
    """Units of a translation memory: columns ``translation``, a text for each language of the file, and ``tuid``.

    Where a unit lacks a language its text is blank. Language codes are written in their usual letters.

    Args:
        path: The file.

    Raises:
        UserError: If it is not a translation memory, holds an entity of its own, or a unit has two texts in a language.
    """

    def __init__(self, path: Path) -> None:
        self._file = tempfile.NamedTemporaryFile("w", prefix="mlprune-", encoding="utf-8")  # noqa: SIM115 (removed with self)
        languages: dict[str, str] = {}
        content = unpacked(path)
        with content.plain.open("rb") as opened:
            for unit in _Units(path).read(opened):
                languages |= dict.fromkeys(unit[TRANSLATION], "")
                self._file.write(json.dumps(unit, ensure_ascii=False) + "\n")
        self._file.flush()
        if not languages:
            raise UserError(f"{path}: there are no rows")
        self._blank = languages
        self._units = JsonRows(Path(self._file.name))
        self.names, self.lacking = self._units.names, self._units.lacking

    def __len__(self) -> int:
        return len(self._units)

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        for unit in self._units.read(positions):
            yield unit | {TRANSLATION: self._blank | unit[TRANSLATION]}


class _Units:
    """Reads units one by one, as expat meets them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[Row] = []
        self._count = 0
        self._open: list[str] = []  # names of the elements around the current place
        self._unit: Row = {}
        self._lang = ""
        self._text: list[str] | None = None  # of the segment that is being read
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._refuse_entity  # few bytes can declare gigabytes, or name other files
        self._parser.SkippedEntityHandler = self._refuse_entity

    def read(self, file: Any) -> Iterator[Row]:
        """Yield the units of an open file."""
        try:
            while block := file.read(2**20):
                self._parser.Parse(block, False)
                yield from self._found
                self._found.clear()
            self._parser.Parse(b"", True)
            yield from self._found
        except UserError:
            raise
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise UserError(f"{self.path}: line {error.lineno} is not XML: {reason}") from error
        except (ValueError, LookupError) as error:  # an encoding that Python does not know
            raise UserError(f"{self.path}: cannot be read as XML: {error}") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._open and name != "tmx":
            raise UserError(f"{self.path}: is no translation memory: its first element is '{name}', not 'tmx'")
        self._open.append(name)
        if name == "tu":
            self._count += 1
            self._unit = {TRANSLATION: {}} | ({"tuid": attributes["tuid"]} if "tuid" in attributes else {})
        elif name == "tuv":
            lang = attributes.get("xml:lang") or attributes.get("lang")
            if not lang or self._open[-2:-1] != ["tu"]:
                fault = "has no xml:lang" if not lang else "stands outside of a unit"
                raise UserError(f"{self.path}: row {self._count}: a text {fault}")
            self._lang = usual_tag(lang)
        elif name == "seg" and self._open[-2:-1] == ["tuv"]:
            self._text = []

    def _end(self, name: str) -> None:
        self._open.pop()
        if name == "seg" and self._text is not None:
            texts = self._unit[TRANSLATION]
            if self._lang in texts:
                raise UserError(f"{self.path}: row {self._count} has two texts in '{self._lang}'")
            texts[self._lang] = "".join(self._text)
            self._text = None
        elif name == "tu":
            self._found.append(self._unit)

    def _characters(self, text: str) -> None:
        if self._text is not None and not any(name in CODES for name in self._open[self._open.index("seg") :]):
            self._text.append(text)

    def _refuse_entity(self, name: str, *_: Any) -> None:
        raise UserError(f"{self.path}: entity '{name}' is not allowed; write out what it stands for")
