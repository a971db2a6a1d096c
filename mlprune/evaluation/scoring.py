"""Candidate scoring: the log-likelihood of every candidate text of an example.

The candidates of an example share a prefix of tokens, which runs once; each candidate then needs only its own tail, on a
copy of the prefix's cache. Prefixes are padded on the left, so that windows and relative positions stay what they are.

Shapes: n examples, k candidates, T tokens of a candidate.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from mlprune.batching import token_batches
from mlprune.errors import UserError
from mlprune.evaluation.forward import Head, hidden_states, max_length, positions
from mlprune.models.blocks import model_device

Normalization = Literal["token", "sum", "paper"]
NORMALIZATIONS = ("token", "sum", "paper")
MAX_BATCH_TOKENS = 2048


@dataclass
class _Unit:
    """A prefix and the tails that follow it; each tail belongs to the (example, candidate) of ``slots``."""

    prefix: list[int]
    tails: list[list[int]]
    slots: list[tuple[int, int]]

    @property
    def cost(self) -> int:
        return max(len(self.prefix), sum(len(tail) for tail in self.tails))


def score_candidates(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    candidates: Sequence[Sequence[str]],
    contexts: Sequence[str] | None = None,
    normalization: Normalization = "token",
    batch_size: int | None = None,
    ranking_only: bool = False,
) -> Tensor:
    """Score full texts by their log-likelihood.

    Args:
        model: A causal or encoder-decoder model.
        tokenizer: Its tokenizer; texts are tokenized with its own special tokens.
        candidates: For each example its candidates, each the full text.
        contexts: For encoder-decoder models, and only there, the encoder's text of each example.
        normalization: ``token``: sum of log-probabilities over the number of scored tokens (T - 1, as nothing predicts
            the first; T for encoder-decoder models); ``sum``: the sum; ``paper``: the sum over T.
        batch_size: At most so many examples in a batch; a token budget alone decides if omitted.
        ranking_only: Leave out the log-probability that all candidates of an example share, where they have equally
            many tokens: the order stays, the values do not.

    Returns:
        float32 (n, k), NaN where an example has fewer candidates.

    Raises:
        UserError: If a text is empty or longer than the model allows, or contexts are missing or out of place.
    """
    ids = [[tokenizer(text, verbose=False)["input_ids"] for text in example] for example in candidates]
    context_ids = None if contexts is None else [tokenizer(text, verbose=False)["input_ids"] for text in contexts]
    return score_candidate_ids(model, ids, context_ids, normalization, batch_size, ranking_only)


@torch.no_grad()
def score_candidate_ids(
    model: PreTrainedModel,
    ids: Sequence[Sequence[Sequence[int]]],
    context_ids: Sequence[Sequence[int]] | None = None,
    normalization: Normalization = "token",
    batch_size: int | None = None,
    ranking_only: bool = False,
) -> Tensor:
    """Score token sequences by their log-likelihood; see :func:`score_candidates`.

    Args:
        model: A causal or encoder-decoder model.
        ids: For each example its candidates' token ids.
        context_ids: For encoder-decoder models the encoder's ids of each example.
        normalization: As there.
        batch_size: As there.
        ranking_only: As there.
    """
    if normalization not in NORMALIZATIONS:
        raise UserError(f"normalization '{normalization}' is not allowed; give one of {', '.join(NORMALIZATIONS)}")
    encoder_decoder = model.config.is_encoder_decoder
    if encoder_decoder and context_ids is None:
        raise UserError(f"{type(model).__name__} is an encoder-decoder model: give contexts for its encoder")
    if not encoder_decoder and context_ids is not None:
        raise UserError(f"{type(model).__name__} has no encoder: contexts are for encoder-decoder models")
    _check_lengths(model, ids)
    width = max((len(example) for example in ids), default=0)
    sums = torch.full((len(ids), width), float("nan"), dtype=torch.float64)
    counts = torch.ones(len(ids), width, dtype=torch.float64)
    head = head_of(model)
    skip = [ranking_only and len({len(candidate) for candidate in example}) == 1 for example in ids]
    units = [unit for i, example in enumerate(ids) for unit in _units(i, example, encoder_decoder)]
    was_training = model.training
    model.eval()
    for batch in token_batches([unit.cost for unit in units], MAX_BATCH_TOKENS):
        for part in _at_most(batch, batch_size):
            chosen = [units[i] for i in part]
            if encoder_decoder:
                assert context_ids is not None
                scored = _score_seq2seq(model, head, chosen, [context_ids[unit.slots[0][0]] for unit in chosen])
            else:
                scored = _score_causal(model, head, chosen, [skip[unit.slots[0][0]] for unit in chosen])
            for (i, j), value in scored.items():
                sums[i, j] = value
                length = len(ids[i][j])
                counts[i, j] = length if encoder_decoder or normalization == "paper" else length - 1
    model.train(was_training)
    return (sums if normalization == "sum" else sums / counts).float()


def head_of(model: PreTrainedModel) -> Head:
    """Return the model's head reader, made once a model (its probe costs a forward pass)."""
    cached = getattr(model, "_mlprune_head", None)
    if cached is None or cached.weight is not model.get_output_embeddings().weight:
        cached = Head(model)
        object.__setattr__(model, "_mlprune_head", cached)
    return cached


