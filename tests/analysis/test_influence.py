"""Block influence against the published function, against transformers' hidden states, and without padding."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import ENCODER_DECODER, FAMILIES, tiny_batches, tiny_model
from tiny_runs import RUN, write_config
from transformers.pytorch_utils import Conv1D

from mlprune.analysis.influence import block_influence, least_influential, token_influence
from mlprune.errors import UserError

X = Path(__file__).parent.parent / "references" / "layers"
MONO = "mlprune.data.demonstrations.MonolingualDemonstrations"


@pytest.mark.parametrize(
    ("file", "rows", "total", "first"),
    [  # what ShortGPT's block_influence gives for X[i] before and X[i] + X[j] after, summed, and for the first tokens
        ("32x64", (0, 1), 8.911547, (0.15787446, 0.21561670, 0.50178409)),
        ("48x96", (2, 3), 9.197512, (0.34180033, 0.17510772, 0.26041585)),
    ],
)
def test_it_is_the_published_function(file: str, rows: tuple[int, int], total: float, first: tuple) -> None:
    x = torch.tensor(np.load(X / f"{file}.npz")["X"]).float()
    found = token_influence(x[rows[0]], x[rows[0]] + x[rows[1]])
    assert found.dtype == torch.float64
    assert float(found.sum()) == pytest.approx(total, rel=1e-6)
    assert found[:3].tolist() == pytest.approx(first, rel=1e-5)


def test_zero_states_count_as_the_published_function_has_them() -> None:
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert token_influence(zero, one).tolist() == token_influence(zero, zero).tolist() == [0.5]
    assert token_influence(one, -one).tolist() == pytest.approx([2.0])


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_it_is_that_of_hidden_states(family: str) -> None:
    """Of all blocks but the last, after which transformers' hidden states have passed the final norm."""
    model = tiny_model(family)
    batches = tiny_batches(family, [9, 5], group="fr") + tiny_batches(family, [7], seed=1, group="sw")
    found = block_influence(model, batches)
    assert list(found) == ["fr", "sw"]
    with torch.no_grad():
        states = [model(batch["input_ids"], output_hidden_states=True).hidden_states for batch in batches]
    for group, own in (("fr", states[:2]), ("sw", states[2:])):
        for block in range(2):
            before, after = (torch.cat([one[block + k][0] for one in own]).double() for k in (0, 1))
            expected = 1 - torch.nn.functional.cosine_similarity(before, after, dim=1)
            assert list(found[group].values())[block] == pytest.approx(float(expected.mean()), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_batches_do_not_matter(family: str) -> None:
    model, single = tiny_model(family), tiny_batches(family, [9, 5, 7])
    expected = block_influence(model, single)["default"]
    assert len(expected) == (6 if family in ENCODER_DECODER else 3)
    assert len({round(value, 6) for value in expected.values()}) == len(expected)
    padded = {"group": "default"}
    for name in set(single[0]) - {"group"}:
        width = max(batch[name].shape[1] for batch in single) + 2
        padded[name] = torch.cat(
            [torch.nn.functional.pad(batch[name], (0, width - batch[name].shape[1])) for batch in single]
        )
    found = block_influence(model, [padded])["default"]
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)
    assert block_influence(model, single[::-1])["default"] == expected  # to the bit, in whatever order


def test_a_block_that_only_scales_has_none() -> None:
    model = tiny_model("gpt2")
    for module in model.transformer.h[1].modules():
        if isinstance(module, Conv1D):
            module.weight.data.zero_(), module.bias.data.zero_()
    found = block_influence(model, tiny_batches("gpt2", [9]))
    assert found["default"]["transformer.h.1"] == pytest.approx(0, abs=1e-12)
    assert least_influential(found)[0] == "transformer.h.1"


def test_what_is_not_a_number_is_refused_by_name() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj.weight.data.fill_(torch.inf)
    with pytest.raises(UserError, match=r"model\.layers\.1: hidden states hold NaN or Inf in group 'fr'"):
        block_influence(model, tiny_batches("llama", [9], group="fr"))


def test_through_the_command_line(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    groups = {lang: {"class_path": MONO, "init_args": {"lang": lang, "shots": 2}} for lang in ("fr", "sw")}
    trainer = {"accelerator": "cpu", "devices": 1, "callbacks": [{"class_path": "mlprune.callbacks.BlockInfluence"}]}
    config = write_config(tmp_path, tiny_folder, data={"demonstrations": groups, "tasks": None}, trainer=trainer)
    status, out, err = mlprune("validate", "--config", config)
    assert status == 0, err
    rows = list(csv.DictReader((RUN / "influence.csv").open()))
    assert list(rows[0]) == ["block", "path", "fr", "sw"]
    assert [row["path"] for row in rows] == [f"model.layers.{k}" for k in range(3)]
    content = json.loads((RUN / "influence.json").read_text())
    assert [float(row["sw"]) for row in rows] == pytest.approx(list(content["influence"]["sw"].values()), rel=1e-8)
    least = min(rows, key=lambda row: float(row["fr"]) + float(row["sw"]))
    assert content["least_influential"][0] == least["path"]
    assert "Influence of blocks" in out
    assert f"{float(least['fr']):.4f}" in out
    assert (RUN / "figures/influence.png").stat().st_size > 5000
    assert not (RUN / "pruned").exists()
