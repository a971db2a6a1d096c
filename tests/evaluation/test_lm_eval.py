"""Tasks of lm-evaluation-harness: its requests, answered by our engine, give its log-likelihoods and its figures."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness_tasks import ACCURACY, TASKS, WORDS, metric, write_tasks
from tiny import tiny_model, tiny_tokenizer

from mlprune.errors import UserError
from mlprune.evaluation.results import summarize
from mlprune.evaluation.tasks import LmEval

pytest.importorskip("lm_eval", reason='needs the extra "interop": pip install "mlprune[interop]"')

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_tasks(tmp_path, "fr")
    return write_tasks(tmp_path, "sw")


def of_harness(name: str, folder: Path, **options: Any) -> dict[str, Any]:
    """What the harness itself finds with its own model class."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=tiny_model("llama"), tokenizer=tiny_tokenizer(), softmax_dtype="float64", batch_size=4)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(model=model, tasks=[name], task_manager=manager, bootstrap_iters=0, **options)
    assert found is not None
    return found


def of_ours(task: LmEval) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float]]:
    """Records by language, and figures by language and metric."""
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    task.check_tokenizer(tokenizer)
    records = {}
    for lang in task.languages:
        examples = task.examples(lang)
        halves = examples[:5], examples[5:]
        records[lang] = [record for own in halves if own for record in task.predict(model, tokenizer, lang, own)]
    results = summarize([task], {(task.name, lang): own for lang, own in records.items()}, "dense")
    json.dumps(results)
    return records, {f"{row['language']}/{row['metric']}": row["value"] for row in results["figures"]}


def check_figures(found: dict[str, float], results: dict[str, Any], lang: str) -> None:
    expected = {key: value for key, value in results.items() if "," in key and "stderr" not in key}
    assert expected
    for key, value in expected.items():
        own = found[f"{lang}/{key.removesuffix(',none')}"]
        assert own == pytest.approx(float(value), rel=1e-4, abs=1e-4), key


@pytest.mark.parametrize("name", TASKS)
def test_requests_answers_and_figures_are_those_of_the_harness(name: str, tasks: Path) -> None:
    theirs = of_harness(f"{name}_fr", tasks, log_samples=True)
    ours = LmEval(name + "_{lang}", ["fr"], include_path=str(tasks))
    records, figures = of_ours(ours)
    check_figures(figures, theirs["results"][f"{name}_fr"], "fr")
    samples = {sample["doc_id"]: sample for sample in theirs["samples"][f"{name}_fr"]}
    assert len(samples) == len(records["fr"]) == len(WORDS)
    for record, instances in zip(records["fr"], ours.documents("fr").instances.values(), strict=True):
        sample = samples[record["doc_id"]]
        assert [list(instance.args) for instance in instances] == [list(own) for own in sample["arguments"]]
        assert (record["prompt_hash"], record["target_hash"]) == (sample["prompt_hash"], sample["target_hash"])
        numbers = [(sample["resps"], [instance.resps for instance in instances])]
        for (expected,), (found,) in ((a, b) for x, y in numbers for a, b in zip(x, y, strict=True)):
            if isinstance(found, str):
                assert found == expected
            else:
                first, second = (own[0] if isinstance(own, tuple | list) else own for own in (expected, found))
                assert float(second) == pytest.approx(float(first), abs=1e-4)


STORY = {f"input_sentence_{i}": f"Sentence {i}." for i in range(1, 5)}
OF_HARNESS = {
    "xnli/xnli_fr.yaml": ("fr", {"premise": "Il pleut.", "hypothesis": "Il vente.", "label": 1}),
    "xnli/xnli_sw.yaml": ("sw", {"premise": "Mvua inanyesha.", "hypothesis": "Ni baridi.", "label": 0}),
    "paws-x/paws_fr.yaml": ("fr", {"sentence1": "Il n'y va pas.", "sentence2": "Elle y va.", "label": 0}),
    "xcopa/default_it.yaml": (
        "it",
        {"premise": "Piove.", "choice1": "Era buio.", "choice2": "Esco.", "question": "cause", "label": 1},
    ),
    "xstorycloze/default_sw.yaml": (
        "sw",
        STORY | {"sentence_quiz1": "A bad end.", "sentence_quiz2": "A good end.", "answer_right_ending": 2},
    ),
    "xwinograd/xwinograd_pt.yaml": (
        "pt",
        {"sentence": "O copo caiu porque _ quebrou .", "option1": "o copo", "option2": "a mesa", "answer": "1"},
    ),
}


