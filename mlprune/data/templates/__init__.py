"""Templates and verbalizers as data, each with its origin, reviewed by a person."""

from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import yaml

from mlprune.errors import UserError, did_you_mean

ByLanguage = str | dict[str, str]


@dataclass(frozen=True)
class Template:
    """How a row becomes candidate texts.

    Slots are ``{column}``, and ``{label}`` for the verbalized label or ``{candidate}`` for a candidate of the row.
    Texts and verbalizer are for all languages, or dicts of language to text or verbalizer.

    Args:
        template: The full text that is scored; question and answer together if omitted.
        label_column: Column that holds the right label, or the position of the right candidate column.
        verbalizer: Label to the word that stands for it, in label order.
        candidates: Columns with the candidates of each row, instead of a verbalizer.
        labels: Cell of the label column (as text) to label, or to candidate column.
        dropped: Cells of the label column whose rows are left out.
        question: What precedes the answer: what an encoder reads, or a chat's user says.
        answer: What the model is to say: a decoder's text, or a chat's assistant.
        answer_only: Score the answer alone, the question being given.
        start_token: Score texts from their first token on, after the tokenizer's beginning (or end) token alone.
        normalization: The normalization that belongs to the template.
        truncate: ``column``, ``length`` and ``character_languages``: cut a column to this many words, or characters.
        group_size: How many consecutive rows are sampled together.
        group_column: Column whose cell they share: rows with the same one are not independent.
        words: Slot to ``column`` and ``values`` (language to cell to word): words that depend on a cell.
        origin: Where it comes from.
        version: Raised when the text changes.

    Example:
        >>> template = Template("{text} It is {label}", verbalizer={"bad": "poor", "good": "fine"})
        >>> template.fill({"text": "It broke."}, "en", "bad")[0]
        'It broke. It is poor'
    """

    template: ByLanguage = ""
    label_column: str = "label"
    verbalizer: dict[str, Any] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    question: ByLanguage = ""
    answer: ByLanguage = ""
    answer_only: bool = False
    start_token: bool = False
    normalization: Literal["token", "sum", "paper"] = "token"
    truncate: dict[str, Any] = field(default_factory=dict)
    group_size: int = 1
    group_column: str = ""
    words: dict[str, Any] = field(default_factory=dict)
    origin: str = "given by the user"
    version: int = 1

    def check(self, lang: str) -> None:
        """Raise UserError if the template gives no candidates in a language, or indistinguishable ones."""
        parts = (self.question, self.answer, self.template)
        question, answer, text = (slots(of_language(part, lang, "template")) for part in parts)
        names = self.names(lang)
        slot = "candidate" if self.candidates else "label"
        if slot not in (text or question | answer):
            raise UserError(f"its template has no {{{slot}}}")
        for name in [*names, *self.labels.values()]:
            if not isinstance(name, str):
                raise UserError(f"label {name} is not text; quote it, since YAML reads no as false")
        if len(names) < 2:
            raise UserError(f"{', '.join(names)} alone would always be right; give two or more")
        words = [] if self.candidates else [str(word) for word in self.words_for(lang).values()]
        if len(set(words)) < len(words):
            raise UserError(f"labels share a word in '{lang}': {', '.join(words)}")
        unknown = [label for label in self.labels.values() if label not in names]
        if unknown:
            raise UserError(f"labels: '{unknown[0]}' is not one of {', '.join(names)}")

    def names(self, lang: str) -> tuple[str, ...]:
        """Return the names of the candidates, in order: labels, or columns."""
        return tuple(self.candidates or self.words_for(lang))

    def text_columns(self, lang: str) -> tuple[str, ...]:
        """Return the columns whose text the template writes."""
        parts = (of_language(part, lang, "template") for part in (self.template, self.question, self.answer))
        reserved = {"label", "candidate", *self.words}
        found = dict.fromkeys(name for part in parts for name in sorted(slots(part)) if name not in reserved)
        return (*found, *self.candidates)

    def words_for(self, lang: str) -> dict[str, str]:
        """Return the verbalizer of a language.

        Raises:
            UserError: If there is none.
        """
        nested = any(isinstance(value, dict) for value in self.verbalizer.values())
        return of_language(self.verbalizer, lang, "verbalizer") if nested else self.verbalizer

    def fill(self, row: dict[str, Any], lang: str, name: str) -> tuple[str, str, str]:
        """Return the full text, the question and the answer for one candidate; question and answer may be empty.

        Args:
            row: The row's columns.
            lang: Its language.
            name: The label, or the candidate's column.

        Raises:
            UserError: If a slot has no column.
        """
        try:
            cells = self._cells(row, lang, name)
            question, answer, text = (
                of_language(part, lang, "template").format(**cells)
                for part in (self.question, self.answer, self.template or "")
            )
        except KeyError as error:
            raise UserError(f"the template has a slot for {error}, the corpus has {', '.join(row)}") from error
        return text or question + answer, question, answer

    def ranges(self, row: dict[str, Any], lang: str, name: str) -> list[tuple[int, int]]:
        """Return where the full text holds text of the row, not words of the template: starts and ends of characters.

        Args:
            row: The row's columns.
            lang: Its language.
            name: The label, or the candidate's column.

        Example:
            >>> template = Template("{text} It is {label}", verbalizer={"bad": "poor", "good": "fine"})
            >>> template.ranges({"text": "It broke."}, "en", "bad")
            [(0, 9)]
        """
        cells = self._cells(row, lang, name)
        parts = (of_language(part, lang, "template") for part in (self.template, self.question, self.answer))
        text, *rest = parts
        found, size = [], 0
        for literal, slot, spec, conversion in Formatter().parse(text or "".join(rest)):
            size += len(literal)
            if slot is not None:
                field = slot + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                end = size + len(f"{{{field}}}".format(**cells))
                if slot not in {"label", *self.words}:
                    found.append((size, end))
                size = end
        return found

    def _cells(self, row: dict[str, Any], lang: str, name: str) -> dict[str, Any]:
        """What fills the slots for one candidate."""
        cells = dict(self.cut(row, lang))
        cells |= {slot: self._word(slot, row, lang) for slot in self.words}
        return cells | ({"candidate": row[name]} if self.candidates else {"label": self.words_for(lang)[name]})

    def _word(self, slot: str, row: dict[str, Any], lang: str) -> str:
        column = self.words[slot]["column"]
        words: dict[str, str] = of_language(self.words[slot]["values"], lang, slot)
        cell = str(row[column])
        if cell not in words:
            raise UserError(f"{column} '{cell}' is not allowed; give one of {', '.join(words)}")
        return words[cell]

    def cut(self, row: dict[str, Any], lang: str) -> dict[str, Any]:
        """Return the row with its long column cut."""
        if not self.truncate:
            return row
        column, length = self.truncate["column"], self.truncate["length"]
        if lang in self.truncate.get("character_languages", ()):
            return row | {column: row[column][:length]}
        return row | {column: " ".join(row[column].split()[:length])}


