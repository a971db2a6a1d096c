"""2:4 weights as the sparse tensor cores of a GPU read them: an example, and how fast it is there.

    python tests/benchmarks/bench_semi_structured.py [--model demo] [--dtype float16]

Needs an NVIDIA GPU from Ampere on. The model's layers are pruned 2:4 by magnitude; the same weights are then timed as
plain matrices with zeros and by ``torch.sparse.to_sparse_semi_structured``, which keeps half of the values and their
places.
Exits with an error if the logits differ by more than rounding.
"""

import argparse
import time

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.pruning import Magnitude, NofM, prune_model

MULTIPLE = 64  # of both sides of a matrix, which suits every dtype and both libraries that PyTorch uses
TOLERANCE = 2e-2  # relative to the largest logit, in half precision


def to_semi_structured(model: nn.Module) -> list[str]:
    """Convert the 2:4 matrices of a model's blocks in place, for inference.

    Args:
        model: A model on a CUDA device, in float16 or bfloat16, pruned by ``NofM(2, 4)``.

    Returns:
        Paths of the layers that were converted; others stay plain.
    """
    converted = []
    for path, layer in ((path, layer) for block in find_blocks(model) for path, layer in block.layers.items()):
        if isinstance(layer.module, nn.Linear) and is_two_of_four(weight := layer.module.weight.detach()):
            sparse = to_sparse_semi_structured(weight.contiguous())
            layer.module.weight = nn.Parameter(sparse, requires_grad=False)
            converted.append(path)
    return converted


def is_two_of_four(weight: Tensor) -> bool:
    """Tell whether a matrix has at most two non-zeros in every four inputs, and sides that the GPU's kernels take."""
    if any(side % MULTIPLE for side in weight.shape):
        return False
    return int((weight.reshape(-1, 4) != 0).sum(1).max()) <= 2


@torch.no_grad()
def seconds(model: nn.Module, ids: Tensor, rounds: int = 20) -> float:
    for _ in range(3):
        model(ids)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(rounds):
        model(ids)
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / rounds


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16"])
    options = parser.parse_args()
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        raise SystemExit("no NVIDIA GPU from Ampere on is here")
    model = ModelSource(options.model, options.dtype).load_model()
    prune_model(model, [], importance=Magnitude(), pattern=NofM(2, 4))
    module: nn.Module = model
    module.cuda()
    sizes = [(batch, length) for batch in (1, 8, 64) for length in (1, 128)]
    inputs = [torch.randint(5, 1000, size, device="cuda") for size in sizes]
    expected, plain = model(inputs[1]).logits, [seconds(model, ids) for ids in inputs]
    converted = to_semi_structured(model)
    error = float((model(inputs[1]).logits - expected).abs().max() / expected.abs().max())
    print(f"{torch.cuda.get_device_name()}: {len(converted)} layers converted, logits differ by {error:.1e}")
    if error > TOLERANCE:
        raise SystemExit("logits differ")
    print("| texts | tokens | plain, ms | 2:4, ms | times as fast |\n| ---: | ---: | ---: | ---: | ---: |")
    for (batch, length), before, ids in zip(sizes, plain, inputs, strict=True):
        after = seconds(model, ids)
        print(f"| {batch} | {length} | {1000 * before:.2f} | {1000 * after:.2f} | {before / after:.2f} |")


if __name__ == "__main__":
    main()
