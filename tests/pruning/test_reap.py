"""REAP: the published scores and choices, models without some experts against masked ones, and what decides."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny import EXPERTS, GROUPED, VOCABULARY, save_tiny, tiny_batches, tiny_model
from tiny_runs import RUN, tiny_config
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from yaml import safe_dump

from mlprune.errors import UserError
from mlprune.models.mixtures import find_mixtures
from mlprune.pruning import prune_experts, score_experts

REFERENCE = Path(__file__).parent.parent / "references" / "reap"
DEEPSEEK = {
    **{"num_experts_per_tok": 2, "n_routed_experts": 8, "topk_group": 1, "moe_intermediate_size": 16},
    **{"first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4},
    **{"v_head_dim": 8, "num_key_value_heads": 4, "n_group": 2},
}
SPARSE = {"moe_intermediate_size": 16, "decoder_sparse_step": 1, "num_experts": 6}
MODELS: dict[str, dict[str, Any]] = {
    "Mixtral": EXPERTS | {"num_local_experts": 6},
    "Qwen2Moe": EXPERTS | SPARSE | {"shared_expert_intermediate_size": 16, "mlp_only_layers": []},
    "Qwen3Moe": EXPERTS | SPARSE | {"head_dim": 8, "mlp_only_layers": [1]},
    "Olmoe": EXPERTS | {"num_experts": 6},
    "GptOss": EXPERTS | {"num_local_experts": 6, "head_dim": 8},
    "DeepseekV3": DEEPSEEK,
}


def build(name: str) -> Any:
    special = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    config = getattr(transformers, f"{name}Config")(**(GROUPED | special | MODELS[name]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.5)
    return model.eval()


@contextmanager
def masked(model: Any, kept: Mapping[str, list[int]]) -> Iterator[None]:
    """While open, the routers' logits of all other experts are minus infinity."""
    gone: dict[int, list[int]] = {}
    for mixture in find_mixtures(model):
        for router in mixture.routers:
            own = gone[id(router.weight)] = sorted(set(range(mixture.num_experts)) - set(kept[mixture.path]))
            if hasattr(router, "e_score_correction_bias"):
                router.e_score_correction_bias[own] = -torch.inf
    linear = nn.functional.linear

    def masking(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        logits = linear(x, weight, bias)
        return logits.index_fill(-1, torch.tensor(gone[id(weight)]), -torch.inf) if id(weight) in gone else logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "linear", masking)
        yield


# -- the published code -----------------------------------------------------------------------------------------------


def published() -> tuple[Any, list[dict[str, Any]], Any]:
    file = np.load(REFERENCE / "qwen3moe_norm.npz")
    model = AutoModelForCausalLM.from_pretrained(REFERENCE, dtype=torch.float32).eval()
    return model, [{"input_ids": torch.from_numpy(file["ids"])}], file


def test_published_scores() -> None:
    model, batches, file = published()
    found = list(score_experts(model, batches).values())
    scores = torch.stack([own.means["default"][:, 0] for own in found])
    torch.testing.assert_close(scores, torch.from_numpy(file["saliency"]), rtol=1e-5, atol=0)
    assert torch.equal(torch.stack([own.tokens["default"] for own in found]), torch.from_numpy(file["count"]).long())


@pytest.mark.parametrize("percent", [25, 50])
@pytest.mark.parametrize(("propagate", "name"), [("dense", "kept"), ("pruned", "kept_sequential")])
def test_published_choice(percent: int, propagate: Any, name: str) -> None:
    model, batches, file = published()
    kept = prune_experts(model, batches, percent / 100, propagate=propagate)
    assert list(kept.values()) == [np.flatnonzero(row).tolist() for row in file[f"{name}_{percent}"]]
    if propagate == "pruned":
        with torch.no_grad():
            logits = model(torch.from_numpy(file["ids"][:2])).logits
        torch.testing.assert_close(logits, torch.from_numpy(file[f"logits_sequential_{percent}"]), rtol=0, atol=1e-4)


# -- a smaller model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_without_experts_is_as_with_experts_masked(name: str, tmp_path: Path) -> None:
    model, dense = build(name), build(name)
    batches = tiny_batches("llama", [9, 12, 7])
    kept = prune_experts(model, batches, share=0.5 if name == "DeepseekV3" else 0.34)
    ids = batches[1]["input_ids"]
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(ids).logits
        assert torch.equal(again(ids).logits, found)
        assert not torch.allclose(dense(ids).logits, found, atol=1e-3)
        with masked(dense, kept):
            torch.testing.assert_close(dense(ids).logits, found, rtol=1e-4, atol=1e-4)
    assert {len(own) for own in kept.values()} == {4}
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in dense.parameters())


def test_groups_of_the_router_lose_alike() -> None:
    kept = prune_experts(build("DeepseekV3"), tiny_batches("llama", [20]), share=0.5)
    for own in kept.values():
        assert [sum(expert < 4 for expert in own), sum(expert >= 4 for expert in own)] == [2, 2]


# -- what decides -----------------------------------------------------------------------------------------------------


