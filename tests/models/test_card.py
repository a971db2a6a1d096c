"""The model card: a header that the hub accepts, and nothing in it that is not known or belongs to this machine."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from tiny import save_tiny

from mlprune.files import write_json
from mlprune.models.card import Facts, read_header, write_card
from mlprune.models.loading import ModelSource

RECIPE = {
    "importance": "Wanda(variant=False)",
    "pattern": "Unstructured(sparsity=0.3)",
    "sparsity": 0.3,
    "calibration": {"mt": {"prompts": 16, "tokens": 3444, "sha256": "2270a5be"}},
    "layers": {"h.0.q": 0.3},
}
BASE = {"base_model": "facebook/xglm-564M", "hub_id": "facebook/xglm-564M", "license": "mit", "notice": ""}


def card_of(folder: Path, facts: Facts) -> tuple[dict, str]:
    write_card(folder, RECIPE, facts)
    text = (folder / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1]), text


def test_everything_that_is_known_is_on_the_card(tmp_path: Path) -> None:
    facts = Facts(
        BASE,
        languages=["fr", "en", "zh-Hant", "wol_Latn"],
        datasets=["facebook/xnli"],
        calibration={"mt": "TranslationDemonstrations(shots=4), flores"},
        results="It hurt.\n\n### nli: accuracy, %",
    )
    header, text = card_of(tmp_path, facts)
    assert header == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "mit",
        "base_model": "facebook/xglm-564M",
        "language": ["fr", "en", "zh", "wo"],
        "datasets": ["facebook/xnli"],
        "tags": ["pruned", "mlprune"],
    }
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[0] == "# facebook/xglm-564M, 30.0% of the prunable weights set to zero"
    sections = ("Results", "How to load it", "How it was made", "What it is not", "License")
    assert [line[3:] for line in headings if line.startswith("## ")] == list(sections)
    for part in (
        "It hurt.",
        "16 prompts of 3444 tokens",
        "TranslationDemonstrations(shots=4), flores",
        "Wolof",
        "mit.",
    ):
        assert part in text
    assert (
        ModelCard.load(tmp_path / "README.md").data.base_model == "facebook/xglm-564M"
    )  # as the hub's client reads it


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    header, text = card_of(tmp_path, Facts({"base_model": "llama"}, encoder_decoder=True))
    assert set(header) == {"library_name", "pipeline_tag", "tags"}
    assert "AutoModelForSeq2SeqLM" in text
    assert "which its files do not state" in text
    assert "not evaluated by the run" in text


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (
            "---\nlicense: other\nlicense_name: bloom\nlicense_link: https://x\n---\nlicense: mit",
            "other bloom https://x",
        ),
        ("license: mit\n", ""),
        ("---\nlicense: [mit]\n---", ""),
        ("---\nlicense: mit\n", "mit"),
        ("---\n- a\n---\n", ""),
        ("---\na: [\n---\n", ""),
    ],
)
def test_the_license_is_the_bases(tmp_path: Path, card: str, expected: str) -> None:
    folder = save_tiny(tmp_path / "model")
    (folder / "README.md").write_text(card)
    found = ModelSource(str(folder)).card()
    assert " ".join(filter(None, (found[name] for name in ("license", "license_name", "license_link")))) == expected
    assert (found["base_model"], found["hub_id"]) == ("model", "")
    assert read_header(card).get("license", "") == expected.split(" ")[0]


@pytest.mark.parametrize(
    ("recipe", "shown", "hub_id"),
    [
        (
            {"base_model": "facebook/xglm-564M", "hub_id": "facebook/xglm-564M"},
            "facebook/xglm-564M",
            "facebook/xglm-564M",
        ),
        ({"base_model": "models/mine"}, "mine", ""),  # of an older version: it may be a folder
        ({"base_model": "demo", "hub_id": None}, "Gemma 3 270M", ""),
    ],
)
def test_the_base_of_a_pruned_model(tmp_path: Path, recipe: dict, shown: str, hub_id: str) -> None:
    folder = save_tiny(tmp_path / "pruned")
    write_json(folder / "mlprune.json", recipe | {"layers": {}})
    found = ModelSource(str(folder)).card()
    assert (found["base_model"], found["hub_id"]) == (shown, hub_id)
