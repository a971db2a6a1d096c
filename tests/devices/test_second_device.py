"""Pruning and evaluation on a device that is not the CPU: a forgotten ``.to`` or a wait in a loop shows here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases.py")
ROOT = CASES.parents[2]


@pytest.mark.parametrize("families", [("llama", "bloom"), ("mt5", "mixtral")], ids=" ".join)
def test_as_on_the_cpu(families: tuple[str, ...], *options: str) -> None:
    """In processes of their own, since the device is registered for the whole process."""
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    found = subprocess.run(
        [sys.executable, "-X", "faulthandler", CASES, *families, *options],
        capture_output=True,
        text=True,
        env=os.environ | paths,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("passed") == 8 * len(families)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "bloom", "mt5", "mixtral"])
def test_every_method_in_every_propagation(family: str) -> None:
    test_as_on_the_cpu((family,), "--all")


def test_mixed_devices_are_refused() -> None:
    """The simulated device does refuse what a real one refuses."""
    code = """
import torch
from devices.second_device import second_device
with second_device() as device:
    torch.ones(2).to(device) + torch.ones(2)
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
    )
    assert "expected all tensors to be on the same device" in found.stderr
