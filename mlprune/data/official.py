"""Files of public evaluation sets as their authors publish them, where plain columns do not say it all."""

import csv
from pathlib import Path

from mlprune.data.corpora import Corpus, Row
from mlprune.data.reading import lines_of
from mlprune.errors import UserError


class BmlamaFolder(Corpus):
    """``<lang>.tsv`` files of BMLAMA, read by position: prompt, answer, candidates, subject.

    The header is not looked at, as one of the published ones is broken.

    Args:
        path: The folder.

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

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"BMLAMA folder '{path}' does not exist; give the folder that holds en.tsv")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("bmlama", str(self.path.resolve()))

    def check(self, lang: str) -> None:
        if not (self.path / f"{lang}.tsv").is_file():
            have = ", ".join(sorted(file.stem for file in self.path.glob("*.tsv")))
            raise UserError(f"BMLAMA folder '{self.path}' has no {lang}.tsv; it has {have}")

    def rows(self, lang: str) -> list[Row]:
        self.check(lang)
        file = self.path / f"{lang}.tsv"
        rows = []
        for number, line in enumerate(lines_of(file)):
            cells = line.split("\t")
            if number == 0 or not line.strip():
                continue
            if len(cells) < 3:
                raise UserError(
                    f"{file}: row {number + 1} has {len(cells)} cells; prompt, answer and candidates are needed"
                )
            row = {"id": str(number - 1), "prompt": cells[0], "answer": cells[1], "candidates": cells[2].split(", ")}
            rows.append(row | {"subject": cells[3] if len(cells) > 3 else ""})
        return rows


class XnliFile(Corpus):
    """``xnli.test.tsv`` or ``xnli.dev.tsv`` of XNLI 1.0: one file, all languages, told apart by a column.

    Args:
        path: The file, or the folder that holds it.
        split: ``test`` or ``dev``.

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

    def __init__(self, path: str, split: str = "test") -> None:
        file = Path(path)
        self.file = file / f"xnli.{split}.tsv" if file.is_dir() else file
        if not self.file.is_file():
            raise UserError(f"XNLI file '{self.file}' does not exist; give the folder that holds xnli.{split}.tsv")

    @property
    def identity(self) -> tuple[str, ...]:
        return ("xnli", str(self.file.resolve()))

    def check(self, lang: str) -> None:
        """Only reading the file can tell what it has."""

    def rows(self, lang: str) -> list[Row]:
        reader = csv.DictReader(lines_of(self.file), delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = {"language", *self.COLUMNS.values()} - set(reader.fieldnames or [])
        if missing:
            raise UserError(f"{self.file}: no column {', '.join(sorted(missing))}; is it a file of XNLI 1.0?")
        found: list[Row] = []
        for cells in reader:
            if cells["language"] == lang:
                found.append({"id": str(len(found)), **{ours: cells[theirs] for ours, theirs in self.COLUMNS.items()}})
        if not found:
            raise UserError(f"{self.file}: no rows of language '{lang}'")
        return found
