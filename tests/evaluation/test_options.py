"""Options that tasks share: every task takes them or the documentation says why not, and they do what they say."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from tiny import tiny_model, tiny_tokenizer

import mlprune.evaluation
from mlprune.data.corpora import Bundled, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation import tasks
from mlprune.evaluation.tasks import Bmlama, CandidateTask, ClozeTask, PerplexityTask, Task, TranslationTask
from mlprune.evaluation.tasks.selection import Selection

CLASSES = [name for name in tasks.__all__ if name != "Task"]
README = (Path(mlprune.evaluation.__file__).parent / "README.md").read_text(encoding="utf-8")
BUNDLED: dict[str, Callable[..., Task]] = {
    "candidates": lambda **options: CandidateTask("nli", ["en", "fr"], Bundled("nli"), "xnli", **options),
    "cloze": lambda **options: ClozeTask("facts", ["en", "fr"], **options),
    "perplexity": lambda **options: PerplexityTask(["en", "fr"], **options),
    "translation": lambda **options: TranslationTask(["fr", "es"], **options),
}


def shared_options() -> dict[str, str]:
    """Option to the classes that do not take it and why, from the documentation."""
    table = README.split("Options that tasks share:")[1].split("\n\n")[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {
        name: row[2] if len(row) > 2 else "" for row in rows for name in re.findall(r"`(\w+)`", row[0].split("|")[0])
    }


def taken_by(cls: type) -> set[str]:
    parser = ArgumentParser()
    parser.add_class_arguments(cls, as_group=False)
    return {action.dest for action in parser._actions}


@pytest.mark.parametrize("name", CLASSES)
def test_every_task_takes_an_option_or_the_documentation_says_why_not(name: str) -> None:
    taken = taken_by(getattr(tasks, name))
    options = shared_options()
    assert {"rows", "limit", "seed", "too_long", "shots", "chat_template", "batch_size"} <= options.keys()
    for option, reasons in options.items():
        excused = re.search(rf"`{name}`[^:;]*: \w+", reasons) is not None
        assert (option in taken) != excused, f"{name}.{option}"


def parsed(cls: str, init_args: dict[str, Any]) -> Any:
    parser = ArgumentParser()
    parser.add_subclass_arguments(Task, "task")
    config = parser.parse_object({"task": {"class_path": f"mlprune.evaluation.tasks.{cls}", "init_args": init_args}})
    return parser.instantiate_classes(config).task


@pytest.mark.parametrize(
    "rows", ["0-3", "2", ["8", "0"], [0, 4], {"share": 0.25, "seed": 1}, {"share": 0.9, "complement": True}]
)
def test_rows_in_yaml_are_those_in_python(rows: Any) -> None:
    read = parsed("PerplexityTask", {"languages": ["en", "fr"], "rows": rows})
    assert read.examples("fr") == PerplexityTask(["en", "fr"], rows=rows).examples("fr")


def test_options_of_every_level_reach_the_task() -> None:
    task = parsed("Bmlama", {"languages": ["en"], "path": ".", "too_long": "truncate", "limit": 3, "shots": 0})
    assert isinstance(task, Bmlama)
    assert (task.scoring.too_long, task.selection.limit, task.shots) == ("truncate", 3, 0)


# -- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUNDLED)
def test_rows_are_the_same_in_every_language(kind: str) -> None:
    def ids(**options: Any) -> list[list[str]]:
        task = BUNDLED[kind](**options)
        return [[example.id for example in task.examples(lang)] for lang in task.languages]

    (everything, _), (few, others) = ids(), ids(rows="3-8")
    assert few == others
    assert len(few) == 6
    assert set(few) < set(everything)
    assert ids(rows=few[1:4]) == [few[1:4]] * 2
    (limited, _) = ids(rows="3-8", limit=3)
    assert set(limited) < set(few)
    assert len(limited) == 3
    (half, _), (other_half, _) = (ids(rows={"share": 0.5, "seed": seed}) for seed in (0, 1))
    assert len(half) == pytest.approx(len(everything) / 2, abs=3)
    assert half != other_half
    for share in (0.5, 0.3):
        (taken, _), rest = ids(rows={"share": share}), ids(rows={"share": share, "complement": True})
        assert rest == [[row_id for row_id in everything if row_id not in taken]] * 2


def test_positions_count_blank_rows_and_mean_one_row_in_every_language(tmp_path: Path) -> None:
    texts = {"en": ["a", "b", "c", "d", "e"], "fr": ["A", "", "C", "D", "E"]}
    for lang, lines in texts.items():
        cells = "".join(f"{number}\t{line}\n" for number, line in enumerate(lines, start=7) if line or lang == "en")
        (tmp_path / f"{lang}.tsv").write_text(f"key\ttext\n{cells}", encoding="utf-8")
    corpus = LocalFiles(f"{tmp_path}/{{lang}}.tsv", id_column="key")
    task = PerplexityTask(["en", "fr"], corpus=corpus, rows="1-2")
    assert [[example.text for example in task.examples(lang)] for lang in ("en", "fr")] == [["b", "c"], ["C"]]


def test_a_share_takes_whole_groups() -> None:
    examples = CandidateTask("nli", ["en"], Bundled("nli"), "xnli", rows={"share": 0.4}).examples("en")
    ids = [int(example.id) for example in examples]
    assert len(ids) > 9
    assert all(ids[i : i + 3] == [ids[i], ids[i] + 1, ids[i] + 2] and ids[i] % 3 == 0 for i in range(0, len(ids), 3))
    task = CandidateTask("nli", ["en"], Bundled("nli"), "xnli", rows={"share": 0.4, "complement": True})
    assert not {int(example.id) // 3 for example in task.examples("en")} & {row_id // 3 for row_id in ids}


def test_the_complement_of_all_rows_is_refused() -> None:
    with pytest.raises(UserError, match="no row of 'en' is left to evaluate"):
        PerplexityTask(["en"], rows={"share": 1, "complement": True}).examples("en")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1..4", r"task 'perplexity': rows '1\.\.4' is not allowed; give positions such as 0-199, a list of ids, or"),
        ("5-2", "rows '5-2': 5-2 is empty"),
        ([], "rows: an empty list is not allowed"),
        (["3", 3], "rows: '3' twice is not allowed"),
        ({"share": 0}, "rows.share 0 is not allowed; give a number above 0, at most 1"),
        ({"share": 1.5}, "rows.share 1.5 is not allowed"),
        ({"seed": 1}, "rows.share None is not allowed"),
        ({"share": 0.5, "sead": 1}, "rows.sead is not allowed; give share and seed"),
        ({"share": 0.5, "complement": 1}, "rows.complement 1 is not allowed; give true or false"),
        ({"share": 0.5, "seed": 0.5}, "rows.seed 0.5 is not allowed; give an integer"),
    ],
)
def test_rows_that_are_not_allowed(rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PerplexityTask(["en"], rows=rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [("0-99999", "task 'perplexity': rows '0-99999': there is no row 99999; the corpus has 0 to"), (["x"], "id 'x'")],
)
def test_rows_that_do_not_exist(rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PerplexityTask(["en"], rows=rows).examples("en")


def test_ranges_may_overlap() -> None:
    assert Selection(rows="0-1, 1-2,4").choose(list("abcdef")) == ["a", "b", "c", "e"]


# -- what else every task takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BUNDLED)
def test_batch_size_changes_no_answer(kind: str) -> None:
    model, tokenizer = tiny_model("llama", max_position_embeddings=1024), tiny_tokenizer()
    options = {"shots": 1, "max_new_tokens": 4} if kind == "translation" else {}
    alone, together = (BUNDLED[kind](limit=3, batch_size=size, **options) for size in (1, None))
    lang = alone.languages[0]
    first, second = (task.predict(model, tokenizer, lang, task.examples(lang)) for task in (alone, together))
    for one, other in zip(first, second, strict=True):
        assert one.get("prediction") == other.get("prediction")
        assert one.get("output") == other.get("output")
        assert one.get("scores") == pytest.approx(other.get("scores"), abs=1e-4)
        assert one.get("log_prob") == pytest.approx(other.get("log_prob"), abs=1e-3)


@pytest.mark.parametrize("kind", BUNDLED)
@pytest.mark.parametrize("option", ["batch_size", "limit"])
def test_a_number_below_one_is_refused(kind: str, option: str) -> None:
    with pytest.raises(UserError, match=rf"task '\w+': {option} 0 is not allowed; give at least 1"):
        BUNDLED[kind](**{option: 0})


@pytest.mark.parametrize("kind", ["candidates", "cloze", "translation"])
def test_what_is_too_long_is_refused_or_cut_and_counted(kind: str) -> None:
    model, tokenizer = tiny_model("gpt2", n_positions=40), tiny_tokenizer()
    options = {"max_new_tokens": 4} if kind == "translation" else {"shots": 2, "fewshot": None}
    if kind != "translation":
        options["fewshot"] = Bundled("nli" if kind == "candidates" else "facts")
    refused, cut = (BUNDLED[kind](limit=3, too_long=what, **options) for what in ("error", "truncate"))
    with pytest.raises(UserError, match="too_long: truncate"):
        refused.predict(model, tokenizer, "fr", refused.examples("fr"))
    records = cut.predict(model, tokenizer, "fr", cut.examples("fr"))
    assert all(record["tokens_cut"] > 0 for record in records)
    metric = cut.metric("fr")
    metric.update(records)
    assert metric.compute()["truncated"] == len(records)


def test_facts_after_solved_ones() -> None:
    task = ClozeTask("facts", ["en"], shots=2, fewshot=Bundled("facts"), limit=4)
    plain = {example.id: example for example in ClozeTask("facts", ["en"]).examples("en")}
    (shown,) = task.used_rows().values()
    examples = task.examples("en")
    assert len(shown) == 2
    assert shown.isdisjoint(example.id for example in examples)
    for example in examples:
        before = set(example.given)
        (start,) = before
        assert start.count("\n\n") == 2
        assert example.candidates == tuple(start + text for text in plain[example.id].candidates)


def test_facts_in_a_chat_show_the_whole_prompt() -> None:
    task = ClozeTask("facts", ["en"], chat_template=True, limit=1)
    (example,) = task.examples("en")
    assert "<mask>" in example.question
    assert example.answers == example.names
