"""Vocabulary trimming as a step: texts chosen, model written, costs measured."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from typing_extensions import override

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.models.folder import read_object
from mlprune.models.loading import ModelSource
from mlprune.present import Table
from mlprune.smaller.base import Reduction
from mlprune.smaller.pieces import pieces_of
from mlprune.smaller.report import measure_costs, summary_tables, write_report
from mlprune.smaller.tables import tables_of
from mlprune.smaller.texts import PROMPTS, file_text, prompt_texts, texts_for
from mlprune.smaller.trim import FACTS, trim_vocabulary


class TrimVocabulary(Reduction):
    """Leaves out the tokens that the texts of some languages do not need.

    Prompts count as text: those of demonstrations, of the packaged templates, and of the run.

    Args:
        languages: Codes of the languages.
        corpora: Their texts: ``bundled``, ``bundled:NAME``, ``flores:FOLDER``, or a file with ``{lang}`` in its path
            (txt, jsonl, csv, tsv, parquet); ``bundled`` if omitted.
        prompts: Files with prompts or templates.
        others: Languages whose cost is measured too, on the bundled texts if they are the bundled languages, else on
            those of ``corpora``; the bundled languages if omitted.
        limit: At most this many texts, and minimal pairs, a language that are evaluated; 0 counts tokens only.

    Raises:
        UserError: If a language is not known or given twice, or a number is out of range.

    Example:
        >>> TrimVocabulary(["fr", "sw"]).name
        'trimmed'
    """

    name = "trimmed"

    def __init__(
        self,
        languages: list[str],
        corpora: list[str] | None = None,
        prompts: list[str] | None = None,
        others: list[str] | None = None,
        limit: int = 24,
    ) -> None:
        if limit < 0:
            raise UserError(f"TrimVocabulary: limit {limit} is not allowed; give 0 or more")
        for name, codes in (("languages", languages), ("others", others or [])):
            if twice := next((code for code in codes if codes.count(code) > 1), None):
                raise UserError(f"TrimVocabulary: {name}: '{twice}' is given twice")
        if not languages:
            raise UserError("TrimVocabulary: languages: give at least one code, such as fr")
        self.languages = languages
        self.corpora = corpora or ["bundled"]
        self.prompts = prompts or []
        self.others = others
        self.limit = limit

    @cached_property
    def _corpus_texts(self) -> dict[str, list[str]]:
        """Texts of the corpora, also of languages whose cost alone is measured."""
        return texts_for(self.corpora, list(dict.fromkeys([*self.languages, *(self.others or [])])))

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        """All texts that choose tokens, by language."""
        texts = {lang: self._corpus_texts[lang] for lang in self.languages}
        return {**texts, PROMPTS: [*prompt_texts(texts), *map(file_text, self.prompts)]}

    @cached_property
    def _elsewhere(self) -> dict[str, list[str]]:
        """Texts of the languages whose cost is measured too."""
        if self.others is None:
            bundled = Bundled("parallel").languages()
            return texts_for(["bundled:parallel"], [lang for lang in bundled if lang not in self.languages])
        return {lang: texts for lang, texts in self._corpus_texts.items() if lang not in self.languages}

    @override
    def check(self, source: ModelSource, groups: Sequence[str] = ()) -> None:
        _ = self._texts, self._elsewhere
        pieces_of(source.load_tokenizer())
        tables_of(source.checkpoint)

    @override
    def inputs(self) -> Any:
        return {"texts": self._texts, "elsewhere": self._elsewhere}

    @override
    def reduce(self, source: ModelSource, target: Path, texts: Sequence[str] = (), measured: Any = None) -> list[Table]:
        given: Mapping[str, Sequence[str]] = {**self._texts, PROMPTS: [*self._texts[PROMPTS], *texts]}
        facts = {"languages": self.languages, "corpora": self.corpora, "prompts": self.prompts}

        def describe(folder: Path) -> None:
            measured = {lang: self._texts[lang] for lang in self.languages} | self._elsewhere
            try:
                write_report(folder, measure_costs(source, folder, measured, self.limit))
            except UserError as error:
                raise UserError(
                    f"the trimmed model cannot be evaluated: {error}; limit 0 only counts tokens"
                ) from error

        trim_vocabulary(source, target, given, facts, describe)
        return summary_tables(read_object(target / FACTS))
