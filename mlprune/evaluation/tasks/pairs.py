"""Minimal pairs: of a grammatical sentence and an ungrammatical one, the likelier counts as the model's choice."""

from typing import Any

from mlprune.data.corpora import Bundled, Corpus, HubDataset
from mlprune.data.rows import Row
from mlprune.data.usable import Needs
from mlprune.evaluation.options import Normalization
from mlprune.evaluation.tasks.candidate_example import CandidateExample
from mlprune.evaluation.tasks.scored import ScoredTask
from mlprune.languages import language

MULTIBLIMP_CODES = {"bs": "hbs", "fa": "fas", "hr": "hbs", "lv": "lav", "sq": "sqi", "sr": "hbs", "uz": "uzb"}


class MinimalPairs(ScoredTask):
    """Which of two sentences that differ in one place is likelier: no prompt, the whole sentences' log-likelihoods.

    What a small or pruned model can still do, where question answering is at chance. Sentences are scored from their
    first token on, after the tokenizer's beginning (or end) token. Pairs of two languages are not translations.

    Source: Warstadt et al. 2020, "BLiMP: The Benchmark of Linguistic Minimal Pairs for English".

    Args:
        languages: Codes of the languages.
        corpus: Columns ``good``, ``bad`` and that of ``by``; the bundled pairs if omitted.
        name: Name in results.
        normalization: See :func:`mlprune.evaluation.score_candidates`.
        by: Column of phenomena: accuracy is also reported for each; null for none.
        options: Those of :class:`ScoredTask` and :class:`Task`.

    Example:
        >>> task = MinimalPairs(["en", "sw"], limit=60)
        >>> task.examples("sw")[0].candidates
        ('Watoto wanacheza uwanjani baada ya shule.', 'Watoto anacheza uwanjani baada ya shule.')
        >>> [metric.measures[0].label for metric in task.metrics("sw")][:2]
        ['accuracy, %', 'accuracy: agreement, %']
    """

    start_token = True

    def __init__(
        self,
        languages: list[str],
        corpus: Corpus | None = None,
        name: str = "minimal-pairs",
        *,
        normalization: Normalization = "sum",
        by: str | None = "phenomenon",
        **options: Any,
    ) -> None:
        super().__init__(
            name,
            languages,
            corpus or Bundled("pairs"),
            normalization=normalization,
            by=by,
            aligned=False,
            rankc_matrix=False,
            shots=0,
            fewshot=None,
            separator="",
            chat_template=False,
            chat_template_options=None,
            **options,
        )

    def needs(self, corpus: Corpus, lang: str, row: Row) -> Needs:
        return Needs(texts=("good", "bad"), labels=(self.by,) if self.by else (), fault=_fault)

    def example(self, row: Row, lang: str, corpus: Corpus) -> CandidateExample:
        return CandidateExample(row["id"], (row["good"], row["bad"]), ("good", "bad"), label=0)


def _fault(row: Row) -> str | None:
    return "good and bad are the same" if row["good"] == row["bad"] else None


class MultiBlimp(MinimalPairs):
    """MultiBLiMP: agreement in 101 languages, ``jumelet/multiblimp``; ``by``: number, person and gender of whom.

    Its files are named by ISO 639-3 codes; Bosnian, Croatian and Serbian share those of Serbo-Croatian.

    Source: Jumelet et al. 2025, "MultiBLiMP 1.0: A Massively Multilingual Benchmark of Linguistic Minimal Pairs".

    Args:
        languages: Codes of the languages.
        path: A copy of the repository, with ``<ISO 639-3 code>/data.tsv``; the hub's if omitted.
        corpus: Another corpus with columns ``good`` and ``bad``, instead.
        name: Name in results.
        options: Those of :class:`MinimalPairs`.

    Example:
        >>> MultiBlimp(["fr", "fa"]).corpus.language_codes
        {'fr': 'fra', 'fa': 'fas'}
    """

    def __init__(
        self,
        languages: list[str],
        path: str | None = None,
        corpus: Corpus | None = None,
        name: str = "multiblimp",
        **options: Any,
    ) -> None:
        columns = {"good": "sen", "bad": "wrong_sen", "phenomenon": "phenomenon"}
        codes = {lang: MULTIBLIMP_CODES.get(lang) or language(lang).flores[:3] for lang in languages}
        found = HubDataset(
            path or "jumelet/multiblimp", config="{lang}", split="train", columns=columns, language_codes=codes
        )
        super().__init__(languages, corpus or found, name, **options)
