"""Two or three processes give the bits that one gives."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import save_tiny
from tiny_runs import ROOT, RUN, assert_same_run, begin, bundled_task, fit, free_port, start, write_config


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("one")
    config = write_config(folder, tiny_folder)  # 5 prompts, 9, 7 and 3 examples: shares are uneven
    return config, fit(folder, config, 1)


@pytest.mark.parametrize("devices", [2, 3])
def test_ddp(one: tuple[Path, Path], tmp_path: Path, devices: int) -> None:
    assert_same_run(one[1], fit(tmp_path / "many", one[0], devices))


def test_torchrun_on_two_nodes(one: tuple[Path, Path], tmp_path: Path) -> None:
    """Two launches on one machine."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--master-port={free_port()}")
    flags = ("fit", "--config", one[0], "--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp")
    nodes = [begin(tmp_path, *flags, launcher=(*launcher, f"--node-rank={number}")) for number in range(2)]
    errors = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    assert_same_run(one[1], tmp_path / RUN)


def test_nodes_by_their_variables() -> None:
    """What launchers set, nodes that fail, a study on nodes: tests that fork, and so need a process of their own."""
    files = (f"tests/lightning/{name}.py" for name in ("test_nodes", "test_study_on_nodes"))
    command = [sys.executable, "-m", "pytest", "-n0", "-m", "slow", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("propagate", ["dense", "layer"])
def test_fewer_prompts_and_examples_than_processes(tmp_path: Path, tiny_folder: Path, propagate: str) -> None:
    sections = {"pruning": {"propagate": propagate, "importance": {"class_path": "mlprune.pruning.SparseGPT"}}}
    config = write_config(tmp_path, tiny_folder, **sections)
    text = config.read_text().replace("num_prompts: 5", "num_prompts: 2").replace("limit: 9", "limit: 2")
    config.write_text(text.replace("limit: 7", "limit: 1").replace("limit: 3", "limit: 1"))
    assert_same_run(fit(tmp_path / "one", config, 1), fit(tmp_path / "three", config, 3))


def test_experts_by_prompt(tmp_path: Path) -> None:
    """DSnoT measures single prompts, which experts cannot tell apart: batches are formed of one prompt each."""
    importance = {"class_path": "mlprune.pruning.DSnoT", "init_args": {"first": {"class_path": "mlprune.pruning.RIA"}}}
    config = write_config(tmp_path, save_tiny(tmp_path / "model", "mixtral"), pruning={"importance": importance})
    found = []
    for devices, strategy in ((1, "auto"), (2, "ddp")):
        folder = tmp_path / strategy
        flags = ("--config", config, "--trainer.devices", devices, "--trainer.strategy", strategy)
        run = start(folder, "validate", *flags)
        assert run.returncode == 0, run.stderr
        found.append((folder / RUN / "masks.safetensors").read_bytes())
    assert found[0] == found[1]
    recipe = json.loads((folder / RUN / "pruned" / "mlprune.json").read_text())
    assert recipe["importance"].startswith("DSnoT(first=RIA(exponent=0.5), cycles=50")


def test_lrp2_searches_alike(tmp_path: Path, tiny_folder: Path) -> None:
    """The pairs of layers that are found, every pair's figure and all scores are the same."""
    tested = [bundled_task("reviews", ["en", "fr", "sw"], rows="20-24")]
    searched = [bundled_task("reviews", ["fr", "sw"], rows="0-2")]
    lrp2 = {"class_path": "mlprune.interventions.LRP2", "init_args": {"validation": searched, "num_sentences": 3}}
    config = write_config(tmp_path, tiny_folder, model={"interventions": [lrp2]}, data={"tasks": tested})
    found = []
    for devices, strategy in ((1, "auto"), (2, "ddp")):
        folder = tmp_path / strategy
        flags = ("--config", config, "--trainer.devices", devices, "--trainer.strategy", strategy)
        run = start(folder, "test", *flags)
        assert run.returncode == 0, run.stderr
        predictions = [path.read_text() for path in sorted((folder / RUN / "predictions").iterdir())]
        results = json.loads((folder / RUN / "results.json").read_text())
        found.append((predictions, results["figures"], results["interventions"]["LRP2"]["reviews"]))
    assert found[0] == found[1]
    assert {lang: len(section["pairs"]) for lang, section in found[1][2].items()} == {"fr": 6, "sw": 6}


def test_one_process_that_fails_ends_all(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "from lightning.pytorch import Callback\n\n\n"
        "class Fail(Callback):\n"
        "    def on_test_batch_start(self, trainer, *args):\n"
        "        if trainer.global_rank == 1:\n"
        "            raise ValueError('process 1 has had enough')\n"
    )
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "callbacks": [{"class_path": "failing.Fail"}]}
    config = write_config(tmp_path, tiny_folder, trainer=trainer)
    command = [sys.executable, str(ROOT / "main.py"), "test", "--config", str(config)]
    settings = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "process 1 has had enough" in run.stderr
    assert not (tmp_path / RUN / "results.json").exists()


def test_sigterm_ends_all_and_says_how_to_resume(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "signalled.py").write_text(
        "import os, signal\nfrom lightning.pytorch import Callback\n\n\n"
        "class Signal(Callback):\n"
        "    def on_test_batch_start(self, trainer, *args):\n"
        "        if trainer.is_global_zero:\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    callbacks = [{"class_path": "signalled.Signal"}]
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "callbacks": callbacks}
    config = write_config(tmp_path, tiny_folder, trainer=trainer)
    command = [sys.executable, str(ROOT / "main.py"), "test", "--config", str(config)]
    settings = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "--resume" in run.stderr
    assert not (tmp_path / RUN / "results.json").exists()


@pytest.mark.parametrize(("killed", "hook"), [(1, "on_test_batch_start"), (0, "on_calibration_progress")])
def test_a_process_that_was_killed_ends_all_with_one_line(
    tmp_path: Path, tiny_folder: Path, killed: int, hook: str
) -> None:
    (tmp_path / "killing.py").write_text(
        "import os, signal, time\nfrom pathlib import Path\nfrom mlprune.callbacks import RunCallback\n\n\n"
        "class Kill(RunCallback):\n"
        f"    def {hook}(self, *args):\n"
        f"        if self.run.trainer.global_rank == {killed} and not Path('killed').exists():\n"
        "            Path('killed').write_text(str(time.time()))\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    callbacks = [{"class_path": "killing.Kill"}]
    trainer = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "callbacks": callbacks}
    subcommand = "test" if hook == "on_test_batch_start" else "validate"
    command = [sys.executable, str(ROOT / "main.py"), subcommand, "--config"]
    settings = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(  # its output ends when the last process has ended
        [*command, str(write_config(tmp_path, tiny_folder, trainer=trainer))],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert time.time() - float((tmp_path / "killed").read_text()) < 15
    assert run.returncode == (1 if killed else -signal.SIGKILL)
    assert "Traceback" not in run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith(f"error: process {killed} of 2 is gone")
    assert lines[0].endswith(f"{subcommand} --resume {tmp_path / RUN}")
    again = subprocess.run(
        [*command[:3], "--resume", str(RUN)], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=120
    )
    assert again.returncode == 0, again.stderr
