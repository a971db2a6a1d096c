"""What every test may use: tiny models on disk, and a command line that runs in this process."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # LightningCLI calls what jsonargparse renamed

import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
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


def disconnect() -> bool:
    """Take this process out of its process group; returns whether there was one."""
    connected = dist.is_available() and dist.is_initialized()
    if connected:
        dist.destroy_process_group()
    return connected


@pytest.fixture(autouse=True)
def no_connection_is_left() -> Iterator[None]:
    """Fail a test that leaves this process in a process group: rank, port and store would be the next tests'."""
    yield
    assert not disconnect(), "the test leaves its process in a process group"


@pytest.fixture
def mlprune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, capsys: pytest.CaptureFixture):
    """Run the command line in this process, in a folder of the test's own; returns status, output and errors."""
    from mlprune.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["main.py"])

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with mock.patch.dict(os.environ):  # Lightning leaves the address that processes meet at
            try:
                status = main([str(arg) for arg in args])
            finally:
                disconnect()  # a strategy that splits weights connects one process, too
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
