"""Candidate scoring: the log-likelihood of every candidate text of an example.

Equal to a plain forward of every full text, but with less to do: what texts begin with runs once (also over examples,
such as the premise that three hypotheses share), only positions whose log-probability is asked for reach the output
head, and the head works in slices of the vocabulary.

Shapes: n examples, k candidates, T tokens of a candidate.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import NOT_FINITE, ExampleError, UserError
from mlprune.evaluation.encoder_decoder import decoder_hidden, encode_answers
from mlprune.evaluation.encoding import encode_candidates
from mlprune.evaluation.forward import Scorer, scorer_of
from mlprune.evaluation.lengths import TooLong, check_too_long, fit
from mlprune.evaluation.prefixes import Node, prefix_tree
from mlprune.evaluation.shared import run_tree, sharing_of
from mlprune.models.tokens import embedding_rows

Normalization = Literal["token", "sum", "paper"]
TREE_CACHE_BYTES = 1 << 28  # shared prefixes whose keys and values are held at a time
HEAD_ROWS = 512  # positions that go to the output head together


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored: see :func:`score_candidates`.

    Args:
        normalization: What the sum of log-probabilities is divided by.
        ranking_only: Leave out what all candidates of an example share.
        too_long: What to do with texts beyond the model's length.
        batch_size: At most so many texts in a batch; a token budget alone decides if omitted.

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
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"batch_size {self.batch_size} is not allowed; give at least 1")

    def divisor(self, tokens: int, given: int) -> int:
        """Return what a candidate's sum of log-probabilities is divided by.

        Args:
            tokens: Its number of tokens.
            given: How many of them are not scored.
        """
        return {"sum": 1, "paper": tokens, "token": tokens - given}[self.normalization]


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
        tokenizer: Its tokenizer. Special tokens that it puts before a text are given; those it puts behind are left
            out. One that knows languages reads its ``src_lang`` and writes its ``tgt_lang``.
        candidates: For each example its candidates, each the full text.
        contexts: For encoder-decoder models, and only there, the encoder's text of each example.
        normalization: ``token``: sum of log-probabilities over the number of scored tokens (T - 1, as nothing predicts
            the first; T for most encoder-decoder models); ``sum``: the sum; ``paper``: the sum over T.
        batch_size: At most so many texts in a batch; a token budget alone decides if omitted.
        ranking_only: Leave out the log-probability that all candidates of an example share, where that cannot change
            their order (equally many tokens, or ``sum``): the order stays, the values do not.
        too_long: What to do with texts beyond the model's length: ``error``, or ``truncate`` to drop tokens at the
            beginning, as many for all candidates of an example, which is reported.

    Returns:
        float32 (n, k) on the CPU, NaN where an example has fewer candidates.

    Raises:
        UserError: If a text is empty or too long, contexts are missing or out of place, the tokenizer has tokens
            that the model does not know, or a log-probability is not finite.

    Example:
        >>> from transformers import ByT5Tokenizer, GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=384))
        >>> score_candidates(model, ByT5Tokenizer(), [["It is good", "It is bad"], ["Yes"]]).isnan()
        tensor([[False, False],
                [False,  True]])
    """
    if any(isinstance(example, str) for example in candidates):
        raise UserError("candidates are texts; give a list of texts for each example")
    context_ids, start = None, None
    if contexts is not None and model.config.is_encoder_decoder:
        ids, given, start = encode_answers(model, tokenizer, candidates)
        context_ids = [tokenizer(text, verbose=False)["input_ids"] for text in contexts]
    else:
        _check_sides(model, contexts)
        ids, given, _ = encode_candidates(tokenizer, [[(text, "") for text in example] for example in candidates])
    return score_candidate_ids(
        model, ids, context_ids, normalization, batch_size, ranking_only, too_long, given, decoder_start=start
    )


@torch.no_grad()
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
        normalization: As there, over the scored tokens.
        batch_size: As there.
        ranking_only: As there.
        too_long: As there.
        given: For each candidate how many of its first tokens are given and not scored; if omitted 1, and none for
            encoder-decoder models.
        decoder_start: The token that an encoder-decoder model's decoder starts from; its config's if omitted.

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
    _check_sides(model, context_ids)
    has_encoder = model.config.is_encoder_decoder
    if context_ids is not None and len(context_ids) != len(ids):
        raise UserError(f"{len(context_ids)} contexts for {len(ids)} examples; give one for each")
    _check_vocabulary(model, [*(c for example in ids for c in example), *(context_ids or [])])
    first = given or [[0 if has_encoder else 1] * len(example) for example in ids]
    ids, first = fit(model, ids, first, too_long)
    if context_ids is not None:
        empty = next((i for i, context in enumerate(context_ids) if not context), None)
        if empty is not None:
            raise UserError(f"example {empty}: its context has no tokens")
        fitted, _ = fit(model, [[context] for context in context_ids], [[0]] * len(context_ids), too_long)
        context_ids = [context for (context,) in fitted]
    spans = _spans(ids, first, scoring)
    found = _score(model, spans, context_ids, scoring.batch_size, decoder_start, find_likeliest=False)
    scores = torch.full((len(ids), max(map(len, ids), default=0)), float("nan"), dtype=torch.float64)
    for span, scored in zip(spans, found, strict=True):
        scores[span.example, span.candidate] = scored.log_prob / span.divisor
    return scores.float()