def test_the_groups_that_decide_keep_their_experts() -> None:
    batches = tiny_batches("llama", [30, 20], group="en") + tiny_batches("llama", [25], seed=1, group="fr")
    scores = score_experts(build("Mixtral"), batches)
    chosen = {}
    for groups in (["en"], ["fr"], ["en", "fr"]):
        chosen[tuple(groups)] = prune_experts(build("Mixtral"), batches, 0.5, groups, propagate="dense")
    for path, own in scores.items():
        for lang in ("en", "fr"):
            best = own.means[lang][:, 0].argsort(descending=True)[:3]
            assert chosen[(lang,)][path] == sorted(best.tolist())
        sums = sum(own.means[lang][:, 0] * own.tokens[lang] for lang in ("en", "fr"))
        pooled = sums / (own.tokens["en"] + own.tokens["fr"])
        assert chosen["en", "fr"][path] == sorted(pooled.argsort(descending=True)[:3].tolist())
        assert int(own.tokens["en"].sum()) == 2 * 50
    assert chosen[("en",)] != chosen[("fr",)]
    largest = prune_experts(build("Mixtral"), batches, 0.5, pool="max", propagate="dense")
    for path, own in scores.items():
        best = torch.stack([own.means[lang][:, 0] for lang in ("en", "fr")]).amax(0)
        assert largest[path] == sorted(best.argsort(descending=True)[:3].tolist())


def test_padding_is_no_token() -> None:
    singles = tiny_batches("llama", [6, 4])
    ids, mask = torch.zeros(2, 8, dtype=torch.int64), torch.zeros(2, 8, dtype=torch.int64)
    for row, batch in enumerate(singles):
        length = batch["input_ids"].shape[1]
        ids[row, :length], mask[row, :length] = batch["input_ids"], 1
    alone = score_experts(build("Olmoe"), singles)
    padded = score_experts(build("Olmoe"), [{"input_ids": ids, "attention_mask": mask}])
    for path, own in alone.items():
        assert torch.equal(own.tokens["default"], padded[path].tokens["default"])
        torch.testing.assert_close(own.means["default"], padded[path].means["default"])


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.0}, "share 1.0 is not allowed; give 0"),
        ({"share": 0.8}, "share 0.8 leaves 1 of 4 experts, but a token is routed to 2; give at most 0.5"),
        ({"pool": "median"}, "pool 'median' is not allowed; give one of tokens, mean, max, worst"),
        ({"propagate": "layer"}, "propagate 'layer' is not allowed; give one of pruned, dense"),
        ({"groups": ["sw"]}, "calibration has no group 'sw'; it has default"),
        ({"batches": []}, "experts are scored on calibration batches; none were given"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_removed(options: dict[str, Any], message: str) -> None:
    model = tiny_model("mixtral")
    with pytest.raises(UserError, match=message):
        prune_experts(model, **({"batches": tiny_batches("llama", [5])} | options))
    assert model.config.num_local_experts == 4
    assert all(torch.equal(own, other) for own, other in zip(model.parameters(), tiny_model("mixtral").parameters()))


def test_other_models_are_refused() -> None:
    for family in ("llama", "mt5"):
        with pytest.raises(UserError, match="has no mixture of experts"):
            prune_experts(tiny_model(family), tiny_batches(family, [5]))
    settings = {"num_local_experts": 4, "head_dim": 8, "intermediate_size_mlp": 32, "interleave_moe_layer_step": 1}
    config = transformers.Llama4TextConfig(**(GROUPED | settings | {"vocab_size": VOCABULARY, "pad_token_id": 0}))
    with pytest.raises(UserError, match="is not called with tokens, their experts and the experts' weights"):
        prune_experts(AutoModelForCausalLM.from_config(config).eval(), tiny_batches("llama", [5]))


# -- in a run ---------------------------------------------------------------------------------------------------------


def test_fit_evaluates_and_writes_the_smaller_model(mlprune: Any, tmp_path: Path) -> None:
    callback = {"class_path": "mlprune.callbacks.ExpertPruning", "init_args": {"share": 0.5, "groups": ["mt"]}}
    content = tiny_config(save_tiny(tmp_path / "model", "qwen3_moe"), trainer={"callbacks": [callback]})
    mono = "mlprune.data.demonstrations.MonolingualDemonstrations"
    content["data"]["demonstrations"]["en"] = {"class_path": mono, "init_args": {"lang": "en", "shots": 1}}
    task = {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": {"languages": ["en"], "limit": 3}}
    content["data"]["tasks"] = [task]
    Path("run.yaml").write_text(safe_dump(content), encoding="utf-8")
    status, _, err = mlprune("fit", "--config", "run.yaml")
    assert status == 0, err
    assert "kept 2 of 4 experts in 3 layers" in err
    with (RUN / "experts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    recipe = json.loads((RUN / "pruned" / "mlprune.json").read_text())
    assert len(rows) == 3 * 4
    assert (recipe["base_model"], recipe["hub_id"]) == (str(tmp_path / "model"), None)
    for path, kept in recipe["experts"].items():
        assert [int(row["expert"]) for row in rows if row["layer"] == path and row["kept"] == "1"] == kept
    smaller = AutoModelForCausalLM.from_pretrained(RUN / "pruned")
    assert smaller.config.num_experts == 2
    routers = [own for name, own in load_file(RUN / "pruned" / "model.safetensors").items() if "mlp.gate." in name]
    assert [len(own) for own in routers] == [2, 2, 2]
    found = json.loads((RUN / "results.json").read_text())
    assert found["system"] == "pruned"
    assert (RUN / "figures" / "experts.png").is_file()
    status, _, err = mlprune(
        "test", "--config", "run.yaml", f"--model.name={RUN / 'pruned'}", "--trainer.callbacks=null"
    )
    assert status == 0, err
    again = json.loads((RUN.with_name("version_1") / "results.json").read_text())
    assert again["figures"] == found["figures"]
    for flag, message in (
        (f"--trainer.callbacks={json.dumps([callback | {'init_args': {'groups': ['sw']}}])}", "groups names 'sw'"),
        ("--trainer.max_epochs=1", "ExpertPruning goes without recovery training"),
    ):
        status, _, err = mlprune("fit", "--config", "run.yaml", flag)
        assert status != 0
        assert message in err
