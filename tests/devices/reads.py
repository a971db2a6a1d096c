"""Cases of ``cases.py``: how often the host waits for the simulated device, counted place by place.

While batches run, our own code reads nothing of the device; where it must, once a layer.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from devices.cases import ITERATED, OPTIONS, QUESTIONS, ask, combinations, one_block
from devices.device import on_device
from devices.parts import training_module
from devices.second_device import host_reads
from tiny import ENCODER_DECODER, MIXTURES, tiny_batches, tiny_model
from transformers import PreTrainedModel

from mlprune.analysis.ablation import ablated
from mlprune.analysis.influence import InfluenceSums
from mlprune.analysis.lape import ActivationCounts
from mlprune.analysis.magnitudes import Magnitudes
from mlprune.analysis.units import find_units, silenced
from mlprune.models import room
from mlprune.models.blocks import find_blocks
from mlprune.models.layers import Layer
from mlprune.pruning import Calibration, Pruner, calibrating, prune_blocks
from mlprune.pruning.prune import form_batches, reform

LENGTHS = [9, 5, 8]  # which make batches with padding
MAX_TOKENS = 40


def own_reads() -> Counter[str]:
    """How often our code waited for the device, place by place, since they were last forgotten."""
    return Counter({place: count for place, count in host_reads.items() if "/transformers/" not in place})


def counted(run: Callable[[], Any]) -> Counter[str]:
    """What a call read."""
    host_reads.clear()
    run()
    return own_reads()


def calibration_reads(family: str) -> None:
    """No read while batches run; where layers are pruned meanwhile, as many whatever the number of batches."""
    every = list(combinations(family))
    for method, propagate in every if family == "llama" or OPTIONS.all else every[:1]:
        counts, name = [], f"{type(method).__name__}, {propagate}"
        for repeats in (1, 3) if propagate == "layer" else (3,):
            model = on_device(one_block(family))
            batches = form_batches(model, tiny_batches(family, LENGTHS) * repeats, MAX_TOKENS, method.needs)
            assert method.needs is None or family in MIXTURES or method.needs.one_prompt or is_padded(batches)
            with calibrating(model):
                steps = prune_blocks(Calibration(model, batches, pruner=Pruner(method), propagate=propagate))
                counts += [counted(step.gather) for step in steps]
        if propagate == "layer":  # it prunes while it gathers
            few, many = (sum(part, Counter()) for part in (counts[: len(counts) // 2], counts[len(counts) // 2 :]))
            assert few == many or type(method).__name__ in ITERATED, f"{name}: with more batches also {many - few}"
        else:
            assert not any(count.total() for count in counts), f"{name}: {counts}"


def is_padded(batches: list[dict[str, Any]]) -> bool:
    return any(not bool(batch["attention_mask"].all()) for batch in batches)


def scoring_reads(family: str) -> None:
    """As many reads for many texts as for few; under an ablation one more for each layer that a batch passes."""
    room.MOST_TOKENS = 256  # several batches

    def many() -> list[str]:
        return [f"{question} {k}" for question in QUESTIONS for k in range(8)]

    model = on_device(tiny_model(family))
    first = counted(lambda: ask(model, family, QUESTIONS))
    assert first.total() > 0  # it also learns about the model
    more = counted(lambda: ask(model, family, many())) - first
    assert not more, f"scoring: with more batches also {more}"
    if family in ENCODER_DECODER:
        return
    passes = Counter[str]()
    handle = find_blocks(model)[0].module.register_forward_hook(lambda *_: passes.update(["passes"]))
    with ablated(model, {1: [0, 3], 2: [1]}):
        found = counted(lambda: ask(model, family, many()))
    handle.remove()
    assert found.total() <= first.total() + 2 * passes.total(), f"ablation: {found} in {passes}"
    if family not in MIXTURES:
        with silenced(find_units(model), {0: [1, 2]}):
            assert not counted(lambda: ask(model, family, many())) - first


def analyses_reads(family: str) -> None:
    """No read until the end."""
    kinds: list[Callable[[PreTrainedModel], Any]] = [Magnitudes, InfluenceSums]
    kinds += [] if family in MIXTURES else [ActivationCounts]
    for kind in kinds:
        model = on_device(tiny_model(family))
        sums, batches = kind(model), reform(tiny_batches(family, LENGTHS), MAX_TOKENS)
        assert is_padded(batches)
        found = counted(lambda sums=sums, batches=batches: [sums.add(batch) for batch in batches])
        assert not found, f"{kind.__name__}: {found}"


def training_reads(family: str) -> None:
    """A step and the zeros that it holds read nothing, and copy no mask to the device again."""
    if family in ENCODER_DECODER:
        return
    model = on_device(tiny_model(family))
    module = training_module(model)
    layers = [layer for block in find_blocks(model) for layer in block.layers.values()]
    module.mark_pruned({"sparsity": 0.5}, {layer.path: layer.matrix().detach().abs().cpu() > 0.01 for layer in layers})
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    batch = {
        name: tensor.to(layers[0].stored.device)
        for name, tensor in tiny_batches(family, [9])[0].items()
        if name != "group"
    }

    def step() -> None:
        module.training_step(batch, 0).backward()
        module.optimizer_step(0, 0, optimizer)

    step()
    seen: list[str] = []
    with patch.object(Layer, "placed", lambda layer, mask: seen.append(mask.device.type) or mask):
        found = counted(step)
    assert not found, f"training: {found}"
    assert seen == ["second"] * len(layers), "training: masks are copied to the device in every step"


CASES = [calibration_reads, scoring_reads, analyses_reads, training_reads]
