"""Perplexity of one long text in segments, as the tables of SparseGPT's and Wanda's papers have it."""

from dataclasses import dataclass
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.cells import cell_of
from mlprune.data.corpora import Corpus, HubDataset
from mlprune.errors import UserError
from mlprune.evaluation.lengths import max_length, tokens_over
from mlprune.evaluation.model_kinds import Request
from mlprune.evaluation.options import Scoring
from mlprune.evaluation.scoring import score_request
from mlprune.evaluation.tasks.base import Task, in_task, naming, refuse_too_long
from mlprune.evaluation.tasks.selection import Selection, sample_groups
from mlprune.metrics import Record, TokenPerplexity
from mlprune.models.encoder import has_encoder


@dataclass(frozen=True)
class SegmentExample:
    """A segment of a long text, as token ids.

    Example:
        >>> SegmentExample("0", (5, 6, 7)).ids[0]
        5
    """

    id: str
    ids: tuple[int, ...]


class SegmentPerplexity(Task):
    """Perplexity of the tokens of a corpus: all rows as one text, cut into segments of equally many tokens.

    The published protocol: rows, blank ones too, are joined, the text is tokenized once, every segment is scored by
    itself from its second token on, and what is left at the end is not scored. Figures depend on the tokenizer.

    Source: the code of Frantar and Alistarh 2023, "SparseGPT", and of Sun et al. 2024, "A Simple and Effective Pruning
    Approach for Large Language Models".

    Args:
        languages: Codes of the languages.
        corpus: Column ``text``.
        name: Name in results.
        joined_by: What rows are joined by.
        segment_tokens: Length of a segment.
        max_segments: Maximum number, from the beginning; ``limit`` takes some spread over those.
        batch_size: At most this many segments in a batch; a token budget alone decides if omitted.
        options: Those of :class:`Task`.

    Raises:
        UserError: If a number is out of range.

    Example:
        >>> from transformers import ByT5Tokenizer
        >>> from mlprune.data.corpora import Bundled
        >>> task = SegmentPerplexity(["fr"], Bundled("parallel"), segment_tokens=100, max_segments=3)
        >>> task.check_tokenizer(ByT5Tokenizer())
        >>> [len(segment.ids) for segment in task.examples("fr")]
        [100, 100, 100]
    """

    headline = False
    aligned = False

    def __init__(
        self,
        languages: list[str],
        corpus: Corpus,
        name: str = "segment-perplexity",
        *,
        joined_by: str = "\n\n",
        segment_tokens: int = 2048,
        max_segments: int | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, languages, corpus, **options)
        for key, value, least in (("segment_tokens", segment_tokens, 2), ("max_segments", max_segments, 1)):
            if value is not None and value < least:
                raise UserError(f"task '{name}': {key} {value} is not allowed; give at least {least}")
        self.joined_by = joined_by
        self.segment_tokens = segment_tokens
        self.max_segments = max_segments
        with in_task(name):
            self.scoring = Scoring("sum", batch_size=batch_size)
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._segments: dict[str, list[SegmentExample]] = {}

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Remember the tokenizer: where a text is cut depends on it."""
        super().check_tokenizer(tokenizer)
        self._tokenizer = tokenizer
        self._segments = {}

    def text(self, lang: str) -> str:
        """Return the rows of a language as one text."""
        with in_task(self.name):
            rows = self.corpus.rows(lang)
            chosen = Selection(rows=self.selection.rows).choose([row["id"] for row in rows])
            wanted = set(chosen)
            return self.joined_by.join(str(cell_of(row, "text") or "") for row in rows if row["id"] in wanted)

    def examples(self, lang: str) -> list[SegmentExample]:
        if self._tokenizer is None:
            raise UserError(f"task '{self.name}': where its text is cut depends on the tokenizer; call check_tokenizer")
        if lang not in self._segments:
            ids = self._tokenizer(self.text(lang), verbose=False)["input_ids"]
            size = self.segment_tokens
            starts = range(0, len(ids) - size + 1, size)[: self.max_segments]
            self._segments[lang] = [SegmentExample(str(i), tuple(ids[s : s + size])) for i, s in enumerate(starts)]
            if not starts:
                raise UserError(f"task '{self.name}': '{lang}' has {len(ids)} tokens, less than a segment of {size}")
        segments = {segment.id: segment for segment in self._segments[lang]}
        chosen = sample_groups(list(segments), self.selection.limit, 1, self.selection.seed)
        return [segments[segment_id] for segment_id in chosen]

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[SegmentExample]
    ) -> list[Record]:
        if has_encoder(model):
            raise UserError(
                f"task '{self.name}' needs a model that continues text; {type(model).__name__} has an encoder"
            )
        ids = [[list(example.ids)] for example in examples]
        refuse_too_long(self, lang, examples, tokens_over(model, ids), max_length(model), "give fewer segment_tokens")
        with naming(self, lang, examples):
            scores = score_request(model, Request(ids, [[1]] * len(ids), [False] * len(ids)), self.scoring)
        return [
            {"id": example.id, "log_prob": score, "tokens": len(example.ids) - 1, "aligned": False}
            for example, score in zip(examples, scores[:, 0].double().tolist(), strict=True)
        ]

    def length(self, example: SegmentExample) -> int:
        return 4 * len(example.ids)

    def metric(self, lang: str) -> Metric:
        return TokenPerplexity()

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        return {self.corpus.identity: {row["id"] for lang in self.languages for row in self.corpus.rows(lang)}}


class WikiText2(SegmentPerplexity):
    """WikiText-2 perplexity, the test split in segments of 2,048 tokens: ``Salesforce/wikitext``, or a copy of it.

    Source: Merity et al. 2017, "Pointer Sentinel Mixture Models"; the protocol of :class:`SegmentPerplexity`.

    Args:
        path: A copy of the repository; the hub's if omitted.
        languages: English alone.
        name: Name in results.
        options: Those of :class:`SegmentPerplexity` and :class:`Task`.

    Example:
        >>> WikiText2().corpus.config
        'wikitext-2-raw-v1'
    """

    def __init__(
        self, path: str | None = None, languages: list[str] | None = None, name: str = "wikitext2", **options: Any
    ) -> None:
        corpus = HubDataset(path or "Salesforce/wikitext", config="wikitext-2-raw-v1", split="test")
        super().__init__(languages or ["en"], corpus, name, **options)


class C4(SegmentPerplexity):
    """C4 perplexity: 256 segments of the first 1,100 validation documents, joined by a space: ``allenai/c4``.

    Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"; the
    protocol of Sun et al. 2024.

    Args:
        path: A copy of the repository, of which ``en/c4-validation.00000-of-00008.json.gz`` is read; the hub's if
            omitted.
        languages: English alone.
        name: Name in results.
        joined_by: What documents are joined by.
        max_segments: At most this many segments.
        rows: Which documents, from 0.
        options: Those of :class:`SegmentPerplexity` and :class:`Task`.

    Example:
        >>> C4().max_segments
        256
    """

    def __init__(
        self,
        path: str | None = None,
        languages: list[str] | None = None,
        name: str = "c4",
        *,
        joined_by: str = " ",
        max_segments: int | None = 256,
        rows: str | int | list[str] | dict[str, Any] | None = "0-1099",
        **options: Any,
    ) -> None:
        file = "en/c4-validation.00000-of-00008.json.gz"
        corpus = HubDataset(path or "allenai/c4", data_files=file, split="train")
        super().__init__(
            languages or ["en"], corpus, name, joined_by=joined_by, max_segments=max_segments, rows=rows, **options
        )
