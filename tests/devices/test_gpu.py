"""On a CUDA device: `pytest -m gpu`, skipped where there is none. The checks themselves also run on the CPU, always."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from devices.compare import causes, differing, score_error
from tiny_runs import start, write_config

from mlprune.pruning import DSnoT, Importance, SparseGPT, Wanda

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SCORES_WITHIN = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 1e-1, "float16": 2e-2}
MASKS_WITHIN = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 5e-2, "float16": 2e-2}  # share of entries, rounding included
FAMILIES = ["llama", "bloom", "mixtral"]

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
@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="not exactly one CUDA device")
def test_two_processes_on_one_device_end_in_one_line(tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, trainer={"accelerator": "gpu", "devices": 2, "strategy": "ddp"})
    run = start(tmp_path, "validate", "--config", config)
    assert run.returncode != 0
    assert len([line for line in run.stderr.splitlines() if line.startswith("error: ")]) == 1, run.stderr
    assert "Traceback" not in run.stderr


def test_causes_are_told_apart() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 2.001, 4.0], [1.0, 2.0, 3.0, 4.0]])
    mask = torch.tensor([[False, False, True, True]] * 3)
    other = mask[:, [0, 2, 1, 3]]  # the two in the middle changed places
    moved = scores.clone()
    moved[1, 1] += 0.002
    assert causes(mask, other, scores, moved) == Counter(tie=2, rounding=2, unexplained=2)


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No GPU was to be had yet; on the CPU at least its parts run."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import bench_gpu

    model = bench_gpu.llama(128, 1, torch.float32, "cpu")
    bench_gpu.bench_pruning(model, "cpu", bench_gpu.prompts(2, 20, 30))
    bench_gpu.bench_scoring(model, "cpu", 2)
    bench_gpu.bench_2_of_4(128, torch.float32, "cpu")
    printed = capsys.readouterr().out
    assert "pruned against the published without padding: 0.0000% differ" in printed
    assert "2:4: dense" in printed
