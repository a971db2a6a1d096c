"""Pruning and evaluation on a device that is not the CPU: a forgotten ``.to`` or a wait in a loop shows here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CASES, SIMULATED = 20, 5  # of each family, and those among them that need the simulated device
FAMILIES = ["llama", "bloom", "mt5", "mixtral"]


def check(script: str, *args: str, passed: int) -> None:
    """Run a script in a process of its own, since the device is registered for the whole process."""
    found = subprocess.run(
        [sys.executable, "-X", "faulthandler", HERE / script, *args],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])},
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(re.findall(r" passed\b", found.stdout)) == passed


@pytest.mark.parametrize("families", [("llama", "bloom"), ("mt5", "mixtral")], ids=" ".join)
def test_as_on_the_cpu(families: tuple[str, ...]) -> None:
    check("cases.py", *families, passed=CASES * len(families))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", [(), ("--no-float64",)], ids=["", "no float64"])
def test_every_method_in_every_propagation(family: str, device: tuple[str, ...]) -> None:
    check("cases.py", family, "--all", *device, passed=CASES)


def test_the_command_line() -> None:
    """fit with recovery training, validate and test."""
    check("runs.py", *FAMILIES, passed=len(FAMILIES))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", [(), ("--no-float64",)], ids=["", "no float64"])
def test_the_command_line_with_streaming(family: str, device: tuple[str, ...]) -> None:
    check("runs.py", family, "--all", *device, passed=1)


def test_planted_faults_are_caught() -> None:
    check("faults.py", passed=3)