def slots(text: str) -> set[str]:
    """Return the names of a template's slots.

    Raises:
        UserError: If a brace is unmatched, or a slot is not a plain name.

    Example:
        >>> sorted(slots("{text} It is {label}"))
        ['label', 'text']
    """
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise UserError(f"template '{text}': {error}; write {{{{ and }}}} for braces of the text itself") from error
    for name in names:
        if not name or set(name) & set(".[") or name.isdigit():
            raise UserError(f"template '{text}': slot {{{name}}} is not allowed; give a column's name")
    return names


def of_language(value: Any, lang: str, what: str) -> Any:
    """Return the value for a language if there is one per language, else the value itself.

    Raises:
        UserError: If the language is missing, saying of ``what``.

    Example:
        >>> of_language({"en": "Yes", "fr": "Oui"}, "fr", "word"), of_language("Yes", "fr", "word")
        ('Oui', 'Yes')
    """
    if not isinstance(value, dict):
        return value
    if lang not in value:
        raise UserError(f"no {what} for language '{lang}'; there is one for {', '.join(value)}")
    return value[lang]


def load_template(name: str) -> Template:
    """Load a template that comes with the package.

    Raises:
        UserError: If there is none of that name.

    Example:
        >>> load_template("xnli").verbalizer["neutral"]
        'Also'
        >>> load_template("xnli").fill({"premise": "It rains.", "hypothesis": "It is wet."}, "fr", "entailment")[0]
        'It rains. , right?  Yes , It is wet.'
    """
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise UserError(f"template '{name}' does not exist; give one of {', '.join(names)}{did_you_mean(name, names)}")
    return Template(**yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))
