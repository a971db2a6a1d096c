"""Tasks of lm-evaluation-harness: its documents, requests, filters and metrics, answered by this package's engine."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.data.corpora import Corpus
from mlprune.data.rows import Row
from mlprune.errors import UserError
from mlprune.evaluation.harness import check_installed
from mlprune.evaluation.harness.documents import Documents, HarnessExample, Prompting, answer
from mlprune.evaluation.harness.loading import load, part_names
from mlprune.evaluation.harness.measures import metrics_of
from mlprune.evaluation.harness.records import answers_of, values_of
from mlprune.evaluation.tasks.base import Task, naming
from mlprune.languages import Language, language
from mlprune.metrics import ExpectedRankC, PairMetric, RankC, Record

SLOTS = ("lang", "flores", "name")


class LmEval(Task):
    """A task or group of lm-evaluation-harness in several languages (extra ``interop``).

    Documents, solved examples, requests, filters, metrics and aggregations are the harness' own; requests are answered
    by this package's scoring and generation, with the harness' tokenization. Generation is greedy.

    Args:
        tasks: Language code to the harness' name of a task or group; or one name for all ``languages``, with
            ``{lang}``, ``{flores}`` or ``{name}`` (such as ``french``) in it.
        languages: Codes of the languages, where ``tasks`` is one name.
        name: Name in results; what the harness' names have in common if omitted.
        include_path: Folder, or list of folders, with further task files.
        metadata: What tasks with data of their own making take.
        num_fewshot: Solved examples, in place of the task's own number.
        limit: Documents of each task, from the first on; below 1 a share of them.
        seed: Seed of the choice of solved examples.
        apply_chat_template: Ask through the tokenizer's chat template.
        fewshot_as_multiturn: Solved examples as turns of user and assistant; as ``apply_chat_template`` if omitted.
        system_instruction: What the system says before.
        chat_template_args: What the chat template reads besides the messages.
        gen_kwargs: Changes to the tasks' ``generation_kwargs``.
        aligned: Documents of two languages with the same number are translations of each other: they are one cluster in
            intervals and tests, and RankC compares their rankings.
        rankc_matrix: Report RankC of every pair of languages, not only of the pivot with each.
        group: Column whose equal cells mark documents that are not independent, such as ``flores_passage`` in Belebele.
        metrics: Further metrics of its records, besides the harness'.
        pivot: The language that averages leave out, and that RankC compares the others with; English if omitted.

    Raises:
        UserError: If the harness is not installed, or an argument is not allowed.

    Example:
        >>> task = LmEval("belebele_{flores}", ["fr", "sw"], limit=100, aligned=True, group="flores_passage")
        >>> task.name, task.tasks
        ('belebele', {'fr': 'belebele_fra_Latn', 'sw': 'belebele_swh_Latn'})
        >>> LmEval({"fr": "global_mmlu_fr", "sw": "global_mmlu_sw"}).name
        'global_mmlu'
    """

    def __init__(
        self,
        tasks: str | dict[str, str],
        languages: list[str] | None = None,
        name: str | None = None,
        include_path: str | list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        num_fewshot: int | None = None,
        limit: int | float | None = None,
        seed: int = 1234,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool | None = None,
        system_instruction: str | None = None,
        chat_template_args: dict[str, Any] | None = None,
        gen_kwargs: dict[str, Any] | None = None,
        aligned: bool = False,
        rankc_matrix: bool = False,
        group: str | None = None,
        metrics: list[Metric] | None = None,
        pivot: str | None = None,
    ) -> None:
        check_installed()
        self.tasks = _by_language(tasks, languages)
        found = name or _common_name(tasks, self.tasks)
        super().__init__(found, list(self.tasks), _Rows(self), metrics=metrics, pivot=pivot)
        for key, value in (("num_fewshot", num_fewshot), ("limit", limit)):
            if value is not None and (value < 0 or (key == "limit" and value == 0)):
                raise UserError(f"task '{self.name}': {key} {value} is not allowed")
        self.include_path = [include_path] if isinstance(include_path, str) else list(include_path or [])
        self.metadata = metadata or {}
        self.prompting = Prompting(
            num_fewshot,
            limit,
            seed,
            apply_chat_template,
            fewshot_as_multiturn,
            system_instruction,
            gen_kwargs,
            chat_template_args,
        )
        self.aligned = aligned
        self.rankc_matrix = rankc_matrix
        self.group = group
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._documents: dict[str, Documents] = {}

    def limit_to(self, limit: int) -> None:
        """Evaluate at most this many documents of each of the harness' tasks."""
        given = self.prompting.limit
        self.prompting = replace(self.prompting, limit=limit if given is None or given < 1 else min(limit, given))

    def check_metrics(self) -> None:
        """Nothing is known of the metrics yet; they are looked at once the tasks have been loaded."""

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().check_tokenizer(tokenizer)
        self._tokenizer = tokenizer

    def documents(self, lang: str) -> Documents:
        """Return the documents of a language, with the harness' requests; loaded once.

        Raises:
            UserError: If the harness cannot load them.
        """
        if lang not in self._documents:
            found = language(lang)
            with naming(self, lang):
                loaded = load(self.tasks[lang], self.include_path, self.metadata)
                parts = part_names(loaded.name, list(loaded.tasks), _codes(found))
                self._documents[lang] = Documents(loaded, parts, self.prompting, self._tokenizer, self.group)
            if len(self._documents) == 1:
                super().check_metrics()
        return self._documents[lang]

    def examples(self, lang: str) -> list[HarnessExample]:
        return list(self.documents(lang).examples)

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lang: str, examples: list[HarnessExample]
    ) -> list[Record]:
        from mlprune.evaluation.harness.model import HarnessModel

        documents = self.documents(lang)
        with naming(self, lang):
            answered = answer(documents, [example.id for example in examples], HarnessModel(model, tokenizer))
        return [
            self._record(documents.loaded.tasks[example.harness_task], example, instances)
            for example, instances in zip(examples, answered, strict=True)
        ]

    def _record(self, task: Any, example: HarnessExample, instances: Sequence[Any]) -> Record:
        record: Record = {"id": example.id, "doc_id": example.doc_id, "harness_task": example.harness_task}
        record |= {"prompt_hash": example.prompt_hash, "target_hash": example.target_hash}
        record |= {"values": values_of(task, instances)} | answers_of(task, instances)
        record |= {name: value for name, value in (("part", example.part), ("group", example.group)) if value}
        return record if self.aligned else record | {"aligned": False}

    def length(self, example: HarnessExample) -> int:
        return max(map(len, example.texts), default=0)

    def metric(self, lang: str) -> Metric:
        return self.metrics(lang)[0]

    def metrics(self, lang: str) -> list[Metric]:
        """Return the harness' metrics of a language, and further ones."""
        documents = self.documents(lang)
        return [*metrics_of(self.name, documents.loaded, documents.parts), *self.further_metrics]

    def pair_metrics(self) -> list[PairMetric]:
        return [RankC(), ExpectedRankC()] if self.pairs() else []

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pivot (or the first language) with every other, or all pairs, where rankings can be compared."""
        tasks = [task for lang in self.languages for task in self.documents(lang).loaded.tasks.values()]
        if not self.aligned or any(task.OUTPUT_TYPE != "multiple_choice" for task in tasks):
            return []
        if self.rankc_matrix:
            return list(itertools.combinations(self.languages, 2))
        pivot = self.pivot or self.languages[0]
        return [(pivot, lang) for lang in self.languages if lang != pivot]


class _Rows(Corpus):
    """The documents of the harness as rows of a corpus: nothing is drawn from them, but messages name them."""

    def __init__(self, task: LmEval) -> None:
        self._task = task

    @property
    def identity(self) -> tuple[str, ...]:
        return ("lm_eval", *self._task.tasks.values())

    def rows(self, lang: str) -> list[Row]:
        documents = self._task.documents(lang)
        return [dict(instances[0].doc) | {"id": row_id} for row_id, instances in documents.instances.items()]

    def where(self, lang: str, row_id: str) -> str:
        return f"document {row_id} of {self._task.tasks[lang]}"

    def check(self, lang: str) -> None:
        """Nothing is known before the harness has read its task files."""


def _by_language(tasks: str | dict[str, str], languages: list[str] | None) -> dict[str, str]:
    """Language code to the harness' name."""
    if isinstance(tasks, dict):
        if languages is not None and set(languages) != set(tasks):
            raise UserError(f"languages {languages} are not those of tasks; leave them out where tasks has a name each")
        return dict(tasks)
    slots = re.findall(r"{([^}]*)}", tasks)
    if wrong := [slot for slot in slots if slot not in SLOTS]:
        raise UserError(f"tasks '{tasks}': {{{wrong[0]}}} is not allowed; give one of {', '.join(SLOTS)}")
    if not languages:
        raise UserError(f"tasks '{tasks}' needs languages, or give a mapping from language to name")
    if len(languages) > 1 and not slots:
        raise UserError(f"tasks '{tasks}' is one task; for several languages put {{lang}} or {{flores}} into it")
    return {lang: tasks.format(**_slots(language(lang))) for lang in languages}


def _slots(lang: Language) -> dict[str, str]:
    return {"lang": lang.code, "flores": lang.flores, "name": lang.name.lower().replace(" ", "_")}


def _codes(lang: Language) -> list[str]:
    """What a language is called in the harness' names."""
    return [lang.code, lang.flores, lang.flores.partition("_")[0], lang.name.lower()]


def _common_name(tasks: str | dict[str, str], by_language: dict[str, str]) -> str:
    """What the harness' names have in common."""
    names = list(by_language.values())
    common = re.sub(r"{\w+}", "", tasks) if isinstance(tasks, str) else _common_start(names)
    if len(names) == 1 and isinstance(tasks, dict):
        common = re.sub(rf"[_-]({'|'.join(_codes(language(next(iter(by_language)))))})$", "", names[0])
    name = re.sub(r"[^A-Za-z0-9-]+", "_", common).strip("_")
    if not name:
        raise UserError(f"tasks {names} have no name in common; give a name")
    return name


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return next((first[:i] for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), first)
