"""Which rows a study evaluates when: rounds of the selection, then the confirmation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlprune.errors import UserError, did_you_mean
from mlprune.evaluation.tasks import Task
from mlprune.metrics import measures_of
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.judging import Entry
from mlprune.studies.rows import Examples, Ids, check_disjoint, in_rounds, named_ids
from mlprune.studies.selection import Round, rounds
from mlprune.studies.spec import Study

CONFIRM = "confirm"


@dataclass(frozen=True)
class Plan:
    """What a study evaluates.

    Args:
        rounds: The rounds of the selection; none where nothing is selected.
        parts: ``select.0``, ``select.1``, ..., ``confirm`` to task to ids; what is evaluated in this order.
        sizes: The same to number of examples, over all languages.
        top: How many recipes are confirmed; 0 where none is.
        deciding: Names of the tasks that decide; all where nothing is declared.
    """

    rounds: list[Round]
    parts: Mapping[str, Ids]
    sizes: Mapping[str, int] = field(default_factory=dict)
    top: int = 0
    deciding: Sequence[str] = ()

    @property
    def select_parts(self) -> list[str]:
        """The parts that choose."""
        return choosing_parts(self.parts)


def choosing_parts(parts: Iterable[str]) -> list[str]:
    """Return which of some parts of the rows choose recipes.

    Example:
        >>> choosing_parts(["select.0", "select.1", "confirm"])
        ['select.0', 'select.1']
    """
    return [name for name in parts if name != CONFIRM]


def make_plan(
    study: Study, tasks: Sequence[Task], examples: Mapping[str, Examples], num_recipes: int, seed: int = 0
) -> Plan:
    """Return what a study evaluates, once its endpoint and rows are known to exist.

    Args:
        study: What is declared.
        tasks: The tasks.
        examples: Task to language to examples.
        num_recipes: How many recipes there are.
        seed: Seed of the order in which selection rows are looked at.

    Raises:
        UserError: If the endpoint or a row does not exist, or rows that choose also judge.
    """
    if study.endpoint is not None:
        check_endpoint(study.endpoint, tasks, study.select.metric if study.select is not None else None)
    deciding = [task for task in tasks if study.endpoint is None or _decides(task, study.endpoint)]
    if study.confirm is None:
        rows = study.select.rows if study.select is not None else None
        ids = {task.name: named_ids(task, examples[task.name], rows) for task in tasks}
        return _plan([Round(num_recipes, _most(ids))], {"select.0": ids}, examples, 0, deciding)
    top = study.top or num_recipes
    judging = {task.name: named_ids(task, examples[task.name], study.confirm.rows) for task in deciding}
    others = {task.name: named_ids(task, examples[task.name], None) for task in tasks if task not in deciding}
    if study.select is None:
        if top < num_recipes:
            raise UserError(
                f"study.confirm.top {top}: there are {num_recipes} recipes, and nothing chooses; give study.select too"
            )
        return _plan([], {CONFIRM: judging | others}, examples, num_recipes, deciding)
    if study.select is not None and isinstance(study.select.screen, dict):
        for name in study.select.screen:
            _check(f"study.select.screen: '{name}' is not a task that decides", name, [task.name for task in deciding])
    choosing = {task.name: named_ids(task, examples[task.name], study.select.rows) for task in deciding}
    check_disjoint(examples, choosing, judging)
    steps = rounds(num_recipes, _most(choosing), min(top, num_recipes))
    parts = in_rounds(choosing, [step.rows / steps[-1].rows for step in steps], seed)
    named = {part.name: part.ids for part in parts} | {CONFIRM: judging | others}
    return _plan(steps, named, examples, min(top, num_recipes), deciding)


def check_endpoint(
    endpoint: Endpoint, tasks: Sequence[Task], metric: str | None = None, where: str = "study.endpoint"
) -> None:
    """Raise UserError if a task, a language or a measure that decides does not exist.

    Args:
        endpoint: What decides.
        tasks: All tasks.
        metric: What recipes are chosen by, if that is another measure.
        where: Where it is declared, for messages.
    """
    names = [task.name for task in tasks]
    for name in endpoint.tasks or []:
        _check(f"{where}.tasks: '{name}' is not a task", name, names)
    judged = [task for task in tasks if endpoint.tasks is None or task.name in endpoint.tasks]
    for key, wanted in ((f"{where}.metric", endpoint.metric), ("study.select.metric", metric)):
        for task in judged if wanted is not None else []:
            known = measure_names(task)
            if wanted not in known and (
                endpoint.tasks is not None or not any(wanted in measure_names(t) for t in judged)
            ):
                _check(f"{key}: '{wanted}' is not a measure of task '{task.name}'", str(wanted), known)
    deciding = [task for task in judged if _decides(task, endpoint)]
    languages = {lang for task in deciding for lang in (*task.languages, *("-".join(pair) for pair in task.pairs()))}
    for lang in endpoint.languages or []:
        _check(f"{where}.languages: '{lang}' is not a language of the tasks that decide", lang, languages)


def check_entries(entries: Sequence[Entry], endpoint: Endpoint, tasks: Sequence[Task]) -> None:
    """Raise UserError if recipes are judged by tasks or languages that do not decide, or that their reference lacks.

    Args:
        entries: All recipes.
        endpoint: What decides in the study.
        tasks: All tasks.
    """
    deciding = [task.name for task in tasks if _decides(task, endpoint)]
    against = next((entry for entry in entries if entry.name == endpoint.against), None)
    for entry in (entry for entry in entries if entry.endpoint):
        where = f"study.recipes.{entry.name}.endpoint"
        for task in entry.tasks(deciding):
            _check(f"{where}.tasks: '{task}' is not a task that decides", task, deciding)
        check_endpoint(endpoint.narrowed(entry.endpoint), tasks, where=where)
        if entry is against:
            raise UserError(f"{where}: others are judged against this recipe; leave its endpoint out")


def check_left_out(entries: Sequence[Entry], endpoint: Endpoint | None, tasks: Sequence[Task]) -> None:
    """Raise UserError if a recipe cannot be evaluated on a task that decides for it, or on any.

    Args:
        entries: All recipes.
        endpoint: What decides.
        tasks: All tasks.
    """
    deciding = [task.name for task in tasks if endpoint is not None and _decides(task, endpoint)]
    for entry in (entry for entry in entries if entry.left_out):
        if found := next((task for task in entry.tasks(deciding) if task in entry.left_out), None):
            raise UserError(
                f"study, recipe '{entry.name}': its interventions do not work with task '{found}', which decides the "
                "study; name other tasks in study.endpoint.tasks, or in the recipe's endpoint"
            )
        if len(entry.left_out) == len(tasks):
            raise UserError(f"study, recipe '{entry.name}': its interventions work with none of the tasks")


def _check(message: str, value: str, allowed: Iterable[str]) -> None:
    known = sorted(set(allowed))
    if value not in known:
        raise UserError(f"{message}; give one of {', '.join(known)}{did_you_mean(value, known)}")


def measure_names(task: Task) -> list[str]:
    """Return the names of the measures of a task's figures."""
    metrics = [*(metric for lang in task.languages for metric in task.metrics(lang)), *task.pair_metrics()]
    return list(dict.fromkeys(measure.name for metric in metrics for measure in measures_of(metric)))


def _decides(task: Task, endpoint: Endpoint) -> bool:
    named = endpoint.tasks is None or task.name in endpoint.tasks
    return named and endpoint.metric in measure_names(task)


def _most(ids: Ids) -> int:
    return max(map(len, ids.values()), default=0)


def _plan(
    steps: list[Round], parts: Mapping[str, Ids], examples: Mapping[str, Examples], top: int, deciding: Sequence[Task]
) -> Plan:
    sizes = {}
    for name, ids in parts.items():
        wanted = {task: set(chosen) for task, chosen in ids.items()}
        sizes[name] = sum(
            example.id in chosen
            for task, chosen in wanted.items()
            for rows in examples[task].values()
            for example in rows
        )
    return Plan(steps, parts, sizes, top, [task.name for task in deciding])
