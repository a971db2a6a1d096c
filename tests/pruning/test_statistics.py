"""Statistics: exact sums, one calibration for many answers, and files."""

import math
from pathlib import Path

import pytest
import torch
from tiny import tiny_batches, tiny_model

from mlprune.errors import UserError
from mlprune.pruning import (
    ADMM,
    RIA,
    LayerStatistics,
    NofM,
    Pruner,
    SparseGPT,
    Unstructured,
    Wanda,
    collect_statistics,
    load_statistics,
    merge_statistics,
    prune_from_statistics,
    prune_model,
    save_statistics,
    statistics,
    sweep,
)
from mlprune.pruning.prune import reform
from mlprune.pruning.statistics import TokenMean
from mlprune.pruning.sums import Sum, sum_of_outer_products, sum_of_squares

LENGTHS = [9, 4, 7]


def dense_statistics(family: str, importance: object = None) -> dict[str, LayerStatistics]:
    batches = reform(tiny_batches(family, LENGTHS), 4096, equal_lengths=family == "mixtral")
    return collect_statistics(tiny_model(family), batches, Pruner(importance))


def test_sums_are_exact_without_a_wide_copy() -> None:
    x = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sum_of_squares(x), x.double().square().sum(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(sum_of_outer_products(x), x.double().T @ x.double(), rtol=1e-5, atol=1e-4)


def test_compensated_float32_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "accumulator_dtype", lambda device: torch.float32)
    mean = TokenMean((1,))
    for _ in range(20_000):
        mean.update(torch.tensor([0.1]), tokens=1)
    value, tokens = mean.compute()
    plain = torch.zeros(1)
    for _ in range(20_000):
        plain += 0.1
    assert value.dtype == torch.float32
    assert int(tokens) == 20_000
    assert abs(float(value) - 0.1) < 1e-8
    assert abs(float(plain) / 20_000 - 0.1) > 1e-6
    x = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sum_of_squares(x).double(), x.double().square().sum(0), rtol=3e-7, atol=0)


def test_lost_is_what_the_total_has_too_much() -> None:
    running = Sum(torch.tensor(1.0), torch.tensor(0.0))
    running.add(torch.tensor(2**-24 * 1.5))  # rounds up to one unit in the last place, 2^-23
    assert float(running.total) - 1 == 2**-23
    assert float(running.lost) == 2**-24 * 0.5


def test_state_stays_float64_when_the_module_is_cast() -> None:
    modules = torch.nn.ModuleList([TokenMean((2,))]).to(torch.bfloat16)
    assert modules[0].sums.dtype == torch.float64


def test_zero_tokens_are_an_answer(recwarn: pytest.WarningsRecorder) -> None:
    value, tokens = TokenMean((2,)).compute()
    assert value.tolist() == [0.0, 0.0]
    assert int(tokens) == 0
    assert not recwarn.list


