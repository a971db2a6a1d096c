"""Runs started together, or in one SLURM job, have a folder each and mix nothing."""

import json
import os
import re
from pathlib import Path

import pytest
from tiny_runs import begin, start, write_config

SPARSITIES = [0.125, 0.25, 0.375, 0.5]


def pairs(folder: Path) -> set[tuple[float, float]]:
    """The sparsity that each run's config.yaml asks for and the one its checkpoint has."""
    found = set()
    for run in sorted(folder.iterdir()):
        asked = re.search(r"sparsity: ([0-9.]+)", (run / "config.yaml").read_text())
        assert asked is not None
        recipe = json.loads((run / "pruned" / "mlprune.json").read_text())
        found.add((float(asked[1]), round(recipe["sparsity"], 6)))
    return found


@pytest.mark.xfail(strict=True, reason="a folder is claimed by its config.yaml, which comes late")
def test_runs_started_together(tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, data={"tasks": []})
    flags = ["validate", "--config", config, "--pruning.pattern", "mlprune.pruning.Unstructured"]
    runs = [begin(tmp_path, *flags, "--pruning.pattern.sparsity", sparsity) for sparsity in SPARSITIES]
    told = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), told
    assert pairs(tmp_path / "lightning_logs") == {(sparsity, sparsity) for sparsity in SPARSITIES}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of `sbatch` with one task, and of `srun` in it."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    values = {
        "JOB_ID": "4711",
        "JOBID": "4711",
        "JOB_NAME": "prune",
        "NTASKS": "1",
        "NPROCS": "1",
        "PROCID": "0",
        "LOCALID": "0",
        "NODEID": "0",
        "NNODES": "1",
        "JOB_NUM_NODES": "1",
        "STEP_NODELIST": "localhost",
        "NODELIST": "localhost",
        "NTASKS_PER_NODE": "1",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


@pytest.mark.xfail(strict=True, reason="the job's number is the version of all runs in a job")
def test_two_commands_of_one_slurm_job(tmp_path: Path, tiny_folder: Path, slurm: None) -> None:
    config = write_config(tmp_path, tiny_folder)
    for _ in range(2):  # validate, then test; or a job that was requeued
        run = start(tmp_path, "validate", "--config", config)
        assert run.returncode == 0, run.stderr
    assert [run.name for run in sorted((tmp_path / "lightning_logs").iterdir())] == ["version_0", "version_1"]


@pytest.mark.xfail(strict=True, reason="Lightning's RuntimeError about --ntasks ends in a traceback")
def test_more_slurm_tasks_than_devices(tmp_path: Path, tiny_folder: Path, slurm: None, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    run = start(tmp_path, "validate", "--config", write_config(tmp_path, tiny_folder))
    lines = run.stderr.splitlines()
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert [line for line in lines if line.startswith("error: ") and "4" in line and "ntasks" in line], run.stderr
