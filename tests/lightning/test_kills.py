"""Runs of every kind that are killed at random moments end, once resumed, in the same bytes; nothing else changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT


def kills(folder: Path, count: int, seed: int) -> dict:
    """Run ``kills.py`` with a home, a cache and a folder for temporary files of its own."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    for name, variable in (("home", "HOME"), ("cache", "XDG_CACHE_HOME"), ("temporary", "TMPDIR")):
        (folder / name).mkdir()
        environment[variable] = str(folder / name)
    command = [sys.executable, ROOT / "tests" / "kills.py", folder / "runs", "--kills", str(count), "--seed", str(seed)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_kill_of_every_kind_of_run_and_nothing_outside_of_runs_and_cache(tmp_path: Path) -> None:
    found = kills(tmp_path, 6, seed=0)
    assert not found["failures"]
    outside = [path for name in ("home", "temporary") for path in (tmp_path / name).rglob("*")]
    assert not outside
    for folder in (tmp_path / "runs").iterdir():
        if folder.is_dir() and folder.name != "model":
            assert {path.name for path in folder.iterdir()} == {"lightning_logs", "log"}


@pytest.mark.slow
def test_forty_kills(tmp_path: Path) -> None:
    assert not kills(tmp_path, 40, seed=1)["failures"]
