"""Settings of scoring and generation, validated when they are created."""

from dataclasses import dataclass
from typing import Literal, get_args

from mlprune.errors import UserError
from mlprune.evaluation.lengths import TooLong, check_too_long

Normalization = Literal["token", "sum", "paper"]


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored: see :func:`mlprune.evaluation.score_candidates`.

    Args:
        normalization: What the sum of log-probabilities is divided by.
        ranking_only: Skip what all candidates of an example share.
        too_long: What to do with texts beyond the model's length.
        batch_size: At most this many texts in a batch; a token budget alone decides if omitted.

    Raises:
        UserError: If a value is not allowed.

    Example:
        >>> Scoring("sum").divisor(tokens=5, given=1)
        1
    """

    normalization: Normalization = "token"
    ranking_only: bool = False
    too_long: TooLong = "error"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.normalization not in get_args(Normalization):
            allowed = ", ".join(get_args(Normalization))
            raise UserError(f"normalization '{self.normalization}' is not allowed; give one of {allowed}")
        check_too_long(self.too_long)
        _check_positive(batch_size=self.batch_size)

    def divisor(self, tokens: int, given: int) -> int:
        """Return what a candidate's sum of log-probabilities is divided by.

        Args:
            tokens: Its number of tokens.
            given: How many of them are not scored.
        """
        return {"sum": 1, "paper": tokens, "token": tokens - given}[self.normalization]


@dataclass(frozen=True)
class Search:
    """How texts are continued: see :func:`mlprune.evaluation.generate`.

    Args:
        max_new_tokens: Longest continuation, in tokens.
        num_beams: 1 for greedy search.
        too_long: What to do with a prompt that leaves no room for the continuation.
        batch_size: At most this many prompts in a batch; a token budget alone decides if omitted.

    Raises:
        UserError: If a value is not allowed.

    Example:
        >>> Search(num_beams=4).max_new_tokens
        64
    """

    max_new_tokens: int = 64
    num_beams: int = 1
    too_long: TooLong = "error"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_positive(max_new_tokens=self.max_new_tokens, num_beams=self.num_beams, batch_size=self.batch_size)
        check_too_long(self.too_long)


def _check_positive(**values: int | None) -> None:
    for key, value in values.items():
        if value is not None and value < 1:
            raise UserError(f"{key} {value} is not allowed; give at least 1")
