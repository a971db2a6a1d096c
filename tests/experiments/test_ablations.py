"""The matrix of ablated by measured language: whole, resumed, on two processes, and in Python."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny, tiny_model
from tiny_runs import RUN, start, tiny_config
from yaml import safe_dump

from mlprune.analysis.units import find_units, silenced
from mlprune.errors import UserError
from mlprune.interventions import UnitAblation
from mlprune.runs.folder import UNFINISHED

MONO = "mlprune.data.demonstrations.MonolingualDemonstrations"


def config(folder: Path, model: Path, **callback: Any) -> Path:
    callbacks = [{"class_path": "mlprune.callbacks.LanguageUnits", "init_args": {"top_rate": 0.1} | callback}]
    content = tiny_config(model, trainer={"callbacks": callbacks})
    languages = ("en", "fr", "sw")
    content["data"]["demonstrations"] = {
        lang: {"class_path": MONO, "init_args": {"lang": lang, "label": False, "shots": 1}} for lang in languages
    }
    content["data"]["tasks"] = [
        {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["en", "fr"], "limit": 3}}
    ]
    content["data"]["max_tokens"] = 250
    file = folder / "run.yaml"
    file.write_text(safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ablations")
    file = config(folder, save_tiny(folder / "model", "llama"))
    done = start(folder, "fit", "--config", file)
    assert done.returncode == 0, done.stderr
    return file, folder / RUN


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "ablation.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_matrix_is_that_of_predictions(run: tuple[Path, Path]) -> None:
    folder = run[1]
    rows = [row for row in rows_of(folder) if row["metric"] == "bits_per_char"]
    units = json.loads((folder / "units.json").read_text())["units"]
    assert {row["ablated"] for row in rows} == {lang for lang, own in units.items() if own}
    assert {row["units"] for row in rows} == {"units", "random", "units against random"}
    whole = {row["language"]: row["value"] for row in json.loads((folder / "results.dense.json").read_text())["figures"]
             if row["metric"] == "bits_per_char"}  # fmt: skip
    for row in rows:
        lang = row["ablated"]
        assert int(row["num_units"]) == sum(map(len, units[lang].values()))
        if row["units"] != "units against random":
            own = json.loads((folder / "ablations" / lang / row["units"] / "results.json").read_text())
            after = {each["language"]: each["value"] for each in own["figures"] if each["metric"] == "bits_per_char"}
            assert float(row["after"]) == pytest.approx(after[row["language"]])
            assert float(row["delta"]) == pytest.approx(after[row["language"]] - whole[row["language"]], abs=1e-12)
            assert own["interventions"] == {"UnitAblation": {"num_units": int(row["num_units"])}}
        assert float(row["low"]) <= float(row["delta"]) <= float(row["high"])
    assert (folder / "figures" / "ablation.png").stat().st_size > 0
    assert (folder / "figures" / "units.png").stat().st_size > 0


def test_units_csv_has_the_chosen_units(run: tuple[Path, Path]) -> None:
    with (run[1] / "units.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    units = json.loads((run[1] / "units.json").read_text())["units"]
    expected = {(lang, block, str(unit)) for lang, own in units.items() for block, some in own.items() for unit in some}
    assert {(row["language"], row["block"], row["unit"]) for row in rows} == expected
    for row in rows:
        p = torch.tensor([float(row[f"p.{lang}"]) for lang in ("en", "fr", "sw")], dtype=torch.float64)
        share = p / p.sum()
        assert float(row["entropy"]) == pytest.approx(float(-(share * share.clamp(min=1e-300).log()).sum()), abs=1e-6)


def test_two_processes_give_the_same(run: tuple[Path, Path], tmp_path: Path) -> None:
    file, whole = run
    done = start(tmp_path, "fit", "--config", file, "--trainer.devices", 2, "--trainer.strategy", "ddp")
    assert done.returncode == 0, done.stderr
    for name in ("units.csv", "ablation.csv"):
        assert (tmp_path / RUN / name).read_bytes() == (whole / name).read_bytes()


def test_a_resumed_run_evaluates_what_is_not_there(mlprune: Any, run: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / RUN
    shutil.copytree(run[1], folder)
    (folder / UNFINISHED).mkdir()
    (folder / "ablations" / "fr" / "random" / "results.json").unlink()  # as if killed before it was complete
    (folder / "ablation.csv").unlink()
    status, _, err = mlprune("fit", "--resume", folder)
    assert status == 0, err
    assert err.count("evaluated before") == 1 + 5
    assert (folder / "ablation.csv").read_bytes() == (run[1] / "ablation.csv").read_bytes()


def test_the_intervention_reads_the_units_of_a_run(run: tuple[Path, Path]) -> None:
    model, ids = tiny_model("llama"), torch.tensor([[5, 6, 7, 8]])
    found = UnitAblation(run=run[1], lang="fr")
    other = UnitAblation(run=run[1], lang="fr", random=True)
    assert {block: len(own) for block, own in found.units.items()} == {b: len(own) for b, own in other.units.items()}
    assert not any(set(own) & set(other.units[block]) for block, own in found.units.items())
    with torch.no_grad():
        with silenced(find_units(model), found.units):
            expected = model(ids).logits
        with found.applied(model):
            assert torch.equal(model(ids).logits, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either units, or run and lang"),
        ({"units": {0: [1]}, "run": "x", "lang": "fr"}, "give either units, or run and lang"),
        ({"run": "x"}, "give either units, or run and lang"),
        ({"run": "nowhere", "lang": "fr"}, r"'nowhere/units.json' is missing; give a run folder of LanguageUnits"),
    ],
)
def test_the_intervention_names_what_is_wrong(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        UnitAblation(**arguments)


def test_a_language_without_units_is_named(run: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"has no language 'hi'; give one of en, fr, sw"):
        UnitAblation(run=run[1], lang="hi")


def test_groups_must_be_languages(mlprune: Any, tmp_path: Path, run: tuple[Path, Path]) -> None:
    group = '{"class_path": "TranslationDemonstrations", "init_args": {"source_lang": "fr"}}'
    for flag, message in (
        (f"--data.demonstrations.fr={group}", "group 'fr' is in fr and en; give MonolingualDemonstrations"),
        (f"--data.demonstrations.sw={group.replace('Translation', 'Monolingual').replace('source_', '')}",
         "at least two languages, each in one group"),
        ("--trainer.max_epochs=1", "LanguageUnits trains nothing"),
    ):  # fmt: skip
        status, _, err = mlprune("fit", "--config", run[0], flag)
        assert status != 0
        assert message in err
