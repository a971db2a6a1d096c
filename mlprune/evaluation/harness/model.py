"""The model ``mlprune`` of lm-evaluation-harness: its own tokenization and cutting, our scoring and generation."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.errors import UserError, reason_of
from mlprune.evaluation.generation import continue_ids
from mlprune.evaluation.harness.installed import quiet
from mlprune.evaluation.harness.search import beams_of
from mlprune.evaluation.scoring import score_continuations
from mlprune.models.encoder import has_encoder
from mlprune.models.loading import ModelSource

EVERYTHING = 1 << 30  # a batch of the harness; batches that fit in memory are formed by the engine
OPTIONS = ("add_bos_token", "prefix_token_id", "max_length", "truncation", "chat_template_args", "enable_thinking",
           "think_end_token")  # fmt: skip

Pair = tuple[Any, list[int], list[int]]  # the request's texts, ids of its context, and of what follows


@register_model("mlprune")
class HarnessModel(HFLM):  # type: ignore[misc]  # a class without types
    """A model of lm-evaluation-harness that answers as ``hf`` does, several times as fast.

    Tokenization, rolling windows, and where answers are cut are the harness' own. What contexts begin with runs once,
    only the requested positions reach the output head, and no logits of a whole batch are held.

    Args:
        pretrained: Folder (such as a run's ``pruned``), hub id, ``demo``, or a loaded model.
        tokenizer: The tokenizer of a loaded model.
        dtype: ``auto`` (as stored), ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        revision: Commit, tag or branch of a hub repository.
        attn_implementation: Attention as transformers names it.
        trust_remote_code: Run the repository's own code.
        device: Where the model is computed, such as ``cuda``; where it is if omitted.
        batch_size: Without effect: batches follow from the memory that they take.
        max_batch_size: As ``batch_size``.
        options: What else ``hf`` takes that concerns texts: ``add_bos_token``, ``prefix_token_id``, ``max_length``,
            ``truncation``, ``chat_template_args``, ``enable_thinking``, ``think_end_token``.

    Raises:
        UserError: If an option is not one of these, or the model cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        known = inspect.signature(HFLM).parameters
        for name in options:
            if name not in OPTIONS or name not in known:
                allowed = ", ".join(name for name in OPTIONS if name in known)
                raise UserError(f"model_args: {name} is not allowed with --model mlprune; give one of {allowed}")
        if isinstance(pretrained, str):
            source = ModelSource(pretrained, dtype, revision, attn_implementation, bool(trust_remote_code))
            model, tokenizer = source.load_model(), source.load_tokenizer()
        else:
            model = pretrained
        assert tokenizer is not None
        if device is not None:
            model = model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps it without types
        with quiet(), _kept_padding(tokenizer):
            super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=EVERYTHING, **options)
            self._pad_token = tokenizer.pad_token
        self.pretrained = pretrained if isinstance(pretrained, str) else model.name_or_path

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Score what follows each context; texts that are too long lose their beginning, as with ``hf``."""
        encoder = has_encoder(self.model)
        contexts = [context[-self.max_length :] for _, context, _ in requests] if encoder else None
        ids = [follows if encoder else [*context, *follows] for _, context, follows in requests]
        kept = [row[-self._room(row) :] for row in ids]
        starts = [len(row) - len(follows) for row, (_, _, follows) in zip(kept, requests, strict=True)]
        for row, start, (texts, _, _) in zip(kept, starts, requests, strict=True):
            if start < 0 or start == len(row):
                why = "is longer than the model takes" if start < 0 else "has no tokens"
                raise UserError(f"what follows a context {why}: {str((texts or ['a text'])[-1])[:60]!r}")
        answers = [
            (found.log_prob, found.is_greedy) for found in score_continuations(self.model, kept, starts, contexts)
        ]
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:  # windows of rolling log-likelihoods have none
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _room(self, ids: Sequence[int]) -> int:
        """How many of a sequence's last tokens are kept; the very last is only predicted."""
        return int(self.max_length) + (0 if has_encoder(self.model) else 1)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue contexts greedily until a stop text, as ``hf`` does."""
        with _kept_padding(self.tokenizer):
            self.tokenizer.pad_token = self._pad_token
            try:
                answers: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
            except AssertionError as error:  # such as more tokens requested than the model takes
                raise UserError(reason_of(error)) from error
        return answers

    def _model_generate(
        self, context: Tensor, max_length: int | None = None, stop: Sequence[str] = (), **options: Any
    ) -> Tensor:
        """Continue contexts that are padded on the left; returns what ``generate`` would, padded on the right."""
        beams, mask = beams_of(options), options["attention_mask"].bool()
        prompts = [row[keep].tolist() for row, keep in zip(context, mask, strict=True)]
        new = (max_length or 0) - context.shape[1]
        written = continue_ids(self.model, self.tokenizer, prompts, new, list(stop), beams, after_blanks=False)
        rows = [torch.tensor(tokens, dtype=torch.int64) for tokens in written]
        tail = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id).to(context.device)
        return tail if has_encoder(self.model) else torch.cat([context, tail], dim=1)


@contextmanager
def _kept_padding(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Restore the padding token at the end: the tokenizer is not the harness' alone, and may be saved."""
    token = tokenizer.pad_token
    try:
        yield
    finally:
        tokenizer.pad_token = token
