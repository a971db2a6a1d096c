"""Factual probes: a prompt with ``<mask>`` and several candidates, as in BMLAMA."""

import random
from typing import Any

from mlprune.data.cells import as_text, is_blank, text_of
from mlprune.data.corpora import Bundled, Corpus, HubDataset
from mlprune.data.official import BmlamaFolder
from mlprune.data.rows import Row
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.tasks.candidate_example import CandidateExample
from mlprune.evaluation.tasks.scored import ScoredTask


class ClozeTask(ScoredTask):
    """Factual probes with candidates.

    Candidates are compared by string and shuffled by seed and row, alike in all languages, since published files put
    the right answer last. If the answer lists several, separated by ``, ``, the first that is a candidate counts.
    Rows with a single candidate, which would always be right, are left out.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Columns ``prompt``, ``answer`` and ``candidates`` (a list, or one text separated by ``, ``); the bundled
            facts if omitted.
        options: Those of :class:`ScoredTask`, :class:`PromptedTask` and :class:`Task`; ``seed`` also shuffles.

    Example:
        >>> from mlprune.data.corpora import LocalFiles
        >>> ClozeTask("facts", ["fr"], LocalFiles("facts.{lang}.jsonl")).name
        'facts'
    """

    def __init__(self, name: str, languages: list[str], corpus: Corpus | None = None, **options: Any) -> None:
        super().__init__(name, languages, corpus or Bundled("facts"), **options)

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        return Needs(texts=("prompt", "answer"), labels=("candidates",), fault=_fault)

    def example(self, row: Row, lang: str, corpus: Corpus) -> CandidateExample:
        names = candidates_of(row)
        right = next((answer for answer in [row["answer"], *row["answer"].split(", ")] if answer in names), None)
        if row["prompt"].count("<mask>") != 1 or right is None:
            raise UserError(
                f"{self.where(lang, row['id'], corpus)}: a prompt needs one <mask> and its answer among the candidates"
            )
        order = list(range(len(names)))
        random.Random(f"{self.selection.seed}:{row['id']}").shuffle(order)
        shuffled = tuple(names[i] for i in order)
        texts = tuple(row["prompt"].replace("<mask>", name) for name in shuffled)
        before = row["prompt"].split("<mask>")[0]
        question, answers = before.rstrip(), tuple(text[len(before) :] for text in texts)
        if self.chat.template:  # the assistant reads the whole prompt and names what is missing
            question, answers = row["prompt"], shuffled
        return CandidateExample(row["id"], texts, shuffled, shuffled.index(right), question, answers)


def candidates_of(row: Row) -> list[str]:
    """Return a row's candidates, given as a list or as one text separated by ``, ``.

    Raises:
        UserError: If one is not text.

    Example:
        >>> candidates_of({"candidates": "Peru, France"})
        ['Peru', 'France']
    """
    if isinstance(row["candidates"], list):
        return ["" if name is None else as_text(name, "candidates") for name in row["candidates"]]
    return text_of(row, "candidates").split(", ")


def _fault(row: Row) -> str | None:
    names = candidates_of(row)
    if any(map(is_blank, names)):
        return "a candidate is blank"
    return "it has a single candidate" if len(set(names)) < 2 else None


class Bmlama(ClozeTask):
    """BMLAMA: facts in 17 or 53 languages, ten candidates each.

    Source: Qi et al. 2023, "Cross-Lingual Consistency of Factual Knowledge in Multilingual Language Models".

    Args:
        languages: Codes of the languages.
        path: Folder of the official files, ``<lang>.tsv`` (``BMLAMA17`` of the RankC repository).
        hub: A hub id with columns ``prompt``, ``answer``, ``candidates``, instead; there is no official one.
        name: Name in results.
        options: Those of :class:`ScoredTask`, :class:`PromptedTask` and :class:`Task`.

    Example:
        >>> Bmlama(["en", "fr"], hub="someone/bmlama").corpus.config
        '{lang}'
    """

    def __init__(
        self,
        languages: list[str],
        path: str | None = None,
        hub: str | None = None,
        name: str = "bmlama",
        **options: Any,
    ) -> None:
        if (path is None) == (hub is None):
            raise UserError(f"task '{name}': give path, the folder of <lang>.tsv files, or hub, a hub id")
        corpus: Corpus = BmlamaFolder(path) if path is not None else HubDataset(str(hub), config="{lang}", split="test")
        super().__init__(name, languages, corpus, aligned=True, **options)
