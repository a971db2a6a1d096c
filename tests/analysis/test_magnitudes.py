"""Magnitudes and overlaps against direct computations."""

import pytest
import torch
from tiny import tiny_model

from mlprune.analysis.magnitudes import Magnitudes
from mlprune.analysis.overlap import largest, overlap_table, smallest

FAMILIES = ["llama", "gemma3", "bloom", "gpt2", "xglm", "opt", "qwen3_moe"]


def prompts() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randint(3, 40, (1, length)) for length in (4, 9, 7)]


def padded(rows: list[torch.Tensor], left: bool) -> dict[str, torch.Tensor]:
    width = max(row.shape[1] for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.int64)
    for i, row in enumerate(rows):
        own = slice(width - row.shape[1], None) if left else slice(row.shape[1])
        ids[i, own], mask[i, own] = row[0], 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_the_model(family: str) -> None:
    model, rows = tiny_model(family).eval(), prompts()
    with torch.no_grad():
        states = [model(row, output_hidden_states=True).hidden_states for row in rows]
    magnitudes = Magnitudes(model, linear_inputs=False)
    for row in rows:
        magnitudes.add({"input_ids": row})
    found = magnitudes.hidden()["default"]
    assert list(found) == [str(i) for i in range(len(states[0]))]
    for i, layer in enumerate(found.values()):
        expected = torch.stack([own[i][0].double().square().sum(0).sqrt() for own in states]).mean(0)
        torch.testing.assert_close(layer, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "qwen3_moe"])
def test_padding_never_counts(family: str) -> None:
    model, rows = tiny_model(family).eval(), prompts()
    alone, together = Magnitudes(model), Magnitudes(model)
    for row in rows:
        alone.add({"input_ids": row, "group": "mt"})
    together.add(padded(rows, left=False) | {"group": "mt"})
    for means in ("hidden", "inputs"):
        one, other = getattr(alone, means)()["mt"], getattr(together, means)()["mt"]
        assert set(one) == set(other)
        for layer in one:
            torch.testing.assert_close(one[layer], other[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_inputs_of_linear_layers_are_what_they_see(family: str) -> None:
    model, row = tiny_model(family).eval(), prompts()[1]
    magnitudes = Magnitudes(model)
    magnitudes.add({"input_ids": row})
    seen: dict[str, torch.Tensor] = {}
    for path, module in magnitudes.layers.items():
        module.register_forward_pre_hook(lambda _, args, path=path: seen.__setitem__(path, args[0][0]))
    with torch.no_grad():
        model(row)
    found = magnitudes.inputs()["default"]
    assert set(found) == set(seen)
    for path, x in seen.items():
        torch.testing.assert_close(found[path], x.double().norm(dim=0), rtol=1e-5, atol=1e-6)
    assert not any(len(module._forward_pre_hooks) > 1 for module in magnitudes.layers.values())


def test_an_encoder_and_a_decoder_have_states_of_their_own() -> None:
    model, row = tiny_model("mt5").eval(), prompts()[0]
    batch = {"input_ids": row, "decoder_input_ids": row[:, :3]}
    magnitudes = Magnitudes(model)
    magnitudes.add(batch)
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    found = magnitudes.hidden()["default"]
    for side, states in (("encoder", output.encoder_hidden_states), ("decoder", output.decoder_hidden_states)):
        for i, state in enumerate(states):
            torch.testing.assert_close(found[f"{side} {i}"], state[0].double().norm(dim=0), rtol=1e-5, atol=1e-6)


def test_overlap_by_hand() -> None:
    means = {
        "fr-en": {"0": torch.tensor([9.0, 8.0, 1.0, 2.0])},
        "es-en": {"0": torch.tensor([8.0, 9.0, 2.0, 1.0])},
        "fr": {"0": torch.tensor([9.0, 1.0, 8.0, 2.0])},
    }
    table = overlap_table(means, 50, {"fr-en": "translation", "es-en": "translation", "fr": "monolingual"})
    assert table["overlap"] == [[[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]]]
    assert table["shared"] == [[[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]]]
    assert table["curves"] == {"translation and translation": [1.0], "translation and monolingual": [0.5]}
    assert table["only_translation"] == [[1]]
    assert largest(torch.tensor([1.0, 1.0, 1.0]), 1) == smallest(torch.tensor([1.0, 1.0, 1.0]), 1) == [0]
