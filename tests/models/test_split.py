"""Weights split over two processes, each at work on its share of the data: all comes out as with whole weights."""

import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from tiny import ENCODER_DECODER, save_tiny, tiny_batches, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.batching import deal
from mlprune.distributed import PeerGone, gather_objects
from mlprune.errors import CannotWrite
from mlprune.evaluation.forward import scorer_of
from mlprune.evaluation.generation import generate
from mlprune.evaluation.scoring import score_candidates
from mlprune.evaluation.shared import sharing_of
from mlprune.models.blocks import find_blocks
from mlprune.models.checkpoint import read_checkpoint
from mlprune.models.probe import patched_forwards
from mlprune.models.split import Share, SplitModel, abreast, split_of
from mlprune.models.split_checkpoint import SplitCheckpoint
from mlprune.models.widening import widened
from mlprune.pruning import (
    Calibration,
    Importance,
    Pruner,
    RegionalGradient,
    SparseGPT,
    Unstructured,
    Wanda,
    calibrating,
    prune_blocks,
)
from mlprune.pruning.propagation import Propagate
from mlprune.pruning.prune import form_batches

FAMILIES = ["llama", "mixtral", "mt5"]
METHODS: list[tuple[Importance, Propagate]] = [
    (Wanda(), "pruned"),
    (SparseGPT(), "dense"),
    (RegionalGradient(), "pruned"),
]
ANSWERS = ("is wet", "is dry today", "rains")


def questions(number: int) -> list[str]:
    """Another amount of work for each process."""
    return [f"Il pleut {'fort ' * k}. It" for k in range(1 + 2 * number)]


def evaluate(model: PreTrainedModel, family: str, number: int) -> tuple[Tensor, list[str]]:
    """What one process evaluates."""
    asked = questions(number)
    candidates = [[f"{question} {answer}" for answer in ANSWERS] for question in asked]
    scores = score_candidates(model, tiny_tokenizer(), candidates, asked if family in ENCODER_DECODER else None)
    texts = generate(model, tiny_tokenizer(), asked[: number + 1], max_new_tokens=3)
    return scores, [found.text for found in texts]


