"""The feature analysis through the command line: it measures, draws, and prunes nothing."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_runs import tiny_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlprune.data.demonstrations import MonolingualDemonstrations
from mlprune.evaluation.tasks import PerplexityTask
from mlprune.models.tokens import encode

RUN = Path("lightning_logs/version_0")
GROUPS = {
    "fr": {
        "class_path": "mlprune.data.demonstrations.MonolingualDemonstrations",
        "init_args": {"lang": "fr", "shots": 2},
    },
    "fr-en": {
        "class_path": "mlprune.data.demonstrations.TranslationDemonstrations",
        "init_args": {"source_lang": "fr", "shots": 2},
    },
}


def write(folder: Path, model: Path, **settings: object) -> Path:
    config = tiny_config(model)
    config["data"] |= {"demonstrations": GROUPS, "tasks": None}
    callback = {"class_path": "mlprune.callbacks.FeatureAnalysis", "init_args": settings}
    config["trainer"]["callbacks"] = [callback]
    file = folder / "analysis.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def test_it_measures_and_prunes_nothing(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    status, _, err = mlprune("validate", "--config", write(tmp_path, tiny_folder, percent=25, top=5))
    assert status == 0, err
    assert not list(RUN.glob("masks*"))
    assert not (RUN / "pruned").exists()
    assert (RUN / "report.html").is_file()
    rows = list(csv.DictReader((RUN / "features.csv").open()))
    assert list(rows[0]) == ["group", "layer", "dimension", "magnitude"]
    assert {row["group"] for row in rows} == {"fr", "fr-en"}
    assert {row["layer"] for row in rows} == {"0", "1", "2", "3"}
    # by hand
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_folder), AutoModelForCausalLM.from_pretrained(tiny_folder)
    texts = MonolingualDemonstrations("fr", shots=2).prompts(tokenizer, 5, seed=0)
    norms = []
    for text in texts:
        ids = torch.tensor([encode(tokenizer, text.text, model.config.vocab_size)[:100]])
        with torch.no_grad():
            norms.append(model(ids, output_hidden_states=True).hidden_states[2][0].double().norm(dim=0))
    expected = torch.stack(norms).mean(0)
    found = [float(row["magnitude"]) for row in rows if (row["group"], row["layer"]) == ("fr", "2")]
    assert found == pytest.approx(expected.tolist(), rel=1e-4)
    table = json.loads((RUN / "overlap.json").read_text())
    assert (table["percent"], table["groups"], table["layers"]) == (25, ["fr", "fr-en"], ["0", "1", "2", "3"])
    linear = load_file(RUN / "features.linear.safetensors")
    assert linear["fr-en/model.layers.1.mlp.down_proj"].shape == (64,)
    names = {path.stem for path in (RUN / "figures").glob("*.png")}
    assert {name for name in names if name.startswith("similarity")} == {
        "similarity",
        "similarity.depth",
        "similarity.linear.depth",
    }
    alike = list(csv.DictReader((RUN / "similarity.csv").open()))
    assert {(row["group"], row["other"]) for row in alike} == {("fr", "fr-en")}
    assert [row["layer"] for row in alike][:5] == ["0", "1", "2", "3", "model.layers.0.self_attn.q_proj"]
    assert {row["cosine"] for row in alike} == {"1"}  # prompts are cut before the English begins
    assert names >= {"overlap", "overlap.depth", "overlap.linear.depth", "top5.fr", "top5.fr-en", "top5.linear.fr"}
    linear = {name.removeprefix("overlap.linear.") for name in names if name.startswith("overlap.linear.")}
    # one figure for the layers that read the same
    assert linear == {"depth", "self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"}
    assert table["calibration"]["fr"]["prompts"] == 5


def test_figures_can_be_left_out(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write(tmp_path, tiny_folder, figures=False, linear_inputs=False)
    assert mlprune("validate", "--config", config)[0] == 0
    assert not (RUN / "figures").exists()
    assert not (RUN / "features.linear.safetensors").exists()


def test_wrong_settings_end_in_one_line(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    status, _, err = mlprune("validate", "--config", write(tmp_path, tiny_folder, percent=0))
    assert (status, err.count("\n")) == (2, 1)
    assert "percent" in err


def test_evaluated_texts_are_measured_dense_and_pruned(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = tiny_config(tiny_folder)
    config["trainer"]["callbacks"] = [{"class_path": "mlprune.callbacks.EvaluatedFeatures"}]
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    status, _, err = mlprune("fit", "--config", file)
    assert status == 0, err
    rows = list(csv.DictReader((RUN / "features.test.csv").open()))
    assert list(rows[0]) == ["stage", "task", "language", "layer", "dimension", "magnitude"]
    assert {row["stage"] for row in rows} == {"dense", "pruned"}
    assert {(row["task"], row["language"]) for row in rows} >= {
        ("nli", "fr"),
        ("translation", "sw"),
        ("perplexity", "en"),
    }
    assert (RUN / "figures" / "features.test.png").is_file()
    # by hand, on the texts of one task
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_folder), AutoModelForCausalLM.from_pretrained(RUN / "pruned")
    norms = []
    for example in PerplexityTask(["fr"], limit=3).examples("fr"):
        ids = torch.tensor([encode(tokenizer, example.text, model.config.vocab_size)[:100]])
        with torch.no_grad():
            norms.append(model(ids, output_hidden_states=True).hidden_states[3][0].double().norm(dim=0))
    place = ("pruned", "perplexity", "fr", "3")
    found = [float(row["magnitude"]) for row in rows if tuple(row.values())[:4] == place]
    assert found == pytest.approx(torch.stack(norms).mean(0).tolist(), rel=1e-4)


def test_two_processes_measure_what_one_measures(tmp_path: Path, tiny_folder: Path) -> None:
    root = Path(__file__).parents[2]
    tables = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        config = write(folder, tiny_folder, percent=25, figures=False)
        command = [sys.executable, root / "main.py", "validate", "--config", config, "--trainer.devices", devices]
        command += ["--trainer.strategy", "ddp" if devices > 1 else "auto"]
        settings = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1"}
        run = subprocess.run(list(map(str, command)), cwd=folder, env=settings, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        tables.append(list(csv.DictReader((folder / RUN / "features.csv").open())))
        overlap = (folder / RUN / "overlap.json").read_text()
    one, two = ([float(row.pop("magnitude")) for row in table] for table in tables)
    assert tables[0] == tables[1]
    assert two == pytest.approx(one, rel=1e-9)
    assert overlap == (tmp_path / "1" / RUN / "overlap.json").read_text()
