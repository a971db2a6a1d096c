"""Documents of the harness' tasks with its requests: what a task of ours asks about in one language."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedTokenizerBase

from mlprune.errors import UserError, reason_of
from mlprune.evaluation.harness.installed import OTHER_SEED, quiet, seeded
from mlprune.evaluation.harness.loading import Loaded
from mlprune.evaluation.harness.search import beams_of


@dataclass(frozen=True)
class HarnessExample:
    """A document of a task of the harness.

    Args:
        id: The same in every language: the document's number, after its task where there are several.
        doc_id: Number of the document in its task.
        part: What its task is called in a group; empty where there is one task.
        harness_task: The harness' name of its task.
        texts: Everything the model is asked about: contexts and what follows them.
        prompt_hash: The harness' hash of its first context.
        target_hash: The harness' hash of what is right.
        group: What documents share that are not independent, such as a passage.

    Example:
        >>> HarnessExample("0", 0, "", "xnli_fr", ("Il pleut.",), "", "").harness_task
        'xnli_fr'
    """

    id: str
    doc_id: int
    part: str
    harness_task: str
    texts: tuple[str, ...]
    prompt_hash: str
    target_hash: str
    group: str | None = None


@dataclass(frozen=True)
class Prompting:
    """How the harness builds prompts; each field is an argument of its ``simple_evaluate``.

    Args:
        num_fewshot: Solved examples; the task's own number if omitted. A task that says 0 keeps it.
        limit: Documents of each task, from the first on; below 1 a share.
        seed: Seed of the choice of solved examples.
        apply_chat_template: Ask through the tokenizer's chat template.
        fewshot_as_multiturn: Solved examples as turns of user and assistant; as ``apply_chat_template`` if omitted.
        system_instruction: What the system says before.
        gen_kwargs: Changes to a task's ``generation_kwargs``.
        chat_template_args: What the chat template reads besides the messages.
    """

    num_fewshot: int | None = None
    limit: int | float | None = None
    seed: int = OTHER_SEED
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = None
    gen_kwargs: Mapping[str, Any] | None = None
    chat_template_args: Mapping[str, Any] | None = None


class Documents:
    """The documents of one language, with the harness' requests for each.

    Args:
        loaded: The harness' tasks.
        parts: Task to what it is called in every language.
        prompting: How prompts are built.
        tokenizer: For its chat template.
        group: Column of documents that are not independent where it is equal; None if all are.

    Raises:
        UserError: If the harness cannot build the requests.
    """

    def __init__(
        self,
        loaded: Loaded,
        parts: Mapping[str, str],
        prompting: Prompting,
        tokenizer: PreTrainedTokenizerBase | None,
        group: str | None,
    ) -> None:
        self.loaded = loaded
        self.parts = dict(parts)
        self.instances: dict[str, list[Any]] = {}  # example id to its requests
        self.owners: dict[str, str] = {}  # example id to the harness' name of its task
        self.examples: list[HarnessExample] = []
        render = None
        if prompting.apply_chat_template:
            assert tokenizer is not None
            render = _chat_renderer(tokenizer, prompting.chat_template_args or {})
        for name, task in loaded.tasks.items():
            try:
                with quiet(), seeded():
                    _build(task, prompting, render)
                    self._add(name, task, group)
            except UserError:
                raise
            except Exception as error:  # templates and task files are programs
                raise UserError(f"the harness' task '{name}' builds no requests: {reason_of(error)[:300]}") from error

    def _add(self, name: str, task: Any, group: str | None) -> None:
        by_doc: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_doc.setdefault(int(instance.doc_id), []).append(instance)
        part = self.parts[name]
        for doc_id, instances in by_doc.items():
            instances.sort(key=lambda instance: instance.idx)
            for instance in instances:
                if instance.request_type == "generate_until":
                    beams_of(instance.args[1])
            doc = instances[0].doc
            if group is not None and group not in doc:
                raise UserError(f"group: '{group}' is not a column of the harness' task '{name}'")
            example = HarnessExample(
                f"{part}:{doc_id}" if part else str(doc_id),
                doc_id,
                part,
                name,
                tuple(text for instance in instances for text in instance.args if isinstance(text, str)),
                _hash(instances[0].arguments[0]),
                _hash(str(task.doc_to_target(doc))),
                None if group is None else f"{part}:{_hash(str(doc[group]))[:16]}",
            )
            self.examples.append(example)
            self.instances[example.id], self.owners[example.id] = instances, name


def _build(task: Any, prompting: Prompting, render: Callable[..., str] | None) -> None:
    """Set a task up and build its requests, as ``simple_evaluate`` does."""
    given = task.get_config("num_fewshot")
    if prompting.num_fewshot is not None and given != 0:
        task.set_config(key="num_fewshot", value=prompting.num_fewshot)
    elif given is None:
        task.set_config(key="num_fewshot", value=0)
    if prompting.gen_kwargs and task.get_config("output_type") == "generate_until":
        task.set_config(key="generation_kwargs", value=dict(prompting.gen_kwargs), update=True)
    task.set_fewshot_seed(seed=prompting.seed)
    limit = prompting.limit
    if limit is not None:
        limit = int(limit) if limit >= 1 else math.ceil(len(task.eval_docs) * limit)
    multiturn = prompting.fewshot_as_multiturn
    task.build_all_requests(
        limit=limit,
        rank=0,
        world_size=1,
        system_instruction=prompting.system_instruction,
        apply_chat_template=prompting.apply_chat_template,
        fewshot_as_multiturn=prompting.apply_chat_template if multiturn is None else multiturn,
        chat_template=render,
        tokenizer_name="",
    )


def _chat_renderer(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> Callable[..., str]:
    """The harness' own way to fill a chat template in."""
    from lm_eval.models.huggingface import HFLM

    if not tokenizer.chat_template:
        raise UserError("apply_chat_template: true needs a tokenizer with a chat template; this one has none")
    model = SimpleNamespace(tokenizer=tokenizer, chat_template_args=dict(options))
    render: Callable[..., str] = partial(HFLM.apply_chat_template, model)
    return render


def _hash(text: str) -> str:
    """The harness' ``hash_string``."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def answer(documents: Documents, ids: Sequence[str], model: Any) -> list[list[Any]]:
    """Answer the requests of some documents; return the requests of each, with answers and what filters made of them.

    Args:
        documents: The documents.
        ids: Ids of the documents' examples.
        model: A model of the harness.
    """
    requests = [documents.instances[key] for key in ids]
    owners = [documents.owners[key] for key in ids]
    kinds: dict[str, list[Any]] = {}
    for instance in (instance for document in requests for instance in document):
        instance.resps, instance.filtered_resps = [], {}
        kinds.setdefault(instance.request_type, []).extend([instance] * (instance.repeats or 1))
    for kind, instances in kinds.items():
        for instance, response in zip(instances, getattr(model, kind)(instances, disable_tqdm=True), strict=True):
            instance.resps.append(response)
    for name, task in documents.loaded.tasks.items():
        answered = [
            instance
            for owner, instances in zip(owners, requests, strict=True)
            if owner == name
            for instance in instances
        ]
        if answered:
            everything, task._instances = task._instances, answered
            try:
                task.apply_filters()
            finally:
                task._instances = everything
    return requests
