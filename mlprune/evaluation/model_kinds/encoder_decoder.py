"""Models that read a text and write another: the encoder reads the question, the decoder is scored on the answer."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import ExampleError, UserError
from mlprune.evaluation.encoder_decoder import decoder_hidden, decoder_start, encode_answers
from mlprune.evaluation.model_kinds.base import CandidateTexts, ModelKind, Request
from mlprune.evaluation.spans import Span
from mlprune.evaluation.targets import Key, Scored, Targets
from mlprune.models.blocks import model_device
from mlprune.models.decoder_start import decoder_start_of
from mlprune.models.language_tokens import has_languages


class EncoderDecoder(ModelKind):
    """A model that reads one text and writes another."""

    padding_side = "right"
    given = 0  # the decoder's start token predicts the first

    def check_contexts(self, model: PreTrainedModel, contexts: Sequence[object] | None) -> None:
        if contexts is None:
            raise UserError(f"{type(model).__name__} is an encoder-decoder model: give contexts for its encoder")

    def request(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[CandidateTexts],
        start_token: bool = False,
        special_tokens: bool = True,
    ) -> Request:
        questions = []
        for i, texts in enumerate(examples):
            if texts.question is None:
                raise ExampleError(i, f"it has no question for {type(model).__name__}'s encoder")
            questions.append(texts.question)
        contexts = self.prompt_ids(tokenizer, questions, special_tokens)
        ids, given, start = encode_answers(model, tokenizer, [texts.answers for texts in examples])
        return Request(ids, given, [False] * len(examples), contexts, start)

    def score(
        self, model: PreTrainedModel, targets: Targets, spans: Sequence[Span], request: Request, batch_size: int | None
    ) -> list[Scored]:
        assert request.contexts is not None
        found = [Scored()] * len(spans)
        keys: dict[int, list[Key]] = {}
        pairs = [(tuple(request.contexts[span.example]), span.ids) for span in spans]
        for batch, hidden in decoder_hidden(model, pairs, batch_size, request.decoder_start):
            for row, i in enumerate(batch):
                keys[i] = [(i, t, spans[i].ids[t]) for t in range(spans[i].start, len(spans[i].ids))]
                targets.add(hidden, [(row, t) for _, t, _ in keys[i]], [[key] for key in keys[i]])
        for i, scored in targets.take(keys):
            found[i] = scored
        return found

    def prompt_ids(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], special_tokens: bool
    ) -> list[list[int]]:
        return [tokenizer(prompt, verbose=False, add_special_tokens=special_tokens)["input_ids"] for prompt in prompts]

    def prompt_limit(self, limit: int, max_new_tokens: int) -> int:
        return limit

    def mixes_lengths(self, model: PreTrainedModel) -> bool:
        return True

    def generation_options(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], num_beams: int
    ) -> tuple[dict[str, Any], int]:
        start, lead = decoder_start(model, tokenizer) if has_languages(tokenizer) else (None, [])
        start = decoder_start_of(model) if start is None else start
        tokens = torch.tensor([[start, *lead]] * len(ids), device=model_device(model))
        return {"decoder_start_token_id": start, "decoder_input_ids": tokens}, tokens.shape[1]
