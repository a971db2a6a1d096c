"""The run that comes with the repository is the demo's own, on this code's formats."""

import json
from pathlib import Path

import yaml

from mlprune.runs.reading import SCHEMA_VERSION

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "lightning_logs" / "demo"


def contains(whole: object, part: object) -> bool:
    """Tell whether all that ``part`` sets is set so in ``whole``."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and contains(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


def test_its_config_is_still_the_demos() -> None:
    config = yaml.safe_load((DEMO / "config.yaml").read_text(encoding="utf-8"))
    demo = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    assert contains(config, demo)


def test_its_formats_are_current() -> None:
    for name, stage in (("results.dense.json", "dense"), ("results.json", "pruned")):
        results = json.loads((DEMO / name).read_text(encoding="utf-8"))
        assert results["schema_version"] == SCHEMA_VERSION
        assert results["stage"] == stage
        assert set(results) >= {
            "model",
            "sparsity",
            "seed",
            "config_hash",
            "versions",
            "tasks",
            "average",
            "rankc",
            "translation",
        }
    comparison = json.loads((DEMO / "comparison.json").read_text(encoding="utf-8"))
    markdown = (DEMO / "comparison.md").read_text(encoding="utf-8")
    assert comparison["sentences"]
    assert all(sentence in markdown for sentence in comparison["sentences"])
    for row in comparison["tasks"]["facts"].values():
        assert set(row) >= {"dense", "pruned", "delta", "p", "n"}


def test_the_readme_prints_what_it_ended_with() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    comparison = json.loads((DEMO / "comparison.json").read_text(encoding="utf-8"))
    assert [sentence for sentence in comparison["sentences"] if sentence not in readme] == []


def test_a_visitor_finds_everything_but_weights() -> None:
    names = {file.name for file in DEMO.rglob("*") if file.is_file()}
    assert {"report.html", "comparison.md", "layers.csv", "mlprune.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.endswith(".safetensors")]
    assert sum(file.stat().st_size for file in DEMO.rglob("*") if file.is_file()) < 4 * 2**20


def test_it_names_no_folder_of_the_machine_it_ran_on() -> None:
    home = ("/home/", "/root/", "/tmp/", "/Users/", "/work/", "/opt/")
    for name in (
        "pruned/mlprune.json",
        "config.yaml",
        "results.json",
        "results.dense.json",
        "comparison.json",
        "comparison.md",
        "report.html",
    ):
        text = (DEMO / name).read_text(encoding="utf-8")
        assert not [folder for folder in home if f'"{folder}' in text or f" {folder}" in text], name
