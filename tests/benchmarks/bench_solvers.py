"""Seconds of ALPS and ADMM against the published procedures, in turn in one run.

    PYTHONPATH=tests python tests/benchmarks/bench_solvers.py --sizes 640x640 2048x640 640x2048 --repeats 3

The published procedures are restated: the same operations in the same order and precision, without their messages. Both
sides get the same weights and the same Gram matrix; the least of the repeats counts.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mlprune.pruning import ADMM, ALPS, Importance, LayerStatistics, NofM, Pattern, Unstructured


def _scaled(gram: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs first, as the published codes have it: gram, weights (in, out), norms."""
    norms = gram.diagonal().sqrt() + 1e-8
    return ((gram / norms).T / norms).T.contiguous(), (weight * norms).T.contiguous(), norms


def _pruned(weights: Tensor, num_kept: int, pattern: Pattern) -> Tensor:
    """Weights (in, out) without the lowest squares, found by topk."""
    if isinstance(pattern, NofM):
        groups = weights.t().reshape(-1, pattern.of).clone()
        lowest = torch.topk(-(groups**2), pattern.of - pattern.kept, dim=1).indices
        return groups.scatter(1, lowest, 0.0).reshape(weights.shape[::-1]).t()
    flat = weights.reshape(-1).clone()
    flat[torch.topk(-(flat**2), flat.numel() - num_kept).indices] = 0
    return flat.reshape(weights.shape)


def published_alps(weight: Tensor, gram: Tensor, pattern: Pattern) -> Tensor:
    """ALPS as published: at every third iteration a new inverse from the eigenvectors, and the error of the weights."""
    gram = gram.clone()
    gram.diagonal().add_(0.01 * gram.diagonal().mean())
    gram, dense, norms = _scaled(gram, weight)
    products = gram @ dense
    values, vectors = torch.linalg.eigh(gram.double())
    rho, grown, num_kept = 0.1, False, round((1 - pattern.sparsity) * weight.numel())
    inverse = ((vectors * (1 / (values + rho))) @ vectors.T).float()
    scale = (dense * products).sum()
    found, start = dense.clone(), _pruned(dense, num_kept, pattern)
    pruned, multipliers, before = start.clone(), torch.zeros_like(dense), start == 0
    for iteration in range(300):
        found = inverse @ (products - multipliers + rho * pruned)
        pruned = _pruned((multipliers + rho * found) / rho, num_kept, pattern)
        multipliers = multipliers + rho * (found - pruned)
        if (iteration + 1) % 3:
            continue
        support = pruned == 0
        changed = float(((support.float() - before.float()) ** 2).sum())
        before = support
        if changed / num_kept > 0.005:
            grown, rho = True, rho * (1.3 if changed / num_kept > 0.1 else 1.2)
        elif changed > 0.5 and grown:
            rho *= 1.1
        elif grown:
            break
        else:
            rho /= 5
            if changed > 0.5:
                found, pruned, multipliers = dense.clone(), start.clone(), torch.zeros_like(dense)
        rho = min(rho, 1e6)
        inverse = ((vectors * (1 / (values + rho))) @ vectors.T).float()
        trial = _pruned(found, num_kept, pattern)
        float(torch.diag((trial - dense).t() @ (gram @ trial - products)).sum() / scale)  # its progress message
        if iteration >= 30 and changed / num_kept < 0.0003:
            break
    found = _pruned(found, num_kept, pattern)
    support = (found != 0).float()
    residual = (products - gram @ found) * support
    direction, last = residual, residual
    limit = 1e-4 * products.norm(dim=1)
    for step in range(10):
        if step:
            direction = residual + (residual * residual).sum(0) / (last * last).sum(0).clamp(min=1e-30) * direction
        length = (residual * residual).sum(0) / (direction * (gram @ direction)).sum(0).clamp(min=1e-30)
        found, last = found + length * direction, residual
        residual = (residual - length * (gram @ direction)) * support
        if bool(((gram @ found - products).norm(dim=1) <= limit).all()):
            break
    return found.t() / norms


def published_admm(weight: Tensor, gram: Tensor, pattern: Pattern) -> Tensor:
    """ADMM as published: an inverse by LU, and a sort or topk an iteration."""
    gram, left, norms = _scaled(gram.clone(), weight)
    gram.diagonal().add_(0.1 * gram.diagonal().mean())
    fitted = gram @ left
    gram.diagonal().add_(1)
    inverse, multipliers = torch.inverse(gram), torch.zeros_like(left)
    mask = torch.ones_like(left)
    for iteration in range(20):
        total = left + multipliers
        if iteration < 15:
            share = pattern.sparsity * (1 - (1 - (iteration + 1) / 15) ** 3)
            scores = total.abs()
            if isinstance(pattern, NofM):
                safe = scores.t().reshape(-1, pattern.of).topk(pattern.kept, dim=1).indices
                groups = scores.t().reshape(-1, pattern.of).scatter(1, safe, float("inf"))
                scores = groups.reshape(scores.t().shape).t()
            lowest = torch.topk(scores.reshape(-1), int(scores.numel() * share), largest=False).indices
            mask = torch.ones(scores.numel()).to(scores).scatter(0, lowest, 0.0).reshape(scores.shape)
        pruned = total * mask
        multipliers = multipliers + left - pruned
        left = inverse @ (fitted + pruned - multipliers)
    return ((left + multipliers) * mask).t() / norms


Published = Callable[[Tensor, Tensor, Pattern], Tensor]
METHODS: list[tuple[Importance, Published]] = [(ALPS(), published_alps), (ADMM(), published_admm)]
PATTERNS: list[Pattern] = [Unstructured(0.6, scope="layer"), NofM(2, 4)]


def seconds(call: Callable[[], object], device: str) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def layer(size: str, device: str) -> tuple[Tensor, Tensor]:
    """Random weights and the Gram matrix of inputs that hang together."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = map(int, size.split("x"))
    parts = torch.randn(4 * columns, columns // 2, generator=generator)
    x = parts @ torch.randn(columns // 2, columns, generator=generator)
    x += 0.3 * torch.randn(x.shape, generator=generator)
    return torch.randn(rows, columns, generator=generator).to(device), (x.T @ x / len(x)).to(device)


def compare(
    method: tuple[Importance, Published], pattern: Pattern, weight: Tensor, gram: Tensor, repeats: int
) -> tuple[float, float]:
    """The least seconds of the published procedure and of ours, run in turn."""
    (importance, published), device = method, weight.device
    statistics = LayerStatistics({"mt": gram.double()}, {"mt": torch.tensor(1, device=device)})
    pairs = [
        (
            seconds(lambda: published(weight, gram, pattern), device.type),
            seconds(lambda: importance.decide(weight, statistics, "fc", pattern, pattern.sparsity), device.type),
        )
        for _ in range(repeats)
    ]
    return min(old for old, _ in pairs), min(new for _, new in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["640x640", "2048x640", "640x2048"], help="out x in")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print("| method | pattern | layer | published, s | mlprune, s | published / mlprune |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for size in options.sizes:
        weight, gram = layer(size, options.device)
        for method in METHODS:
            for pattern in PATTERNS:
                old, new = compare(method, pattern, weight, gram, options.repeats)
                name = "2:4" if isinstance(pattern, NofM) else "60%"
                cells = (type(method[0]).__name__, name, size, f"{old:.3f}", f"{new:.3f}", f"{old / new:.2f}")
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
