"""What every test may use: tiny models on disk, and a command line that runs in this process."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # LightningCLI calls what jsonargparse renamed

import signal
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

torch.set_num_threads(1)  # tiny models lose time on more
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with Ctrl-C ignored


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that takes long texts, with its tokenizer, in the layout of the hub."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny_model("llama", max_position_embeddings=2048).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def mlprune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, capsys: pytest.CaptureFixture):
    """Run the command line in this process, in a folder of the test's own; returns status, output and errors."""
    from mlprune.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["main.py"])

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