@pytest.mark.parametrize("file", OF_HARNESS)
def test_task_files_of_the_harness(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import lm_eval

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lang, row = OF_HARNESS[file]
    changed = [{name: f"{i} {cell}" if isinstance(cell, str) else cell for name, cell in row.items()} for i in range(6)]
    fixed = {name: row[name] for name in ("question", "answer") if name in row}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(own | fixed) + "\n" for own in changed), encoding="utf-8")
    content = {"include": str(Path(lm_eval.__file__).parent / "tasks" / file), "task": f"local_{lang}"}
    content |= {"dataset_path": "json", "dataset_name": None, "training_split": None, "validation_split": None}
    content |= {"dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}}, "test_split": "test"}
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "local.yaml").write_text(yaml.safe_dump(content))
    theirs = of_harness(f"local_{lang}", tmp_path / "tasks", log_samples=True)
    records, figures = of_ours(LmEval({lang: f"local_{lang}"}, include_path=str(tmp_path / "tasks")))
    check_figures(figures, theirs["results"][f"local_{lang}"], lang)
    samples = sorted(theirs["samples"][f"local_{lang}"], key=lambda sample: sample["doc_id"])
    for sample, record in zip(samples, records[lang], strict=True):
        assert record["prompt_hash"] == sample["prompt_hash"]
        scores = [float(own[0][0]) for own in sample["resps"]]
        assert record["scores"] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_is_one_task(by_size: bool, tasks: Path) -> None:
    for lang in ("fr", "sw"):
        short = yaml.safe_load((tasks / f"choice_{lang}.yaml").read_text())
        short |= {"task": f"all_{lang}_short", "test_split": "train"}
        long = yaml.safe_load((tasks / f"shots_{lang}.yaml").read_text()) | {"task": f"all_{lang}_long"}
        lists = [ACCURACY, metric("f1", "f1")]
        for own in (short, long):
            (tasks / f"{own['task']}.yaml").write_text(yaml.safe_dump(own | {"metric_list": lists}))
        weights = [{"metric": name, "weight_by_size": by_size} for name in ("acc", "f1")]
        group = {"group": f"all_{lang}", "task": [f"all_{lang}_short", f"all_{lang}_long"]}
        (tasks / f"all_{lang}.yaml").write_text(yaml.safe_dump(group | {"aggregate_metric_list": weights}))
    theirs = of_harness("all_fr", tasks)
    task = LmEval({"fr": "all_fr", "sw": "all_sw"}, include_path=str(tasks), aligned=True)
    records, figures = of_ours(task)
    assert task.name == "all"
    check_figures(figures, theirs["results"]["all_fr"], "fr")
    assert [record["id"] for record in records["fr"]] == [record["id"] for record in records["sw"]]
    assert {record["part"] for record in records["fr"]} == {"short", "long"}
    assert 0 <= figures["fr-sw/rankc"] <= 1


def test_rows_are_aligned_where_the_task_says_so(tasks: Path) -> None:
    apart, together = (
        LmEval("choice_{lang}", ["fr", "sw"], include_path=str(tasks), aligned=aligned, group="passage")
        for aligned in (False, True)
    )
    records, figures = of_ours(apart)
    assert not any("rankc" in key for key in figures)
    assert all(record["aligned"] is False for record in records["fr"])
    records, figures = of_ours(together)
    assert {"fr-sw/rankc", "fr-sw/rankc_expected"} <= figures.keys()
    results = summarize([together], {(together.name, lang): own for lang, own in records.items()}, "dense")
    row = next(row for row in results["figures"] if row["language"] == "average" and row["metric"] == "acc")
    assert (row["n"], row["clusters"]) == (24, 4)


def test_options_are_those_of_the_harness(tasks: Path) -> None:
    theirs = of_harness("shots_fr", tasks, num_fewshot=1, limit=0.3, fewshot_random_seed=7, log_samples=True)
    task = LmEval("shots_{lang}", ["fr"], include_path=[str(tasks)], num_fewshot=1, limit=0.3, seed=7)
    records, figures = of_ours(task)
    assert len(records["fr"]) == len(theirs["samples"]["shots_fr"]) == 4
    hashes = {sample["doc_id"]: sample["prompt_hash"] for sample in theirs["samples"]["shots_fr"]}
    assert {record["doc_id"]: record["prompt_hash"] for record in records["fr"]} == hashes
    check_figures(figures, theirs["results"]["shots_fr"], "fr")


