"""What --dry-run says: counts are the run's, times those of the blocks that there are, and nothing is written."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from tiny import FAMILIES, save_tiny, tiny_model
from tiny_runs import write_config

from mlprune.callbacks import PruningCallback
from mlprune.cli import main
from mlprune.data.corpora import Bundled
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask, Task, TranslationTask
from mlprune.experiments import TRAINER_DEFAULTS, Engine, costs, dry_run
from mlprune.experiments.costs import BlockClock, evaluation_cost
from mlprune.experiments.dry_run import DryRun, Estimate
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource, without_weights
from mlprune.models.shallow import blueprint, shallow_model
from mlprune.pruning import Unstructured
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.spec import Confirm, Study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder without its weights."""
    made = save_tiny(tmp_path_factory.mktemp("m"), "bloom")
    for file in made.glob("*.safetensors"):
        file.unlink()
    return made


def estimate(
    folder: Path,
    command: str = "fit",
    pruning: PruningCallback | None = None,
    study: Study | None = None,
    **trainer: Any,
) -> Estimate:
    bundled = Bundled("nli")
    tasks: list[Task] = [
        CandidateTask("nli", ["en", "fr"], bundled, "xnli", limit=6),
        TranslationTask(["fr"], limit=3, shots=1, max_new_tokens=4),
    ]
    data = PruningDataModule(num_prompts=4, max_tokens=100, tasks=tasks, max_batch_chars=400)
    with without_weights():
        options = TRAINER_DEFAULTS | {"accelerator": "cpu", "devices": 1, "logger": False} | trainer
        engine = Engine(str(folder), data, pruning, trainer=Trainer(**options))
        return DryRun(engine.run, engine.pruning, command, study=study).estimate()


@pytest.fixture(autouse=True)
def one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "DEPTH", 1)


def test_counts_are_those_of_the_run(folder: Path) -> None:
    found = estimate(folder)
    model = tiny_model("bloom")
    entries = sum(layer.matrix().numel() for block in find_blocks(model) for layer in block.layers.values())
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (found.scored, found.matrices, found.pruned) == (entries, entries, round(0.3 * entries))
    evaluating = found.phases["evaluating, 2 times"]
    assert {name: cost.rows for name, cost in evaluating.items()} == {"nli": 12, "translation": 3}
    assert found.phases["calibrating and pruning"]["mt"].rows == 4
    assert all(cost.seconds > 0 for parts in found.phases.values() for cost in parts.values())
    assert found.disk > 4 * found.parameters


@pytest.mark.parametrize(
    ("command", "pruning", "trainer", "phases"),
    [
        ("test", None, {}, ["starting", "evaluating"]),
        ("validate", None, {}, ["starting", "calibrating and pruning"]),
        (
            "fit",
            PruningCallback(sweep=[0.1, 0.2, 0.3], propagate="dense"),
            {},
            ["starting", "evaluating, 4 times", "calibrating and pruning"],
        ),
        (
            "fit",
            PruningCallback(pattern=Unstructured(0.5)),
            {"max_epochs": 2},
            ["starting", "evaluating, 3 times", "calibrating and pruning", "recovery training, 2 epochs"],
        ),
    ],
    ids=["test", "validate", "sweep", "training"],
)
def test_phases_are_those_of_the_command(
    command: str, pruning: PruningCallback | None, trainer: dict[str, Any], phases: list[str], folder: Path
) -> None:
    found = estimate(folder, command, pruning, **trainer)
    assert list(found.phases) == phases
    assert all(cost.seconds > 0 for parts in found.phases.values() for cost in parts.values())


@pytest.mark.parametrize(("shard", "count"), [(None, 6), ("1/2", 4)])
def test_a_study_is_counted_by_its_recipes_and_seeds(folder: Path, shard: str | None, count: int) -> None:
    study = Study(seeds=[0, 1], grid={"pruning.pattern.sparsity": [0.1, 0.2, 0.3]}, shard=shard)
    found = estimate(folder, "fit", study=study)
    assert list(found.phases) == [
        "starting",
        f"evaluating, {count + 1} times",
        f"calibrating and pruning, {count} times",
    ]
    assert found.notes[1].startswith(f"{count} recipes and seeds are counted as if each was")


def test_processes_share_the_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SAMPLES", 99)
    alone = estimate(folder, "test")
    shared = estimate(folder, "test", devices=2, strategy="ddp")
    one, two = (found.phases["evaluating"]["nli"] for found in (alone, shared))
    assert one.rows == two.rows
    assert 0.3 < two.tokens / one.tokens < 0.7
    assert "all but rows is of the first of 2 processes, which runs alone here" in shared.notes


