"""Every shipped config is parsed and instantiated, its model replaced by a tiny one."""

from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "configs"
LRP2 = sorted(CONFIGS.glob("paper/*.lrp2.yaml"))  # which differ in nothing but the model
FILES = sorted(
    path
    for path in CONFIGS.rglob("*.yaml")
    if "fragments" not in path.parts and "controls" not in path.parts and path not in LRP2[1:]
)
CONTROLS = sorted((CONFIGS / "paper" / "controls").glob("*.yaml"))
NAMES = {"xglm-2.9b": "facebook/xglm-2.9B", "xglm-7.5b": "facebook/xglm-7.5B", "mgpt": "ai-forever/mGPT",
         "bloom-3b": "bigscience/bloom-3b", "bloom-3b-contrastive": "bigscience/bloom-3b"}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


@pytest.fixture
def built(mlprune, monkeypatch, tiny_folder: Path):
    """Build what a config asks for, without running it; returns trainer, model and data."""

    def build(*files: Path) -> tuple:
        kept = []
        monkeypatch.setattr("mlprune.cli.command.Engine.experiment", lambda engine, _: kept.append(engine.run))
        flags = [flag for file in files for flag in ("--config", file)]
        status, _, err = mlprune("fit", *flags, "--model.name", tiny_folder)
        assert status == 0, err
        return kept[0].trainer, kept[0].module, kept[0].data

    return build


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_config_can_be_built(path: Path, built) -> None:
    if path.stem == "lm-eval":
        pytest.importorskip("lm_eval", reason="the extra interop is not installed")
    trainer, module, data = built(path)
    assert [type(own).__name__ for own in module.interventions] == (["LRP2"] if "lrp2" in path.name else [])
    callbacks = [callback for callback in trainer.callbacks if type(callback).__name__ == "PruningCallback"]
    assert len(callbacks) == 1
    assert data.demonstrations
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# python main.py ")
    assert f"--config configs/{name_of(path)}" in first


def test_lrp2_is_for_each_of_the_papers_models() -> None:
    contents = {path.name.partition(".lrp2")[0]: yaml.safe_load(path.read_text(encoding="utf-8")) for path in LRP2}
    assert {model: content["model"].pop("name") for model, content in contents.items()} == {
        model: name for model, name in NAMES.items() if "contrastive" not in model
    }
    assert all(content == contents["mgpt"] for content in contents.values())
    first = [path.read_text(encoding="utf-8").splitlines()[0] for path in LRP2]
    assert first == [f"# python main.py test --config configs/{name_of(path)}" for path in LRP2]


@pytest.mark.parametrize("name", ["table", "table-contrastive"])
def test_the_tables_lrp2_is_the_same(name: str) -> None:
    fragments = CONFIGS / "paper" / "fragments"
    contents = {
        own: yaml.safe_load((fragments / f"{own}.yaml").read_text(encoding="utf-8"))
        for own in ("lrp2", "flores-dev", name)
    }
    (alone,), recipe = contents["lrp2"], contents[name]["recipes"]["lrp2"]
    alone["init_args"]["corpus"] = contents["flores-dev"]
    assert recipe == {"pattern.sparsity": 0.0, "intervention": alone}


def test_lrp2_goes_on_top_of_pruning(built) -> None:
    _, module, data = built(*(CONFIGS / "paper" / f"mgpt.{name}.yaml" for name in ("fr-en", "lrp2")))
    (lrp2,) = module.interventions
    assert data.demonstrations["mt"].source_lang == "fr"
    assert (list(lrp2.validation), lrp2.num_sentences, lrp2.layers) == (["xnli", "marc"], 100, None)
    assert [task.name for task in data.tasks] == ["xnli", "marc"]


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("pair", ["fr-en", "es-en", "zh-en"])
def test_the_papers_settings(model: str, pair: str, built) -> None:
    path = CONFIGS / "paper" / f"{model}.{pair}.yaml"
    assert yaml.safe_load(path.read_text())["model"] == {"name": NAMES[model]}
    trainer, _, data = built(path)
    pruning = next(callback for callback in trainer.callbacks if type(callback).__name__ == "PruningCallback")
    demonstrations = data.demonstrations["mt"]
    assert (demonstrations.source_lang, demonstrations.target_lang) == tuple(pair.split("-"))
    assert (demonstrations.shots, data.num_prompts, data.max_tokens, data.seed) == (4, 100, 512, 0)
    assert (pruning.pruner.pattern.sparsity, pruning.pruner.pattern.scope, pruning.propagation.name) == (
        0.3,
        "row",
        "pruned",
    )
    assert type(pruning.pruner.importance).__name__ == ("ContrastiveWanda" if "contrastive" in model else "Wanda")
    assert ("code" in data.demonstrations) == ("contrastive" in model)
    tasks = {task.name: task for task in data.tasks}
    assert set(tasks) == {"xnli", "marc", "premise", "hypothesis"}
    assert tasks["xnli"].selection.limit == tasks["marc"].selection.limit == 1000
    assert (tasks["premise"].shots, tasks["premise"].max_chars, tasks["premise"].search.max_new_tokens) == (4, 100, 64)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda path: path.stem)
@pytest.mark.parametrize("model", ["xglm-2.9b", "xglm-7.5b", "mgpt", "bloom-3b"])
def test_controls_go_on_top_of_every_model(model: str, control: Path, built) -> None:
    trainer, _, data = built(CONFIGS / "paper" / f"{model}.fr-en.yaml", control)
    pruner = next(callback for callback in trainer.callbacks if type(callback).__name__ == "PruningCallback").pruner
    found = (type(pruner.importance).__name__, pruner.pattern.drop, *data.demonstrations)
    expected = {
        "random": ("Random", "lowest", "mt"),
        "drop-highest": ("Wanda", "highest", "mt"),
        "monolingual": ("Wanda", "lowest", "fr"),
    }
    assert found == expected[control.stem]
