"""Prompts as one model reads them: token ids, calibration batches, and batches of recovery training."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.demonstrations import Demonstrations, Prompt
from mlprune.errors import UserError
from mlprune.evaluation.encoder_decoder import decoder_start
from mlprune.evaluation.encoding import TextEncoder
from mlprune.evaluation.lengths import max_length
from mlprune.log import log
from mlprune.models.decoder_start import decoder_start_of
from mlprune.models.encoder import has_encoder
from mlprune.models.language_tokens import between, has_languages
from mlprune.models.tokens import embedding_rows, encode
from mlprune.pruning.prune import form_batches
from mlprune.pruning.statistics import Statistic

Groups = Mapping[str, tuple[Demonstrations, list[Prompt]]]


class PromptReader:
    """Reads prompts with a model's tokenizer.

    Args:
        model: The model, for the size of its vocabulary and the start of its decoder.
        tokenizer: Its tokenizer.
        max_tokens: Longest prompt of a group that does not say, in tokens; the rest of a longer one is cut off.
        num_tokens: Tokens of all prompts of a group that does not say together; all of them if omitted.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        num_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.num_tokens = num_tokens

    def prompts(self, groups: Groups) -> dict[str, list[list[int]]]:
        """Return the token ids of every group's prompts; of encoder-decoder models, of what the encoder reads.

        Args:
            groups: Group to demonstrations and the prompts chosen of them.

        Raises:
            UserError: If prompts are longer than the model takes.
        """
        side = 0 if has_encoder(self.model) else None
        return {
            group: self._read(group, demonstrations, texts_of(chosen, side))
            for group, (demonstrations, chosen) in groups.items()
        }

    def batches(
        self,
        groups: Groups,
        prompts: Mapping[str, list[list[int]]],
        max_tokens: int,
        measured: Statistic | None = None,
    ) -> list[dict[str, Any]]:
        """Form calibration batches over all prompts.

        Args:
            groups: As for :meth:`prompts`.
            prompts: What :meth:`prompts` returned.
            max_tokens: Token budget of a batch, padding included.
            measured: What calibration measures.

        Raises:
            UserError: If the model does not say what its decoder starts from.
        """
        rows: list[dict[str, Any]] = [
            {"input_ids": torch.tensor([ids]), "group": group} for group, rows in prompts.items() for ids in rows
        ]
        if has_encoder(self.model):
            decoder = [
                ids
                for group, (demonstrations, chosen) in groups.items()
                for ids in self._decoder(group, demonstrations, chosen)
            ]
            for row, ids in zip(rows, decoder, strict=True):
                row["decoder_input_ids"] = torch.tensor([ids])
        return form_batches(self.model, rows, max_tokens, measured)

    def _decoder(self, group: str, demonstrations: Demonstrations, chosen: list[Prompt]) -> list[list[int]]:
        """The token ids that the decoder reads with a group's prompts."""
        with self._between_languages(demonstrations):
            lead = self._decoder_lead()
        return [
            [*lead, *ids] for ids in self._read(f"{group}, decoder", demonstrations, texts_of(chosen, 1), target=True)
        ]

    def _between_languages(self, demonstrations: Demonstrations) -> AbstractContextManager[None]:
        """While open, a tokenizer that knows languages reads and writes those of the demonstrations."""
        codes = demonstrations.languages()
        return between(self.tokenizer, codes[0], codes[-1]) if codes else nullcontext()

    def _decoder_lead(self) -> list[int]:
        """The token that the decoder starts from, and its language's code."""
        start, lead = decoder_start(self.model, self.tokenizer) if has_languages(self.tokenizer) else (None, [])
        return [decoder_start_of(self.model) if start is None else start, *lead]

    def _read(
        self, group: str, demonstrations: Demonstrations, texts: list[str], target: bool = False
    ) -> list[list[int]]:
        """Token ids of texts; of a decoder's (``target``) without the last one, which is only predicted."""
        rows, limit = embedding_rows(self.model), demonstrations.max_tokens or self.max_tokens
        with self._between_languages(demonstrations):
            if target and has_languages(self.tokenizer):
                encoder = TextEncoder(self.tokenizer, target=True)  # what the tokenizer puts around stands elsewhere
                ids = [encoder(text, special_tokens=False) for text in texts]
            else:
                ids = [encode(self.tokenizer, text, rows) for text in texts]
        longest, room = min(max(map(len, ids), default=0), limit), max_length(self.model)
        if room is not None and longest > room:
            raise UserError(
                f"group '{group}': max_tokens {limit} is more than the {room} that the model takes; give {room}"
            )
        cut = sum(len(tokens) > limit for tokens in ids)
        if cut:
            log.info("group '%s': %d of %d prompts were cut to %d tokens", group, cut, len(ids), limit)
        ids = [tokens[:limit] for tokens in ids]
        if (budget := demonstrations.num_tokens or self.num_tokens) is not None:
            if has_encoder(self.model):
                raise UserError(f"group '{group}': num_tokens is for models that continue text; leave it out")
            ids = within(ids, budget, group)
        log.info("group '%s': %d prompts, %d tokens", group, len(ids), sum(map(len, ids)))
        return [tokens[:-1] for tokens in ids] if target and not has_languages(self.tokenizer) else ids


def texts_of(prompts: list[Prompt], side: int | None = None) -> list[str]:
    """Return the texts of prompts: whole, or what the encoder (0) or the decoder (1) reads."""
    return [prompt.text if side is None or prompt.sides is None else prompt.sides[side] for prompt in prompts]


def within(ids: list[list[int]], budget: int, group: str) -> list[list[int]]:
    """Return the first prompts that have so many tokens together, the last of them cut.

    Args:
        ids: Token ids of each prompt.
        budget: Tokens of all together.
        group: Their group, for the message.

    Raises:
        UserError: If they have fewer.

    Example:
        >>> within([[1, 2, 3], [4, 5, 6], [7]], 5, "mt")
        [[1, 2, 3], [4, 5]]
    """
    found, left = [], budget
    for tokens in ids:
        if left > 0:
            found.append(tokens[:left])
            left -= len(tokens)
    if left > 0:
        raise UserError(
            f"group '{group}': num_tokens {budget}: its {len(ids)} prompts have {budget - left}; give at most so many, "
            "or a higher num_prompts"
        )
    return found
