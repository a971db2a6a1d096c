"""What a run leaves for TensorBoard: blocks, results, settings; and that it is right."""

import json
import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny import tiny_model
from tiny_runs import tiny_config, write_config

from mlprune.pruning import Calibration, Pruner, Unstructured, calibrating, prune_blocks
from mlprune.pruning.hidden import HiddenFolder
from mlprune.pruning.output_errors import OutputErrors

RUN = Path("lightning_logs/version_0")


def events(folder: Path = RUN) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0, "images": 0, "histograms": 0})
    return found.Reload()


def series(found: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 6)) for event in found.Scalars(tag)]


def test_fit_shows_blocks_results_and_settings(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    status, _, err = mlprune("fit", "--config", write_config(tmp_path, tiny_folder))
    assert status == 0, err
    found = events()
    tags = found.Tags()
    for name in ("sparsity", "threshold", "kept_importance"):
        assert [step for step, _ in series(found, f"pruning/self_attn.q_proj/{name}")] == [0, 1, 2]
    assert [step for step, _ in series(found, "pruning/block/seconds")] == [0, 1, 2]
    errors = series(found, "pruning/mt/output_error")
    assert [step for step, _ in errors] == [0, 1, 2]
    assert all(0 < error < 100 for _, error in errors)
    # one name in a TensorBoard run for each system: named points, at the sparsity in percent
    systems = {name: events(RUN / "systems" / name) for name in ("dense", "pruned")}
    assert systems["dense"].Tags()["scalars"] == systems["pruned"].Tags()["scalars"]
    for tag in ("nli/fr/accuracy", "nli/en-fr/rankc", "translation/fr/bleu", "perplexity/fr/bits_per_char"):
        assert {name: [step for step, _ in series(of, tag)] for name, of in systems.items()} == {
            "dense": [0],
            "pruned": [28],
        }
    results = json.loads((RUN / "results.json").read_text())
    ((_, accuracy),) = series(systems["pruned"], "nli/fr/accuracy")
    assert accuracy == pytest.approx(100 * results["tasks"]["nli"]["fr"]["accuracy"], abs=1e-4)
    headline = {"headline/pruning/sparsity", "headline/nli/accuracy", "headline/nli/accuracy/change"}
    assert headline <= set(tags["scalars"])
    assert not any("rankc_expected" in tag or tag.startswith("nli/") for tag in tags["scalars"])
    assert {"pruning/kept_importance", "results/nli", "results/reviews"} <= set(tags["images"])
    assert "results/text_summary" in tags["tensors"]
    table = found.Tensors("results/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "## nli: accuracy, %\n\n| language | dense | pruned | n | clusters |" in table
    comparison = found.Tensors("comparison/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| 95% CI of the difference | p |" in comparison
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["importance"].string_value.startswith("Wanda(")
    assert settings["groups"].string_value == "mt"
    assert (settings["sparsity"].number_value, settings["learning_rate"].number_value) == (0.3, 0.0)
    assert settings["languages"].string_value == "en fr sw"
    assert len(settings["data_hash"].string_value) == 16
    content = found.summary_metadata["_hparams_/experiment"].plugin_data.content
    first = {info.name for info in HParamsPluginData.FromString(content).experiment.hparam_infos if info.differs}
    assert first == {"sparsity", "importance", "languages", "data_hash", "learning_rate"}
    assert not tags["histograms"]


def test_the_layout_tells_averages_first_and_names_tags_that_there_are(mlprune, tmp_path, tiny_folder: Path) -> None:
    config = tiny_config(tiny_folder)
    config["data"]["tasks"] = config["data"]["tasks"][:1]
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    sweep = ["--pruning.propagate", "dense", "--pruning.sweep", "[0.2, 0.5]"]
    status, _, err = mlprune("fit", "--config", "run.yaml", *sweep)
    assert status == 0, err
    found = events()
    layout = layout_pb2.Layout.FromString(found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == [
        "Average over languages",
        "nli: accuracy, %",
        "nli: RankC",
    ]
    systems = {folder.name: events(folder) for folder in sorted((RUN / "systems").iterdir())}
    assert list(systems) == ["dense", "pruned-sparsity-0.2", "pruned-sparsity-0.5"]
    for chart in (chart for category in layout.category for chart in category.chart):
        (tag,) = chart.multiline.tag
        assert all(any(re.fullmatch(tag, name) for name in of.Tags()["scalars"]) for of in systems.values()), tag
    steps = {name: [step for step, _ in series(of, "nli/average/accuracy")] for name, of in systems.items()}
    assert steps == {"dense": [0], "pruned-sparsity-0.2": [19], "pruned-sparsity-0.5": [50]}
    rows = {
        name: HParamsPluginData.FromString(of.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
        for name, of in systems.items()
        if name != "dense"
    }
    for name, sparsity in (("pruned-sparsity-0.2", 0.19), ("pruned-sparsity-0.5", 0.5)):
        hparams = rows[name].session_start_info.hparams
        assert hparams["sparsity"].number_value == pytest.approx(sparsity, abs=0.01)
        assert f"sparsity={name.rpartition('-')[2]}," in hparams["pattern"].string_value
    assert found.Tags()["images"] == ["sweep"]
    assert "study/text_summary" in found.Tags()["tensors"]


def test_each_subcommand_has_its_own_scalars(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    histograms = ["--trainer.callbacks", "TensorBoard", "--trainer.callbacks.histograms", "true"]
    status, _, err = mlprune("validate", "--config", config, *histograms)
    assert status == 0, err
    found = events()
    assert "headline/pruning/sparsity" in found.Tags()["scalars"]
    assert "_hparams_/session_start_info" in found.summary_metadata
    assert "_hparams_/experiment" not in found.summary_metadata  # it would hide the columns of runs with results
    for tag in ("scores_log10/self_attn.q_proj", "energies_log10/mlp.down_proj/mt"):
        assert [event.step for event in found.Histograms(tag)] == [0, 1, 2]
    assert mlprune("test", "--config", config)[0] == 0
    assert len(series(events(Path("lightning_logs/version_1/systems/dense")), "nli/fr/accuracy")) == 1


@pytest.mark.parametrize("propagate", ["pruned", "dense"])
@pytest.mark.parametrize(("family", "on_disk"), [("llama", False), ("gpt2", True), ("mt5", False), ("mt5", True)])
def test_output_errors_are_those_of_a_direct_computation(
    propagate: str, family: str, on_disk: bool, tmp_path: Path
) -> None:
    model = tiny_model(family).eval()
    torch.manual_seed(0)
    ids = torch.randint(3, 40, (4, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    batches = [
        {"input_ids": ids[i : i + 2], "attention_mask": mask[i : i + 2], "group": group}
        for i, group in ((0, "a"), (2, "b"))
    ]
    if family == "mt5":
        for batch in batches:
            batch |= {f"decoder_{name}": batch[name] for name in ("input_ids", "attention_mask")}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    watch = OutputErrors(batches)
    hidden = HiddenFolder(tmp_path) if on_disk else None
    with calibrating(model):
        pruner = Pruner(pattern=Unstructured(0.5))
        calibration = Calibration(
            model, batches, pruner=pruner, propagate=propagate, output_errors=watch, hidden=hidden
        )
        for step in prune_blocks(calibration):
            step.prune()
    assert set(watch.errors) == {(block, group) for block in range(len(calibration.blocks)) for group in "ab"}
    # by hand: run the model with blocks pruned up to a block, and up to the one before, and look at its output
    pruned = {name: value.clone() for name, value in model.state_dict().items()}
    for block in (0, 1, 2):  # 2 is the last of an encoder
        outputs = []
        for last in (block, block + 1):
            mixed = dict(before)
            for other in calibration.blocks[last - 1 if propagate == "dense" and last else 0 : last]:
                if propagate == "pruned" or other is calibration.blocks[block]:
                    mixed |= {n: v for n, v in pruned.items() if n.startswith(other.path + ".")}
            model.load_state_dict(mixed)
            outputs.append(_output(model, calibration.blocks[block].module, batches[0]))
        tokens = mask[:2].bool()
        expected = (outputs[1][tokens] - outputs[0][tokens]).norm() / outputs[0][tokens].norm()
        assert watch.errors[block, "a"] == pytest.approx(float(expected), rel=1e-4)


def _output(model: torch.nn.Module, block: torch.nn.Module, batch: dict) -> torch.Tensor:
    seen: list[torch.Tensor] = []

    def look(module: torch.nn.Module, args: tuple, output: object) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = block.register_forward_hook(look)
    with torch.no_grad():
        model(**{name: value for name, value in batch.items() if name != "group"}, use_cache=False)
    handle.remove()
    return seen[0]
