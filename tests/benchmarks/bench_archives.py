"""How small archives of sparse models are, beside the plain file and that through zstd.

    python tests/benchmarks/bench_archives.py

Gemma 3 270M (`demo`) in bfloat16, its layers pruned by magnitude, as `mlprune compress` writes it.
"""

import tempfile
from pathlib import Path

import pyarrow
import torch

from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.pruning import NofM, Pattern, Unstructured
from mlprune.smaller.archive import compress


@torch.no_grad()
def main() -> None:
    """Print the sizes of archives, and of the plain file through zstd."""
    patterns: dict[str, Pattern] = {f"{share:.0%}": Unstructured(share) for share in (0.3, 0.5, 0.7)}
    print("| sparsity of the layers | plain, MB | archive, MB | left of the layers | zstd of the plain file, MB |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for name, pattern in {**patterns, "2:4": NofM(2, 4)}.items():
        model = ModelSource("demo", "bfloat16").load_model()
        for block in find_blocks(model):
            for layer in block.layers.values():
                layer.zero(pattern.mask(layer.matrix().abs().float(), pattern.sparsity))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model.save_pretrained(folder / "plain")
            sizes = compress(folder / "plain", folder / "archive")
            file = (folder / "plain" / "model.safetensors").read_bytes()
            zstd = len(pyarrow.compress(file, codec="zstd", asbytes=True))
        packed = sizes.num_nonzero * 2 + sizes.num_weights / 8
        left = packed / (2 * sizes.num_weights)
        megabytes = f"{sizes.num_bytes / 1e6:.1f} | {sizes.num_compressed / 1e6:.1f} | {left:.1%} | {zstd / 1e6:.1f}"
        print(f"| {name} | {megabytes} |", flush=True)


if __name__ == "__main__":
    main()
