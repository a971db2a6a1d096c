"""What differs between models that continue a text and models that read one and write another.

Shapes: n examples, k candidates, B prompts, T tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.evaluation.marks import Ranges
from mlprune.evaluation.spans import Span
from mlprune.evaluation.targets import Scored, Targets


class CandidateTexts(NamedTuple):
    """The texts of an example.

    Args:
        question: What an encoder reads; None if there is no question.
        answers: What a decoder is scored on, for each candidate.
        full: What a model that continues text is scored on: the full text, and its given beginning.
        ranges: For each full text the characters whose tokens are marked; no marks if empty.
    """

    question: str | None
    answers: Sequence[str]
    full: Sequence[tuple[str, str]]
    ranges: Sequence[Ranges] = ()


@dataclass(frozen=True)
class Request:
    """Examples as token ids, ready to be scored.

    Args:
        ids: For each example its candidates; tokens may be marked (:mod:`mlprune.evaluation.marks`).
        given: For each candidate how many of its first tokens are not scored.
        joined: For each example whether a token spans question and answer.
        contexts: For each example what the encoder reads; None without an encoder.
        decoder_start: The decoder's start token; its config's if None.
    """

    ids: Sequence[Sequence[Sequence[int]]]
    given: Sequence[Sequence[int]]
    joined: Sequence[bool] = field(default_factory=list)
    contexts: Sequence[Sequence[int]] | None = None
    decoder_start: int | None = None


class ModelKind(ABC):
    """A kind of language model: how its texts are tokenized, scored and generated."""

    padding_side: ClassVar[str]
    given: ClassVar[int]  # how many of a candidate's first tokens are never scored

    @abstractmethod
    def check_contexts(self, model: PreTrainedModel, contexts: Sequence[object] | None) -> None:
        """Raise UserError if contexts for an encoder are missing or out of place."""

    @abstractmethod
    def request(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[CandidateTexts],
        start_token: bool = False,
        special_tokens: bool = True,
    ) -> Request:
        """Tokenize examples.

        Args:
            model: The model.
            tokenizer: Its tokenizer, set to the languages where it knows any.
            examples: Their texts.
            start_token: See :func:`mlprune.evaluation.encoding.encode_candidates`.
            special_tokens: See there.
        """

    @abstractmethod
    def score(
        self, model: PreTrainedModel, targets: Targets, spans: Sequence[Span], request: Request, batch_size: int | None
    ) -> list[Scored]:
        """Return the score of each span.

        Args:
            model: The model, in evaluation mode.
            targets: Where tokens to be scored are gathered.
            spans: What is scored.
            request: What it belongs to, for contexts and the decoder's start.
            batch_size: At most this many texts in a batch; a token budget alone decides if None.
        """

    @abstractmethod
    def prompt_ids(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], special_tokens: bool
    ) -> list[list[int]]:
        """Tokenize prompts for generation."""

    @abstractmethod
    def prompt_limit(self, limit: int, max_new_tokens: int) -> int:
        """Return the maximum number of prompt tokens for a model that takes ``limit`` tokens."""

    @abstractmethod
    def mixes_lengths(self, model: PreTrainedModel) -> bool:
        """Return whether prompts of unequal lengths can share a batch, because padding changes nothing."""

    @abstractmethod
    def generation_options(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], num_beams: int
    ) -> tuple[dict[str, Any], int]:
        """Return arguments of ``generate``, and the position of the first new token in its output."""
