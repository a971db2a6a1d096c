"""On a CUDA device: `pytest -m gpu`, skipped where there is none. The checks themselves also run on the CPU, always."""

import sys
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from devices.compare import causes, differing, score_error
from devices.test_second_device import CASES, SIMULATED, check
from tiny_runs import write_config

from mlprune.pruning import DSnoT, Importance, SparseGPT, Unstructured, Wanda, prune_model

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SCORES_WITHIN = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 1e-1, "float16": 2e-2}
MASKS_WITHIN = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 5e-2, "float16": 2e-2}  # share of entries, rounding included
FAMILIES = ["llama", "bloom", "mixtral", "mt5"]

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """A dtype, and whether products of float32 matrices may round to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = request.param == "tf32"
    yield request.param
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(
    ("device", "family"), [("cpu", "llama"), *(pytest.param("cuda", family, marks=gpu) for family in FAMILIES)]
)
def test_masks_are_the_cpus_but_for_rounding(device: str, family: str, precision: str) -> None:
    found, entries = differing(family, device, PRECISIONS[precision], Wanda())
    assert not found["unexplained"], found
    assert found.total() <= MASKS_WITHIN[precision] * entries, found
    assert device != "cpu" or not found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", [SparseGPT(), DSnoT()], ids=lambda method: type(method).__name__)
def test_masks_of_methods_that_decide_step_by_step(device: str, method: Importance) -> None:
    found, entries = differing("llama", device, torch.float32, method, "pruned")
    assert found.total() <= 0.01 * entries, found
    assert device != "cpu" or not found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_scores_are_those_of_a_plain_forward(device: str, attention: str, precision: str) -> None:
    assert score_error("llama", device, PRECISIONS[precision], attention) < SCORES_WITHIN[precision]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", ["llama", "bloom", "mt5", "mixtral"])
@pytest.mark.parametrize(("script", "passed"), [("cases.py", CASES - SIMULATED), ("runs.py", 1)])
def test_what_runs_on_the_simulated_device_runs_on_a_gpu(script: str, passed: int, family: str) -> None:
    """Pruning, methods, streaming, scoring, generation, analyses, interventions, training, and the command line."""
    check(script, family, "--all", "--device", "cuda", passed=passed)


TWO_ON_ONE = [  # a test on the CPU asks for GPUs that are not there, or has torchrun start a process too many
    pytest.param("gpu", 2, {}, marks=pytest.mark.skipif(torch.cuda.device_count() > 1, reason="two CUDA devices")),
    ("auto", 1, {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}),
]


@pytest.mark.parametrize(("accelerator", "devices", "launched"), TWO_ON_ONE, ids=["ddp", "torchrun"])
def test_two_processes_on_one_device_end_in_one_line(
    accelerator: str,
    devices: int,
    launched: dict[str, str],
    mlprune: Any,
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    strategy = "ddp" if devices > 1 else "auto"
    trainer = {"accelerator": accelerator, "devices": devices, "strategy": strategy}
    status, out, err = mlprune("validate", "--config", write_config(tmp_path, tiny_folder, trainer=trainer))
    assert status == 2
    assert len([line for line in err.splitlines() if line.startswith("error: trainer")]) == 1, err
    assert "Traceback" not in out + err


def test_causes_are_told_apart() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 2.001, 4.0], [1.0, 2.0, 3.0, 4.0]])
    mask = torch.tensor([[False, False, True, True]] * 3)
    other = mask[:, [0, 2, 1, 3]]  # the two in the middle changed places
    moved = scores.clone()
    moved[1, 1] += 0.002
    assert causes(mask, other, scores, moved) == Counter(tie=2, rounding=2, unexplained=2)


def llmcompressor() -> dict[str, ModuleType]:
    """Modules in place of llmcompressor, whose pruning is ours."""
    package, modifiers, pruning = (ModuleType(name) for name in ("llmcompressor", "modifiers", "pruning"))
    package.__spec__ = ModuleSpec("llmcompressor", None)

    def oneshot(
        model: torch.nn.Module, dataset: Any, recipe: Any, processor: Any, num_calibration_samples: int
    ) -> None:
        prune_model(model, list(dataset), pattern=Unstructured(recipe["sparsity"]))

    package.oneshot, pruning.WandaPruningModifier = oneshot, dict
    return {
        "llmcompressor": package,
        "llmcompressor.modifiers": modifiers,
        "llmcompressor.modifiers.pruning": pruning,
    }


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On the CPU, too, all of it runs, with a stand-in for llmcompressor."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import bench_gpu

    for name, module in llmcompressor().items():
        monkeypatch.setitem(sys.modules, name, module)
    bench_gpu.main(["--device", "cpu", "--width", "128", "--blocks", "1", "--prompts", "2", "--tokens", "32"])
    printed = capsys.readouterr().out
    assert "pruned against the published without padding: 0.0000% differ" in printed
    assert "scoring, eager: " in printed
    assert "lm-evaluation-harness, " in printed or "lm_eval is not installed" in printed
    assert "the same, pruned " in printed
    assert "masks: 0.0000% differ" in printed
    assert "2:4, 128" in printed
