"""What torchrun and SLURM start must be what the trainer has devices for: else each process would be a run itself."""

from pathlib import Path

import pytest
from nodes import slurm, torchrun
from tiny_runs import write_config

from mlprune.cli.checks import is_slurm_step

DDP = ("--trainer.strategy", "ddp")


@pytest.mark.parametrize(
    ("variables", "flags", "words"),
    [
        (torchrun(1, 1), (), ["trainer.devices: 1 times", "torchrun starts 2", "--nproc-per-node=1"]),
        (torchrun(1, 1), (*DDP, "--trainer.devices", 2, "--trainer.num_nodes", 2), ["is 4", "torchrun starts 2"]),
        (slurm(1, 1), DDP, ["trainer.devices: 1 times", "SLURM starts 2", "--ntasks-per-node=1"]),
        (slurm(1, 1), (*DDP, "--trainer.devices", 2), ["trainer.devices", "--ntasks-per-node=1", "does not match"]),
        (slurm(0, 1) | torchrun(1, 1) | {"WORLD_SIZE": "8"}, DDP, ["torchrun starts 8"]),
    ],
    ids=["torchrun without devices", "more nodes", "SLURM without nodes", "other nodes", "torchrun in a SLURM job"],
)
def test_other_processes_than_devices(
    mlprune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path, variables, flags, words
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status, _, err = mlprune("test", "--config", write_config(tmp_path, tiny_folder), *flags)
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: trainer.devices: ")
    assert all(word in err for word in words), err
    assert not list(tmp_path.glob("lightning_logs/*"))


def test_no_port(mlprune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path) -> None:
    monkeypatch.setenv("MASTER_PORT", "99999")
    status, _, err = mlprune("test", "--config", write_config(tmp_path, tiny_folder), *DDP, "--trainer.devices", 2)
    assert (status, err) == (2, "error: MASTER_PORT '99999' is not allowed; give a port from 1 to 65535\n")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (slurm(0, 1), True),
        (slurm(0, 1) | torchrun(0, 1), False),
        (slurm(0, 1) | {"SLURM_JOB_NAME": "bash"}, False),
        ({}, False),
    ],
    ids=["srun", "torchrun within", "a shell", "no SLURM"],
)
def test_who_starts_processes(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_slurm_step() == expected
