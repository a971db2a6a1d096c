"""Tasks whose answers are written: prompts and scores as lm-evaluation-harness has them, from every place they lie."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from tiny import tiny_model, tiny_tokenizer
from torchmetrics.text import SQuAD

from mlprune.comparison import figures_of
from mlprune.data.corpora import LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.generation import Continuation
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import Mgsm, TydiQa, Xquad
from mlprune.evaluation.tasks.answers import AnswerTask
from mlprune.evaluation.tasks.arithmetic import MGSM_WORDS
from mlprune.metrics import Record, SpanMatch

SPAN = {"id": "7", "context": "It rained in May.", "question": "When did it rain?"}
SPAN |= {"answers": {"text": ["in May", "May"], "answer_start": [10, 13]}}
SUM = {"question": "Two and three?", "answer": None, "answer_number": 5, "equation_solution": None}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def answered(task: AnswerTask, lang: str, outputs: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """A task's records when a model writes these answers."""
    monkeypatch.setattr(task, "answers", lambda *args: [Continuation(text, "\n") for text in outputs])
    return task.predict(tiny_model("llama"), tiny_tokenizer(), lang, task.examples(lang))


# -- as others have it --------------------------------------------------------------------------------------------

XQUAD = ["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"]
TYDIQA = ["ar", "bn", "en", "fi", "id", "ko", "ru", "sw", "te"]
PROMPTS = [
    *((Xquad, lang, f"xquad/xquad_{lang}.yaml", SPAN) for lang in XQUAD),
    *((TydiQa, lang, f"tydiqa/tydiqa_goldp_{lang}.yaml", SPAN) for lang in TYDIQA),
    *((Mgsm, lang, f"mgsm/native_cot/mgsm_native_cot_{lang}.yaml", SUM) for lang in MGSM_WORDS),
]


@pytest.mark.parametrize(
    ("cls", "lang", "file", "row"), PROMPTS, ids=[f"{one[0].__name__}-{one[1]}" for one in PROMPTS]
)
def test_prompts_are_the_harness_own(
    cls: type[AnswerTask], lang: str, file: str, row: dict[str, Any], tmp_path: Path
) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason='needs the extra "interop": pip install "mlprune[interop]"')
    jinja2 = pytest.importorskip("jinja2")
    lines = (Path(lm_eval.__file__).parent / "tasks" / file).read_text(encoding="utf-8").splitlines()
    plain = yaml.safe_load("\n".join(line for line in lines if "!function" not in line))
    write(tmp_path / f"rows.{lang}.jsonl", [row])
    task = cls([lang], corpus=LocalFiles(f"{tmp_path}/rows.{{lang}}.jsonl"), **({"shots": 0} if cls is Mgsm else {}))
    (example,) = task.examples(lang)
    assert task.prompts(tiny_tokenizer(), lang, [example]) == [jinja2.Template(plain["doc_to_text"]).render(**row)]
    if cls is Mgsm:
        assert set(task.stop(lang)) - {"\n\n"} <= set(plain["generation_kwargs"]["until"])


PAIRS = [
    ("the Nile", ["The Nile, in Africa", "Nile"]),
    ("«Nil» !", ["le Nil"]),
    ("", ["something"]),
    ("an answer a day", ["the answer of the day"]),
    ("尼罗河", ["尼罗河。"]),
    ("النيل", ["نيل"]),
]


def test_spans_are_scored_as_squad_does() -> None:
    records = [{"output": said, "references": right} for said, right in PAIRS]
    reference = SQuAD()
    for i, (said, right) in enumerate(PAIRS):
        answers = {"text": right, "answer_start": [0] * len(right)}
        reference.update([{"prediction_text": said, "id": str(i)}], [{"answers": answers, "id": str(i)}])
    ours = SpanMatch()
    ours.update(records)
    assert 100 * ours.compute()["f1"] == pytest.approx(float(reference.compute()["f1"]))
    assert 100 * ours.compute()["exact_match"] == pytest.approx(float(reference.compute()["exact_match"]))


@pytest.mark.parametrize("lang", ["ar", "bn", "en", "fi", "ru", "sw"])
def test_spans_are_scored_as_tydiqa_does(lang: str) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.tasks.tydiqa.utils import process_results_lang

    for said, right in PAIRS:
        metric = SpanMatch(lang)
        metric.update([{"output": said, "references": right}])
        theirs = process_results_lang({"answers": right}, [said], lang)
        assert (metric.compute()["f1"], metric.compute()["exact_match"]) == pytest.approx(
            (theirs["f1"], float(theirs["exact_match"]))
        )


# -- from where they lie ------------------------------------------------------------------------------------------


def squad_file(rows: list[dict[str, Any]]) -> str:
    """Rows as SQuAD's files nest them."""
    articles = []
    for row in rows:
        answers = [{"text": text, "answer_start": 0} for text in row["answers"]["text"]]
        question = {"id": row["id"], "question": row["question"], "answers": answers}
        articles.append({"paragraphs": [{"context": row["context"], "qas": [question]}]})
    return json.dumps({"version": "1.1", "data": articles})


