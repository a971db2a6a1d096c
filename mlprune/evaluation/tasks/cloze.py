"""Factual probes: a prompt with ``<mask>`` and several candidates, as in BMLAMA."""

import random

from torchmetrics import Metric

from mlprune.data.cells import as_text, is_blank, text_of
from mlprune.data.corpora import Bundled, Corpus, HubDataset
from mlprune.data.official import BmlamaFolder
from mlprune.data.rows import Row
from mlprune.data.usable import Needs
from mlprune.errors import UserError
from mlprune.evaluation.lengths import TooLong
from mlprune.evaluation.scoring import Normalization
from mlprune.evaluation.tasks.candidates import CandidateExample, ScoredTask


class ClozeTask(ScoredTask):
    """Factual probes with candidates.

    Candidates are compared by string and shuffled by seed and row, alike in all languages, since published files put
    the right answer last. Where the answer holds several, separated by ``, ``, the first that is a candidate counts.
    Rows with a single candidate, which would always be right, are left out.

    Args:
        name: Name in results.
        languages: Codes of the languages.
        corpus: Columns ``prompt``, ``answer`` and ``candidates`` (a list, or one text separated by ``, ``); the bundled
            facts if omitted.
        limit: At most so many examples a language.
        seed: Seed of their choice and of the shuffling.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
        ranking_only: See there.
        too_long: See there.
        rankc_matrix: Report RankC of every pair of languages, not only of English with each.
        metrics: Further metrics of its records, besides its own.

    Example:
        >>> from mlprune.data.corpora import LocalFiles
        >>> ClozeTask("facts", ["fr"], LocalFiles("facts.{lang}.jsonl")).name
        'facts'
    """

    def __init__(
        self,
        name: str,
        languages: list[str],
        corpus: Corpus | None = None,
        limit: int | None = None,
        seed: int = 0,
        normalization: Normalization = "token",
        ranking_only: bool = False,
        too_long: TooLong = "error",
        rankc_matrix: bool = False,
        metrics: list[Metric] | None = None,
    ) -> None:
        corpus = corpus or Bundled("facts")
        super().__init__(
            name,
            languages,
            corpus,
            limit,
            seed,
            normalization,
            ranking_only,
            too_long,
            rankc_matrix=rankc_matrix,
            metrics=metrics,
        )

    def examples(self, lang: str) -> list[CandidateExample]:
        return [self._example(row, lang) for row in self.usable(self.corpus).take(lang, self.chosen(lang))]

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        return Needs(texts=("prompt", "answer"), labels=("candidates",), fault=_fault)

    def _example(self, row: Row, lang: str) -> CandidateExample:
        names = candidates_of(row)
        right = next((answer for answer in [row["answer"], *row["answer"].split(", ")] if answer in names), None)
        if row["prompt"].count("<mask>") != 1 or right is None:
            raise UserError(
                f"{self.where(lang, row['id'])}: a prompt needs one <mask> and its answer among the candidates"
            )
        order = list(range(len(names)))
        random.Random(f"{self.seed}:{row['id']}").shuffle(order)
        shuffled = tuple(names[i] for i in order)
        texts = tuple(row["prompt"].replace("<mask>", name) for name in shuffled)
        before = row["prompt"].split("<mask>")[0]
        answers_ = tuple(text[len(before) :] for text in texts)
        return CandidateExample(row["id"], texts, shuffled, shuffled.index(right), before.rstrip(), answers_)


def candidates_of(row: Row) -> list[str]:
    """Return a row's candidates, given as a list or as one text separated by ``, ``.

    Raises:
        UserError: If one is no text.

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
        hub: A hub id with columns ``prompt``, ``answer``, ``candidates``, instead; the data set has none of its own.
        name: Name in results.
        limit: At most so many examples a language.
        seed: Seed of their choice and of the shuffling.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
        ranking_only: See there.
        rankc_matrix: Report RankC of every pair of languages, not only of English with each.
        metrics: Further metrics of its records, besides its own.

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
        limit: int | None = None,
        seed: int = 0,
        normalization: Normalization = "token",
        ranking_only: bool = False,
        rankc_matrix: bool = False,
        metrics: list[Metric] | None = None,
    ) -> None:
        if (path is None) == (hub is None):
            raise UserError(f"task '{name}': give path, the folder of <lang>.tsv files, or hub, a hub id")
        corpus: Corpus = BmlamaFolder(path) if path is not None else HubDataset(str(hub), config="{lang}", split="test")
        super().__init__(
            name,
            languages,
            corpus,
            limit,
            seed,
            normalization,
            ranking_only,
            rankc_matrix=rankc_matrix,
            metrics=metrics,
        )
