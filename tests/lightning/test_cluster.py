"""The sbatch script of configs/README.md: a job whose time is over is queued again, and the next start resumes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tiny_runs import ROOT, write_config

README = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
RUN = Path("lightning_logs/xglm-7.5b.fr-en")


def test_a_job_is_queued_again_and_resumes(tmp_path: Path, tiny_folder: Path) -> None:
    found = re.search(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    slow = {"class_path": "slow.Slow"}  # so that there is time for a signal
    (tmp_path / "slow.py").write_text(
        "import time\nfrom lightning.pytorch import Callback\n"
        "class Slow(Callback):\n"
        "    def on_test_batch_end(self, *args, **kwargs):\n        time.sleep(0.3)\n"
    )
    task = {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["fr"], "limit": 9}}
    config = write_config(tmp_path, tiny_folder, trainer={"callbacks": [slow]}, data={"tasks": [task]})
    script = found[1].replace("paper/xglm-7.5b.fr-en", str(config)).replace("--model.name xglm-7.5b", "")
    script = script.replace("--trainer.devices 4 --trainer.strategy ddp", "").replace("float16", "float32")
    (tmp_path / "job.sh").write_text(script)
    programs = {
        "srun": 'exec "$@"',
        "scontrol": 'echo "$@" >>queue',
        "mlprune": f'exec {sys.executable} {ROOT / "main.py"} "$@"',
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    paths = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    environment = os.environ | paths

    def job() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment | {"SLURM_JOB_ID": "17"})

    with job() as first:
        deadline = time.monotonic() + 240
        while not list((tmp_path / RUN).glob("**/*.jsonl")) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        first.wait(timeout=120)
    assert (tmp_path / "queue").read_text() == "requeue 17\n"
    assert (tmp_path / RUN / ".unfinished").is_dir()
    with job() as second:
        assert second.wait(timeout=300) == 0
    assert (tmp_path / "queue").read_text() == "requeue 17\n"
    assert not (tmp_path / RUN / ".unfinished").exists()
    assert json.loads((tmp_path / RUN / "comparison.json").read_text())["differences"]
