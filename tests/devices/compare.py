"""What a device and dtype change: mask entries by cause, and scores against a plain forward."""

from collections import Counter
from collections.abc import Mapping

import torch
from tiny import tiny_batches, tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from mlprune.evaluation.scoring import score_candidate_ids
from mlprune.pruning import Calibration, Importance, Pruner, Unstructured, calibrating, prune_blocks
from mlprune.pruning.propagation import Propagate

IDS = [[[5, 6, 7, 8, 9 + c] for c in range(3)], [[5, 6, 7, 30, 31, 40 + c] for c in range(2)], [[90, 91, 92]]]


def causes(mask: Tensor, other: Tensor, scores: Tensor, moved: Tensor) -> Counter[str]:
    """Count the entries in which two masks differ, by cause.

    Args:
        mask: bool (..., out_features, in_features), of the CPU.
        other: The same, of the device.
        scores: The scores behind the first, where each row's lowest go.
        moved: Those behind the other.

    Returns:
        ``tie``: the score is that of the last kept or first pruned entry of its row; ``rounding``: what goes and
        what stays are as near to it as the row's scores moved; ``unexplained``: neither.
    """
    differing = mask != other
    threshold = scores.masked_fill(mask, -torch.inf).amax(-1, keepdim=True)  # highest that goes on the CPU
    first_kept = scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    ties = differing & ((scores == threshold) & (threshold == first_kept))
    distance = torch.where(mask, scores - threshold, first_kept - scores)  # to the other side
    near = differing & ~ties & (distance <= 2 * (moved - scores).abs().amax(-1, keepdim=True))
    counts = {"tie": ties, "rounding": near, "unexplained": differing & ~ties & ~near}
    return Counter({cause: int(found.sum()) for cause, found in counts.items() if found.any()})


def pruned(model: PreTrainedModel, family: str, method: Importance, propagate: Propagate) -> tuple[dict, dict]:
    """Masks and scores of all layers, on the CPU."""
    pruner, scores = Pruner(method, Unstructured(0.5)), {}

    def keep(path: str, found: Tensor, means: Mapping[str, Tensor]) -> None:
        assert all(mean.dtype == torch.float64 for mean in means.values()), path
        scores[path] = found.float().cpu()

    pruner.on_scores = keep
    masks = {}
    with calibrating(model):
        batches = tiny_batches(family, [9, 5, 7])
        for step in prune_blocks(Calibration(model, batches, pruner=pruner, propagate=propagate)):
            masks |= {path: report.mask for path, report in step.prune().items()}
    return masks, scores


def differing(
    family: str, device: str, dtype: torch.dtype, method: Importance, propagate: Propagate = "dense"
) -> tuple[Counter[str], int]:
    """Prune on the CPU and on a device; return the entries that differ by cause, and how many entries there are."""
    masks, scores = pruned(tiny_model(family, dtype), family, method, propagate)
    others, moved = pruned(tiny_model(family, dtype).to(device), family, method, propagate)
    found: Counter[str] = Counter()
    for path in masks:
        found += causes(masks[path], others[path], scores[path], moved[path])
    return found, sum(mask.numel() for mask in masks.values())


@torch.no_grad()
def score_error(family: str, device: str, dtype: torch.dtype, attention: str) -> float:
    """Return how far scores are from those of a plain float32 forward of each text on the CPU, at most."""
    model = tiny_model(family, dtype, attn_implementation=attention).to(device)
    found = score_candidate_ids(model, IDS)
    plain = tiny_model(family, dtype, attn_implementation=attention).float()
    errors = []
    for row, example in zip(found.tolist(), IDS, strict=True):
        for score, ids in zip(row, example, strict=False):
            log_probs = plain(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            expected = log_probs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].mean()
            errors.append(abs(score - float(expected)))
    return max(errors)
