"""Minimal pairs: whole sentences by their full log-likelihood, in all and by phenomenon, from every place they lie."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlprune.comparison import TaskRecords, differences_of, figures_of
from mlprune.data.corpora import LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import CandidateTask, MinimalPairs, MultiBlimp
from mlprune.languages import LISTED, language

PAIRS = [
    {"good": "The keys are here.", "bad": "The keys is here.", "phenomenon": "agreement"},
    {"good": "She saw him.", "bad": "She saw he.", "phenomenon": "case"},
    {"good": "Nobody left.", "bad": "No left.", "phenomenon": "case"},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def local(tmp_path: Path, rows: list[dict[str, Any]], lang: str = "en") -> LocalFiles:
    (tmp_path / f"pairs.{lang}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LocalFiles(f"{tmp_path}/pairs.{{lang}}.jsonl")


def plain_sum(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """The log-likelihood of all tokens of a text, after the end token, by hand."""
    ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).sum())


@pytest.mark.parametrize("family", ["llama", "xglm"])
def test_scores_are_whole_sentences_log_likelihoods(family: str, tmp_path: Path) -> None:
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    task = MinimalPairs(["en"], local(tmp_path, PAIRS))
    records = task.predict(model, tokenizer, "en", task.examples("en"))
    for row, record in zip(PAIRS, records, strict=True):
        sums = [plain_sum(model, tokenizer, row[side]) for side in ("good", "bad")]
        assert record["scores"] == pytest.approx(sums, abs=1e-4)
        assert record["prediction"] == ("good" if sums[0] > sums[1] else "bad")
        assert record["category"] == row["phenomenon"]
        assert record["aligned"] is False


def answered(task: MinimalPairs, answers: dict[str, list[bool]]) -> TaskRecords:
    """Records of a task whose answers are these, without a model."""
    records: dict[str, list[dict[str, Any]]] = {}
    for lang in task.languages:
        scores = [[1.0, 0.0] if right else [0.0, 1.0] for right in answers[lang]]
        records[lang] = [task._record(*pair) for pair in zip(task.examples(lang), scores, strict=True)]
    return task_records(task, records)


def test_each_phenomenon_has_its_own_rows(tmp_path: Path) -> None:
    """With the number of its examples, and an average over the languages that have it."""
    local(tmp_path, [{"good": "Elle rit.", "bad": "Elle rient.", "phenomenon": "agreement"}], "fr")
    local(tmp_path, [{"good": "Ella ríe.", "bad": "Ella ríen.", "phenomenon": "agreement"}], "es")
    task = MinimalPairs(["en", "fr", "es"], local(tmp_path, PAIRS))
    answers = answered(task, {"en": [True, True, False], "fr": [True], "es": [False]})
    found = {(row.measure.name, row.language): (row.value, row.n) for row in figures_of(answers, "dense")}
    assert found["accuracy", "en"] == (2 / 3, 3)
    assert found["accuracy_case", "en"] == (0.5, 2)
    assert found["accuracy_agreement", "en"] == (1.0, 1)
    assert found["accuracy_agreement", "average"] == (0.5, 2)
    assert ("accuracy_case", "fr") not in found
    assert "rankc" not in {name for name, _ in found}


def test_two_models_are_compared_by_phenomenon() -> None:
    task = MinimalPairs(["hi"])
    examples = task.examples("hi")
    gender = [example.category == "gender" for example in examples]
    before = answered(task, {"hi": [True] * len(examples)})
    after = answered(task, {"hi": [not right for right in gender]})
    rows = {row.measure.name: row for row in differences_of(before, after, ("dense", "pruned")) if row.language == "hi"}
    assert (rows["accuracy_gender"].delta, rows["accuracy_gender"].n) == (-1.0, sum(gender))
    assert rows["accuracy_gender"].p == pytest.approx(2 * 0.5 ** sum(gender))  # McNemar: all changed one way
    assert rows["accuracy_case"].delta == 0.0
    assert rows["accuracy"].delta == pytest.approx(-sum(gender) / len(gender))


def test_by_null_reports_no_phenomena(tmp_path: Path) -> None:
    pairs = [{"good": row["good"], "bad": row["bad"]} for row in PAIRS]
    task = MinimalPairs(["en"], local(tmp_path, pairs), by=None)
    assert [measure.name for metric in task.metrics("en") for measure in metric.measures] == ["accuracy"]
    with pytest.raises(UserError, match=r"task 'minimal-pairs'.*no column 'phenomenon'; it has id, good, bad"):
        MinimalPairs(["en"], local(tmp_path, pairs)).examples("en")


def test_other_tasks_report_categories_too(tmp_path: Path) -> None:
    from mlprune.data.corpora import Bundled

    task = CandidateTask("nli", ["en"], Bundled("nli"), "xnli", by="label", limit=3)
    assert [example.category for example in task.examples("en")] == [
        example.names[example.label] for example in task.examples("en")
    ]
    names = [metric.measures[0].name for metric in task.metrics("en")]
    assert names[:4] == ["accuracy", "accuracy_contradiction", "accuracy_entailment", "accuracy_neutral"]
    task.check_metrics()


def test_equal_sentences_are_left_out(tmp_path: Path) -> None:
    same = {"good": "So it is.", "bad": "So it is.", "phenomenon": "case"}
    task = MinimalPairs(["en"], local(tmp_path, [*PAIRS, same]))
    assert len(task.examples("en")) == 3
    assert task.left_out == {"en": 1}


CARD = """---
configs:
- config_name: eng
  data_files: eng/data.tsv
- config_name: fas
  data_files: fas/data.tsv
---
"""


def test_a_copy_of_multiblimp(tmp_path: Path) -> None:
    """In the layout of the hub's repository: a folder a language, tab-separated, ISO 639-3 codes, one split."""
    (tmp_path / "README.md").write_text(CARD)
    lines = {
        "eng": [
            "SV-#\tThe keys are here.\tThe keys is here.\tkeys",
            'SP-P\t"He said ""I am""."\t"He said ""I is""."\tI',
        ],
        "fas": ["SV-P\tمن می‌روم.\tمن می‌روی.\tمن"],
    }
    for code, rows in lines.items():
        (tmp_path / code).mkdir()
        (tmp_path / code / "data.tsv").write_text("\n".join(["phenomenon\tsen\twrong_sen\thead", *rows]) + "\n")
    task = MultiBlimp(["en", "fa"], path=str(tmp_path))
    first, second = task.examples("en")
    assert first.candidates == ("The keys are here.", "The keys is here.")
    assert second.candidates == ('He said "I am".', 'He said "I is".')
    assert [example.category for example in task.examples("fa")] == ["SV-P"]
    assert task.categories() == ["SP-P", "SV-#", "SV-P"]
    records = task.predict(tiny_model("llama"), tiny_tokenizer(), "fa", task.examples("fa"))
    assert len(records[0]["scores"]) == 2


def test_every_language_of_multiblimp_has_a_code() -> None:
    """Its 101 languages, by the harness' list of them."""
    lm_eval = pytest.importorskip("lm_eval")
    files = (Path(lm_eval.__file__).parent / "tasks" / "multiblimp").glob("multiblimp_*.yaml")
    wanted = {file.stem.removeprefix("multiblimp_") for file in files}
    known = set(MultiBlimp(LISTED).corpus.language_codes.values())
    assert len(wanted) == 101
    assert wanted <= known
    assert language("wbp").name == "Warlpiri"
