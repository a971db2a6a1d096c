"""Task files of lm-evaluation-harness for every type of output, with data made here."""

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = ("rain", "sun", "a cat", "the river", "music", "bread", "late", "warm", "nobody", "never", "salt", "gold")
ACCURACY = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}


def metric(name: str, aggregation: str = "mean", higher: bool = True, **options: Any) -> dict[str, Any]:
    return {"metric": name, "aggregation": aggregation, "higher_is_better": higher, **options}


CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}} Is it so?",
    "doc_to_choice": ["yes", "not at all"],
    "doc_to_target": "label",
}
TASKS: dict[str, dict[str, Any]] = {
    "choice": CHOICE
    | {
        "metric_list": [
            ACCURACY,
            *map(metric, ("acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")),
            metric("f1", "f1"),
            metric("mcc", "matthews_corrcoef"),
            metric("brier_score", "brier_score", higher=False),
        ]
    },
    "shots": CHOICE
    | {"fewshot_split": "train", "num_fewshot": 2, "description": "Answer. ", "metric_list": [ACCURACY]},
    "inputs": {
        "output_type": "multiple_choice",
        "doc_to_text": "label",
        "doc_to_choice": "{{[question + ' I saw', question + ' She saw nothing but']}}",
        "doc_to_target": "{{word}}",
        "metric_list": [ACCURACY],
    },
    "several": {  # right answers
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["a", "b", "c"],
        "doc_to_target": "{{[0, label]}}",
        "metric_list": [ACCURACY],
    },
    "greedy": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}} ",
        "doc_to_target": "{{word}}",
        "metric_list": [metric("perplexity", "perplexity", higher=False), ACCURACY],
    },
    "texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} {{word}}",
        "metric_list": [
            metric("word_perplexity", "weighted_perplexity", higher=False),
            metric("byte_perplexity", "weighted_perplexity", higher=False),
            metric("bits_per_byte", "bits_per_byte", higher=False),
        ],
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}} Say it:",
        "doc_to_target": "{{word}}",
        "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 8, "do_sample": False},
        "filter_list": [
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": "(.)"}, {"function": "take_first"}]},
            {"name": "none", "filter": [{"function": "take_first"}]},
        ],
        "metric_list": [metric("exact_match"), metric("bleu", "bleu"), metric("chrf", "chrf")],
    },
}


def write_tasks(folder: Path, lang: str) -> Path:
    """Task files of every output type, with their data."""
    (folder / "tasks").mkdir(exist_ok=True)
    rows = [
        {"question": f"{lang}: it is {word} here{'!' * (i % 3)}", "word": word, "label": i % 2, "passage": str(i // 3)}
        for i, word in enumerate(WORDS)
    ]
    for split, own in (("test", rows), ("train", rows[:5])):
        lines = "".join(json.dumps(row) + "\n" for row in own)
        (folder / f"{lang}.{split}.jsonl").write_text(lines, encoding="utf-8")
    files = {split: str(folder / f"{lang}.{split}.jsonl") for split in ("train", "test")}
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
    for name, content in TASKS.items():
        own = data | content | {"task": f"{name}_{lang}"}
        (folder / "tasks" / f"{name}_{lang}.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    return folder / "tasks"