@pytest.mark.parametrize("family", ["llama", "mt5", "mixtral"])
@pytest.mark.parametrize(
    ("importance", "pattern"),
    [(Wanda(), Unstructured(0.4)), (RIA(), NofM(2, 4)), (SparseGPT(), Unstructured(0.5)), (ADMM(), NofM(2, 4))],
)
def test_saved_statistics_give_the_masks_of_dense_propagation(
    family: str, importance: object, pattern: object, tmp_path: Path
) -> None:
    expected = tiny_model(family)
    masks = prune_model(expected, tiny_batches(family, LENGTHS), importance, pattern, propagate="dense")
    save_statistics(dense_statistics(family, importance), tmp_path / "statistics.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["statistics.safetensors"]
    model, loaded = tiny_model(family), load_statistics(tmp_path / "statistics.safetensors")
    again = prune_from_statistics(model, loaded, Pruner(importance, pattern))
    assert all(torch.equal(again[path], mask) for path, mask in masks.items())
    assert all(torch.equal(weight, expected.state_dict()[name]) for name, weight in model.state_dict().items())


def test_sweep_prunes_and_puts_back() -> None:
    model, found = tiny_model("llama"), dense_statistics("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    levels = [0.05, 0.3, 0.6]
    for pruner, masks in sweep(model, found, (Pruner(Wanda(), Unstructured(level)) for level in levels)):
        expected = prune_model(
            tiny_model("llama"), tiny_batches("llama", LENGTHS), Wanda(), pruner.pattern, propagate="dense"
        )
        assert all(torch.equal(masks[path], mask) for path, mask in expected.items())
        path = "model.layers.2.mlp.down_proj"
        assert torch.equal(model.get_submodule(path).weight == 0, ~masks[path])
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_gram_statistics_serve_energies_too() -> None:
    masks = prune_from_statistics(tiny_model("llama"), dense_statistics("llama", SparseGPT()), Pruner(Wanda()))
    expected = prune_from_statistics(tiny_model("llama"), dense_statistics("llama"), Pruner(Wanda()))
    assert sum(int((masks[path] != mask).sum()) for path, mask in expected.items()) <= 2  # float32 products


def test_unfit_statistics_are_refused(tmp_path: Path) -> None:
    found = dense_statistics("llama")
    with pytest.raises(UserError, match="SparseGPT needs Gram matrices; the statistics are energies"):
        prune_from_statistics(tiny_model("llama"), found, Pruner(SparseGPT()))
    with pytest.raises(UserError, match="statistics are of another model"):
        prune_from_statistics(tiny_model("gpt2"), found, Pruner())
    with pytest.raises(UserError, match="are of 64 inputs; the layer has 48"):
        prune_from_statistics(tiny_model("llama", intermediate_size=48), found, Pruner())
    with pytest.raises(UserError, match="does not exist"):
        load_statistics(tmp_path / "nowhere.safetensors")


def test_all_silent_inputs_leave_a_layer_dense(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("opt")
    model.model.decoder.layers[0].fc1.weight.data.zero_()
    model.model.decoder.layers[0].fc1.bias.data.fill_(-1.0)  # ReLU gives nothing at all
    masks = prune_model(model, tiny_batches("opt", LENGTHS))
    assert masks["model.decoder.layers.0.fc2"].all()
    assert "model.decoder.layers.0.fc2: all inputs are zero in group 'default'; left dense" in caplog.text


def test_overflowing_inputs_are_named() -> None:
    model = tiny_model("llama")
    model.model.layers[1].input_layernorm.weight.data[0] = float("inf")
    with pytest.raises(UserError, match=r"model.layers.1.self_attn.q_proj: inputs hold NaN or Inf in group 'default'"):
        prune_model(model, tiny_batches("llama", LENGTHS))


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_sums_are_the_same_bits_on_any_number_of_processes(processes: int) -> None:
    from mlprune.pruning.statistics import TokenMean, _sum_of_processes

    torch.manual_seed(0)
    batches = list(torch.rand(40, 500, dtype=torch.float64) * 10 ** (6 * torch.rand(40, 1, dtype=torch.float64)))
    parts = [TokenMean((500,)) for _ in range(processes)]
    for place, batch in enumerate(batches):
        parts[place % processes].update(batch, 3)
    whole = TokenMean((500,))
    whole.sums = _sum_of_processes(torch.stack([part.sums for part in parts]))
    whole.tokens = torch.tensor(sum(int(part.tokens) for part in parts))
    exact = torch.tensor([math.fsum(column) / 120 for column in torch.stack(batches).T.tolist()], dtype=torch.float64)
    assert torch.equal(whole.result()[0], exact)


def test_calibrations_made_apart_merge_by_group(tmp_path: Path) -> None:
    model, pruner = tiny_model("llama"), Pruner()
    batches = [batch for name in ("mt", "code") for batch in tiny_batches("llama", [5], group=name)]
    for batch in batches:
        save_statistics(collect_statistics(model, [batch], pruner), tmp_path / f"{batch['group']}.safetensors")
    merged = merge_statistics(load_statistics(tmp_path / f"{name}.safetensors") for name in ("mt", "code"))
    together = collect_statistics(model, batches, pruner)
    assert merged.keys() == together.keys()
    for path, own in together.items():
        assert list(merged[path].means) == list(own.means) == ["mt", "code"]
        assert all(torch.equal(merged[path].means[group], own.means[group]) for group in own.means)
    with pytest.raises(UserError, match="the group 'code' twice"):
        merge_statistics([merged, merged])
    with pytest.raises(UserError, match="other layers"):
        merge_statistics([merged, {"fc": next(iter(merged.values()))}])
