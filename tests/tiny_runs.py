"""Settings of runs that take a second or two: a tiny model, a few prompts, a few examples."""

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from mlprune.pruning import load_masks

LANGUAGES = ["en", "fr", "sw"]
ROOT = Path(__file__).parents[1]
RUN = Path("lightning_logs/version_0")


def bundled_task(name: str, languages: list[str], **options: Any) -> dict[str, Any]:
    """Return the configuration of a task with candidates over the bundled ``nli`` or ``reviews``."""
    corpus = {"class_path": "mlprune.data.corpora.Bundled", "init_args": {"name": name}}
    template = {"nli": "xnli", "reviews": "marc"}[name]
    options = {"name": name, "template": template, "languages": languages, "corpus": corpus, **options}
    return {"class_path": "mlprune.evaluation.tasks.CandidateTask", "init_args": options}


def free_port() -> int:
    """Return a port at which processes can meet."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    return port


def tiny_config(model: str | Path, /, **sections: Any) -> dict[str, Any]:
    """Return a whole configuration; ``sections`` are merged over it, section by section."""
    config = {
        "model": {"name": str(model), "dtype": "float32"},
        "data": {
            "num_prompts": 5,
            "max_tokens": 100,
            "max_batch_tokens": 200,
            "max_batch_chars": 400,
            "demonstrations": {
                "mt": {
                    "class_path": "mlprune.data.demonstrations.TranslationDemonstrations",
                    "init_args": {"source_lang": "fr", "shots": 2},
                }
            },
            "tasks": [
                bundled_task("nli", LANGUAGES, limit=9),
                bundled_task("reviews", LANGUAGES, limit=7),
                {
                    "class_path": "mlprune.evaluation.tasks.TranslationTask",
                    "init_args": {
                        "languages": ["fr", "sw"],
                        "limit": 3,
                        "shots": 1,
                        "max_chars": 60,
                        "max_new_tokens": 4,
                    },
                },
                {
                    "class_path": "mlprune.evaluation.tasks.PerplexityTask",
                    "init_args": {"languages": ["en", "fr"], "limit": 3},
                },
            ],
        },
        "trainer": {"accelerator": "cpu", "devices": 1},
    }
    for name, section in sections.items():
        config[name] = config.get(name, {}) | section
    return config


def write_config(folder: Path, model: str | Path, /, name: str = "run.yaml", **sections: Any) -> Path:
    """Write :func:`tiny_config` as YAML and return the file."""
    file = folder / name
    file.write_text(yaml.safe_dump(tiny_config(model, **sections), allow_unicode=True), encoding="utf-8")
    return file


def assert_same_run(a: Path, b: Path) -> None:
    """Check that two runs of ``fit`` left the same statistics, masks, figures, predictions and weights, to the bit."""
    statistics = [run / "statistics.safetensors" for run in (a, b)]
    assert statistics[0].is_file() == statistics[1].is_file()
    assert not statistics[0].is_file() or statistics[0].read_bytes() == statistics[1].read_bytes()
    masks = [load_masks(run / "masks.safetensors") for run in (a, b)]
    assert masks[0].keys() == masks[1].keys()
    assert all(torch.equal(masks[0][path], masks[1][path]) for path in masks[0])
    for name in ("results.json", "results.dense.json", "comparison.json"):
        first, second = (json.loads((run / name).read_text()) for run in (a, b))
        assert first == second, name
    for folder in ("predictions", "predictions.dense"):
        files = [sorted((run / folder).iterdir()) for run in (a, b)]
        assert [file.name for file in files[0]] == [file.name for file in files[1]]
        assert all(x.read_text() == y.read_text() for x, y in zip(*files, strict=True))
    assert (a / "pruned/model.safetensors").read_bytes() == (b / "pruned/model.safetensors").read_bytes()


def begin(folder: Path, *args: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start main.py in a process of its own, in a folder, with one thread; Ctrl-C reaches it even in the background."""
    folder.mkdir(exist_ok=True)
    command = [*(launcher or (sys.executable,)), ROOT / "main.py", *args]
    folders = ":".join(str(ROOT / name) for name in ("", "tests", "tests/lightning"))
    environment = os.environ | {"PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    handled = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([str(part) for part in command], cwd=folder, env=environment, preexec_fn=handled, **pipes)


def start(folder: Path, *args: object, launcher: tuple[str, ...] = (), timeout: float = 300) -> Any:
    """As :func:`begin`, and wait for its end."""
    with begin(folder, *args, launcher=launcher) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def fit(folder: Path, config: Path, devices: int, launcher: tuple[str, ...] = (), timeout: float = 300) -> Path:
    """Run the whole experiment on so many processes and return its run folder."""
    strategy = "ddp" if devices > 1 else "auto"
    flags = ["--trainer.devices", devices, "--trainer.strategy", strategy]
    run = start(folder, "fit", "--config", config, *flags, launcher=launcher, timeout=timeout)
    assert run.returncode == 0, run.stderr
    return folder / RUN
