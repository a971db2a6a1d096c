"""A saved checkpoint evaluated by lm-evaluation-harness itself gives our accuracy and our log-likelihoods."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from mlprune.data.corpora import LocalFiles
from mlprune.evaluation.tasks import (
    Belebele,
    CandidateTask,
    GlobalMmluLite,
    Include,
    MultiBlimp,
    PawsX,
    Sib200,
    Xcopa,
    Xnli,
    XStoryCloze,
    XWinograd,
)
from mlprune.evaluation.tasks.scored import ScoredTask
from mlprune.models.loading import ModelSource
from mlprune.models.saving import save_checkpoint
from mlprune.pruning import Unstructured, Wanda, prune_model

pytest.importorskip("lm_eval", reason='needs the extra "interop": pip install "mlprune[interop]"')

TASK = """
task: local_nli
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{file}"}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_target: "{{{{['entailment', 'neutral', 'contradiction'].index(label)}}}}"
doc_to_choice: "{{{{[premise+', right? Yes, '+hypothesis, premise+', right? Also, '+hypothesis, premise+', right? No, '+hypothesis]}}}}"
metric_list: [{{metric: acc}}]
"""  # noqa: E501
OVERRIDE = """
include: {file}
task: local
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: "{rows}"}}}}
training_split: null
validation_split: null
test_split: test
fewshot_split: test
metric_list: [{{metric: acc}}]
"""
WORDS = ("rain", "sun", "a cat", "the river", "music", "bread", "late", "warm", "nobody", "never")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_harness_finds_our_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    ids = torch.randint(2, 200, (4, 30), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
    prune_model(model, batches, Wanda(), Unstructured(0.5))
    save_checkpoint(model, tokenizer, tmp_path / "pruned", lambda folder: None)
    labels = ("entailment", "neutral", "contradiction")
    rows = [
        {"premise": f"It is {word} here", "hypothesis": f"There was {other}.", "label": labels[(i + j) % 3]}
        for i, word in enumerate(WORDS[:6])
        for j, other in enumerate(WORDS[:5])
    ]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "local_nli.yaml").write_text(TASK.format(file=tmp_path / "en.jsonl"))

    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "pruned"), "dtype": "float32", "max_length": 256},
        tasks=["local_nli"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        device="cpu",
        batch_size=4,
        log_samples=True,
        bootstrap_iters=0,
    )

    source = ModelSource(str(tmp_path / "pruned"), "float32")
    task = CandidateTask("nli", ["en"], LocalFiles(f"{tmp_path}/{{lang}}.jsonl"), "xnli-native")
    records = task.predict(source.load_model(), source.load_tokenizer(), "en", task.examples("en"))
    accuracy = sum(record["prediction"] == record["label"] for record in records) / len(records)
    assert results["results"]["local_nli"]["acc,none"] == pytest.approx(accuracy)
    samples = sorted(results["samples"]["local_nli"], key=lambda sample: sample["doc_id"])
    for sample, record in zip(samples, records, strict=True):
        assert [float(value) for ((value, _),) in sample["resps"]] == pytest.approx(record["scores"], abs=1e-3)


STORY = {f"input_sentence_{i}": f"Sentence {i}." for i in range(1, 5)}
OPTIONS = {"sample_id": "a/1"} | {f"option_{letter}": f"{letter.upper()}!" for letter in "abcd"}
PASSAGE = {"link": "https://a.org", "question_number": 1, "flores_passage": "It {rains}.", "question": " Does it? "}
PASSAGE |= {f"mc_answer{i}": f"Answer {i}" for i in range(1, 5)} | {"correct_answer_num": "2"}
SETS = {
    "xnli/xnli_fr.yaml": ("fr", {"premise": "Il pleut.", "hypothesis": "Il vente.", "label": 0}),
    "xnli/xnli_ur.yaml": ("ur", {"premise": "A.", "hypothesis": "B.", "label": 2}),
    "xnli/xnli_zh.yaml": ("zh", {"premise": "下雨了。", "hypothesis": "有风。", "label": 1}),
    "paws-x/paws_fr.yaml": ("fr", {"sentence1": "Il n' ( y ) va .", "sentence2": "Elle , non .", "label": 1}),
    "paws-x/paws_ko.yaml": ("ko", {"sentence1": "A , b ;", "sentence2": 'C " d " .', "label": 0}),
    "xcopa/default_it.yaml": (
        "it",
        {"premise": "Piove. ", "choice1": "Era buio.", "choice2": "Esco.", "question": "cause", "label": 0},
    ),
    "xcopa/default_th.yaml": (
        "th",
        {"premise": "ฝนตก.", "choice1": "A b.", "choice2": "C.", "question": "effect", "label": 1},
    ),
    "xstorycloze/default_sw.yaml": (
        "sw",
        STORY | {"sentence_quiz1": "A bad end.", "sentence_quiz2": "A good end.", "answer_right_ending": 2},
    ),
    "xwinograd/xwinograd_pt.yaml": (
        "pt",
        {"sentence": "O copo caiu porque _ quebrou .", "option1": "o copo", "option2": "a mesa", "answer": "1"},
    ),
    "belebele/belebele_sin_Latn.yaml": ("si_Latn", PASSAGE),
    "belebele/belebele_kor_Hang.yaml": ("ko", PASSAGE),
    "global_mmlu/default/sw/_sw_template_yaml": ("sw", OPTIONS | {"question": " Ni nini? ", "answer": "C"}),
    "include/default/North Macedonian/_north_macedonian_template_yaml": (
        "mk",
        OPTIONS | {"question": "Што?\n", "answer": 3},
    ),
    "afrobench/sib/prompt_1/sib_yor.yaml": ("yo", {"index_id": 7, "text": "Ó dára.", "category": "health"}),
    "multiblimp/multiblimp_fra.yaml": ("fr", {"sen": "Elle rit.", "wrong_sen": "Elle rient.", "phenomenon": "SV-#"}),
}
CLASSES: dict[str, Callable[..., ScoredTask]] = {
    "xnli": partial(Xnli, template="xnli-native"),
    "paws-x": PawsX,
    "xcopa": Xcopa,
    "xstorycloze": XStoryCloze,
    "xwinograd": XWinograd,
    "belebele": Belebele,
    "global_mmlu": GlobalMmluLite,
    "include": Include,
    "afrobench": Sib200,
    "multiblimp": MultiBlimp,
}
RENAMED = {"multiblimp": {"good": "sen", "bad": "wrong_sen", "phenomenon": "phenomenon"}}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("file", SETS)
def test_texts_are_those_of_the_harness_own_tasks(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (lang, row), name = SETS[file], file.split("/")[0]
    (tmp_path / f"rows.{lang}.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "local.yaml").write_text(
        OVERRIDE.format(file=Path(lm_eval.__file__).parent / "tasks" / file, rows=tmp_path / f"rows.{lang}.jsonl")
    )
    theirs = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False).load(["local"])["tasks"]["local"]
    theirs.build_all_requests(rank=0, world_size=1)
    task = CLASSES[name]([lang], corpus=LocalFiles(f"{tmp_path}/rows.{{lang}}.jsonl", columns=RENAMED.get(name)))
    (example,) = task.examples(lang)
    requests = [request.args for request in theirs.instances]
    assert [context + continuation for context, continuation in requests] == list(example.candidates)
    assert [context for context, _ in requests] == list(example.given or [""] * len(requests))
    assert len(theirs.doc_to_choice(theirs.eval_docs[0])) == len(example.candidates)
    right = [(float(i == example.label), False) for i in range(len(example.candidates))]
    assert theirs.process_results(theirs.eval_docs[0], right)["acc"] == 1.0
    assert task.scoring.normalization == "sum"