def test_chat_templates_are_filled_in_by_the_harness(tasks: Path) -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    tokenizer = tiny_tokenizer()
    before, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        options = {"apply_chat_template": True, "system_instruction": "Be short."}
        theirs = of_harness("shots_fr", tasks, log_samples=True, fewshot_as_multiturn=True, **options)
        records, _ = of_ours(LmEval("shots_{lang}", ["fr"], include_path=str(tasks), **options))
    finally:
        tokenizer.chat_template = before
    samples = {sample["doc_id"]: sample for sample in theirs["samples"]["shots_fr"]}
    assert [record["prompt_hash"] for record in records["fr"]] == [samples[i]["prompt_hash"] for i in range(12)]
    assert records["fr"][0]["text"].startswith("<system>Be short.")
    with pytest.raises(UserError, match="needs a tokenizer with a chat template"):
        of_ours(LmEval("shots_{lang}", ["fr"], include_path=str(tasks), **options))


def test_aggregations_of_a_task_file(tasks: Path) -> None:
    (tasks / "utils.py").write_text("def highest(values):\n    return max(values)\n")
    own = yaml.safe_load((tasks / "choice_fr.yaml").read_text()) | {"task": "own_fr"}
    own["metric_list"] = [ACCURACY | {"aggregation": "HIGHEST"}]
    (tasks / "own_fr.yaml").write_text(yaml.safe_dump(own).replace("HIGHEST", "!function utils.highest"))
    theirs = of_harness("own_fr", tasks)
    _, figures = of_ours(LmEval({"fr": "own_fr"}, include_path=str(tasks)))
    check_figures(figures, theirs["results"]["own_fr"], "fr")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"tasks": "xnli_{language}", "languages": ["fr"]},
            r"{language} is not allowed; give one of lang, flores, name",
        ),
        ({"tasks": "xnli_{lang}"}, "needs languages, or give a mapping"),
        ({"tasks": "xnli", "languages": ["fr", "sw"]}, "is one task; for several languages"),
        ({"tasks": {"fr": "xnli_fr"}, "languages": ["sw"]}, "are not those of tasks"),
        ({"tasks": {"fr": "a_fr", "sw": "b_sw"}}, "have no name in common; give a name"),
        ({"tasks": {"xx": "xnli_fr"}}, "language 'xx' is not known"),
        ({"tasks": {"fr": "xnli_fr"}, "limit": 0}, "limit 0 is not allowed"),
        ({"tasks": {"fr": "xnli_fr"}, "num_fewshot": -1}, "num_fewshot -1 is not allowed"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        LmEval(**arguments)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}}, "cannot be loaded"),
        ({"doc_to_text": "{{question.nothing()}}"}, "'broken_fr' (cannot be loaded|builds no requests)"),
        ({"unsafe_code": True}, "runs code that the model writes"),
        ({"output_type": "generate_until", "generation_kwargs": {"do_sample": True}}, "do_sample True is not allowed"),
    ],
)
def test_tasks_that_cannot_be_evaluated_are_one_line(changes: dict[str, Any], words: str, tasks: Path) -> None:
    own = yaml.safe_load((tasks / "choice_fr.yaml").read_text()) | {"task": "broken_fr"} | changes
    if "generation_kwargs" in changes:
        own = {key: value for key, value in own.items() if key not in ("metric_list", "doc_to_choice")}
    (tasks / "broken_fr.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(UserError, match=rf"task 'broken', language 'fr': .*{words}") as error:
        of_ours(LmEval({"fr": "broken_fr"}, include_path=str(tasks)))
    assert "\n" not in str(error.value)


def test_a_column_that_no_document_has(tasks: Path) -> None:
    with pytest.raises(UserError, match="group: 'chapter' is not a column of the harness' task 'choice_fr'"):
        of_ours(LmEval({"fr": "choice_fr"}, include_path=str(tasks), group="chapter"))


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    from mlprune.evaluation.harness import installed

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    for version, words in ((missing, "is not installed; run: pip install"), (lambda name: "0.4.9.2", "is too old")):
        monkeypatch.setattr(installed, "version", version)
        with pytest.raises(UserError, match=words):
            LmEval({"fr": "xnli_fr"})
