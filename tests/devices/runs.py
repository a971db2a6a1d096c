"""python tests/devices/runs.py FAMILY ...: the command line gives on another device what it gives on the CPU.

``--device cuda``: a GPU in place of the simulated device, which with ``--no-float64`` has none, as Apple's. ``--all``:
streaming too.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from devices.device import DIFFERING, NAME, OPTIONS, check_equal, opened
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from safetensors.torch import load_file
from tiny import ENCODER_DECODER, tiny_model, tiny_tokenizer
from tiny_runs import bundled_task, write_config

from mlprune.cli import main
from mlprune.pruning import load_masks

SINGLE = "lightning.pytorch.strategies.SingleDeviceStrategy"
ON_DEVICE = (
    ["--trainer.accelerator", "gpu", "--trainer.devices", 1]
    if NAME == "cuda"
    else ["--trainer.accelerator", NAME, "--trainer.strategy", SINGLE, "--trainer.strategy.device", f"{NAME}:0"]
)
NEAR = 1e-4 if DIFFERING else 1e-5
TWO_BLOCKS = {
    "bloom": {"n_layer": 2},
    "mt5": {"num_layers": 2, "num_decoder_layers": 2},
    "llama": {"num_hidden_layers": 2, "max_position_embeddings": 2048},
    "mixtral": {"num_hidden_layers": 2, "max_position_embeddings": 2048},
}
TASKS = "mlprune.evaluation.tasks"


class SecondAccelerator(Accelerator):
    """What Lightning asks of a kind of devices."""

    def setup_device(self, device: torch.device) -> None:
        assert device.type == NAME

    def teardown(self) -> None:
        """There is nothing to release."""

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> int:
        return int(devices)

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(NAME, 0)] * devices

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def config(family: str) -> Path:
    """Write a tiny model and a run's config into the working folder, with training where the family allows it."""
    model = Path("model")
    tiny_model(family, **TWO_BLOCKS[family]).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    few = {"limit": 2}  # examples of each language
    translated = {"languages": ["fr"], "shots": 1, "max_chars": 60, "max_new_tokens": 3} | few
    tasks = [
        bundled_task("nli", ["en", "fr"], **few),
        {"class_path": f"{TASKS}.TranslationTask", "init_args": translated},
    ]
    if family not in ENCODER_DECODER:
        tasks.append({"class_path": f"{TASKS}.PerplexityTask", "init_args": {"languages": ["fr"]} | few})
    data = {"num_prompts": 3, "tasks": tasks}
    trainer = {"logger": False, "max_epochs": int(family not in ENCODER_DECODER)}
    return write_config(Path(), model, data=data, trainer=trainer)


def run(folder: str, *args: object) -> Path:
    """Run the command line and return the run's folder."""
    status = main([str(arg) for arg in (*args, "--trainer.default_root_dir", folder)])
    assert status == 0, f"{folder}: {status}"
    return Path(folder, "mlprune_run")


def check_masks(here: Path, there: Path) -> None:
    one, other = (load_masks(run / "masks.safetensors") for run in (here, there))
    check_equal(f"{there}, masks", one, other)


def check_weights(here: Path, there: Path) -> None:
    one, other = (load_file(run / "pruned/model.safetensors") for run in (here, there))
    if not DIFFERING:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def check_predictions(here: Path, there: Path, folder: str) -> None:
    """Texts, ids and predictions are equal, and all numbers within 1e-5."""
    files = sorted(file.name for file in (here / folder).iterdir())
    assert files
    assert files == sorted(file.name for file in (there / folder).iterdir())
    for name in files:
        rows, others = (
            [json.loads(line) for line in (run / folder / name).read_text().splitlines()] for run in (here, there)
        )
        assert rows, name
        for row, other in zip(rows, others, strict=True):
            assert without_numbers(row) == without_numbers(other), f"{there}, {name}: {row} and {other}"
            torch.testing.assert_close(numbers(row), numbers(other), rtol=0, atol=NEAR)


def numbers(row: dict[str, Any]) -> list[float]:
    """All floats of a record, in order."""
    values = [value for entry in row.values() for value in (entry if isinstance(entry, list) else [entry])]
    return [value for value in values if isinstance(value, float)]


def without_numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not numbers({name: value})}


def check(family: str) -> None:
    """Run fit on both devices, and validate and test on the other: each gives what fit gave on the CPU."""
    file = config(family)
    here = run("cpu", "fit", "--config", file)
    there = run("fit", "fit", "--config", file, *ON_DEVICE)
    check_masks(here, there)
    check_weights(here, there)
    check_predictions(here, there, "predictions.dense")
    check_predictions(here, there, "predictions")
    for streaming in ("false", "true") if OPTIONS.all else ("false",):
        options = ["--pruning.streaming", streaming, *ON_DEVICE]
        options += ["--pruning.save_model", "false"] if NAME == "xla" else []  # whose tensors no file is written from
        check_masks(here, run(f"validate {streaming}", "validate", "--config", file, *options))
    there = run("test", "test", "--config", file, "--model.name", here / "pruned", *ON_DEVICE)
    check_predictions(here, there, "predictions")


if __name__ == "__main__":
    if NAME != "cuda":
        AcceleratorRegistry.register(NAME, SecondAccelerator)
    with opened(), tempfile.TemporaryDirectory() as scratch:
        for family in OPTIONS.families:
            os.chdir(Path(scratch))
            Path(family).mkdir()
            os.chdir(family)
            check(family)
            print(family, "passed", f"{time.process_time():.1f} s", flush=True)
