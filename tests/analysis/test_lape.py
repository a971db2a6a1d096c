"""LAPE: the published selection and counts, units found by structure, and what is switched off."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import DECODERS, FAMILIES, FFN, MIXTURES, tiny_batches, tiny_model
from transformers import AutoModelForCausalLM

from mlprune.analysis.lape import ActivationCounts, random_units, select_units
from mlprune.analysis.units import find_units, silenced
from mlprune.errors import UserError

REFERENCES = Path(__file__).parent.parent / "references"
PLAIN = [family for family in FAMILIES if family not in MIXTURES]


# -- the published code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "top_rate"), [("a_top05", 0.05), ("b_top01", 0.01)])
def test_published_selection(name: str, top_rate: float) -> None:
    file = np.load(REFERENCES / "lape" / f"{name}.npz")
    blocks, width, languages = file["over_zero"].shape
    probabilities = torch.from_numpy(file["over_zero"] / file["n"]).reshape(-1, languages)
    chosen = select_units(probabilities, [str(k) for k in range(languages)], [width] * blocks, top_rate)
    found = np.zeros_like(file["chosen"])
    for lang, units in chosen.items():
        for block, own in units.items():
            found[block, own, int(lang)] = True
    assert len(chosen) == languages  # the published list is shortened if the last languages have no unit
    assert (found == file["chosen"]).all()


def test_published_counts() -> None:
    model = AutoModelForCausalLM.from_pretrained(REFERENCES / "llama", dtype=torch.float32).eval()
    ids, file = np.load(REFERENCES / "llama" / "calib.npz"), np.load(REFERENCES / "lape" / "counts_llama.npz")
    counts = ActivationCounts(model)
    for group in ("mt", "code"):
        counts.add({"input_ids": torch.from_numpy(ids[f"{group}_eq_ids"]), "group": group})
    for column, group in enumerate(("mt", "code")):
        assert counts.tokens([group]).unique() == torch.from_numpy(file[f"{group}_n"])
        expected = torch.from_numpy(file[f"{group}_over_zero"]).flatten()
        assert torch.equal(counts.over_zero(["mt", "code"])[:, column], expected.long())


# -- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PLAIN)
def test_units_of_every_family(family: str) -> None:
    model = tiny_model(family)
    layers = find_units(model)
    assert len(layers) == (6 if family in ("mt5", "m2m100") else 3)
    assert {layer.width for layer in layers} <= {FFN, 4 * 32}
    batch = tiny_batches(family, [9])[0]
    inputs = {name: value for name, value in batch.items() if name != "group"}
    with torch.no_grad():
        before = model(**inputs).logits
        with silenced(layers, {1: [0, 5], 2: [7]}):
            after = model(**inputs).logits
        assert not torch.equal(before, after)
        assert torch.equal(model(**inputs).logits, before)


def test_silenced_units_are_columns_of_the_projection() -> None:
    model, inputs = tiny_model("llama"), {"input_ids": tiny_batches("llama", [9])[0]["input_ids"]}
    with torch.no_grad():
        with silenced(find_units(model), {0: [3, 8]}):
            found = model(**inputs).logits
        model.model.layers[0].mlp.down_proj.weight[:, [3, 8]] = 0
        torch.testing.assert_close(found, model(**inputs).logits, rtol=1e-5, atol=1e-5)


def test_padding_is_not_counted() -> None:
    short, long = tiny_batches("gpt2", [4, 7])
    ids, mask = torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, dtype=torch.int64)
    for row, batch in enumerate((short, long)):
        length = batch["input_ids"].shape[1]
        ids[row, :length], mask[row, :length] = batch["input_ids"], 1
    alone, together = ActivationCounts(tiny_model("gpt2")), ActivationCounts(tiny_model("gpt2"))
    for batch in (short, long):
        alone.add(batch)
    together.add({"input_ids": ids, "attention_mask": mask})
    assert together.tokens(["default"]).unique().tolist() == [11]
    assert torch.equal(alone.over_zero(["default"]), together.over_zero(["default"]))


def test_each_side_of_an_encoder_decoder_counts_its_own_tokens() -> None:
    counts = ActivationCounts(tiny_model("mt5"))
    for batch in tiny_batches("mt5", [4, 7]):
        counts.add(batch)
    assert counts.tokens(["default"]).reshape(6, -1)[:, 0].tolist() == [11, 11, 11, 15, 15, 15]
    assert float(counts.probabilities(["default"]).max()) <= 1


def test_random_units_are_as_many_and_of_no_language() -> None:
    chosen = {"fr": {0: [1, 2], 2: [5]}, "sw": {0: [2, 3]}, "hi": {}}
    found = random_units(chosen, "fr", [8, 8, 8], seed=3)
    assert {block: len(units) for block, units in found.items()} == {0: 2, 2: 1}
    assert not set(found[0]) & {1, 2, 3}
    assert found[2] != [5]
    assert found == random_units(chosen, "fr", [8, 8, 8], seed=3)
    assert random_units(chosen, "hi", [8, 8, 8]) == {}


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_are_refused(family: str) -> None:
    with pytest.raises(UserError, match=r"'model.layers.0' has experts, each with its own units"):
        find_units(tiny_model(family))


def test_wrong_units_and_rates_are_named() -> None:
    layers = find_units(tiny_model("gpt2"))
    for units, message in (({3: [0]}, "block 3 is not there; give 0 to 2"), ({0: [128]}, "block 0 has no unit 128")):
        with pytest.raises(UserError, match=message), silenced(layers, units):
            pass
    with pytest.raises(UserError, match="top_rate 0 is not allowed"):
        select_units(torch.rand(4, 2), ["en", "fr"], [4], top_rate=0)
    with pytest.raises(UserError, match="at least two languages"):
        select_units(torch.rand(4, 1), ["en"], [4])
    with pytest.raises(UserError, match="group 'fr' has no tokens"):
        ActivationCounts(tiny_model("gpt2")).probabilities(["fr"])


def test_decoders_are_among_the_families() -> None:
    assert set(PLAIN) > set(DECODERS) - set(MIXTURES)