class Scored(NamedTuple):
    """The log-probability of tokens, and whether each of them is the likeliest where it stands.

    Args:
        log_prob: Natural logarithm, summed.
        is_greedy: Whether greedy search would write these tokens; always true where that was not asked for.
    """

    log_prob: float
    is_greedy: bool


@torch.no_grad()
def score_continuations(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    starts: Sequence[int],
    context_ids: Sequence[Sequence[int]] | None = None,
) -> list[Scored]:
    """Score the end of token sequences, and find out whether greedy search would write it.

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
    _check_sides(model, context_ids)
    _check_vocabulary(model, [*ids, *(context_ids or [])])
    for i, (own, start) in enumerate(zip(ids, starts, strict=True)):
        if start >= len(own):
            raise ExampleError(i, "it has no token to score")
    spans = [_Span(i, 0, tuple(own), start, 1) for i, (own, start) in enumerate(zip(ids, starts, strict=True))]
    return _score(model, spans, context_ids, None, None, find_likeliest=True)


def _score(
    model: PreTrainedModel,
    spans: "list[_Span]",
    context_ids: Sequence[Sequence[int]] | None,
    batch_size: int | None,
    decoder_start: int | None,
    find_likeliest: bool,
) -> list[Scored]:
    """Score spans with the model in evaluation mode; none may be without a number."""
    was_training = model.training
    model.eval()
    try:
        targets = _Targets(scorer_of(model), find_likeliest)
        if context_ids is not None:
            found = _score_encoder_decoder(model, targets, spans, context_ids, batch_size, decoder_start)
        else:
            found = _score_causal(model, targets, spans, batch_size)
    finally:
        model.train(was_training)
    for span, scored in zip(spans, found, strict=True):
        if not math.isfinite(scored.log_prob):
            raise ExampleError(
                span.example,
                f"the log-probability of candidate {span.candidate} is not finite ({scored.log_prob}); {NOT_FINITE}",
            )
    return found


def _check_sides(model: PreTrainedModel, contexts: Sequence[object] | None) -> None:
    if model.config.is_encoder_decoder and contexts is None:
        raise UserError(f"{type(model).__name__} is an encoder-decoder model: give contexts for its encoder")
    if not model.config.is_encoder_decoder and contexts is not None:
        raise UserError(f"{type(model).__name__} has no encoder: contexts are for encoder-decoder models")


def _check_vocabulary(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> None:
    """Refuse tokens of another model's tokenizer here; on a GPU they would end the process without a word."""
    rows = embedding_rows(model)
    largest = max((max(ids, default=0) for ids in sequences), default=0)
    if largest >= rows:
        raise UserError(f"token {largest} is not in the model's vocabulary of {rows}; is it the model's tokenizer?")


@dataclass(frozen=True)
class _Span:
    """The tokens of a candidate whose log-probabilities are summed: those from ``start`` on."""

    example: int
    candidate: int
    ids: tuple[int, ...]
    start: int
    divisor: int


def _spans(ids: list[list[list[int]]], first: list[list[int]], scoring: Scoring) -> list[_Span]:
    spans = []
    for i, (example, starts) in enumerate(zip(ids, first, strict=True)):
        divisors = [scoring.divisor(len(c), start) for c, start in zip(example, starts, strict=True)]
        skip = 0
        if scoring.ranking_only and len(example) > 1 and len(set(starts)) == len(set(divisors)) == 1:
            skip = _common(example)
        for j, (candidate, start) in enumerate(zip(example, starts, strict=True)):
            spans.append(_Span(i, j, tuple(candidate), max(start, skip), divisors[j]))
    return spans


