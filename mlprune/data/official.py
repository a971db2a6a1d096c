"""Files of public evaluation sets as their authors publish them, beyond plain columns."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mlprune.data.cells import cell_of
from mlprune.data.columns import with_columns
from mlprune.data.corpora import Blank, Corpus, checked_blank
from mlprune.data.reading import read_file
from mlprune.data.rows import ListRows, MappedRows, Row, Rows
from mlprune.errors import UserError, reason_of
from mlprune.languages import language


class BmlamaFolder(Corpus):
    """``<lang>.tsv`` files of BMLAMA, read by position: prompt, answer, candidates, subject.

    The header is not looked at, as one of the published ones is broken. Cells that hold a quotation mark stand in
    quotation marks.

    Args:
        path: The folder.
        blank: ``leave_out`` to leave a row with a blank cell out in every language, ``error`` to refuse it.

    Raises:
        UserError: If the folder does not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = "Prompt\\tAns\\tCandidate Ans\\tSubject\\nParis is in <mask>.\\tFrance\\tPeru, France\\tParis"
        ...     _ = Path(folder, "en.tsv").write_text(text)
        ...     BmlamaFolder(folder).rows("en")[0]["candidates"]
        ['Peru', 'France']
    """

    numbered = True

    def __init__(self, path: str, blank: Blank = "leave_out") -> None:
        self.path = Path(path).expanduser()
        self.blank = checked_blank(blank)
        if not self.path.is_dir():
            raise UserError(f"BMLAMA folder '{path}' does not exist; give the folder that holds en.tsv")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("bmlama", str(self.path.resolve()))

    def check(self, lang: str) -> None:
        if not (self.path / f"{lang}.tsv").is_file():
            have = ", ".join(sorted(file.stem for file in self.path.glob("*.tsv")))
            raise UserError(f"BMLAMA folder '{self.path}' has no {lang}.tsv; it has {have}")

    def origin(self, lang: str) -> str:
        return str(self.path / f"{lang}.tsv")

    def rows(self, lang: str) -> Rows:
        self.check(lang)
        file = self.path / f"{lang}.tsv"
        lines = read_file(file, "text")

        def make(number: int, row: Row) -> Row:
            cells = [unquoted(cell) for cell in row["text"].split("\t")] if row["text"].strip() else [""] * 3
            if len(cells) < 3:
                count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
                raise UserError(f"{file}: row {number + 1} has {count}; prompt, answer and candidates are needed")
            prompt, answer, candidates, subject = [*cells, ""][:4]
            fact: Row = {"id": str(number), "prompt": prompt, "answer": answer}
            return fact | {"candidates": candidates.split(", "), "subject": subject}

        return MappedRows(lines, make, range(1, len(lines)))


def unquoted(cell: str) -> str:
    """Return a cell without the quotation marks added by a csv writer.

    Example:
        >>> unquoted('"The ""Big"" Apple"'), unquoted('"Yes" and "no"')
        ('The "Big" Apple', '"Yes" and "no"')
    """
    inner = cell[1:-1]
    if len(cell) < 2 or not cell[0] == cell[-1] == '"' or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"')


class XnliFile(Corpus):
    """``xnli.test.tsv`` or ``xnli.dev.tsv`` of XNLI 1.0: one file, with all languages and a language column.

    Args:
        path: The file, or the folder that holds it.
        split: ``test`` or ``dev``.
        blank: ``leave_out`` to leave a row with a blank cell out in every language, ``error`` to refuse it.

    Raises:
        UserError: If the file does not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = "language\\tgold_label\\tsentence1\\tsentence2\\nfr\\tneutral\\tIl pleut.\\tIl vente."
        ...     _ = Path(folder, "xnli.test.tsv").write_text(text)
        ...     XnliFile(folder).rows("fr")[0]["label"]
        'neutral'
    """

    COLUMNS = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
    numbered = True

    def __init__(self, path: str, split: str = "test", blank: Blank = "leave_out") -> None:
        file = Path(path).expanduser()
        self.file = file / f"xnli.{split}.tsv" if file.is_dir() else file
        self.blank = checked_blank(blank)
        self._read: dict[str, list[Row]] = {}  # by language, as one file holds them all
        if not self.file.is_file():
            raise UserError(f"XNLI file '{self.file}' does not exist; give the folder that holds xnli.{split}.tsv")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("xnli", str(self.file.resolve()))

    def check(self, lang: str) -> None:
        """Nothing is known before the file is read."""

    def origin(self, lang: str) -> str:
        return f"'{lang}' in {self.file}"

    def rows(self, lang: str) -> Rows:
        if not self._read:
            self._read_all()
        if lang not in self._read:
            raise UserError(f"{self.file}: no rows of language '{lang}'")
        return with_columns(ListRows(self._read[lang]), None, None, self.origin(lang))

    def _read_all(self) -> None:
        rows = read_file(self.file, "tsv")
        missing = {"language", *self.COLUMNS.values()} - set(rows.names)
        if missing:
            raise UserError(f"{self.file}: no column {', '.join(sorted(missing))}; is it a file of XNLI 1.0?")
        for row in rows:
            cells = {ours: row[theirs] for ours, theirs in self.COLUMNS.items()}
            self._read.setdefault(row["language"], []).append(cells)


class Keyed(Corpus):
    """A corpus whose rows are identified by several columns, for sets ordered differently in each language.

    Rows that share a key, as where a set omits a part of it, are numbered in their order.

    Args:
        corpus: The corpus.
        key: Columns whose cells make a row's id.

    Example:
        >>> from mlprune.data.corpora import Bundled
        >>> [row["id"] for row in Keyed(Bundled("nli"), ["label"]).rows("en")[:4]]
        ['entailment', 'neutral', 'contradiction', 'contradiction 2']
    """

    def __init__(self, corpus: Corpus, key: Sequence[str]) -> None:
        self.corpus = corpus
        self.key = key
        self.blank = corpus.blank

    @property
    def identity(self) -> tuple[str, ...]:
        return (*self.corpus.identity, *self.key)

    def check(self, lang: str) -> None:
        self.corpus.check(lang)

    def hub_id(self, lang: str) -> str | None:
        return self.corpus.hub_id(lang)

    def origin(self, lang: str) -> str:
        return self.corpus.origin(lang)

    def rows(self, lang: str) -> Rows:
        rows = self.corpus.rows(lang)
        seen: Counter[str] = Counter()
        ids = []
        for row in rows:
            key = " ".join(str(cell_of(row, column)) for column in self.key)
            seen[key] += 1
            ids.append(f"{key} {seen[key]}" if seen[key] > 1 else key)
        listed = rows if isinstance(rows, Rows) else ListRows(list(rows))
        return MappedRows(listed, lambda number, row: row | {"id": ids[number]})


class SquadFiles(Corpus):
    """Files in SQuAD's format: articles of paragraphs, each a ``context`` with questions; one row a question.

    Args:
        path: File name, with ``{lang}`` where there is one for each language.
        blank: ``leave_out`` to leave a row with a blank cell out in every language, ``error`` to refuse it.

    Example:
        >>> SquadFiles("xquad.{lang}.json").origin("el")
        'xquad.el.json'
    """

    def __init__(self, path: str, blank: Blank = "leave_out") -> None:
        self.path = path
        self.blank = checked_blank(blank)

    @property
    def identity(self) -> tuple[str, ...]:
        return ("squad", str(Path(self.path).expanduser().resolve()))

    def _file(self, lang: str) -> Path:
        return Path(self.path.replace("{lang}", lang)).expanduser()

    def check(self, lang: str) -> None:
        if not self._file(lang).is_file():
            raise UserError(f"file '{self._file(lang)}' for language '{lang}' does not exist")

    def origin(self, lang: str) -> str:
        return str(self._file(lang))

    def rows(self, lang: str) -> Rows:
        self.check(lang)
        try:
            content = json.loads(self._file(lang).read_text(encoding="utf-8"))
            found = [
                {
                    "id": question["id"],
                    "context": part["context"],
                    "question": question["question"],
                    "answers": [answer["text"] for answer in question["answers"]],
                }
                for article in content["data"]
                for part in article["paragraphs"]
                for question in part["qas"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.origin(lang)} is not in SQuAD's format: {reason_of(error)}") from error
        return with_columns(ListRows(found), None, "id", self.origin(lang))


class OfLanguage(Corpus):
    """The rows of a corpus that holds several languages, told apart by their ids: ``swahili-1234-0``, as TyDi QA has.

    Args:
        corpus: The corpus.

    Example:
        >>> OfLanguage(SquadFiles("dev.json")).origin("sw")
        "'sw' in dev.json"
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.blank = corpus.blank

    @property
    def identity(self) -> tuple[str, ...]:
        return self.corpus.identity

    def check(self, lang: str) -> None:
        self.corpus.check(lang)

    def hub_id(self, lang: str) -> str | None:
        return self.corpus.hub_id(lang)

    def origin(self, lang: str) -> str:
        return f"'{lang}' in {self.corpus.origin(lang)}"

    def rows(self, lang: str) -> Rows:
        start = f"{language(lang).name.lower()}-"
        found = [row for row in self.corpus.rows(lang) if row["id"].startswith(start)]
        if not found:
            raise UserError(f"{self.corpus.origin(lang)}: no row of language '{lang}', whose ids begin with '{start}'")
        return ListRows(found)
