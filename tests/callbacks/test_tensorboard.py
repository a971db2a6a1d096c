"""What a run leaves for TensorBoard: blocks, results, settings; and that it is right."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny import tiny_model
from tiny_runs import write_config

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
    assert all(0 < error < 1 for _, error in errors)
    assert [step for step, _ in series(found, "fit/nli/fr/accuracy")] == [0, 1]
    assert [step for step, _ in series(found, "fit/nli/en-fr/rankc")] == [0, 1]
    assert [step for step, _ in series(found, "fit/translation/fr/bleu")] == [0, 1]
    assert [step for step, _ in series(found, "fit/perplexity/fr/bits_per_char")] == [0, 1]
    assert not [tag for tag in tags["scalars"] if tag.startswith(("dense/", "pruned/"))]
    headline = {"headline/pruning/sparsity", "headline/nli/accuracy", "headline/nli/accuracy/change"}
    assert headline <= set(tags["scalars"])
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
    assert not tags["histograms"]


def test_each_subcommand_has_its_own_scalars(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    histograms = ["--trainer.callbacks", "TensorBoard", "--trainer.callbacks.histograms", "true"]
    status, _, err = mlprune("validate", "--config", config, *histograms)
    assert status == 0, err
    found = events()
    assert "headline/pruning/sparsity" in found.Tags()["scalars"]
    for tag in ("scores_log10/self_attn.q_proj", "energies_log10/mlp.down_proj/mt"):
        assert [event.step for event in found.Histograms(tag)] == [0, 1, 2]
    assert mlprune("test", "--config", config)[0] == 0
    assert len(series(events(Path("lightning_logs/version_1")), "dense/nli/fr/accuracy")) == 1


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
