"""Cases of ``cases.py``: what changes activations, counts, removes, spreads or trains gives what the CPU gives."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from devices.cases import LENGTHS, QUESTIONS, ask, both
from devices.device import DIFFERING, NAME, check_equal, on_host
from tiny import ENCODER_DECODER, MIXTURES, save_tiny, tiny_batches, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.analysis.influence import block_influence
from mlprune.analysis.lape import ActivationCounts
from mlprune.data.corpora import Bundled
from mlprune.evaluation.scoring import score_continuations
from mlprune.evaluation.tasks import CandidateTask
from mlprune.interventions import LRP2, UnitAblation
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource, without_weights
from mlprune.models.widening import widened
from mlprune.module import PruningModule
from mlprune.pruning import (
    OWL,
    RIA,
    Allocation,
    AlphaPruning,
    Calibration,
    DSnoT,
    Importance,
    NofM,
    Pruner,
    Random,
    SparseGPT,
    Unstructured,
    Wanda,
    calibrating,
    collect_statistics,
    load_statistics,
    prune_blocks,
    prune_experts,
    prune_from_statistics,
    prune_model,
    save_statistics,
)
from mlprune.pruning.prune import DenseWeights, form_batches
from mlprune.runs.unfinished import Unfinished
from mlprune.smaller import Narrow, RemoveBlocks
from mlprune.smaller.base import Prompts

DEVICES = ("cpu", NAME)
TOKENS = 200  # of a batch, so that batches have padding


def reviews(rows: str) -> CandidateTask:
    return CandidateTask("reviews", ["en", "fr"], Bundled("reviews"), "marc", rows=rows)


def groups_of(family: str, *names: str) -> list[dict[str, Any]]:
    return [batch for i, name in enumerate(names) for batch in tiny_batches(family, LENGTHS, seed=i, group=name)]


def interventions(family: str) -> None:
    """LRP2 with a search over layers, and units switched off: equal choices, scores and numbers of units."""
    if family in ENCODER_DECODER:
        return
    tokenizer, task = tiny_tokenizer(), reviews("40-41")

    def run(model: PreTrainedModel) -> tuple[list[Any], dict[str, Tensor]]:
        lrp2 = LRP2(validation=[reviews("0-1")], num_sentences=4)
        lrp2.prepare([task], tokenizer)
        with lrp2.applied(model):
            records = task.predict(model, tokenizer, "fr", task.examples("fr"))
        scores = {"LRP2": torch.tensor([record["scores"] for record in records])}
        if family not in MIXTURES:
            with UnitAblation({0: [0, 5], 1: [3]}).applied(model):
                scores["units"] = ask(model, family, QUESTIONS)
        return [lrp2.results()["reviews"]["fr"]["layers"], [record["prediction"] for record in records]], scores

    (choices, scores), (others, moved), *_ = both(family, run)
    assert choices == others, f"LRP2: {choices} and {others}"
    check_equal("interventions", scores, moved, 1e-5)


def counts(family: str) -> None:
    """Activations above zero by language, and how much each block changes its tokens; with and without padding."""

    def run(model: PreTrainedModel) -> dict[str, Tensor]:
        batches = form_batches(model, groups_of(family, "fr", "sw"), TOKENS, None)
        batches += tiny_batches(family, [6], seed=2, group="sw")
        found = {f"{group}, {path}": torch.tensor(value) for group, values in block_influence(model, batches).items()
                 for path, value in values.items()}  # fmt: skip
        if family not in MIXTURES:
            units = ActivationCounts(model.eval())
            for batch in batches:
                units.add(batch)
            units.reduce()
            found["units"] = units.probabilities(["fr", "sw"])
        return found

    one, other, *_ = both(family, run)
    check_equal("counts", one, other, 1e-5)


def experts(family: str) -> None:
    if family not in MIXTURES:
        return
    batches = tiny_batches(family, LENGTHS)
    one, other, weights, moved = both(family, lambda model: prune_experts(model, batches, share=0.5))
    assert one == other, f"experts: {one} and {other}"
    check_equal("experts, weights", weights, moved)


def allocations(family: str) -> None:
    """Sparsities of layers, and groups that are pooled: equal masks."""
    settings: list[tuple[Importance, Allocation | None]] = [(Wanda(), OWL()), (Wanda(pool="worst"), AlphaPruning())]
    settings += [(RIA(pool="max"), None), (Random(seed=3), None), (SparseGPT(pool="mean"), None)]
    settings += [(DSnoT(first=SparseGPT(group="fr"), group="fr"), None)]
    batches = groups_of(family, "fr", "sw")
    for options in settings if family == "llama" else settings[:2]:
        one, other, *_ = both(
            family,
            lambda model, options=options: prune_model(
                model,
                batches,
                importance=options[0],
                pattern=NofM(2, 4) if isinstance(options[0], DSnoT) else Unstructured(0.5),
                allocation=options[1],
            ),
        )
        check_equal(" and ".join(type(part).__name__ for part in options), one, other)


def smaller(family: str) -> None:
    """What models without some units, heads or blocks are made of: equal choices, biases and logits."""
    if family != "llama":
        return
    with tempfile.TemporaryDirectory() as folder:
        source = ModelSource(str(save_tiny(folder, family)))
        found = []
        for device in DEVICES:
            prompts = Prompts(["fr"], lambda model, *_: form_batches(model, groups_of(family, "fr"), TOKENS, None),
                              torch.device(device))  # fmt: skip
            step = Narrow(units=0.25, heads=2, add_biases=True)
            choice = step.measure(source, prompts)
            blocks = RemoveBlocks(1).measure(source, prompts)["fr"]
            numbers = {"logits": choice.expected, "blocks": torch.tensor(list(blocks.values()))} | choice.biases
            found.append((choice.kept, numbers))
    (kept, numbers), (others, moved) = on_host(found)
    for path, items in kept.items():
        check_equal(f"narrow, {path}", items, others[path])
    check_equal("smaller", numbers, moved, 1e-4)


def stored(family: str) -> None:
    """Statistics from a file, dense weights put back, a block of an unfinished run: equal masks and weights."""

    def run(model: PreTrainedModel) -> dict[str, Tensor]:
        pruner, dense = Pruner(Wanda(), Unstructured(0.5)), DenseWeights(model)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "statistics.safetensors")
            found = collect_statistics(model, tiny_batches(family, LENGTHS), pruner)
            assert all(mean.device.type == "cpu" for seen in found.values() for mean in seen.means.values())
            save_statistics(found, file)
            masks = prune_from_statistics(model, load_statistics(file), pruner)
            dense.restore()
            unfinished, changing = Unfinished(Path(folder)), Pruner(SparseGPT(), Unstructured(0.5))
            unfinished.start()
            batches = form_batches(model, tiny_batches(family, LENGTHS), TOKENS, changing.importance.needs)
            with calibrating(model):
                step = next(iter(prune_blocks(Calibration(model, batches, pruner=changing))))
                unfinished.save_block(0, step.block, step.prune())
            reports, weights = unfinished.load_blocks()[0]
        return masks | {f"block: {path}": report.mask for path, report in reports.items()} | weights

    one, other, weights, moved = both(family, run)
    check_equal("stored", one, other, 1e-4)
    if not DIFFERING:
        check_equal("stored, weights", weights, moved, 1e-4)


def wide(family: str) -> None:
    """A bfloat16 model that is computed in float32 for a while, and whether greedy search gives an answer."""
    found = []
    for device in ("cpu", NAME):
        model = tiny_model(family, torch.bfloat16).to(device)
        with widened(model):
            scores = ask(model, family, QUESTIONS)
            if family not in ENCODER_DECODER:
                texts, starts = [[5, 6, 7], [5, 6, 8], [9, 10]], [1, 2, 1]
                scored = score_continuations(model, texts, starts)
                greedy = [[value.log_prob, float(value.is_greedy)] for value in scored]
                scores = torch.cat([scores.flatten(), torch.tensor(greedy).flatten()])
        found.append(scores)
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def training_module(model: PreTrainedModel) -> PruningModule:
    """A module that trains a model without a trainer."""
    with tempfile.TemporaryDirectory() as folder, without_weights():
        model.config.save_pretrained(folder)
        module = PruningModule(folder)
    module.model, module._trainer = model.train(), SimpleNamespace(precision="32-true")
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return module


def training(family: str) -> None:
    """Steps of recovery training with the masks held: equal weights, and zeros where they were."""
    if family in ENCODER_DECODER:
        return

    def run(model: PreTrainedModel) -> dict[str, Tensor]:
        module = training_module(model)
        layers = [layer for block in find_blocks(model) for layer in block.layers.values()]
        masks = prune_model(model, tiny_batches(family, LENGTHS))
        module.mark_pruned({"sparsity": 0.3}, masks)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)  # Adam makes steps of rounding
        for batch in tiny_batches(family, LENGTHS):
            inputs = {name: batch[name].to(layers[0].stored.device) for name in ("input_ids", "attention_mask")}
            module.training_step(inputs, 0).backward()
            module.optimizer_step(0, 0, optimizer)
            optimizer.zero_grad()
        module.end_training()
        for layer in layers:
            zeros = ~masks[layer.path].to(layer.stored.device)
            assert not bool(layer.matrix()[zeros].any()), f"{layer.path}: a pruned weight was trained"
        return masks

    masks, other, weights, moved = both(family, run)
    check_equal("training, masks", masks, other)
    if not DIFFERING:
        check_equal("training, weights", weights, moved, 1e-4)


CASES = [interventions, counts, experts, allocations, smaller, stored, wide, training]
