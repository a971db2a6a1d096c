"""The shipped studies: each config has its results, which are those that it declares and that the README tells."""

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from mlprune.comparison import Difference
from mlprune.comparison.schema1 import read_line
from mlprune.studies.recipes import expand

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "studies").glob("*.yaml"))
RESULTS = ROOT / "lightning_logs" / "studies"
README = (ROOT / "configs" / "studies" / "README.md").read_text(encoding="utf-8")
INTERVAL = re.compile(r"([+-]\d+\.\d+)(?: points)? \((?:95% CI )?([+-]\d+\.\d+) to ([+-]\d+\.\d+)")
LOOKED_AT = {"architectures": 2}  # how often, where more than once; the README says so
FILES = {"study.csv", "study.json", "report.html"}


def section(name: str) -> str:
    """What the README tells of a study."""
    found = re.search(rf"^## `{name}`.*?\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"configs/studies/README.md has no section on {name}"
    return " ".join(found[1].split())


def texts_of(rows: Iterable[Difference]) -> set[tuple[str, str, str]]:
    """Every difference with its interval, as texts."""
    found = set()
    for row in rows:
        delta, low, high = (row.measure.text(value, sign=True) for value in (row.delta, row.low, row.high))
        found.add((delta, low, high))
    return found


def test_every_result_is_of_a_config() -> None:
    assert {path.name for path in RESULTS.iterdir()} == {path.stem for path in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_results_are_those_of_the_config_and_the_readme_tells_them(config: Path) -> None:
    declared = yaml.safe_load(config.read_text(encoding="utf-8"))["study"]
    folder = RESULTS / config.stem
    assert {path.name for path in folder.iterdir()} == FILES
    assert all((folder / name).stat().st_size < 1_000_000 for name in FILES)
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert study["question"] == declared["question"]
    assert {key: study["endpoint"][key] for key in declared["endpoint"]} == declared["endpoint"]
    for part in ("select", "confirm"):
        assert (study[part] or {}).get("rows") == declared.get(part, {}).get("rows")
    recipes = [recipe["name"] for recipe in study["recipes"] if recipe["control"] is None]
    assert recipes == [recipe.name for recipe in expand(declared["recipes"], declared.get("grid"))]
    assert list(study["looks"].values()) == [LOOKED_AT.get(config.stem, 1)]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert study["answer"].split()[-1][:-1] in page
    assert ("judged in these alone" in page) == any(recipe.get("endpoint") for recipe in study["recipes"])

    rows = list(csv.DictReader((folder / "study.csv").read_text(encoding="utf-8").splitlines()))
    beside = [Difference.from_json(row) for control in study["controls"] for row in (control, control["beyond"])]
    told, known = section(config.stem), texts_of([*map(read_line, rows), *beside])
    assert (quoted := INTERVAL.findall(told)), "a difference with its interval"
    assert not set(quoted) - known, "numbers that study.csv does not have"
    sizes = {row["n"] for row in rows} | {str(row["clusters"]) for row in rows}
    assert (counts := re.findall(r"\bn = (\d+)", told))
    assert set(counts) <= sizes
    first = config.read_text(encoding="utf-8").splitlines()[:9]
    assert [line.split(":")[0] for line in first if re.match(r"# (Question|Design|Endpoint):", line)] == [
        "# Question",
        "# Design",
        "# Endpoint",
    ]
