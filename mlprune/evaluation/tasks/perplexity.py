"""Language modelling on plain text, in bits per character."""

from dataclasses import dataclass
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Bundled, Corpus
from mlprune.errors import UserError
from mlprune.evaluation.encoding import with_start
from mlprune.evaluation.lengths import max_length, tokens_over
from mlprune.evaluation.model_kinds import Request
from mlprune.evaluation.options import Scoring
from mlprune.evaluation.scoring import score_request
from mlprune.evaluation.tasks.base import Task, in_task, naming, refuse_too_long
from mlprune.metrics import BitsPerChar, Record
from mlprune.metrics.fidelity import UNSPACED, is_in_script
from mlprune.models.encoder import has_encoder


@dataclass(frozen=True)
class TextExample:
    """A text whose likelihood is measured.

    Example:
        >>> TextExample("0", "Il pleut.").text
        'Il pleut.'
    """

    id: str
    text: str


class PerplexityTask(Task):
    """Bits per character of parallel sentences: comparable between languages and models.

    Every token is scored; the beginning (or end) token precedes the first where the tokenizer adds none.

    Args:
        languages: Codes of the languages.
        name: Name in predictions files.
        corpus: Column ``text``; the bundled parallel test split if omitted.
        aligned: Whether rows of two languages with the same id are translations of each other.
        batch_size: At most this many texts in a batch; a token budget alone decides if omitted.
        options: Those of :class:`Task`.

    Example:
        >>> task = PerplexityTask(["fr", "sw"], limit=5)
        >>> [example.id for example in task.examples("fr")] == [example.id for example in task.examples("sw")]
        True
    """

    def __init__(
        self,
        languages: list[str],
        name: str = "perplexity",
        corpus: Corpus | None = None,
        *,
        aligned: bool = True,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, languages, corpus or Bundled("parallel", split="test"), **options)
        self.aligned = aligned
        with in_task(name):
            self.scoring = Scoring("sum", batch_size=batch_size)

    def examples(self, lang: str) -> list[TextExample]:
        rows = self.usable(self.corpus).take(lang, self.chosen(lang))
        return [TextExample(row["id"], row["text"]) for row in rows]

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[TextExample]
    ) -> list[Record]:
        if has_encoder(model):
            raise UserError(
                f"task '{self.name}' needs a model that continues text; {type(model).__name__} has an encoder"
            )
        request = Request(*with_start(tokenizer, [example.text for example in examples]))
        refuse_too_long(self, lang, examples, tokens_over(model, request.ids), max_length(model), "give shorter texts")
        with naming(self, lang, examples):
            scores = score_request(model, request, self.scoring)
        unpaired = {} if self.aligned else {"aligned": False}
        return [
            {"id": example.id, "log_prob": score, **sizes(example.text), "tokens": len(ids) - given, **unpaired}
            for example, score, (ids,), (given,) in zip(
                examples, scores[:, 0].double().tolist(), request.ids, request.given, strict=True
            )
        ]

    def length(self, example: TextExample) -> int:
        return len(example.text)

    def metric(self, lang: str) -> Metric:
        return BitsPerChar()

    def used_rows(self) -> dict[tuple[str, ...], set[str]]:
        return {self.corpus.identity: {example.id for lang in self.languages for example in self.examples(lang)}}


def sizes(text: str) -> dict[str, int]:
    """Return a text's length in characters, bytes and words; no words where a script puts no space between them.

    Example:
        >>> sizes("Il a plu."), sizes("下雨了。")["words"]
        ({'chars': 9, 'bytes': 9, 'words': 3}, 0)
    """
    words = 0 if any(is_in_script(text, script) for script in UNSPACED) else len(text.split())
    return {"chars": len(text), "bytes": len(text.encode()), "words": words}
