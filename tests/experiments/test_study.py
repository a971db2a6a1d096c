"""A study: recipes chosen on some rows, judged once on others; planted effects come to the right sentence."""

import csv
import html
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted_studies import STUDY, read, write
from tiny_runs import RUN, bundled_task, tiny_config

from mlprune.experiments.time_left import TimeLeft
from mlprune.studies.plan import CONFIRM
from mlprune.studies.store import PREDICTIONS, Store


def interrupt(patch: pytest.MonkeyPatch, kept: int, is_torn: bool) -> None:
    """Have a start of a study end once it has kept some evaluations: within the next one, or while that is moved."""
    from planted import Planted

    keep, predict, seen = Store.keep, Planted.predict, {"kept": 0, "batches": 0}

    def keeping(self: Store, *args: Any) -> None:
        if is_torn and seen["kept"] == kept:
            self.place(*args).mkdir(parents=True)
            (self.folder / PREDICTIONS).rename(self.place(*args) / PREDICTIONS)
            raise KeyboardInterrupt
        keep(self, *args)
        seen["kept"] += 1

    def predicting(self: Planted, *args: Any) -> list[dict[str, Any]]:
        seen["batches"] += seen["kept"] == kept and not is_torn
        if seen["batches"] == 3:
            raise KeyboardInterrupt
        return predict(self, *args)

    patch.setattr(Store, "keep", keeping)
    patch.setattr(Planted, "predict", predicting)


