"""A new candidate task needs YAML only; translations, facts and perplexity come from YAML alike."""

import json
from pathlib import Path

from tiny_runs import write_config

CLAIMS = {
    "class_path": "mlprune.evaluation.tasks.CandidateTask",
    "init_args": {
        "name": "claims",
        "languages": ["en", "fr"],
        "corpus": {
            "class_path": "mlprune.data.corpora.LocalFiles",
            "init_args": {"path": "claims.{lang}.tsv", "columns": {"text": "Body", "verdict": "Gold"}},
        },
        "template": {"en": "{text} This is {label}", "fr": "{text} C'est {label}"},
        "verbalizer": {"en": {"no": "false", "yes": "true"}, "fr": {"no": "faux", "yes": "vrai"}},
        "label_column": "verdict",
        "labels": {"0": "no", "1": "yes"},
        "rankc_matrix": True,
    },
}


def test_a_task_of_ones_own(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    for lang in ("en", "fr"):
        rows = "".join(f"{i % 2}\tClaim number {i} in {lang}.\n" for i in range(6))
        (tmp_path / f"claims.{lang}.tsv").write_text("Gold\tBody\n" + rows, encoding="utf-8")
    config = write_config(tmp_path, tiny_folder, data={"tasks": [CLAIMS]})
    status, _, errors = mlprune("test", "--config", config)
    assert status == 0, errors
    (file,) = tmp_path.rglob("results.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["tasks"]["claims"]["fr"]["n"] == 6
    assert 0 < results["rankc"]["claims"]["en-fr"] <= 1
    assert 0 < results["rankc_expected"]["claims"]["en-fr"] < 1
    lines = (file.parent / "predictions" / "claims.fr.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(lines[0])) >= {"id", "label", "scores", "prediction"}


def test_a_mistake_is_told_before_any_model_is_loaded(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    claims = CLAIMS | {"init_args": CLAIMS["init_args"] | {"labels": {"0": "nope"}}}
    status, _, errors = mlprune("test", "--config", write_config(tmp_path, tiny_folder, data={"tasks": [claims]}))
    assert status != 0
    assert "labels: 'nope' is not one of no, yes" in errors
    assert "Traceback" not in errors
