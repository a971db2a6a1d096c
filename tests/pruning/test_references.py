"""Masks of the published codes, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from mlprune.pruning import ContrastiveWanda, Magnitude, NofM, Unstructured, Wanda, load_masks, prune_model

REFERENCES = Path(__file__).parent.parent / "references"


def batches(family: str, padded: bool = False) -> list[dict]:
    calib = np.load(REFERENCES / family / "calib.npz")
    out = []
    for group in ("mt", "code"):
        ids = torch.from_numpy(calib[f"{group}_{'pad' if padded else 'eq'}_ids"])
        mask = torch.from_numpy(calib[f"{group}_pad_mask"]) if padded else torch.ones_like(ids)
        out.append({"input_ids": ids, "attention_mask": mask, "group": group})
    return out


def pruned(family: str, *args: object, groups: tuple[str, ...] = ("mt",), padded: bool = False) -> dict[str, Tensor]:
    model = AutoModelForCausalLM.from_pretrained(REFERENCES / family, dtype=torch.float32).eval()
    chosen = [batch for batch in batches(family, padded) if batch["group"] in groups]
    return prune_model(model, chosen, *args, count_padding=padded)


def reference(family: str, setting: str) -> dict[str, Tensor]:
    return load_masks(REFERENCES / family / "masks" / f"{setting}.safetensors")


def assert_same(masks: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert masks.keys() == expected.keys()
    wrong = {path: int((mask != expected[path]).sum()) for path, mask in masks.items()}
    assert not any(wrong.values()), wrong


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [
        ("mt_nopad_r30", Unstructured(0.3)),
        ("mt_nopad_2of4", NofM(2, 4)),
        ("mt_nopad_4of8", NofM(4, 8)),
        ("mt_nopad_droptop_r30", Unstructured(0.3, drop="highest")),
    ],
)
def test_wanda_of_the_paper(setting: str, pattern: Unstructured | NofM) -> None:
    assert_same(pruned("xglm", Wanda(), pattern), reference("xglm", setting))


def test_counted_padding() -> None:
    masks = pruned("xglm", Wanda(), Unstructured(0.3), padded=True)
    assert_same(masks, reference("xglm", "mt_pad_r30"))


def test_wanda_variant() -> None:
    masks = pruned("xglm", Wanda(variant=True), Unstructured(0.5))
    assert_same(masks, reference("xglm", "mt_nopad_variant_r50"))


def test_contrastive() -> None:
    masks = pruned("xglm", ContrastiveWanda("mt", "code"), Unstructured(0.3), groups=("mt", "code"))
    assert_same(masks, reference("xglm", "mt_code_nopad_r30_mt_over_code"))


def test_magnitude_but_for_one_entry_a_matrix() -> None:
    """The published code prunes everything up to and including the threshold, so one weight more than half."""
    masks = pruned("xglm", Magnitude(), Unstructured(0.5, scope="layer"))
    for path, expected in reference("xglm", "magnitude_r50").items():
        assert int((masks[path] != expected).sum()) == 1, path
        assert (masks[path] | ~expected).all(), path


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [("wanda_r30", Unstructured(0.3)), ("wanda_r50", Unstructured(0.5)), ("wanda_2of4", NofM(2, 4))],
)
def test_wanda_code_on_llama(setting: str, pattern: Unstructured | NofM) -> None:
    assert_same(pruned("llama", Wanda(), pattern), reference("llama", setting))