def pruned(model: PreTrainedModel, family: str, importance: Importance, propagate: Propagate) -> dict[str, Tensor]:
    """Prune on this process' share of the batches."""
    pruner, split = Pruner(importance, Unstructured(0.5)), split_of(model)
    batches = form_batches(model, tiny_batches(family, [9, 5, 7, 6, 8]), 9, importance.needs)
    dealt = deal(batches, dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else batches
    masks = {}
    with calibrating(model):
        options = {"groups": ["default"], "enter_block": None if split is None else split.enter}
        calibration = Calibration(model, dealt, pruner=pruner, propagate=propagate, **options)
        for step in prune_blocks(calibration):
            masks |= {path: report.mask for path, report in step.prune().items()}
    if split is not None:
        split.leave()
    return masks


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Of both sides of an encoder-decoder model, for the same text."""
    sides = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    found: Tensor = model(input_ids=ids, **sides, use_cache=False).logits
    return found


def sends(learn: Any, model: PreTrainedModel) -> int:
    """How often all blocks are sent while something learns about a model."""
    split = split_of(model)
    assert split is not None
    with patch.object(Share, "gather", autospec=True, side_effect=Share.gather) as gather:
        learn(model)
    return gather.call_count // len(split.blocks)


def methods(family: str) -> list[tuple[Importance, Propagate]]:
    return METHODS if family == "llama" else METHODS[:1]


def full_disk(partial: Path) -> None:
    raise OSError(28, "No space left on device")


def waited(number: int) -> float:
    """How long a process waits for another that is late, where half a second is allowed."""
    split = SplitModel(tiny_model("llama"), torch.device("cpu"), timeout=timedelta(seconds=0.5))
    begun = time.monotonic()
    if number == 1:
        time.sleep(3)
    else:
        with pytest.raises(PeerGone):
            split.lend()
    return time.monotonic() - begun


def work(number: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    found: dict[Any, Any] = {}
    try:
        for family in FAMILIES:
            for place, (importance, propagate) in enumerate(methods(family)):
                model = tiny_model(family)
                split = SplitModel(model, torch.device("cpu"))
                if not place:
                    texts = [torch.arange(5, 5 + length)[None] for length in (3, 7, 4)]
                    with torch.no_grad():
                        found[family, "abreast"] = abreast(model, [partial(logits, model, text) for text in texts])
                    found[family, "sent"] = [sends(learn, model) for learn in (scorer_of, sharing_of)]
                    found[family, "dense"] = evaluate(model, family, number)
                found[family, place] = pruned(model, family, importance, propagate)
                found[family, place, "scores"] = evaluate(model, family, number)
                found[family, "held"] = sum(len(share.part) for share in split._shares)
                found[family, "met"] = gather_objects(number)  # the one that is done first lends until here
                split.close()
        narrow = tiny_model("llama", torch.bfloat16)
        split = SplitModel(narrow, torch.device("cpu"))
        with torch.no_grad(), widened(narrow):
            found["wide"] = narrow(torch.tensor([[5, 6, 7]])).logits
        split.close()
        checkpoint = SplitCheckpoint(read_checkpoint(f"{folder}/model"), "auto", torch.device("cpu"))
        pruned(checkpoint.model, "mixtral", *METHODS[0])
        checkpoint.save(Path(folder, "pruned"), lambda partial: None, writes=number == 0)
        with suppress(CannotWrite):
            checkpoint.save(Path(folder, "full"), full_disk, writes=number == 0)
        found["left"] = [path.name for path in Path(folder).iterdir() if "full" in path.name]
        checkpoint.split.close()
        found["late"] = waited(number)
        torch.save(found, f"{folder}/{number}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("split")
    save_tiny(folder / "model", "mixtral")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_and_answers_are_those_of_whole_weights(folder: Path, family: str) -> None:
    found = [torch.load(folder / f"{number}.pt", weights_only=False) for number in (0, 1)]
    for number in (0, 1):
        scores, texts = evaluate(tiny_model(family), family, number)
        assert torch.equal(found[number][family, "dense"][0], scores)
        assert found[number][family, "dense"][1] == texts
        assert found[number][family, "met"] == [0, 1]
    for place, (importance, propagate) in enumerate(methods(family)):
        model = tiny_model(family)
        masks = pruned(model, family, importance, propagate)
        for number in (0, 1):
            assert all(torch.equal(masks[path], found[number][family, place][path]) for path in masks), importance
            scores, texts = evaluate(model, family, number)
            assert torch.equal(found[number][family, place, "scores"][0], scores)
            assert found[number][family, place, "scores"][1] == texts


@pytest.mark.parametrize("family", FAMILIES)
def test_passes_side_by_side_compute_the_same(folder: Path, family: str) -> None:
    model = tiny_model(family)
    with torch.no_grad():
        expected = [logits(model, torch.arange(5, 5 + length)[None]) for length in (3, 7, 4)]
    for number in (0, 1):
        found = torch.load(folder / f"{number}.pt", weights_only=False)[family, "abreast"]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_is_learned_about_a_model_takes_few_passes(folder: Path) -> None:
    """Its causality with its head's logits, then its cache, which takes two: one after the other 13 and 7."""
    for number in (0, 1):
        assert torch.load(folder / f"{number}.pt", weights_only=False)["llama", "sent"] == [1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_process_holds_half_of_the_blocks(folder: Path, family: str) -> None:
    blocks = find_blocks(tiny_model(family))
    whole = sum(parameter.nbytes for block in blocks for parameter in block.module.parameters())
    for number in (0, 1):
        held = torch.load(folder / f"{number}.pt", weights_only=False)[family, "held"]
        assert whole / 2 <= held < whole * 0.6  # each parameter begins at a multiple of 512 bytes


def test_a_process_that_is_late_is_waited_for_as_long_as_allowed(folder: Path) -> None:
    assert torch.load(folder / "0.pt", weights_only=False)["late"] < 2.5


def test_narrow_weights_are_computed_in_float32(folder: Path) -> None:
    model = tiny_model("llama", torch.bfloat16)
    with torch.no_grad(), widened(model):
        expected = model(torch.tensor([[5, 6, 7]])).logits
    assert torch.equal(torch.load(folder / "0.pt", weights_only=False)["wide"], expected)


def test_the_written_checkpoint_is_that_of_whole_weights(folder: Path) -> None:
    model = tiny_model("mixtral")
    pruned(model, "mixtral", *METHODS[0])
    model.save_pretrained(folder / "expected")
    expected, found = (load_file(folder / name / "model.safetensors") for name in ("expected", "pruned"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (folder / "pruned/tokenizer.json").is_file()


def test_a_disk_that_is_full_at_the_end_leaves_nothing(folder: Path) -> None:
    assert torch.load(folder / "0.pt", weights_only=False)["left"] == []


def test_a_replaced_forward_is_put_back() -> None:
    """Split weights, and the hooks of accelerate, stand in a module's place for its forward."""
    module = torch.nn.Linear(1, 1)
    own = module.forward
    module.forward = lambda x: own(x) + 1
    with patched_forwards({module: lambda x: x}):
        assert module(torch.ones(1)) == 1
    assert module(torch.ones(1)) == own(torch.ones(1)) + 1


@pytest.mark.parametrize(
    ("said", "expected"), [("Connection closed by peer", PeerGone), ("out of memory", RuntimeError)]
)
def test_what_fails_while_blocks_are_sent(said: str, expected: type[BaseException]) -> None:
    """A lack of memory is this process' own, and says so."""
    split = SplitModel(tiny_model("llama"), torch.device("cpu"))
    with patch.object(Share, "gather", side_effect=RuntimeError(said)), pytest.raises(expected, match=said):
        split.model(torch.tensor([[5]]))
    split.close()
