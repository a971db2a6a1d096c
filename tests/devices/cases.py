"""python tests/devices/cases.py FAMILY: what computes gives on the second device what it gives on the CPU."""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from devices.second_device import NAME, SecondTensor, host_reads, second_device
from tiny import ENCODER_DECODER, MIXTURES, tiny_batches, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.analysis.ablation import ablated
from mlprune.evaluation.generation import generate
from mlprune.evaluation.scoring import score_candidates
from mlprune.pruning import (
    ADMM,
    ALPS,
    RIA,
    ContrastiveWanda,
    DSnoT,
    Importance,
    Magnitude,
    NofM,
    Pruner,
    Random,
    SparseGPT,
    Unstructured,
    Wanda,
    apply_masks,
    collect_statistics,
    prune_from_statistics,
    prune_model,
    prune_streaming,
)

LENGTHS = [9, 5, 7]
METHODS: list[Importance] = [RIA(), Magnitude(), Random(), SparseGPT(), DSnoT(), ALPS(), ADMM()]
ITERATED = ("ALPS", "ADMM")  # rounding grows over their iterations: masks may differ in a few entries
QUESTIONS = ["Il pleut. It", "Il fait beau. It", "Il pleut fort. It"]


def on_second(model: PreTrainedModel) -> PreTrainedModel:
    return model.to(NAME)


def held(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a model on the second device, on the CPU."""
    return {name: t.held if isinstance(t, SecondTensor) else t for name, t in tensors.items()}


def check_equal(what: str, one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys(), f"{what}: other layers"
    for name, tensor in one.items():
        torch.testing.assert_close(
            tensor, other[name], rtol=0, atol=tolerance, msg=lambda m, name=name: f"{what}, {name}: {m}"
        )


def both(family: str, run: Callable[[PreTrainedModel], Any]) -> tuple[Any, Any, dict[str, Tensor], dict[str, Tensor]]:
    """Run something with a model on the CPU and with one on the second device: results and weights of each."""
    here, there = tiny_model(family), on_second(tiny_model(family))
    return run(here), run(there), dict(here.state_dict()), held(dict(there.state_dict()))


def pruning(family: str) -> None:
    """Propagations, and on one family each method and pattern: equal masks and weights."""
    settings: list[tuple[str, dict[str, Any]]] = [(p, {"propagate": p}) for p in ("pruned", "dense", "layer")]
    if family in MIXTURES:
        settings.pop()  # experts cannot wait for all batches
    if family == "llama":
        settings += [(type(method).__name__, {"importance": method}) for method in METHODS]
        settings += [("2:4", {"pattern": NofM(2, 4)}), ("layer", {"pattern": Unstructured(0.5, scope="layer")})]
        settings += [("padding counts", {"count_padding": True})]
    for name, options in settings:
        masks, other, weights, moved = both(
            family, lambda model, options=options: prune_model(model, tiny_batches(family, LENGTHS), **options)
        )
        if name in ITERATED:
            differing = sum(int((masks[layer] != other[layer]).sum()) for layer in masks)
            assert differing <= 0.01 * sum(mask.numel() for mask in masks.values()), (
                f"{name}: {differing} entries differ"
            )
        else:
            check_equal(f"{name}, masks", masks, other)
            check_equal(f"{name}, weights", weights, moved, 1e-5)


def contrast(family: str) -> None:
    batches = tiny_batches(family, LENGTHS, group="keep") + tiny_batches(family, LENGTHS, seed=1, group="drop")
    importance = ContrastiveWanda(keep="keep", drop="drop")
    one, other, *_ = both(family, lambda model: prune_model(model, batches, importance=importance))
    check_equal("contrast", one, other)


def statistics(family: str) -> None:
    """One dense calibration, saved masks and many sparsities."""

    def run(model: PreTrainedModel) -> dict[str, Tensor]:
        pruner = Pruner(Wanda(), Unstructured(0.5))
        found = collect_statistics(model, tiny_batches(family, LENGTHS), pruner)
        masks = prune_from_statistics(model, found, pruner)
        apply_masks(model, masks)
        return masks

    one, other, weights, moved = both(family, run)
    check_equal("statistics, masks", one, other)
    check_equal("statistics, weights", weights, moved)


def streaming(family: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tiny_model(family).save_pretrained(f"{folder}/dense")
        for device in ("cpu", NAME):
            prune_streaming(f"{folder}/dense", f"{folder}/{device}", tiny_batches(family, LENGTHS), device=device)
        files = [Path(folder, device, "model.safetensors").read_bytes() for device in ("cpu", NAME)]
        assert files[0] == files[1], "streaming: files differ"


def scoring(family: str) -> None:
    """Shared prefixes, encoders, generation, features at zero: equal scores and texts."""
    tokenizer = tiny_tokenizer()
    contexts: Sequence[str] | None = QUESTIONS if family in ENCODER_DECODER else None
    candidates = [[f"{question} {answer}" for answer in ("is wet", "is dry today")] for question in QUESTIONS]

    def run(model: PreTrainedModel) -> tuple[Tensor, list[str], Tensor]:
        scores = score_candidates(model, tokenizer, candidates, contexts)
        texts = [found.text for found in generate(model, tokenizer, QUESTIONS, max_new_tokens=5, num_beams=1)]
        texts += [found.text for found in generate(model, tokenizer, QUESTIONS, max_new_tokens=5, num_beams=2)]
        if family in ENCODER_DECODER:
            return scores, texts, scores
        with ablated(model, {1: [0, 3]}):
            return scores, texts, score_candidates(model, tokenizer, candidates, contexts)

    (scores, texts, without), (other, other_texts, other_without), *_ = both(family, run)
    torch.testing.assert_close(scores, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(without, other_without, rtol=0, atol=1e-5)
    assert texts == other_texts, "generation differs"


def reads(family: str) -> None:
    """Our code waits for the device a fixed number of times a layer, however many batches there are."""
    counts = []
    for repeats in (1, 3):
        model, batches = on_second(tiny_model(family)), tiny_batches(family, LENGTHS) * repeats
        host_reads.clear()
        prune_model(model, batches, max_batch_tokens=16)
        counts.append(Counter({place: n for place, n in host_reads.items() if "/transformers/" not in place}))
    assert counts[0].total() > 0
    assert counts[0] == counts[1], f"with more batches also {counts[1] - counts[0]}"


CASES = [pruning, contrast, statistics, streaming, scoring, reads]

if __name__ == "__main__":
    with second_device():
        for case in CASES:
            case(sys.argv[1])
            print(case.__name__, "passed")
