"""Candidate scoring: the log-likelihood of every candidate text of an example.

Equal to a plain forward of every full text, with less work: shared prefixes run once (also across examples, such as the
premise that three hypotheses share), only positions whose log-probability is needed reach the output head, and the head
works in slices of the vocabulary.

Shapes: n examples, k candidates, T tokens of a candidate.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import NOT_FINITE, ExampleError, UserError
from mlprune.evaluation.forward import scorer_of
from mlprune.evaluation.lengths import TooLong, fit
from mlprune.evaluation.model_kinds import CandidateTexts, Request, model_kind
from mlprune.evaluation.options import Normalization, Scoring
from mlprune.evaluation.spans import Span, spans_of
from mlprune.evaluation.targets import Scored, Targets
from mlprune.models.attention import without_plans
from mlprune.models.tokens import embedding_rows


def score_candidates(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    candidates: Sequence[Sequence[str]],
    contexts: Sequence[str] | None = None,
    normalization: Normalization = "token",
    batch_size: int | None = None,
    ranking_only: bool = False,
    too_long: TooLong = "error",
) -> Tensor:
    """Score full texts by their log-likelihood.

    Args:
        model: A causal or encoder-decoder model.
        tokenizer: Its tokenizer. Special tokens that it puts before a text are given; those it puts after it are left
            out. One that knows languages reads its ``src_lang`` and writes its ``tgt_lang``.
        candidates: For each example its candidates, each the full text.
        contexts: For encoder-decoder models only, the encoder's text of each example.
        normalization: ``token``: sum of log-probabilities over the number of scored tokens (T - 1, as nothing predicts
            the first; T for most encoder-decoder models); ``sum``: the sum; ``paper``: the sum over T.
        batch_size: At most this many texts in a batch; a token budget alone decides if omitted.
        ranking_only: Leave out the log-probability that all candidates of an example share, where that cannot change
            their order (equally many tokens, or ``sum``): the order stays, the values do not.
        too_long: What to do with texts beyond the model's length: ``error``, or ``truncate`` to drop tokens at the
            beginning, as many for all candidates of an example, which is reported.

    Returns:
        float32 (n, k) on the CPU, NaN where an example has fewer candidates.

    Raises:
        UserError: If a text is empty or too long, contexts are missing or unexpected, a token is not in the model's
            vocabulary, or a log-probability is not finite.

    Example:
        >>> from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=384))
        >>> score_candidates(model, ByT5Tokenizer(), [["It is good", "It is bad"], ["Yes"]]).isnan()
        tensor([[False, False],
                [False,  True]])
    """
    if any(isinstance(example, str) for example in candidates):
        raise UserError("candidates are texts; give a list of texts for each example")
    scoring = Scoring(normalization, ranking_only, too_long, batch_size)
    kind = model_kind(model)
    kind.check_contexts(model, contexts)
    _check_counts(contexts, candidates)
    questions = [None] * len(candidates) if contexts is None else contexts
    examples = [
        CandidateTexts(question, answers, [(text, "") for text in answers])
        for question, answers in zip(questions, candidates, strict=True)
    ]
    return score_request(model, kind.request(model, tokenizer, examples), scoring)


def score_candidate_ids(
    model: PreTrainedModel,
    ids: Sequence[Sequence[Sequence[int]]],
    context_ids: Sequence[Sequence[int]] | None = None,
    normalization: Normalization = "token",
    batch_size: int | None = None,
    ranking_only: bool = False,
    too_long: TooLong = "error",
    given: Sequence[Sequence[int]] | None = None,
    decoder_start: int | None = None,
) -> Tensor:
    """Score token sequences by their log-likelihood; see :func:`score_candidates`.

    Args:
        model: A causal or encoder-decoder model.
        ids: For each example its candidates' token ids.
        context_ids: For encoder-decoder models the encoder's ids of each example.
        normalization: As there, over scored tokens.
        batch_size: As there.
        ranking_only: As there.
        too_long: As there.
        given: For each candidate how many of its first tokens are given and not scored; if omitted 1, and none for
            encoder-decoder models.
        decoder_start: The start token of an encoder-decoder model's decoder; its config's if omitted.

    Returns:
        float32 (n, k) on the CPU, NaN where an example has fewer candidates.

    Raises:
        UserError: As there.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> with torch.no_grad():
        ...     expected = model(torch.tensor([[5, 6]])).logits[0, 0].log_softmax(-1)[6]
        >>> torch.allclose(score_candidate_ids(model, [[[5, 6]]])[0, 0], expected)
        True
    """
    scoring = Scoring(normalization, ranking_only, too_long, batch_size)
    kind = model_kind(model)
    kind.check_contexts(model, context_ids)
    _check_counts(context_ids, ids)
    first = given or [[kind.given] * len(example) for example in ids]
    request = Request(ids, first, contexts=context_ids, decoder_start=decoder_start)
    return score_request(model, request, scoring)


@torch.no_grad()
def score_request(model: PreTrainedModel, request: Request, scoring: Scoring) -> Tensor:
    """Score tokenized examples; see :func:`score_candidates`.

    Args:
        model: A causal or encoder-decoder model.
        request: The examples.
        scoring: How they are scored.

    Returns:
        float32 (n, k) on the CPU, NaN where an example has fewer candidates.

    Raises:
        UserError: As there.
    """
    request = fitted(model, request, scoring)
    spans = spans_of(request.ids, request.given, scoring)
    found = _score(model, request, spans, scoring.batch_size)
    scores = torch.full((len(request.ids), max(map(len, request.ids), default=0)), float("nan"), dtype=torch.float64)
    for span, scored in zip(spans, found, strict=True):
        scores[span.example, span.candidate] = scored.log_prob / span.divisor
    return scores.float()


@torch.no_grad()
def score_continuations(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    starts: Sequence[int],
    context_ids: Sequence[Sequence[int]] | None = None,
) -> list[Scored]:
    """Score the end of token sequences, and determine whether greedy search would generate it.

    Args:
        model: A causal or encoder-decoder model.
        ids: Token sequences.
        starts: For each, the position of its first scored token.
        context_ids: For encoder-decoder models the encoder's ids of each sequence.

    Raises:
        ExampleError: If a sequence has no token to score, or its log-probability is not finite.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)).eval()
        >>> with torch.no_grad():
        ...     best = int(model(torch.tensor([[5, 6]])).logits[0, -1].argmax())
        >>> [scored.is_greedy for scored in score_continuations(model, [[5, 6, best], [5, 6, (best + 1) % 8]], [2, 2])]
        [True, False]
    """
    model_kind(model).check_contexts(model, context_ids)
    _check_vocabulary(model, [*ids, *(context_ids or [])])
    spans = [Span(i, 0, tuple(text), start, 1) for i, (text, start) in enumerate(zip(ids, starts, strict=True))]
    for span in spans:
        if span.start >= len(span.ids):
            raise ExampleError(span.example, "it has no token to score")
    return _score(model, Request([], [], contexts=context_ids), spans, find_likeliest=True)


@without_plans()
def _score(
    model: PreTrainedModel,
    request: Request,
    spans: Sequence[Span],
    batch_size: int | None = None,
    find_likeliest: bool = False,
) -> list[Scored]:
    """Score spans with the model in evaluation mode; all scores must be finite."""
    was_training = model.training
    model.eval()
    try:
        targets = Targets(scorer_of(model), find_likeliest)
        found = model_kind(model).score(model, targets, spans, request, batch_size)
    finally:
        model.train(was_training)
    for span, (log_prob, _) in zip(spans, found, strict=True):
        if not math.isfinite(log_prob):
            raise ExampleError(
                span.example,
                f"the log-probability of candidate {span.candidate} is not finite ({log_prob}); {NOT_FINITE}",
            )
    return found


def fitted(model: PreTrainedModel, request: Request, scoring: Scoring) -> Request:
    """Check a request's tokens, and make them fit into the model.

    Args:
        model: A causal or encoder-decoder model.
        request: The examples.
        scoring: What to do with those that are too long.

    Raises:
        UserError: As :func:`score_candidates`.
    """
    contexts = request.contexts
    _check_vocabulary(model, [*(c for example in request.ids for c in example), *(contexts or [])])
    ids, given = fit(model, request.ids, request.given, scoring.too_long)
    if contexts is not None:
        empty = next((i for i, context in enumerate(contexts) if not context), None)
        if empty is not None:
            raise ExampleError(empty, "its context has no tokens")
        fitted, _ = fit(model, [[context] for context in contexts], [[0]] * len(contexts), scoring.too_long)
        contexts = [context for (context,) in fitted]
    return replace(request, ids=ids, given=given, contexts=contexts)


def _check_counts(contexts: Sequence[object] | None, examples: Sequence[object]) -> None:
    if contexts is not None and len(contexts) != len(examples):
        raise UserError(f"{len(contexts)} contexts for {len(examples)} examples; give one for each")


def _check_vocabulary(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> None:
    """Refuse tokens of another model's tokenizer; on a GPU they would abort the process without a message."""
    rows = embedding_rows(model)
    largest = max((max(max(ids), ~min(ids)) for ids in sequences if ids), default=0)  # marked ones are complements
    if largest >= rows:
        raise UserError(f"token {largest} is not in the model's vocabulary of {rows}; is it the model's tokenizer?")
