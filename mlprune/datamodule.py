"""The LightningDataModule: calibration prompts for validate, evaluation sets for test, training batches for fit."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from mlprune.batching import deal, token_batches
from mlprune.data.demonstrations import Demonstrations, Prompt, TranslationDemonstrations
from mlprune.errors import UserError
from mlprune.evaluation.encoder_decoder import decoder_start
from mlprune.evaluation.encoding import TextEncoder
from mlprune.evaluation.tasks import Task
from mlprune.log import log
from mlprune.models.blocks import find_blocks
from mlprune.models.decoder_start import decoder_start_of
from mlprune.models.language_tokens import between, has_languages
from mlprune.models.tokenizer import check_words
from mlprune.models.tokens import encode
from mlprune.pruning.prune import needs_equal_lengths, pad_right, reform


class CalibrationStep(NamedTuple):
    """One step of the pruning schedule: show a block one batch, or (index None) close the block.

    Where a block is calibrated as a whole its closing step is the only one.
    """

    block: int
    index: int | None
    num_blocks: int


class EvaluationBatch:
    """Examples of one task and language, with their positions in the corpus.

    A plain object, which Lightning hands on as it is; into tuples and dataclasses it would look for tensors to cast.
    """

    def __init__(self, task: Task, lang: str, positions: list[int], examples: list[Any]) -> None:
        self.task = task
        self.lang = lang
        self.positions = positions
        self.examples = examples


class PruningDataModule(LightningDataModule):
    """Calibration demonstrations and evaluation sets.

    Args:
        demonstrations: Group name to demonstrations, such as ``mt`` and ``code``; French to English if omitted.
        tasks: Evaluation tasks.
        training: Group name to texts of recovery training, such as
            :class:`mlprune.data.demonstrations.MonolingualDemonstrations` over any corpus; the calibration prompts if
            omitted.
        num_prompts: Calibration prompts of each group that does not say.
        max_tokens: Longest prompt, in tokens; the rest of a longer one is cut off, and counted.
        seed: Seed of the choice of rows.
        limit: At most so many examples a task and language, for a quick look.
        max_batch_tokens: Token budget of a calibration batch, padding included.
        max_batch_chars: Character budget of an evaluation batch.

    Raises:
        UserError: If a number is out of range, two tasks share a name, or a corpus lacks a language.
    """

    # shares may be uneven: with few examples a process may have none
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        demonstrations: dict[str, Demonstrations] | None = None,
        tasks: list[Task] | None = None,
        training: dict[str, Demonstrations] | None = None,
        num_prompts: int = 100,
        max_tokens: int = 512,
        seed: int = 0,
        limit: int | None = None,
        max_batch_tokens: int = 2048,
        max_batch_chars: int = 4096,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        counts = {"num_prompts": num_prompts, "max_tokens": max_tokens, "limit": limit}
        counts |= {"max_batch_tokens": max_batch_tokens, "max_batch_chars": max_batch_chars}
        for key, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"data.{key}: {value} is not allowed; give at least 1")
        self.demonstrations = demonstrations or {"mt": TranslationDemonstrations("fr", "en")}
        self.training = training or self.demonstrations
        self.tasks = tasks or []
        self.num_prompts = num_prompts
        self.max_tokens = max_tokens
        self.seed = seed
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_chars = max_batch_chars
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"data.tasks: two tasks are named '{name}'; give each a name of its own")
        for task in self.tasks:
            if limit is not None:
                task.limit = min(limit, task.limit or limit)
            task.check()
        for group in [*self.demonstrations.values(), *self.training.values()]:
            group.check()
        self._chosen: dict[str, list[Prompt]] = {}
        self._chosen_training: dict[str, list[Prompt]] = {}
        self._prompts: dict[str, list[list[int]]] | None = None
        self._decoder_prompts: dict[str, list[list[int]]] | None = None
        self._examples: dict[str, dict[str, dict[str, Any]]] = {}
        self.calibration_rows: dict[str, list[tuple[str, ...]]] = {}

    def setup(self, stage: str) -> None:
        """Read the data, before any weights are loaded, so that what is wrong with it is told first."""
        if stage == "test":
            tokenizer = self.trainer.lightning_module.tokenizer
            for task in self.tasks:
                task.check_tokenizer(tokenizer)
            if not self._examples:
                self._read_examples()
                check_words(tokenizer, self._evaluated_texts())
        else:
            self.choose_prompts(self.trainer.lightning_module.tokenizer)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move training batches only; steps and examples are moved where they are tokenized."""
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if isinstance(batch, dict) else batch

    # -- calibration ----------------------------------------------------------------------------------------------

    def choose_prompts(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Choose the rows of every group's prompts; none is used twice in a group, or in a task's tests.

        Args:
            tokenizer: The model's tokenizer.

        Raises:
            UserError: If a corpus has too few rows, or cannot be read.
        """
        if self._chosen:
            return
        self._chosen = self._choose(self.demonstrations, tokenizer)
        check_words(tokenizer, {f"calibration, {group}": _texts(own) for group, own in self._chosen.items()})
        for group, prompts in self._chosen.items():
            self.calibration_rows[group] = [prompt.row_ids for prompt in prompts]

    def _choose(self, groups: dict[str, Demonstrations], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Prompt]]:
        used: dict[tuple[str, ...], set[str]] = {}
        for task in self.tasks:
            for identity, ids in task.used_rows().items():
                used.setdefault(identity, set()).update(ids)
        chosen = {}
        for group, demonstrations in groups.items():
            count = demonstrations.num_prompts or self.num_prompts
            seed = self.seed if demonstrations.seed is None else demonstrations.seed
            exclude = used.get(demonstrations.corpus.identity, set())
            try:
                chosen[group] = demonstrations.prompts(tokenizer, count, seed, exclude)
            except UserError as error:
                raise UserError(f"data, group '{group}': {error}") from error
        return chosen

    def prompts(self) -> dict[str, list[list[int]]]:
        """Return the token ids of every group's prompts; of encoder-decoder models, of what the encoder reads."""
        if self._prompts is None:
            side = 0 if self._model().config.is_encoder_decoder else None
            self._prompts = {}
            for group, own in self.demonstrations.items():
                with self._between_languages(own):
                    self._prompts[group] = self._tokenized(group, _texts(self._chosen[group], side), self._limit(own))
        return self._prompts

    def decoder_prompts(self) -> dict[str, list[list[int]]]:
        """Return the token ids that the decoder of an encoder-decoder model reads with every group's prompts.

        Raises:
            UserError: If the model does not say what its decoder starts from.
        """
        if self._decoder_prompts is None:
            self._decoder_prompts = {}
            for group, own in self.demonstrations.items():
                with self._between_languages(own):
                    before = self._decoder_lead()
                    texts, limit = _texts(self._chosen[group], 1), self._limit(own)
                    prompts = self._tokenized(f"{group}, decoder", texts, limit, target=True)
                self._decoder_prompts[group] = [[*before, *ids] for ids in prompts]
        return self._decoder_prompts

    def _between_languages(self, demonstrations: Demonstrations) -> AbstractContextManager[None]:
        """While open, a tokenizer that knows languages reads and writes those of the demonstrations."""
        codes = demonstrations.languages()
        return between(self.trainer.lightning_module.tokenizer, codes[0], codes[-1]) if codes else nullcontext()

    def _decoder_lead(self) -> list[int]:
        """The token that the decoder starts from, and its language's code."""
        tokenizer = self.trainer.lightning_module.tokenizer
        start, lead = decoder_start(self._model(), tokenizer) if has_languages(tokenizer) else (None, [])
        return [decoder_start_of(self._model()) if start is None else start, *lead]

    def _model(self) -> Any:
        return self.trainer.lightning_module.model

    def _limit(self, demonstrations: Demonstrations) -> int:
        return demonstrations.max_tokens or self.max_tokens

    def _tokenized(self, group: str, texts: list[str], limit: int, target: bool = False) -> list[list[int]]:
        """Token ids of texts; of a decoder's (``target``) without the last one, which is only predicted."""
        rows, tokenizer = self._model().get_input_embeddings().weight.shape[0], self.trainer.lightning_module.tokenizer
        if target and has_languages(tokenizer):
            own = TextEncoder(tokenizer, target=True)  # what the tokenizer puts around stands elsewhere
            ids = [own(text, special_tokens=False) for text in texts]
        else:
            ids = [encode(tokenizer, text, rows) for text in texts]
        cut = sum(len(tokens) > limit for tokens in ids)
        if cut:
            log.info("group '%s': %d of %d prompts were cut to %d tokens", group, cut, len(ids), limit)
        tokens = sum(min(len(tokens), limit) for tokens in ids)
        log.info("group '%s': %d prompts, %d tokens", group, len(ids), tokens)
        ids = [tokens[:limit] for tokens in ids]
        return [tokens[:-1] for tokens in ids] if target and not has_languages(tokenizer) else ids

    def calibration_batches(self) -> list[dict[str, Any]]:
        """Return this process' share of the calibration batches, which are formed over all prompts."""
        model = self._model()
        rows: list[dict[str, Any]] = [
            {"input_ids": torch.tensor([ids]), "group": group}
            for group, prompts in self.prompts().items()
            for ids in prompts
        ]
        if model.config.is_encoder_decoder:
            decoder = [ids for prompts in self.decoder_prompts().values() for ids in prompts]
            for row, ids in zip(rows, decoder, strict=True):
                row["decoder_input_ids"] = torch.tensor([ids])
        batches = reform(rows, self.max_batch_tokens, needs_equal_lengths(model))
        return deal(batches, self.trainer.global_rank, self.trainer.world_size)

    def val_dataloader(self) -> Any:
        """The pruning schedule: all batches for block 0, its closing step, all batches for block 1, and so on.

        Inside ``trainer.fit`` there is no validation loader, so that training never prunes.
        """
        if self.trainer.state.fn == "fit":
            return []
        module = self.trainer.lightning_module
        num_blocks = 1 if module.measure is not None else len(find_blocks(module.model))
        batches = range(0 if module.whole_blocks else len(self.calibration_batches()))
        # a run that had pruned every block keeps one step, since Lightning calls no hooks without any
        blocks = range(min(module.first_block, num_blocks - 1), num_blocks)
        return _loader([CalibrationStep(block, index, num_blocks) for block in blocks for index in [*batches, None]])

    # -- evaluation -----------------------------------------------------------------------------------------------

    def _read_examples(self) -> None:
        if not self.tasks:
            raise UserError("data.tasks is empty; give at least one task to evaluate")
        for task in self.tasks:
            if task.name not in self._examples:
                self._examples[task.name] = {
                    lang: {example.id: example for example in task.examples(lang)} for lang in task.languages
                }

    def _evaluated_texts(self) -> dict[str, list[str]]:
        """Texts of each task and language, for a look at the tokenizer."""
        return {
            f"{task}, {lang}": [_text_of(example) for example in examples.values()]
            for task, by_language in self._examples.items()
            for lang, examples in by_language.items()
        }

    def test_dataloader(self) -> list[DataLoader]:
        """One loader a task and language; the same ids form the same batch, on the same process, in every language."""
        parts = [batches for task in self.tasks for batches in self._task_batches(task)]
        if not any(parts):  # Lightning would leave this process out, and the others would wait for it
            parts[0] = [EvaluationBatch(self.tasks[0], self.tasks[0].languages[0], [], [])]
        return [_loader(batches) for batches in parts]

    def _task_batches(self, task: Task) -> list[list[EvaluationBatch]]:
        by_language = self._examples[task.name]
        ids = list(dict.fromkeys(key for examples in by_language.values() for key in examples))
        lengths = [max(task.length(ex[key]) for ex in by_language.values() if key in ex) for key in ids]
        batches = deal(token_batches(lengths, self.max_batch_chars), self.trainer.global_rank, self.trainer.world_size)
        parts = []
        for lang, examples in by_language.items():
            own = [[i for i in batch if ids[i] in examples] for batch in batches]
            parts.append([EvaluationBatch(task, lang, part, [examples[ids[i]] for i in part]) for part in own if part])
        return parts

    # -- recovery training ----------------------------------------------------------------------------------------

    def choose_training(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Choose the texts of recovery training; none is in a task's tests.

        Args:
            tokenizer: The model's tokenizer.

        Raises:
            UserError: If a corpus has too few rows, cannot be read, or texts are cut to a single token.
        """
        for group, texts in self.training.items():
            if self._limit(texts) < 2:
                raise UserError(f"group '{group}': max_tokens {self._limit(texts)} leaves nothing to train on; give 2")
        if self.training is self.demonstrations:
            self.choose_prompts(tokenizer)
        elif not self._chosen_training:
            self._chosen_training = self._choose(self.training, tokenizer)
            check_words(tokenizer, {f"training, {group}": _texts(own) for group, own in self._chosen_training.items()})

    def train_dataloader(self) -> DataLoader:
        """Batches of recovery training; every process has as many, for they wait for each other at each step."""
        rows = [ids for _, ids in self._training_texts()]
        batches = [[rows[i] for i in batch] for batch in token_batches(list(map(len, rows)), self.max_batch_tokens)]
        world = self.trainer.world_size
        num = len(batches)
        batches += [batches[i % num] for i in range(-num % world)]  # the first ones again where shares are uneven
        own = [
            pad_right([torch.tensor(ids) for ids in batch]) for batch in deal(batches, self.trainer.global_rank, world)
        ]
        items = [{"input_ids": ids, "attention_mask": mask} for ids, mask in own]
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(items, batch_size=None, shuffle=True, generator=generator)

    def _training_texts(self) -> list[tuple[str, list[int]]]:
        if self.training is self.demonstrations:
            made = self.prompts()
        else:
            self.choose_training(self.trainer.lightning_module.tokenizer)
            made = {
                group: self._tokenized(group, _texts(self._chosen_training[group]), self._limit(texts))
                for group, texts in self.training.items()
            }
        return [(group, ids) for group, prompts in made.items() for ids in prompts if len(ids) > 1]


def _texts(prompts: list[Prompt], side: int | None = None) -> list[str]:
    """The texts of prompts: whole, or what the encoder (0) or the decoder (1) reads."""
    return [prompt.text if side is None or prompt.sides is None else prompt.sides[side] for prompt in prompts]


def _text_of(example: Any) -> str:
    """All text in an example of any task."""
    values = example.values() if isinstance(example, dict) else vars(example).values()
    parts = [part for value in values for part in (value if isinstance(value, list | tuple) else [value])]
    return "\n".join(part for part in parts if isinstance(part, str))


def _loader(items: list[Any]) -> DataLoader:
    return DataLoader(items, batch_size=None, collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item