def _units(example: int, candidates: Sequence[Sequence[int]], whole: bool) -> list[_Unit]:
    """Cut an example into a shared prefix and tails; without one, or with one candidate, every candidate is alone."""
    shared = 0 if whole else len(os.path.commonprefix([list(candidate[:-1]) for candidate in candidates]))
    if shared and len(candidates) > 1:
        prefix = list(candidates[0][:shared])
        tails = [list(candidate[shared:]) for candidate in candidates]
        return [_Unit(prefix, tails, [(example, j) for j in range(len(candidates))])]
    cut = 0 if whole else 1
    return [
        _Unit(list(c[: len(c) - cut]), [list(c[len(c) - cut :])], [(example, j)]) for j, c in enumerate(candidates)
    ]


def _score_causal(model: PreTrainedModel, head: Head, units: list[_Unit], skip: list[bool]) -> dict[tuple[int, int], float]:
    device = model_device(model)
    prefix, mask = _pad([unit.prefix for unit in units], device, left=True)
    longest = max(len(tail) for unit in units for tail in unit.tails)
    cache = DynamicCache(config=model.config) if longest > 1 else None
    inputs = {"input_ids": prefix, "attention_mask": mask, "position_ids": positions(mask)}
    hidden = hidden_states(model, inputs | {"past_key_values": cache, "use_cache": cache is not None})

    rows, targets, owners = [], [], []
    for row, unit in enumerate(units):
        start = prefix.shape[1] - len(unit.prefix)
        if not skip[row]:
            for t in range(1, len(unit.prefix)):
                rows.append((row, start + t - 1))
                targets.append(unit.prefix[t])
                owners.append(unit.slots)
        for slot, tail in zip(unit.slots, unit.tails, strict=True):
            rows.append((row, prefix.shape[1] - 1))
            targets.append(tail[0])
            owners.append([slot])
    picked = [hidden[[r for r, _ in rows], [c for _, c in rows]]]

    if cache is not None:
        parents = [row for row, unit in enumerate(units) for tail in unit.tails if len(tail) > 1]
        tails = [(slot, tail) for unit in units for slot, tail in zip(unit.slots, unit.tails, strict=True) if len(tail) > 1]
        cache.batch_select_indices(torch.tensor(parents, device=device))
        tail_ids, tail_mask = _pad([tail[:-1] for _, tail in tails], device, left=False)
        full_mask = torch.cat([mask[parents], tail_mask], dim=1)
        hidden = hidden_states(
            model,
            {
                "input_ids": tail_ids,
                "attention_mask": full_mask,
                "position_ids": positions(full_mask)[:, mask.shape[1] :],
                "past_key_values": cache,
                "use_cache": True,
            },
        )
        rows = [(row, t) for row, (_, tail) in enumerate(tails) for t in range(len(tail) - 1)]
        targets += [token for _, tail in tails for token in tail[1:]]
        owners += [[slot] for slot, tail in tails for _ in tail[1:]]
        picked.append(hidden[[r for r, _ in rows], [c for _, c in rows]])
    return _sum_by_slot(head.log_probs(torch.cat(picked), torch.tensor(targets, device=device)), owners)


def _score_seq2seq(
    model: PreTrainedModel, head: Head, units: list[_Unit], contexts: list[Sequence[int]]
) -> dict[tuple[int, int], float]:
    device = model_device(model)
    context, context_mask = _pad([list(ids) for ids in contexts], device, left=False)
    tokens = [unit.prefix + unit.tails[0] for unit in units]
    start = model.config.decoder_start_token_id
    decoder, decoder_mask = _pad([[start, *ids[:-1]] for ids in tokens], device, left=False)
    encoded = model.get_encoder()(input_ids=context, attention_mask=context_mask)
    inputs = {
        "encoder_outputs": BaseModelOutput(last_hidden_state=encoded.last_hidden_state),
        "attention_mask": context_mask,
        "decoder_input_ids": decoder,
        "decoder_attention_mask": decoder_mask,
        "use_cache": False,
    }
    hidden = hidden_states(model, inputs)
    targets = torch.tensor([token for ids in tokens for token in ids], device=device)
    owners = [unit.slots for unit, ids in zip(units, tokens, strict=True) for _ in ids]
    return _sum_by_slot(head.log_probs(hidden[decoder_mask.bool()], targets), owners)


def _sum_by_slot(log_probs: Tensor, owners: list[list[tuple[int, int]]]) -> dict[tuple[int, int], float]:
    sums: dict[tuple[int, int], float] = {}
    for value, slots in zip(log_probs.double().tolist(), owners, strict=True):
        for slot in slots:
            sums[slot] = sums.get(slot, 0.0) + value
    return sums


def _pad(sequences: list[list[int]], device: torch.device, left: bool) -> tuple[Tensor, Tensor]:
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        span = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, span] = torch.tensor(sequence, dtype=torch.int64)
        mask[row, span] = 1
    return ids.to(device), mask.to(device)


def _at_most(batch: list[int], size: int | None) -> list[list[int]]:
    return [batch] if size is None else [batch[i : i + size] for i in range(0, len(batch), size)]


def _check_lengths(model: PreTrainedModel, ids: Sequence[Sequence[Sequence[int]]]) -> None:
    limit = max_length(model)
    shortest = 1 if model.config.is_encoder_decoder else 2
    for i, example in enumerate(ids):
        for j, candidate in enumerate(example):
            if len(candidate) < shortest:
                raise UserError(f"candidate {j} of example {i} has {len(candidate)} tokens; {shortest} are needed for a score")
            if limit is not None and len(candidate) > limit:
                raise UserError(f"candidate {j} of example {i} has {len(candidate)} tokens; the model takes {limit}")