def test_a_few_blocks_stand_for_all() -> None:
    model = tiny_model("gpt2", n_layer=2)
    clock = BlockClock(model, {"transformer.h": 12})
    times = iter([0.0, 3.0, 10.0, 14.0])  # a block of 3 s, and one of 4 s
    clock.now = lambda: next(times)  # type: ignore[method-assign]
    with clock.watching():
        model(torch.tensor([[1, 2, 3, 4, 5]]))
    assert (clock.passes, clock.tokens) == (1, 5)
    assert clock.whole(20.0) == 13.0 + 12 * 3.5  # what is not in blocks, and twelve blocks
    model(torch.tensor([[1, 2]]))
    assert clock.passes == 1  # its hooks are gone


def test_passes_and_tokens_of_all_batches(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Where every batch is timed, what is said of passes and tokens is exact."""
    monkeypatch.setattr(costs, "SAMPLES", 99)
    monkeypatch.setattr(costs, "SECONDS", 1e9)
    task = TranslationTask(["fr", "sw"], limit=3, shots=1, max_new_tokens=4)
    data = PruningDataModule(tasks=[task], max_batch_chars=200)
    data.trainer = Trainer(accelerator="cpu", logger=False)
    with without_weights():
        source = ModelSource(str(folder), "float32")
    tokenizer = source.load_tokenizer()
    data.read_examples(tokenizer)
    batches = [batch for own in data.task_batches(task) for batch in own]
    assert len(batches) > 2
    model = tiny_model("bloom")
    clock = BlockClock(model, {"transformer.h": 3})
    said = evaluation_cost(batches, tokenizer, model, clock)
    assert task.search.max_new_tokens == 4
    with clock.watching():
        for batch in batches:
            task.predict(model, tokenizer, batch.lang, batch.examples)
    assert (said.passes, said.tokens, said.rows) == (clock.passes, clock.tokens, 6)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_built_from_its_configuration(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.config.save_pretrained(tmp_path)
    with without_weights():
        source = ModelSource(str(tmp_path), "bfloat16")
    whole, shallow = blueprint(source), shallow_model(source, 1, torch.device("cpu"))
    assert sum(p.numel() for p in whole.parameters()) == sum(p.numel() for p in model.parameters())
    stacks = {block.stack for block in find_blocks(model)}
    assert {block.path for block in find_blocks(shallow)} == {f"{stack}.0" for stack in stacks}
    assert {parameter.dtype for parameter in shallow.parameters()} == {torch.bfloat16}


def test_on_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, folder)
    assert main(["fit", "--dry-run", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"fit:\S+,float32,oncpu", "".join(said.split()))  # folded where the path is long
    for words in (r"reviews +21", r"calibrating and pruning +mt +5", r"parameters pruned", r"peak memory"):
        assert re.search(words, said), words
    assert list(tmp_path.iterdir()) == [config]
    assert main(["fit", "--config", str(config)]) == 2
    assert "has no model.safetensors" in capsys.readouterr().err
    assert main(["fit", "--dry-run", "--resume", "run"]) == 2
    assert "--dry-run estimates a whole run; leave --resume out" in capsys.readouterr().err


def test_what_the_run_refuses_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="layers are named like"):
        estimate(folder, "validate", PruningCallback(include=["no such layer"]))
    for endpoint, confirm, said in (
        (Endpoint(tasks=["nly"]), None, "study.endpoint.tasks: 'nly'.*did you mean 'nli'"),
        (Endpoint(tasks=["nli"]), Confirm("0-99"), "there is no row 99"),
    ):
        with pytest.raises(UserError, match=said):
            estimate(folder, "fit", study=Study(recipes={"wanda": {}}, endpoint=endpoint, confirm=confirm))


def test_many_recipes_keep_a_copy_of_the_dense_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlprune.experiments.dry_run._used", lambda device: 0.0)
    one, many = (
        estimate(folder, pruning=pruning) for pruning in (None, PruningCallback(sweep=[0.3], propagate="dense"))
    )
    assert many.memory - one.memory == 4 * one.matrices


def test_memory_is_of_the_weights_that_a_process_holds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them; three blocks beside a fortieth of all, of 40 that are split over 40; five that are streamed."""
    config = json.loads((folder / "config.json").read_text()) | {"n_layer": 40}
    folder = Path(shutil.copytree(folder, tmp_path / "deep"))
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(dry_run, "_used", lambda device: 0.0)
    monkeypatch.setattr(ModelParallelStrategy, "world_size", 40)
    split = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    found = {
        "whole": estimate(folder, "validate"),
        "split": estimate(folder, "validate", strategy=split),
        "streamed": estimate(folder, "validate", PruningCallback(streaming=True)),
    }
    masks = found["whole"].scored
    block = 4 * sum(parameter.numel() for parameter in tiny_model("bloom").transformer.h[0].parameters())
    memory = {kind: estimated.memory - (masks if kind != "streamed" else 0) for kind, estimated in found.items()}
    assert memory["whole"] - memory["streamed"] == pytest.approx(35 * block)
    assert memory["whole"] - memory["split"] == pytest.approx(36 * block)
    assert any("not counted" in note for note in found["split"].notes)
