"""What goes wrong outside: one line, exit status not 0, nothing half-written under a final name, inputs untouched."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from tiny_runs import write_config
from transformers import BertConfig, BertLMHeadModel

from mlprune.pruning import load_masks

RUN = Path("lightning_logs/version_0")
FINAL = ("results.json", "masks.safetensors", "statistics.safetensors", "pruned", "comparison.json", "report.html")


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def refused_in_one_line(status: int, err: str, *words: str) -> None:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of its own, whose size in KiB the test sets and changes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(size: int) -> Path:
        options = f"size={size}k" + (",remount" if folder.is_mount() else "")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True)
        if mounted.returncode != 0:
            pytest.skip("only root may mount a file system")
        return folder

    yield resize
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("size", [8, 32, 48, 64, 96, 160, 224])
def test_disk_full(mlprune, tmp_path: Path, tiny_folder: Path, small_disk, size: int) -> None:
    """The disk fills at some moment of the run; where there is work to resume, more room lets it finish."""
    disk, before = small_disk(size), digests(tiny_folder)
    config = write_config(tmp_path, tiny_folder, data={"tasks": []})
    status, _, err = mlprune("validate", "--config", config, "--trainer.default_root_dir", disk)
    refused_in_one_line(status, err, "disk")
    assert "No space left on device" in err or "GiB needed" in err
    assert digests(tiny_folder) == before
    assert not list(disk.rglob("*.partial"))
    run = disk / RUN
    masks = [load_masks(file) for file in run.glob("masks.safetensors")]
    assert all(len(found) == 21 for found in masks)
    assert not (run / "pruned").exists()
    if (run / ".unfinished").is_dir():
        small_disk(2048)
        status, _, err = mlprune("validate", "--resume", run)
        assert status == 0, err
        assert (run / "pruned" / "mlprune.json").is_file()


def test_a_folder_that_cannot_be_made(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "file").touch()
    config = write_config(tmp_path, tiny_folder)
    status, _, err = mlprune("validate", "--config", config, "--trainer.default_root_dir", "file/run")
    refused_in_one_line(status, err, "file/run", "Not a directory")


@pytest.mark.parametrize(
    ("name", "value", "streaming"),
    [
        ("model.layers.1.mlp.up_proj", float("nan"), False),
        ("model.layers.2.post_attention_layernorm", float("inf"), True),
        ("model.norm", float("inf"), False),
        ("model.norm", float("-inf"), True),
        ("lm_head", float("nan"), False),
        ("lm_head", float("nan"), True),
    ],
)
def test_weights_that_are_no_numbers(mlprune, tmp_path: Path, name: str, value: float, streaming: bool) -> None:
    model = tiny_model("llama", max_position_embeddings=2048)
    model.get_parameter(f"{name}.weight").data.view(-1)[7] = value
    model.save_pretrained(tmp_path / "broken")
    tiny_tokenizer().save_pretrained(tmp_path / "broken")
    config = write_config(tmp_path, tmp_path / "broken")
    status, _, err = mlprune("validate", "--config", config, "--pruning.streaming", str(streaming).lower())
    refused_in_one_line(status, err, name, "NaN or Inf")
    assert not [name for name in FINAL if (RUN / name).exists()]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_model_that_fills_blanks_is_not_pruned(mlprune, tmp_path: Path, streaming: bool) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=258, max_position_embeddings=2048, **sizes)
    torch.manual_seed(0)
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    run = write_config(tmp_path, tmp_path / "bert")
    status, _, err = mlprune("validate", "--config", run, "--pruning.streaming", str(streaming).lower())
    refused_in_one_line(status, err, "BertLMHeadModel lets tokens attend to later ones")
    assert not [name for name in FINAL if (RUN / name).exists()]


def test_a_pruned_model_is_not_pruned_again(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    assert mlprune("validate", "--config", config)[0] == 0
    status, _, err = mlprune("validate", "--config", config, "--model.name", RUN / "pruned")
    refused_in_one_line(status, err, "is pruned already")


def test_a_tokenizer_that_knows_more_tokens_than_the_model(mlprune, tmp_path: Path) -> None:
    tiny_model("llama", vocab_size=100, max_position_embeddings=2048).save_pretrained(tmp_path / "small")
    tiny_tokenizer().save_pretrained(tmp_path / "small")
    status, _, err = mlprune("validate", "--config", write_config(tmp_path, tmp_path / "small"))
    refused_in_one_line(status, err, "the model's embedding has 100 rows")


@pytest.mark.parametrize("positions", [{"n_positions": 64}, {"max_position_embeddings": 64}], ids=["gpt2", "xglm"])
def test_prompts_longer_than_the_context(mlprune, tmp_path: Path, positions: dict[str, int]) -> None:
    model = tiny_model("gpt2" if "n_positions" in positions else "xglm", **positions)
    model.save_pretrained(tmp_path / "short")
    tiny_tokenizer().save_pretrained(tmp_path / "short")
    status, _, err = mlprune("validate", "--config", write_config(tmp_path, tmp_path / "short"))
    refused_in_one_line(status, err, "group 'mt': max_tokens 100 is more than the 64 that the model takes; give 64")


def test_no_secret_reaches_a_file_or_the_console(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    status, out, err = mlprune("fit", "--config", write_config(tmp_path, tiny_folder))
    assert status == 0
    written = b"".join(file.read_bytes() for file in RUN.rglob("*") if file.is_file())
    assert "hf_verysecret" not in out + err
    assert b"hf_verysecret" not in written


def test_bfloat16_leaves_statistics_and_metrics_in_float64(
    mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch
) -> None:
    from mlprune.pruning.statistics import TokenMean

    seen = set()
    update = TokenMean.update

    def watched(self, sums: torch.Tensor, tokens: int) -> None:
        update(self, sums, tokens)
        seen.update(
            value.dtype
            for value in vars(self).values()
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        )

    monkeypatch.setattr(TokenMean, "update", watched)
    config = write_config(tmp_path, tiny_folder, trainer={"accelerator": "cpu", "devices": 1})
    status, _, err = mlprune("fit", "--config", config, "--model.dtype", "bfloat16")
    assert status == 0, err
    results = json.loads((RUN / "results.json").read_text())
    accuracy = results["tasks"]["nli"]["fr"]
    assert accuracy["accuracy"] == pytest.approx(round(accuracy["accuracy"] * accuracy["n"]) / accuracy["n"], abs=1e-12)
    assert seen <= {torch.float64}