def _common(example: list[list[int]]) -> int:
    """Return how many tokens all candidates begin with."""
    low, high = min(example), max(example)
    return next((t for t, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


Key = tuple[int, int, int]  # node, position in it, target


class _Targets:
    """Log-probabilities to be had, gathered over batches until there are enough for the output head."""

    def __init__(self, scorer: Scorer, find_likeliest: bool) -> None:
        self.scorer = scorer
        self.find_likeliest = find_likeliest
        self._values: dict[Key, Scored] = {}
        self._keys: list[Key] = []
        self._rows: list[int] = []
        self._hidden: list[Tensor] = []
        self._size = 0

    def add(self, hidden: Tensor, places: list[tuple[int, int]], keys: list[list[Key]]) -> None:
        """Add positions of a batch and, for each, the keys of its targets; ``hidden`` is (B, T, H)."""
        if places:
            self._hidden.append(hidden[[row for row, _ in places], [column for _, column in places]])
        for at, targets in enumerate(keys, start=self._size):
            self._keys += targets
            self._rows += [at] * len(targets)
        self._size += len(places)
        if self._size >= HEAD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Compute what was gathered."""
        if self._keys:
            hidden = torch.cat(self._hidden)
            rows = torch.tensor(self._rows, device=hidden.device)
            targets = torch.tensor([target for _, _, target in self._keys], device=hidden.device)
            likeliest = (
                torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device) if self.find_likeliest else None
            )
            found = self.scorer.log_probs(hidden, rows, targets, likeliest).double().tolist()
            greedy = [True] * len(found) if likeliest is None else (likeliest[rows] == targets).tolist()
            self._values.update(zip(self._keys, map(Scored, found, greedy), strict=True))
        self._keys, self._rows, self._hidden, self._size = [], [], [], 0

    def take(self, keys: dict[int, list[Key]]) -> Iterator[tuple[int, Scored]]:
        """Compute what was gathered; iterate over the sums of some keys each, and forget all values."""
        self.flush()
        for i, own in keys.items():
            values = [self._values[key] for key in own]
            yield i, Scored(sum(value.log_prob for value in values), all(value.is_greedy for value in values))
        self._values = {}


def _score_causal(
    model: PreTrainedModel, targets: _Targets, spans: list[_Span], batch_size: int | None
) -> list[Scored]:
    found = [Scored(0.0, True)] * len(spans)
    sharing = sharing_of(model)
    for chunk in _chunks(spans, sharing.cache_bytes):
        # the last token is only predicted, and nothing is known of a span whose start is its end
        inputs = {i: spans[i].ids[:-1] for i in chunk if spans[i].start < len(spans[i].ids)}
        levels, ends = prefix_tree(inputs.values(), sharing.min_saved)
        wanted: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        keys: dict[int, list[Key]] = {}
        for i, run in inputs.items():
            keys[i] = list(_keys(ends[run], spans[i]))
            for node, at, target in keys[i]:
                wanted[node][at].add(target)
        for nodes, hidden in run_tree(model, levels, sharing.cache_bytes, batch_size):
            places = [(row, at) for row, node in enumerate(nodes) for at in sorted(wanted.get(id(node), ()))]
            asked = [[(id(nodes[r]), at, token) for token in sorted(wanted[id(nodes[r])][at])] for r, at in places]
            targets.add(hidden, places, asked)
        for i, scored in targets.take(keys):
            found[i] = scored
    return found


def _keys(end: Node, span: _Span) -> Iterator[Key]:
    """For each scored token: the node and the position in it that predict it, and the token."""
    for node in end.path():
        for t in range(max(node.start, span.start - 1), min(node.end, len(span.ids) - 1)):
            yield id(node), t - node.start, span.ids[t + 1]


def _chunks(spans: list[_Span], cache_bytes: int) -> Iterator[list[int]]:
    """Cut the work so that the shared prefixes' cache fits into memory; texts that begin alike stay together."""
    budget = max(TREE_CACHE_BYTES // max(cache_bytes, 1), 1)
    by_example: dict[int, list[int]] = defaultdict(list)
    for i, span in enumerate(spans):
        by_example[span.example].append(i)
    chunk: list[int] = []
    size = 0
    for own in sorted(by_example.values(), key=lambda own: min(spans[i].ids for i in own)):
        cost = max(len(spans[i].ids) for i in own)  # at most so much of an example is a shared prefix
        if chunk and size + cost > budget:
            yield chunk
            chunk, size = [], 0
        chunk += own
        size += cost
    if chunk:
        yield chunk


def _score_encoder_decoder(
    model: PreTrainedModel,
    targets: _Targets,
    spans: list[_Span],
    context_ids: Sequence[Sequence[int]],
    batch_size: int | None,
    decoder_start: int | None,
) -> list[Scored]:
    found = [Scored(0.0, True)] * len(spans)
    pairs = [(tuple(context_ids[span.example]), span.ids) for span in spans]
    for batch, hidden in decoder_hidden(model, pairs, batch_size, decoder_start):
        keys = {i: [(i, t, spans[i].ids[t]) for t in range(spans[i].start, len(spans[i].ids))] for i in batch}
        for row, i in enumerate(batch):
            targets.add(hidden, [(row, t) for _, t, _ in keys[i]], [[key] for key in keys[i]])
        for i, scored in targets.take(keys):
            found[i] = scored
    return found
