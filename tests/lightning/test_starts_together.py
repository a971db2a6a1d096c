"""Runs started together, or in one SLURM job, have a folder each and mix nothing."""

import json
import os
import re
from pathlib import Path

import pytest
from tiny_runs import RUN, begin, start, write_config

SPARSITIES = [0.125, 0.25, 0.375, 0.5]


def pairs(folder: Path) -> set[tuple[float, float]]:
    """The sparsity that each run's config.yaml asks for and the one its checkpoint has."""
    found = set()
    for run in sorted(folder.iterdir()):
        wanted = re.search(r"sparsity: ([0-9.]+)", (run / "config.yaml").read_text())
        assert wanted is not None
        recipe = json.loads((run / "pruned" / "mlprune.json").read_text())
        found.add((float(wanted[1]), round(recipe["sparsity"], 6)))
    return found


def test_runs_started_together(tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, data={"tasks": []})
    flags = ["validate", "--config", config, "--pruning.pattern", "mlprune.pruning.Unstructured"]
    runs = [begin(tmp_path, *flags, "--pruning.pattern.sparsity", sparsity) for sparsity in SPARSITIES]
    try:
        errors = [run.communicate(timeout=300)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()  # one that has ended takes no notice
    assert [run.returncode for run in runs] == [0] * len(runs), errors
    assert pairs(tmp_path / "lightning_logs") == {(sparsity, sparsity) for sparsity in SPARSITIES}


@pytest.mark.parametrize("flag", [["--trainer.logger", "false"], ["--trainer.fast_dev_run", "true"]])
def test_without_a_logger_each_run_has_a_number(mlprune, tmp_path: Path, tiny_folder: Path, flag: list[str]) -> None:
    config = write_config(tmp_path, tiny_folder, data={"tasks": []})
    for name in ("mlprune_run", "mlprune_run_1", "mlprune_run_2"):
        status, _, err = mlprune("validate", "--config", config, *flag)
        assert status == 0, err
        assert (tmp_path / name / "pruned" / "mlprune.json").is_file()


@pytest.mark.parametrize("logger", ["TensorBoardLogger", "CSVLogger"])
def test_a_logger_of_the_users(mlprune, tmp_path: Path, tiny_folder: Path, logger: str) -> None:
    config = write_config(tmp_path, tiny_folder, data={"tasks": []})
    flags = ["validate", "--config", config, "--trainer.logger", logger, "--trainer.logger.save_dir", "logs"]
    for name in ("version_0", "version_1"):
        status, _, err = mlprune(*flags)
        assert status == 0, err
        assert (tmp_path / "logs" / "lightning_logs" / name / "masks.safetensors").is_file()
    named = [*flags, "--trainer.logger.version", "mine"]
    status, _, err = mlprune(*named)
    assert status == 0, err
    masks = tmp_path / "logs" / "lightning_logs" / "mine" / "masks.safetensors"
    before = masks.stat()
    status, _, err = mlprune(*named)
    assert (status, err.count("\n")) == (2, 1)
    assert "mine' holds a run already" in err
    assert masks.stat() == before


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test"])
def test_a_refused_run_leaves_no_folder(mlprune, tmp_path: Path, tiny_folder: Path, subcommand: str) -> None:
    config = write_config(tmp_path, tiny_folder)
    text = config.read_text().replace("source_lang: fr", "source_lang: xx").replace("template: marc", "template: none")
    config.write_text(text)
    status, _, err = mlprune(subcommand, "--config", config)
    assert (status, err.count("error: ")) == (2, 1)
    assert not list(tmp_path.glob("lightning_logs/*"))


def test_an_analysis_ends_its_run(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    status, _, err = mlprune("validate", "--config", config, "--trainer.callbacks+", "FeatureAnalysis")
    assert status == 0, err
    status, _, err = mlprune("validate", "--resume", RUN)
    assert (status, err.count("\n")) == (2, 1)
    assert "is complete" in err


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


def test_two_commands_of_one_slurm_job(tmp_path: Path, tiny_folder: Path, slurm: None) -> None:
    config = write_config(tmp_path, tiny_folder)
    for _ in range(2):  # validate, then test; or a job that was requeued
        run = start(tmp_path, "validate", "--config", config)
        assert run.returncode == 0, run.stderr
    assert [run.name for run in sorted((tmp_path / "lightning_logs").iterdir())] == ["version_0", "version_1"]


def test_more_slurm_tasks_than_devices(tmp_path: Path, tiny_folder: Path, slurm: None, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    run = start(tmp_path, "validate", "--config", write_config(tmp_path, tiny_folder))
    lines = run.stderr.splitlines()
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert [line for line in lines if line.startswith("error: ") and "4" in line and "ntasks" in line], run.stderr


def test_fewer_slurm_tasks_than_devices(mlprune, tmp_path: Path, tiny_folder: Path, slurm: None) -> None:
    config = write_config(tmp_path, tiny_folder)
    flags = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
    status, _, err = mlprune("validate", "--config", config, *flags)
    assert (status, err.count("\n")) == (2, 1)
    assert "trainer.devices: 2" in err
    assert "SLURM starts 1" in err


def test_the_signal_before_a_slurm_job_ends(tmp_path: Path, tiny_folder: Path, slurm: None) -> None:
    callback = {"class_path": "kill_once.KillOnce"}
    callback["init_args"] = {"stage": "calibration", "batch": 5, "marker": "killed", "how": "SIGUSR1"}
    trainer = {"accelerator": "cpu", "devices": 1, "callbacks": [callback]}
    run = start(tmp_path, "validate", "--config", write_config(tmp_path, tiny_folder, trainer=trainer))
    assert run.returncode == 1, run.stderr
    assert run.stderr.splitlines()[-1].endswith(f"validate --resume {tmp_path / RUN}")
    assert not list(tmp_path.rglob("*.ckpt"))
    assert start(tmp_path, "validate", "--resume", RUN).returncode == 0
