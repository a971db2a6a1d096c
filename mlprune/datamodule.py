"""The LightningDataModule: calibration prompts for validate, evaluation sets for test, training batches for fit."""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.batching import EpochShuffle, deal, even_shares, token_batches
from mlprune.data.demonstrations import (
    DemonstrationGroups,
    Demonstrations,
    Prompt,
    TooFewRows,
    TranslationDemonstrations,
)
from mlprune.errors import UserError, did_you_mean
from mlprune.evaluation.batch import EvaluationBatch, all_text, strings_of
from mlprune.evaluation.tasks import Task
from mlprune.log import log
from mlprune.models.tokenizer import check_words
from mlprune.models.tokens import encode
from mlprune.prompts import PromptReader, texts_of, within
from mlprune.pruning import Statistic
from mlprune.pruning.prune import pad_right

Part = Mapping[str, Collection[str] | Mapping[str, Collection[str]]]  # task to ids, or to language to ids
NUM_PROMPTS = 100  # of a group, where nobody says how many; as in the paper


class PruningDataModule(LightningDataModule):
    """Calibration demonstrations and evaluation sets.

    Args:
        demonstrations: Group name to demonstrations, such as ``mt`` and ``code``; French to English if omitted. A
            :class:`mlprune.data.mixes.LanguageMix` is one group for each of its languages.
        tasks: Evaluation tasks.
        training: Group name to texts of recovery training, such as
            :class:`mlprune.data.demonstrations.MonolingualDemonstrations` over any corpus; the calibration prompts if
            omitted.
        num_prompts: Calibration prompts of each group that does not say; 100 if omitted, or as many as the corpus has
            rows for.
        max_tokens: Longest prompt, in tokens; the rest of a longer one is cut off, and counted.
        seed: Seed of the choice of rows.
        limit: Maximum number of examples per task and language, for a quick look.
        max_batch_tokens: Token budget of a calibration batch, padding included.
        max_batch_chars: Character budget of an evaluation batch.
        language_names: Code to the name that demonstrations and translations call a language by, such as
            ``{wo: Wolof}``, where it is not the usual English one.
        num_tokens: Tokens of all calibration prompts together of each group that does not say, so that different texts
            can be compared at the same number; all that the prompts have if omitted.

    Raises:
        UserError: If a number is out of range, two tasks share a name, or a corpus lacks a language.
    """

    # shares may be uneven: with few examples a process may have none
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        demonstrations: dict[str, DemonstrationGroups] | None = None,
        tasks: list[Task] | None = None,
        training: dict[str, DemonstrationGroups] | None = None,
        num_prompts: int | None = None,
        max_tokens: int = 512,
        seed: int = 0,
        limit: int | None = None,
        max_batch_tokens: int = 2048,
        max_batch_chars: int = 4096,
        language_names: dict[str, str] | None = None,
        num_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        counts = {"num_prompts": num_prompts, "max_tokens": max_tokens, "num_tokens": num_tokens, "limit": limit}
        counts |= {"max_batch_tokens": max_batch_tokens, "max_batch_chars": max_batch_chars}
        for key, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"data.{key}: {value} is not allowed; give at least 1")
        self.demonstrations = _groups(demonstrations or {"mt": TranslationDemonstrations("fr", "en")}, "demonstrations")
        self.training = _groups(training, "training") if training else self.demonstrations
        self.tasks = tasks or []
        self.num_prompts = num_prompts
        self.max_tokens = max_tokens
        self.num_tokens = num_tokens
        self.seed = seed
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_chars = max_batch_chars
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"data.tasks: two tasks are named '{name}'; give each a name of its own")
        self.language_names = language_names or {}
        self._name_languages(self.language_names)
        for task in self.tasks:
            if limit is not None:
                task.limit_to(limit)
            task.check()
            task.check_metrics()
        for group in [*self.demonstrations.values(), *self.training.values()]:
            group.check()
        self.chosen: dict[str, list[Prompt]] = {}
        self.chosen_training: dict[str, list[Prompt]] = {}
        self._prompts: dict[str, list[list[int]]] | None = None
        self._training_batches: list[list[list[int]]] = []
        self._examples: dict[str, dict[str, dict[str, Any]]] = {}
        self._every_task = self.tasks
        self._parts: Sequence[Part] | None = None
        self.calibration_rows: dict[str, list[tuple[str, ...]]] = {}

    def _name_languages(self, names: dict[str, str]) -> None:
        groups = [*self.demonstrations.values(), *self.training.values()]
        written = {lang for group in groups for lang in group.languages()}
        written |= {lang for task in self.tasks for lang in task.row_languages}
        for lang, name in names.items():
            if lang not in written:
                raise UserError(
                    f"data.language_names: '{lang}' is a language of no task and no demonstrations; they have "
                    f"{', '.join(sorted(written))}{did_you_mean(lang, written)}"
                )
            if not name.strip() or not name.isprintable():
                raise UserError(f"data.language_names: {name!r} is not allowed as the name of '{lang}'; give one line")
        for group in groups:
            group.language_names = names
        for task in self.tasks:
            task.language_names = names

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move training batches only; examples are moved where they are tokenized."""
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if isinstance(batch, dict) else batch

    def join(self, trainer: Trainer) -> None:
        """Share batches among a trainer's processes before the trainer has begun a stage."""
        self.trainer = trainer

    @property
    def _place(self) -> tuple[int, int]:
        """This process' number, and how many there are."""
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    # -- calibration ----------------------------------------------------------------------------------------------

    def choose_prompts(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Choose the rows of every group's prompts; none is used twice in a group, or in a task's tests.

        Args:
            tokenizer: The model's tokenizer.

        Raises:
            UserError: If a corpus has too few rows, or cannot be read.
        """
        if self.chosen:
            return
        self.chosen = self._choose(self.demonstrations, tokenizer)
        check_words(tokenizer, {f"calibration, {group}": texts_of(prompts) for group, prompts in self.chosen.items()})
        for group, prompts in self.chosen.items():
            self.calibration_rows[group] = [prompt.row_ids for prompt in prompts]

    def _choose(self, groups: dict[str, Demonstrations], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Prompt]]:
        used: dict[tuple[str, ...], set[str]] = {}
        for task in self.tasks:
            for identity, ids in task.used_rows().items():
                used.setdefault(identity, set()).update(ids)
        chosen = {}
        for group, demonstrations in groups.items():
            seed = self.seed if demonstrations.seed is None else demonstrations.seed
            exclude = used.get(demonstrations.corpus.identity, set())
            count = demonstrations.num_prompts or self.num_prompts
            try:
                try:
                    chosen[group] = demonstrations.prompts(tokenizer, count or NUM_PROMPTS, seed, exclude)
                except TooFewRows as error:
                    if count is not None or error.enough_for == 0:
                        raise
                    log.info(
                        "data, group '%s': %d prompts, as many as the corpus has rows for", group, error.enough_for
                    )
                    chosen[group] = demonstrations.prompts(tokenizer, error.enough_for, seed, exclude)
            except UserError as error:
                raise UserError(f"data, group '{group}': {error}") from error
            if (budget := demonstrations.num_tokens or self.num_tokens) is not None:  # refused before weights are read
                limit = self._limit(demonstrations)
                within([encode(tokenizer, prompt.text, sys.maxsize)[:limit] for prompt in chosen[group]], budget, group)
        return chosen

    def with_demonstrations(
        self, demonstrations: Mapping[str, Demonstrations], seed: int | None = None
    ) -> "PruningDataModule":
        """Return a data module that calibrates on other demonstrations, or by another seed; all else is the same."""
        written = {lang for group in demonstrations.values() for lang in group.languages()}
        written |= {lang for task in self._every_task for lang in task.row_languages}
        return PruningDataModule(
            {**demonstrations},
            self._every_task,
            num_prompts=self.num_prompts,
            max_tokens=self.max_tokens,
            seed=self.seed if seed is None else seed,
            max_batch_tokens=self.max_batch_tokens,
            max_batch_chars=self.max_batch_chars,
            language_names={lang: name for lang, name in self.language_names.items() if lang in written},
            num_tokens=self.num_tokens,
        )

    def calibration_texts(self) -> dict[str, list[str]]:
        """Return group to the corpus texts in its chosen prompts; whole prompts where they have no languages."""
        found: dict[str, list[str]] = {}
        for group, prompts in self.chosen.items():
            demonstrations = self.demonstrations[group]
            ids = [row_id for prompt in prompts for row_id in prompt.row_ids]
            if languages := demonstrations.languages():
                usable = demonstrations.usable(languages)
                found[group] = [row["text"] for lang in languages for row in usable.take(lang, ids)]
            else:
                found[group] = [prompt.text for prompt in prompts]
        return found

    def prompts(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[list[int]]]:
        """Return the token ids of every group's calibration prompts; of encoder-decoders, of what the encoder reads.

        Args:
            model: The model, for the size of its vocabulary.
            tokenizer: Its tokenizer.
        """
        if self._prompts is None:
            self._prompts = self._reader(model, tokenizer).prompts(self._groups())
        return self._prompts

    def calibration_batches(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, measured: Statistic | None = None
    ) -> list[dict[str, Any]]:
        """Form the calibration batches over all prompts.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            measured: What calibration measures.

        Raises:
            UserError: If the model does not say what its decoder starts from.
        """
        prompts = self.prompts(model, tokenizer)
        return self._reader(model, tokenizer).batches(self._groups(), prompts, self.max_batch_tokens, measured)

    def batches_of(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, measured: Statistic | None = None
    ) -> list[dict[str, Any]]:
        """:meth:`calibration_batches` of another model than the run's, whose token ids are not kept."""
        reader, groups = self._reader(model, tokenizer), self._groups()
        return reader.batches(groups, reader.prompts(groups), self.max_batch_tokens, measured)

    def _reader(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PromptReader:
        return PromptReader(model, tokenizer, self.max_tokens, self.num_tokens)

    def _groups(self) -> dict[str, tuple[Demonstrations, list[Prompt]]]:
        return {group: (demonstrations, self.chosen[group]) for group, demonstrations in self.demonstrations.items()}

    def _limit(self, demonstrations: Demonstrations) -> int:
        return demonstrations.max_tokens or self.max_tokens

    # -- evaluation -----------------------------------------------------------------------------------------------

    def read_examples(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Read all tasks' examples, before any weights are loaded, so that what is wrong with them is reported first.

        Args:
            tokenizer: The model's tokenizer.

        Raises:
            UserError: If there are no tasks, or one cannot be read or does not fit the tokenizer.
        """
        if self._examples:
            return
        if not self.tasks:
            raise UserError("data.tasks is empty; give at least one task to evaluate")
        for task in self.tasks:
            task.check_tokenizer(tokenizer)
        self._examples = {
            task.name: {lang: {example.id: example for example in task.examples(lang)} for lang in task.languages}
            for task in self.tasks
        }
        self._check_texts(tokenizer, self._examples)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, names: Collection[str]) -> None:
        """Check with another model's tokenizer what :meth:`read_examples` checks.

        Args:
            tokenizer: The tokenizer.
            names: The tasks that the model is evaluated on.

        Raises:
            UserError: If a task, or the text of its examples, does not fit the tokenizer.
        """
        for task in (task for task in self._every_task if task.name in names):
            task.check_tokenizer(tokenizer)
        self._check_texts(tokenizer, names)

    def _check_texts(self, tokenizer: PreTrainedTokenizerBase, names: Collection[str]) -> None:
        texts = {
            f"{task}, {lang}": [all_text(example) for example in examples.values()]
            for task in names
            for lang, examples in self._examples[task].items()
        }
        check_words(tokenizer, texts)

    def examples(self, task: Task) -> dict[str, list[Any]]:
        """Return language to examples of a task, once they have been read."""
        return {lang: list(examples.values()) for lang, examples in self._examples[task.name].items()}

    def evaluate_parts(self, parts: Sequence[Part] | None) -> None:
        """Evaluate only some of the examples that were read; no batch has examples of two parts.

        Args:
            parts: Each part's ids by task, or by task and language; all examples as one part if None.
        """
        self._parts = parts
        self.tasks = [task for task in self._every_task if parts is None or any(task.name in part for part in parts)]

    def num_rows(self, part: Part) -> int:
        """Return how many of the examples that were read a part names, over all languages."""
        found = 0
        for task, named in part.items():
            for lang, examples in self._examples[task].items():
                ids = named.get(lang, ()) if isinstance(named, Mapping) else named
                found += len(examples.keys() & set(ids))
        return found

    def texts(self) -> list[str]:
        """Return what prompts and examples have the model read, as far as they have been chosen and read."""
        chosen = [*self.chosen.values(), *self.chosen_training.values()]
        sides = [text for prompts in chosen for prompt in prompts for text in (prompt.text, *(prompt.sides or ()))]
        found = [
            text
            for task in self._every_task
            for lang, examples in self._examples.get(task.name, {}).items()
            for text in [
                *(text for pair in task.shots_for(lang) for text in pair),
                *(text for example in examples.values() for text in strings_of(example)),
            ]
        ]
        return list(dict.fromkeys([*sides, *found]))

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader a task and language, with this process' batches."""
        parts = self.dealt_batches()
        if not any(parts):  # Lightning would leave this process out, and the others would wait for it
            parts[0] = [EvaluationBatch(self.tasks[0], self.tasks[0].languages[0], [], [])]
        return [_loader(batches) for batches in parts]

    def dealt_batches(self) -> list[list[EvaluationBatch]]:
        """Return this process' batches of each task and language; all processes have about as much to read."""
        sets = [batches for task in self.tasks for batches in self.task_batches(task)]
        rank, world = self._place
        shares = iter(even_shares((batch.num_chars for batches in sets for batch in batches), world))
        return [[batch for batch in batches if next(shares) == rank] for batches in sets]

    def task_batches(self, task: Task) -> list[list[EvaluationBatch]]:
        """Return all batches of a task whose examples have been read, by language; the same ids form the same batch."""
        by_language = self._examples[task.name]
        ids = list(dict.fromkeys(key for examples in by_language.values() for key in examples))
        lengths = [max(task.length(ex[key]) for ex in by_language.values() if key in ex) for key in ids]

        def formed(wanted: Collection[str]) -> list[list[int]]:
            known = set(wanted)
            places = [i for i, key in enumerate(ids) if key in known]
            batches = token_batches([lengths[i] for i in places], self.max_batch_chars)
            return [[places[i] for i in batch] for batch in batches]

        def by_lang(named: Collection[str] | Mapping[str, Collection[str]]) -> dict[str, list[list[int]]]:
            if isinstance(named, Mapping):
                return {lang: formed(named.get(lang, ())) for lang in by_language}
            return dict.fromkeys(by_language, formed(named))

        chosen: Sequence[Part] = [{task.name: ids}] if self._parts is None else self._parts
        parts = [by_lang(part.get(task.name, ())) for part in chosen]
        found = []
        for lang, examples in by_language.items():
            batches = [[i for i in batch if ids[i] in examples] for part in parts for batch in part[lang]]
            found.append(
                [EvaluationBatch(task, lang, rows, [examples[ids[i]] for i in rows]) for rows in batches if rows]
            )
        return found

    # -- recovery training ----------------------------------------------------------------------------------------

    def val_dataloader(self) -> list[Any]:
        """Nothing: training validates nothing, and the blocks that are calibrated come from the run's schedule."""
        return []

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
        elif not self.chosen_training:
            self.chosen_training = self._choose(self.training, tokenizer)
            check_words(
                tokenizer, {f"training, {group}": texts_of(prompts) for group, prompts in self.chosen_training.items()}
            )

    def tokenize_training(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Form the batches of recovery training.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
        """
        if self.training is self.demonstrations:
            prompts = self.prompts(model, tokenizer)
        else:
            groups = {
                group: (demonstrations, self.chosen_training[group]) for group, demonstrations in self.training.items()
            }
            prompts = self._reader(model, tokenizer).prompts(groups)
        rows = [ids for group in prompts.values() for ids in group if len(ids) > 1]
        batches = token_batches(list(map(len, rows)), self.max_batch_tokens)
        self._training_batches = [[rows[i] for i in batch] for batch in batches]

    def training_batches(self) -> list[list[list[int]]]:
        """Return this process' batches of recovery training; all have as many, for they wait for each other."""
        batches, (rank, world) = self._training_batches, self._place
        batches = batches + [batches[i % len(batches)] for i in range(-len(batches) % world)]  # the first ones again
        return deal(batches, rank, world)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of recovery training, in another order in each epoch."""
        batches = [pad_right([torch.tensor(ids) for ids in batch]) for batch in self.training_batches()]
        items = [{"input_ids": ids, "attention_mask": mask} for ids, mask in batches]
        return DataLoader(cast(Dataset[Any], items), batch_size=None, sampler=EpochShuffle(len(items), self.seed))


def _groups(given: Mapping[str, DemonstrationGroups], key: str) -> dict[str, Demonstrations]:
    """All calibration groups; a mix is one for each of its languages."""
    groups: dict[str, Demonstrations] = {}
    for name, demonstrations in given.items():
        for group, source in demonstrations.groups(name).items():
            if group in groups:
                raise UserError(f"data.{key}: '{name}' and another entry both have the group '{group}'; rename one")
            groups[group] = source
    return groups


def _loader(items: list[Any]) -> DataLoader[Any]:
    return DataLoader(cast(Dataset[Any], items), batch_size=None, collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item