def test_planted_effects_come_to_the_right_sentence_whatever_interrupts(
    mlprune, tiny_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    config = write(tmp_path, tiny_folder)
    status, out, err = mlprune("fit", "--config", config, "--trainer.default_root_dir", "whole")
    assert status == 0, err
    assert err.count("calibrating the dense model once") == 2, "each seed once, for all recipes and rounds"
    study = read(Path("whole", RUN))
    verdicts = {row["system"]: row["verdict"] for row in study["confirmed"]}
    assert verdicts["skill"] == "helped"
    assert verdicts["nothing"] == "too few to tell"
    assert verdicts["shift"] == "a shift of labels"
    assert "constants added to its labels' scores" in study["answer"]
    fitted = study["controls"][0]
    assert fitted["system"] == "dense with fitted constants"
    assert fitted["delta"] > 0 < fitted["beyond"]["delta"]
    assert list(study["looks"].values()) == [1]
    assert study["answer"] in " ".join(out.split())
    assert "skill changed reviews accuracy by +" in study["answer"]
    rows = list(csv.DictReader(Path("whole", RUN, "study.csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["role"], row["recipe"]) for row in rows} == {
        (role, recipe) for role in ("select", "confirm") for recipe in STUDY["recipes"]
    }
    page = html.unescape(Path("whole", RUN, "report.html").read_text(encoding="utf-8"))
    said = ("Selection, by the probability of the right answer", "Selection against confirmation")
    assert all(text in page for text in (STUDY["question"], study["answer"], *said))

    start, resume = ("--config", config, "--trainer.default_root_dir", "broken"), ("--resume", Path("broken", RUN))
    for flags, kept, is_torn in ((start, 1, False), (resume, 2, True), (resume, 4, False)):
        with monkeypatch.context() as patch:
            interrupt(patch, kept, is_torn)
            with pytest.raises(SystemExit):
                mlprune("fit", *flags)
    selected, confirmed = (
        len(list(Path("broken", RUN).rglob(f"{part}/results.json"))) for part in ("select.0", CONFIRM)
    )
    assert (selected, confirmed) == (6, 1), "so that the last interruption is in the confirmation"
    status, _, err = mlprune("fit", *resume)
    assert status == 0, err
    for name in ("study.json", "study.csv", "study.tex"):
        assert Path("whole", RUN, name).read_bytes() == Path("broken", RUN, name).read_bytes(), name
    whole, broken = (sorted(Path(folder, RUN, "recipes").rglob("*.json*")) for folder in ("whole", "broken"))
    assert [a.read_bytes() for a in whole] == [b.read_bytes() for b in broken]

    status, _, err = mlprune("fit", "--config", config, "--trainer.default_root_dir", "whole")
    assert status == 2
    assert "looked at once already" in err
    assert not Path("whole", RUN).with_name("version_1").exists()
    (part,) = Path("whole", RUN, "predictions.dense").glob("reviews.fr.jsonl")
    complete = part.read_text(encoding="utf-8")
    part.write_text("\n".join(complete.splitlines()[:-1]) + "\n", encoding="utf-8")
    options = ("--study.look-again", "true", "--dense", Path("whole", RUN))
    status, _, err = mlprune("fit", "--config", config, *options)
    assert status == 2
    assert "lacks row '155' of task 'reviews', language 'fr'" in err
    part.write_text(complete, encoding="utf-8")
    again = (
        "--study.look-again",
        "true",
        "--study.seeds",
        "[0]",
        "--study.confirm.top",
        "1",
        "--study.controls",
        "true",
    )
    status, _, err = mlprune("fit", "--config", config, "--dense", Path("whole", RUN), *again)
    assert status == 0, err
    study = read(RUN)
    assert list(study["looks"].values()) == [2]
    controls = [recipe["name"] for recipe in study["recipes"] if recipe["control"] is not None]
    assert controls == [
        f"skill: {name}" for name in ("random scores", "magnitude", "monolingual text", "code", "highest dropped")
    ]
    assert {row["system"] for row in study["controls"]} >= set(controls)
    assert all(row["beyond"]["system"] == "skill" for row in study["controls"])
    assert "on rows that were looked at 2 times" in study["answer"]
    assert "looked at 2 times" in (RUN / "report.html").read_text(encoding="utf-8")


def test_recipes_are_judged_against_one_of_them(mlprune, tiny_folder: Path, tmp_path: Path) -> None:
    endpoint = {**STUDY["endpoint"], "against": "nothing"}
    config = write(tmp_path, tiny_folder, endpoint=endpoint, confirm={"rows": "40-155", "top": 1}, seeds=[0])
    status, _, err = mlprune("fit", "--config", config)
    assert status == 0, err
    study = read(RUN)
    assert [list(own) for own in study["gains"]] == [["skill", "shift"]]
    (row,) = study["confirmed"]
    assert (row["system"], row["reference"], row["verdict"]) == ("skill", "nothing", "helped")
    assert study["answer"].startswith("Of 2 recipes, 1 was judged once")
    assert "against nothing (95% CI" in study["answer"]
    rows = list(csv.DictReader((RUN / "study.csv").read_text(encoding="utf-8").splitlines()))
    judged = {row["recipe"] for row in rows if row["role"] == "confirm" and row["reference"] == "dense"}
    assert judged == {"nothing", "skill"}, "the reference is judged too, against the dense model"


def test_screening_chooses_the_same_where_no_screened_row_is_turned(
    mlprune, tiny_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    studies: list[dict[str, Any]] = []
    clocks: list[tuple[float, TimeLeft]] = []
    begin = TimeLeft.__init__

    def begun(self: TimeLeft, rows: float) -> None:
        begin(self, rows)
        clocks.append((rows, self))

    monkeypatch.setattr(TimeLeft, "__init__", begun)
    for name, screen in (("all", None), ("screened", 2.2)):
        select = {"rows": "0-39", "metric": "accuracy", "screen": screen}
        config = write(tmp_path, tiny_folder, seeds=[0], select=select, confirm={"rows": "40-59", "top": 2})
        status, _, err = mlprune("fit", "--config", config, "--trainer.default_root_dir", name)
        assert status == 0, err
        studies.append(read(Path(name, RUN)))
    (rows, _), (fewer, _) = clocks
    assert rows == (3 * 40 + 2 * 20) * 3, "in three languages"
    assert [clock.rows for _, clock in clocks] == [0, 0], "no more and no fewer were asked than was expected"
    whole, screened = studies
    for key in ("selected", "gains", "selection", "confirmed", "answer"):
        assert whole[key] == screened[key], key
    assert whole["screening"] is None
    found = screened["screening"]
    assert found["turned"] == 0 < found["largest_turned"]["reviews"] < 2.2
    assert 0.05 < found["share"] < 0.5
    assert rows - fewer == found["asked"] / 2, "what was screened, of the recipe that was not chosen"
    assert found["asked"] == round(2 * found["share"] * 120), "of both chosen recipes, in three languages"
    page = html.unescape(Path("screened", RUN, "report.html").read_text(encoding="utf-8"))
    assert f"of {found['asked']} such answers of the chosen recipes, asked at last, 0 were turned." in page


def intervention(**options: Any) -> dict[str, Any]:
    return {"class_path": "mlprune.interventions.LRP2", "init_args": options}


def changed(**parts: Any) -> dict[str, Any]:
    """The study with some of its parts changed key by key."""
    return {name: {**STUDY[name], **part} if isinstance(part, dict) else part for name, part in parts.items()}


MISTAKES = {
    "metric": (changed(endpoint={"metric": "acuracy"}), ["endpoint.metric", "'acuracy'", "did you mean 'accuracy'"]),
    "task": (changed(endpoint={"tasks": ["review"]}), ["endpoint.tasks", "'review'", "did you mean 'reviews'"]),
    "language": (changed(endpoint={"languages": ["fr", "de"]}), ["endpoint.languages", "'de'", "es"]),
    "against nobody": (changed(endpoint={"against": "skil"}), ["endpoint.against", "'skil'", "did you mean 'skill'"]),
    "against itself": (
        {**changed(endpoint={"against": "a"}), "recipes": {"a": {}}, "confirm": {"rows": "40-155"}},
        ["endpoint.against", "only recipe"],
    ),
    "rows that overlap": (changed(select={"rows": "0-40"}), ["both have row '40'", "must not have chosen"]),
    "rows that are not there": (changed(confirm={"rows": "40-400"}), ["there is no row 400"]),
    "selected by nothing": (changed(select={"metric": "luck"}), ["select.metric", "'luck'"]),
    "no endpoint": ({"endpoint": None}, ["study.confirm needs study.endpoint"]),
    "no recipes": ({"recipes": None}, ["study.endpoint", "recipes or study.grid"]),
    "misspelt key": ({"recipes": {"a": {"importanse": "Wanda"}}}, ["'importanse'", "did you mean 'importance'"]),
    "misspelt option": ({"grid": {"pruning.pattern.sparsty": [0.1]}}, ["sparsty", "recipe"]),
    "misspelt class": ({"recipes": {"a": {"importance": "Wand"}}}, ["recipe 'a'", "Wand"]),
    "misspelt key of the model": (
        {"recipes": {"a": {"model.nme": "x"}}},
        ["recipe 'a': 'model.nme' is not a key; did you mean 'model.name'?"],
    ),
    "bad value": (
        {"recipes": {"a": {"pattern.sparsity": 1.5}}},
        ["error: study, recipe 'a': Unstructured: sparsity 1.5 is not allowed"],
    ),
    "bad value within an intervention": (
        {"recipes": {"a": {"intervention": intervention(layers=[2, 1])}}},
        ["error: study, recipe 'a': LRP2: layers 2, 1 are not allowed"],
    ),
    "misspelt option of an intervention": (
        {"recipes": {"a": {"intervention": intervention(layrs=[1, 2])}}},
        ["recipe 'a': model.interventions: 'layrs' is not an option", "did you mean 'layers'"],
    ),
    "tasks of its own": ({"recipes": {"a": {"data.tasks": []}}}, ["data.tasks", "same for all recipes"]),
    "empty grid": ({"grid": {"pruning.pattern.sparsity": []}}, ["study.grid", "at least one"]),
    "seed twice": ({"seeds": [0, 0]}, ["study.seeds", "each once"]),
    "group that is not there": ({"recipes": {"a": {"groups": ["xx"]}}}, ["needs the group 'xx'", "mt"]),
    "judged elsewhere": (
        {"recipes": {"a": {"endpoint": {"languages": ["de"]}}}},
        ["study.recipes.a.endpoint.languages", "'de'", "es"],
    ),
    "judged by nothing": ({"recipes": {"a": {"endpoint": {"metric": "f1"}}}}, ["a.endpoint", "tasks and languages"]),
    "screened for nothing": (
        {"select": {"rows": "0-39", "screen": 1.0}, "confirm": None},
        ["study.select.screen needs study.confirm"],
    ),
    "screened elsewhere": (
        changed(select={"screen": {"review": 1.0}}),
        ["study.select.screen: 'review'", "did you mean 'reviews'"],
    ),
    "screened at nothing": (changed(select={"screen": 0.0}), ["study.select.screen 0 is not allowed", "above 0"]),
    "one folder for two": ({"recipes": {"a b": {}, "a-b": {}}}, ["folder name", "another name"]),
    "shard": ({"shard": "3/2"}, ["study.shard '3/2'", "1/4"]),
    "more parts than recipes": ({"shard": "1/4"}, ["study.shard 1/4", "there are 3 recipes"]),
    "earlier": ({"earlier": ["nowhere"]}, ["study.earlier", "nowhere"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_before_a_model_is_loaded(
    mlprune, tiny_folder: Path, tmp_path: Path, monkeypatch, mistake: str
) -> None:
    changes, said = MISTAKES[mistake]
    monkeypatch.setattr("mlprune.models.loading.ModelSource.load_model", None)
    status, _, err = mlprune("fit", "--config", write(tmp_path, tiny_folder, **changes))
    assert status == 2, err
    assert all(text in err.splitlines()[-1] for text in said), err
    assert not Path("lightning_logs").exists() or not any(Path("lightning_logs").iterdir())


def test_recipes_differ_in_classes_with_arguments(mlprune, tiny_folder: Path, tmp_path: Path) -> None:
    searched, asked = (bundled_task("reviews", ["fr"], rows=rows) for rows in ("0-2", "3-8"))
    lrp2 = {"class_path": "mlprune.interventions.LRP2", "init_args": {"validation": [searched], "num_sentences": 3}}
    ria = {"class_path": "mlprune.pruning.RIA", "init_args": {"exponent": 0.3}}
    config = tiny_config(tiny_folder, pruning={"propagate": "dense"})
    reading = {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["fr"], "limit": 2}}
    config["data"]["tasks"] = [reading, asked]
    endpoint = {"metric": "accuracy", "tasks": ["reviews"], "languages": ["fr"]}
    recipes = {"ria": {"importance": ria}, "lrp2": {"intervention": lrp2}}
    recipes |= {"few": {"num_prompts": 3}, "short": {"num_tokens": 64}, "none": {"pattern.sparsity": 0.0}}
    config["study"] = {"endpoint": endpoint, "controls": False, "recipes": recipes}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    status, _, err = mlprune("fit", "--config", tmp_path / "study.yaml")
    assert status == 0, err
    differs = {entry["name"]: entry["differs"] for entry in read(RUN)["recipes"]}
    score, (intervention,) = differs["ria"]["pruning.importance"], differs["lrp2"]["model.interventions"]
    assert (score["class_path"], score["init_args"]["exponent"]) == (ria["class_path"], 0.3)
    assert (intervention["class_path"], intervention["init_args"]["num_sentences"]) == (lrp2["class_path"], 3)
    found = {
        name: json.loads(next((RUN / "recipes" / name).rglob("results.json")).read_text()).get("interventions")
        for name in recipes
    }
    assert found["ria"] is None
    for said in ("group 'mt': 5 prompts, 500 tokens", "group 'mt.1': 3 prompts, 300 tokens", ": 1 prompts, 64 tokens"):
        assert err.count(said) == 1, "what recipes share is calibrated once, and what differs by itself"
    assert len(found["lrp2"]["LRP2"]["reviews"]["fr"]["pairs"]) == 6
    assert {entry["name"]: entry["left_out"] for entry in read(RUN)["recipes"]} == {
        name: ["perplexity"] if name == "lrp2" else [] for name in recipes
    }
    evaluated = {path.name for path in next((RUN / "recipes" / "lrp2").rglob("predictions")).iterdir()}
    assert evaluated == {"reviews.fr.jsonl"}
    page = html.unescape((RUN / "report.html").read_text(encoding="utf-8"))
    assert "lrp2 was not evaluated on this task" in page
    assert "recipe 'lrp2' is not evaluated on perplexity: its interventions do not work there" in err
    config["study"]["endpoint"] = {"metric": "bits_per_char", "languages": ["fr"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    status, _, err = mlprune("fit", "--config", tmp_path / "study.yaml")
    assert status != 0
    assert "recipe 'lrp2': its interventions do not work with task 'perplexity', which decides the study" in err


def test_the_papers_table_runs_on_a_tiny_model(mlprune, tiny_folder: Path, tmp_path: Path) -> None:
    fragments = Path(__file__).parents[2] / "configs" / "paper" / "fragments"
    study = yaml.safe_load((fragments / "table-contrastive.yaml").read_text(encoding="utf-8"))
    demonstrations = yaml.safe_load((fragments / "table-demonstrations-code.yaml").read_text(encoding="utf-8"))
    for own in demonstrations.values():
        own["init_args"].pop("corpus")  # the bundled ones, and the standard library's source
    study["recipes"]["lrp2"]["intervention"]["init_args"] = {"layers": [0, 2], "num_sentences": 3}
    study["endpoint"]["tasks"] = ["reviews"]
    config = write(tmp_path, tiny_folder, **study | {"select": None, "seeds": None, "confirm": {"rows": "0-5"}})
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["data"] |= {"demonstrations": demonstrations, "num_prompts": 2, "max_tokens": 40}
    content["pruning"] = {"propagate": "pruned"}
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    status, _, err = mlprune("fit", "--config", config)
    assert status == 0, err
    found = read(RUN)
    assert [row["system"] for row in found["confirmed"]] == list(study["recipes"])
    assert all(row["p_holm"] >= row["p"] for row in found["confirmed"])
    page = html.unescape((RUN / "report.html").read_text(encoding="utf-8"))
    assert study["question"] in page
    assert "fr-en highest dropped" in page
