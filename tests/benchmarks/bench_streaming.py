"""Prune a random checkpoint of 20 GB under a hard limit of 8 GiB of anonymous memory.

    python tests/benchmarks/bench_streaming.py --scratch /some/large/disk

Needs 45 GB of free disk, else it says so and stops. The pruning runs in a process of its own, killed as soon as
its anonymous memory (RssAnon) passes the limit. Prints seconds, peak GiB, and bytes read and written.
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from memory import resident
from safetensors.torch import load_file
from transformers import LlamaConfig

from mlprune.models.shards import ShardReader, ShardWriter
from mlprune.models.streamed import parameters_on_meta
from mlprune.pruning import Pruner, Unstructured, Wanda, load_masks, prune_streaming

GB = 10**9
NEEDED = 45 * GB
LIMIT_GIB = 8.0
SPARSITY = 0.3


def llama(num_blocks: int, width: int) -> LlamaConfig:
    """About 20 GB in bfloat16 at 32 blocks and width 5120."""
    return LlamaConfig(
        vocab_size=32000,
        hidden_size=width,
        intermediate_size=width * 27 // 10,
        num_hidden_layers=num_blocks,
        num_attention_heads=width // 128,
        num_key_value_heads=width // 128,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def make_checkpoint(folder: Path, config: LlamaConfig) -> int:
    """Write a random checkpoint, one tensor in memory at a time, and return its bytes."""
    from transformers import LlamaForCausalLM
    from transformers.initialization import no_init_weights

    folder.mkdir()
    config.save_pretrained(folder)
    with parameters_on_meta(), no_init_weights():
        shapes = {name: tuple(p.shape) for name, p in LlamaForCausalLM(config).named_parameters()}
    groups: dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        part = int(name.split(".")[2]) // 4 + 1 if ".layers." in name else 0
        groups.setdefault(f"model-{part:05d}.safetensors", {})[name] = (torch.bfloat16, shape)
    generator = torch.Generator().manual_seed(0)
    with ShardWriter(folder, groups) as writer:
        for name, shape in shapes.items():
            scale = 1.0 if "norm" in name else 0.02
            values = torch.empty(shape, dtype=torch.bfloat16).uniform_(-scale, scale, generator=generator)
            writer.write(name, values + (1 if "norm" in name else 0))
    index = {name: file for file, names in groups.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": writer.bytes_written}, "weight_map": index})
    )
    return writer.bytes_written


def prune(folder: Path, propagate: Any, threads: int, answer: Any) -> None:
    """Prune in a process of its own and report seconds and bytes."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(3, 32000, (1, 128), generator=generator) for _ in range(8)]
    start = time.perf_counter()
    sparsities = prune_streaming(
        folder / "dense",
        folder / "pruned",
        [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids],
        Pruner(Wanda(), Unstructured(SPARSITY)),
        propagate=propagate,
        masks_path=folder / "masks.safetensors",
    )
    answer.put((time.perf_counter() - start, len(sparsities), _io("rchar"), _io("wchar")))


def _io(name: str) -> int:
    with open("/proc/self/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def watched(folder: Path, propagate: str, threads: int) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=prune, args=(folder, propagate, threads, answer))
    process.start()
    peak = 0.0
    while process.is_alive() and answer.empty():
        peak = max(peak, resident("RssAnon", process.pid))
        if peak > LIMIT_GIB:
            process.kill()
            raise SystemExit(f"killed: {peak:.2f} GiB of anonymous memory, over the limit of {LIMIT_GIB} GiB")
        time.sleep(0.02)
    if answer.empty():
        raise SystemExit(f"pruning failed with exit status {process.exitcode}")
    seconds, layers, read, written = answer.get()
    process.join()
    print(f"pruned {layers} layers in {seconds:.0f} s, peak {peak:.2f} GiB of anonymous memory (limit {LIMIT_GIB})")
    print(f"read {read / GB:.2f} GB, written {written / GB:.2f} GB", flush=True)


def check(folder: Path) -> None:
    """Load one shard back: what the mask prunes is zero, what it keeps is the dense weight."""
    name = ShardReader(folder / "pruned").files[1]
    dense, pruned = load_file(folder / "dense" / name), load_file(folder / "pruned" / name)
    assert dense.keys() == pruned.keys()
    path = next(key for key in dense if key.endswith("q_proj.weight"))
    masks = load_masks(folder / "masks.safetensors")
    mask = masks[path.removesuffix(".weight")]
    assert (pruned[path][~mask] == 0).all()
    assert torch.equal(pruned[path][mask], dense[path][mask])
    assert (~mask).sum(1).unique().tolist() == [int(mask.shape[1] * SPARSITY)]
    print(f"{name}: {path} is the dense weight where kept, zero where pruned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="folder for 41 GB")
    parser.add_argument("--propagate", choices=["pruned", "dense", "layer"], default="pruned")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=33)
    parser.add_argument("--width", type=int, default=5120)
    options = parser.parse_args()
    free = shutil.disk_usage(options.scratch).free
    if free < NEEDED:
        raise SystemExit(f"'{options.scratch}': {free / GB:.0f} GB free, {NEEDED / GB:.0f} GB needed")
    folder = Path(tempfile.mkdtemp(prefix="mlprune-streaming-", dir=options.scratch))
    try:
        size = make_checkpoint(folder / "dense", llama(options.blocks, options.width))
        print(f"random checkpoint of {size / GB:.2f} GB", flush=True)
        watched(folder, options.propagate, options.threads)
        check(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
