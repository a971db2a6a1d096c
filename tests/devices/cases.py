"""python tests/devices/cases.py FAMILY ...: what computes gives on the second device what it gives on the CPU."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from devices.device import DIFFERING, NAME, OPTIONS, TURNED, check_equal, on_device, on_host, run_cases
from tiny import ENCODER_DECODER, MIXTURES, tiny_batches, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.analysis.ablation import ablated
from mlprune.analysis.magnitudes import Magnitudes
from mlprune.evaluation.generation import UNCACHED, generate
from mlprune.evaluation.scoring import score_candidates
from mlprune.evaluation.shared import sharing_of
from mlprune.pruning import (
    ADMM,
    ALPS,
    GBLM,
    RIA,
    ContrastiveWanda,
    DSnoT,
    Importance,
    Magnitude,
    NofM,
    Pruner,
    Random,
    RegionalGradient,
    SparseGPT,
    Unstructured,
    Wanda,
    apply_masks,
    collect_statistics,
    load_masks,
    prune_from_statistics,
    prune_model,
    prune_streaming,
)
from mlprune.pruning.propagation import Propagate

LENGTHS = [9, 5, 7]
METHODS: list[Importance] = [
    *(Wanda(), Wanda(variant=True), RIA(), Magnitude(), Random()),
    *(SparseGPT(), DSnoT(), ALPS(), ADMM(), RegionalGradient(), GBLM()),
]
FAMILIES = ("llama", "bloom", "mt5", "mixtral")
PROPAGATIONS: tuple[Propagate, ...] = ("pruned", "dense", "layer")
ONE_BLOCK = {"bloom": ["n_layer"], "mt5": ["num_layers", "num_decoder_layers"]}  # what families call their depth
INEXACT = {"xla": ("ALPS",)}  # its eigenvalues are good to 1e-6 in float64, too
ITERATED = ("ALPS", "ADMM")  # rounding grows over their iterations: masks may differ in a few entries
QUESTIONS = ["Il pleut. It", "Il fait beau. It", "Il pleut fort. It"]


def both(family: str, run: Callable[[PreTrainedModel], Any]) -> tuple[Any, Any, dict[str, Tensor], dict[str, Tensor]]:
    """Run something with a model on the CPU and with one on the device: results and weights of each, on the CPU."""
    here, there = tiny_model(family), on_device(tiny_model(family))
    return run(here), on_host(run(there)), dict(here.state_dict()), on_host(dict(there.state_dict()))


def suits(method: Importance, propagate: Propagate, family: str) -> bool:
    """Experts cannot wait for all batches, nor a block's layers for its output."""
    ends_early = method.needs is not None and method.needs.scope == "block"
    return propagate != "layer" or not (family in MIXTURES or ends_early)


def combinations(family: str) -> Iterator[tuple[Importance, Propagate]]:
    """Every method in one propagation, another in each family, so that among families each is in all of them."""
    turn = FAMILIES.index(family)
    for place, method in enumerate(METHODS):
        if type(method).__name__ in INEXACT.get(NAME, ()):
            continue
        fitting = [propagate for propagate in PROPAGATIONS if suits(method, propagate, family)]
        for propagate in fitting if OPTIONS.all else [fitting[(place + turn) % len(fitting)]]:
            yield method, propagate


def one_block(family: str) -> PreTrainedModel:
    return tiny_model(family, **dict.fromkeys(ONE_BLOCK.get(family, ["num_hidden_layers"]), 1))


def pruning(family: str) -> None:
    """Each propagation, and on one family each pattern: equal masks and weights."""
    settings: list[dict[str, Any]] = [{"propagate": p} for p in PROPAGATIONS if suits(Wanda(), p, family)]
    if family == "llama":
        settings += [{"pattern": NofM(2, 4)}, {"pattern": Unstructured(0.5, scope="layer")}, {"count_padding": True}]
    for options in settings:
        masks, other, weights, moved = both(
            family, lambda model, options=options: prune_model(model, tiny_batches(family, LENGTHS), **options)
        )
        check_equal(f"{options}, masks", masks, other)
        if not DIFFERING:
            check_equal(f"{options}, weights", weights, moved, 1e-5)


