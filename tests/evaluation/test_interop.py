"""A saved checkpoint evaluated by lm-evaluation-harness itself gives our accuracy and our log-likelihoods."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from mlprune.data.corpora import LocalFiles
from mlprune.evaluation.tasks import CandidateTask, Xnli
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
    recipe = {"importance": "Wanda", "sparsity": 0.5}
    card = {"base_model": "tiny", "license": "", "notice": ""}
    save_checkpoint(model, tokenizer, tmp_path / "pruned", recipe, card)
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


@pytest.mark.parametrize("lang", ["en", "fr", "sw", "zh", "ur"])
def test_native_templates_are_the_harness_own(lang: str, tmp_path: Path) -> None:
    import jinja2
    import lm_eval
    import yaml

    folder = Path(lm_eval.__file__).parent / "tasks" / "xnli"
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda _, node: node.value)
    theirs = yaml.load((folder / f"xnli_{lang}.yaml").read_text(encoding="utf-8"), loader)
    row = {"premise": "PREMISE", "hypothesis": "HYPOTHESIS", "label": 0}
    choices = jinja2.Environment().compile_expression(theirs["doc_to_choice"].strip("{} "))(**row)
    lines = ["language\tgold_label\tsentence1\tsentence2", f"{lang}\tentailment\tPREMISE\tHYPOTHESIS"]
    (tmp_path / "xnli.test.tsv").write_text("\n".join(lines) + "\n")
    (example,) = Xnli([lang], path=str(tmp_path), template="xnli-native").examples(lang)
    assert [text.removeprefix(" ") for text in example.candidates] == choices