@pytest.mark.parametrize("place", ["official", "hub"])
def test_xquad(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        SPAN,
        SPAN | {"id": "8", "question": "What did it do?", "answers": {"text": ["rained"], "answer_start": [3]}},
    ]
    if place == "official":
        for lang in ("en", "es"):
            (tmp_path / f"xquad.{lang}.json").write_text(squad_file(rows))
        task = Xquad(["en", "es"], path=str(tmp_path))
    else:
        hub, cards = tmp_path / "google" / "xquad", []
        for lang in ("en", "es"):
            datasets.Dataset.from_list(rows).to_parquet(hub / f"xquad.{lang}" / "validation.parquet")
            cards.append(
                f"- config_name: xquad.{lang}\n  data_files:\n  - split: validation\n    path: xquad.{lang}/*\n"
            )
        (hub / "README.md").write_text("---\nconfigs:\n" + "".join(cards) + "---\n")
        task = Xquad(["en", "es"])
    task.check()
    records = {
        "en": answered(task, "en", ["in May", "rain"], monkeypatch),
        "es": answered(task, "es", ["May", "rained hard"], monkeypatch),
    }
    figures = {(row.measure.name, row.language): row for row in figures_of(task_records(task, records), "dense")}
    assert figures["exact_match", "en"].value == 0.5
    assert figures["f1", "es"].value == pytest.approx((2 / 3 + 2 / 3) / 2)  # the first right answer is "in May"
    assert figures["f1", "en"].clusters == 1  # both questions are of one passage


@pytest.mark.parametrize("place", ["official", "hub"])
def test_tydiqa_holds_all_languages_in_one_file(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [SPAN | {"id": "swahili-1-0"}, SPAN | {"id": "finnish-5-0"}, SPAN | {"id": "swahili-2-0"}]
    if place == "official":
        (tmp_path / "tydiqa-goldp-v1.1-dev.json").write_text(squad_file(rows))
        task = TydiQa(["sw"], path=str(tmp_path))
    else:
        hub = tmp_path / "google-research-datasets" / "tydiqa"
        datasets.Dataset.from_list(rows).to_parquet(hub / "secondary_task" / "validation.parquet")
        card = "- config_name: secondary_task\n  data_files:\n  - split: validation\n    path: secondary_task/*\n"
        (hub / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
        task = TydiQa(["sw"])
    assert [example.id for example in task.examples("sw")] == ["swahili-1-0", "swahili-2-0"]
    records = answered(task, "sw", ["May!", "in June"], monkeypatch)
    metric = task.metric("sw")
    metric.update(records)
    assert metric.compute() == {"f1": 0.75, "exact_match": 0.5, "n": 2}
    with pytest.raises(UserError, match="no row of language 'te', whose ids begin with 'telugu-'"):
        TydiQa(["te"], corpus=task.corpus).examples("te")


SOLVED = {"question": "Question : Un et un ?", "answer": "Réponse étape par étape : 1 + 1 = 2. La réponse est 2."}


def test_mgsm_after_solved_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train.fr.jsonl", [SOLVED | {"answer_number": 2}])
    (tmp_path / "mgsm_fr.tsv").write_text("Deux et trois ?\t5\nMille ?\t1,000\nRien ?\t0\n", encoding="utf-8")
    fewshot = LocalFiles(f"{tmp_path}/train.{{lang}}.jsonl")
    task = Mgsm(["fr"], path=str(tmp_path), shots=1, fewshot=fewshot)
    task.check()
    prompt = task.prompts(tiny_tokenizer(), "fr", task.examples("fr")[:1])[0]
    assert prompt == (
        "Question : Un et un ?\nRéponse étape par étape : 1 + 1 = 2. La réponse est 2.\n\n"
        "Question : Deux et trois ?\nRéponse étape par étape :"
    )
    assert task.used_rows() == {fewshot.identity: {"0"}}
    records = answered(
        task, "fr", ["2 + 3 = 5. La réponse est 5.", "C'est 1.000,00 €.", "Je ne sais pas."], monkeypatch
    )
    assert [record["prediction"] == record["label"] for record in records] == [True, True, False]
    figures = {row.measure.name: row for row in figures_of(task_records(task, {"fr": records}), "dense")}
    assert figures["accuracy"].value == pytest.approx(2 / 3)


def test_mgsm_from_the_hub(tmp_path: Path) -> None:
    hub = tmp_path / "juletxara" / "mgsm"
    write(hub / "de" / "test.jsonl", [SUM])
    write(
        hub / "de" / "train.jsonl",
        [{"question": "Frage: A?", "answer": "Schritt-für-Schritt-Antwort: B.", "answer_number": 1}] * 8,
    )
    splits = "".join(f"  - split: {split}\n    path: de/{split}.jsonl\n" for split in ("train", "test"))
    (hub / "README.md").write_text(f"---\nconfigs:\n- config_name: de\n  data_files:\n{splits}---\n")
    task = Mgsm(["de"])
    (prompt,) = task.prompts(tiny_tokenizer(), "de", task.examples("de"))
    assert prompt.count("Frage: A?\nSchritt-für-Schritt-Antwort: B.\n\n") == 8
    assert prompt.endswith("Frage: Two and three?\nSchritt-für-Schritt-Antwort:")


@pytest.mark.parametrize("cls", [Xquad, TydiQa, Mgsm])
def test_a_language_without_a_prompt_is_refused_at_once(cls: type[AnswerTask]) -> None:
    with pytest.raises(UserError, match="no prompt for language 'wo'"):
        cls(["en", "wo"])


def test_a_model_writes_answers(tmp_path: Path) -> None:
    write(tmp_path / "rows.en.jsonl", [SPAN, SPAN | {"id": "8", "question": "Where?"}])
    task = Xquad(["en"], corpus=LocalFiles(f"{tmp_path}/rows.{{lang}}.jsonl"), max_new_tokens=3)
    records = task.predict(tiny_model("llama"), tiny_tokenizer(), "en", task.examples("en"))
    assert [set(record) for record in records] == [{"id", "source", "references", "output", "stopped", "group"}] * 2