def methods(family: str) -> None:
    """Each method, on one block: equal masks; few entries may differ where rounding grows."""
    for method, propagate in combinations(family):
        batches, options = tiny_batches(family, LENGTHS[:2]), {"importance": method, "propagate": propagate}
        models = (one_block(family), on_device(one_block(family)))
        masks, other = (prune_model(model, batches, **options) for model in models)
        differing = sum(int((masks[layer] != other[layer]).sum()) for layer in masks)
        share = 0.01 if type(method).__name__ in ITERATED else DIFFERING
        allowed = share * sum(mask.numel() for mask in masks.values())
        assert differing <= allowed, f"{type(method).__name__}, {propagate}: {differing} entries differ"


def contrast(family: str) -> None:
    batches = tiny_batches(family, LENGTHS, group="keep") + tiny_batches(family, LENGTHS, seed=1, group="drop")
    importance = ContrastiveWanda(keep="keep", drop="drop")
    one, other, *_ = both(family, lambda model: prune_model(model, batches, importance=importance))
    check_equal("contrast", one, other, share=0.0 if NAME == "second" else TURNED)


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
    if not DIFFERING:
        check_equal("statistics, weights", weights, moved)


def streaming(family: str) -> None:
    """Blocks computed on the device, hidden states in files: equal files."""
    with tempfile.TemporaryDirectory() as folder:
        tiny_model(family).save_pretrained(f"{folder}/dense")
        for device in ("cpu", NAME):
            options = {"device": device, "hidden_folder": f"{folder}/hidden", "masks_path": f"{folder}/{device}.masks"}
            prune_streaming(f"{folder}/dense", f"{folder}/{device}", tiny_batches(family, LENGTHS), **options)
        check_equal("streaming, masks", *(load_masks(f"{folder}/{device}.masks") for device in ("cpu", NAME)))
        files = [Path(folder, device, "model.safetensors").read_bytes() for device in ("cpu", NAME)]
        assert files[0] == files[1] or DIFFERING, "streaming: files differ"


def ask(model: PreTrainedModel, family: str, questions: Sequence[str]) -> Tensor:
    candidates = [[f"{question} {answer}" for answer in ("is wet", "is dry today")] for question in questions]
    return score_candidates(model, tiny_tokenizer(), candidates, questions if family in ENCODER_DECODER else None)


def scoring(family: str) -> None:
    """Shared prefixes, encoders, generation, features at zero: equal scores and texts, by equal ways."""
    tokenizer = tiny_tokenizer()

    def run(model: PreTrainedModel) -> tuple[Tensor, list[str], Tensor]:
        scores = ask(model, family, QUESTIONS)
        texts = [found.text for found in generate(model, tokenizer, QUESTIONS, max_new_tokens=5, num_beams=1)]
        texts += [found.text for found in generate(model, tokenizer, QUESTIONS, max_new_tokens=5, num_beams=2)]
        assert model not in UNCACHED, "decoding with a cache failed"
        if family in ENCODER_DECODER:
            return scores, texts, scores
        assert sharing_of(model).min_saved is not None, "prefixes are not shared"
        with ablated(model, {1: [0, 3]}):
            return scores, texts, ask(model, family, QUESTIONS)

    (scores, texts, without), (other, other_texts, other_without), *_ = both(family, run)
    torch.testing.assert_close(scores, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(without, other_without, rtol=0, atol=1e-5)
    assert texts == other_texts, "generation differs"


def analysis(family: str) -> None:
    """Mean magnitudes of hidden states and of layers' inputs."""
    found = []
    for model in (tiny_model(family), on_device(tiny_model(family))):
        magnitudes = Magnitudes(model, linear_inputs=True)
        for batch in tiny_batches(family, LENGTHS):
            magnitudes.add(batch)
        magnitudes.reduce()
        found.append(magnitudes.hidden()["default"] | magnitudes.inputs()["default"])
    check_equal("analysis", *found, tolerance=1e-5)


CASES = [pruning, methods, contrast, statistics, streaming, scoring, analysis]

if __name__ == "__main__":
    from devices import parts

    every = [*CASES, *parts.CASES]
    if NAME == "second":
        from devices import collectives, reads

        every += [*reads.CASES, *collectives.CASES]
    run_cases(every)
