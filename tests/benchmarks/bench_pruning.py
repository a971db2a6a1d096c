"""How fast pruning is, against the published procedure and against the model's own forward passes.

    python tests/benchmarks/bench_pruning.py

XGLM-shaped random model: 8 blocks, hidden 512, ffn 2048, 64 prompts of 200 to 320 tokens, float32, 2 threads. Where
llmcompressor is installed, its WandaPruningModifier is compared on a Llama-shaped model. Exits with an error if the
masks differ from the published procedure's by more than near-ties.
"""

import argparse
import copy
import cProfile
import importlib.util
import multiprocessing
import pstats
import statistics as stats
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from memory import peak_above
from published import published_wanda
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XGLMConfig,
    XGLMForCausalLM,
)

from mlprune.models.blocks import find_blocks
from mlprune.pruning import Unstructured, Wanda, prune_model
from mlprune.pruning.calibration import Calibration, calibrating
from mlprune.pruning.prune import reform
from mlprune.pruning.pruner import Pruner

PADDED = 512
SPARSITY = 0.3
NEAR_TIES = 0.0002
VOCABULARY = 2048


def xglm() -> nn.Module:
    config = XGLMConfig(
        vocab_size=VOCABULARY, d_model=512, ffn_dim=2048, num_layers=8, attention_heads=8, max_position_embeddings=1024
    )
    torch.manual_seed(0)
    return XGLMForCausalLM(config).float().eval()


def llama() -> nn.Module:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).float().eval()


def prompts(count: int, shortest: int, longest: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]


def as_batches(ids: list[Tensor]) -> list[dict[str, Any]]:
    return [{"input_ids": row[None], "attention_mask": torch.ones_like(row[None])} for row in ids]


@torch.no_grad()
def forward(model: nn.Module, batches: list[dict[str, Any]]) -> float:
    """Seconds of the model's own forward on batches, unhooked: the floor of one pass."""
    start = time.perf_counter()
    for batch in batches:
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    return time.perf_counter() - start


@torch.no_grad()
def blocks_alone(model: nn.Module, batches: list[dict[str, Any]], stopped: bool) -> float:
    """Seconds of the blocks without embeddings and head, or of running each as far as the input of its last layer."""
    seconds = 0.0
    with calibrating(model):
        calibration = Calibration(model, batches, pruner=Pruner(), propagate="dense")
        for k in range(len(calibration.blocks)):
            for index in range(len(batches)):
                calibration.advance(k, index)
            start = time.perf_counter()
            if stopped:
                stopped_forward(calibration, k)
            else:
                for state in calibration._states:
                    calibration._call(state, k)
            seconds += time.perf_counter() - start
    return seconds


def stopped_forward(calibration: Calibration, k: int) -> None:

    class Reached(Exception):
        pass

    def stop(module: nn.Module, args: Any) -> None:
        raise Reached

    last = list(calibration.blocks[k].layers.values())[-1].module
    handle = last.register_forward_pre_hook(stop)
    for state in calibration._states:
        try:
            calibration._call(state, k)
        except Reached:
            continue
    handle.remove()


@torch.no_grad()
def products(model: nn.Module, batches: list[dict[str, Any]]) -> float:
    """Seconds of the matrix products of the layers alone, once each."""
    layers = [layer.matrix() for block in find_blocks(model) for layer in block.layers.values()]
    inputs = {(b["input_ids"].numel(), m.shape[1]) for b in batches for m in layers}
    made = {key: torch.randn(*key) for key in inputs}
    start = time.perf_counter()
    for matrix in layers:
        for batch in batches:
            nn.functional.linear(made[batch["input_ids"].numel(), matrix.shape[1]], matrix)
    return time.perf_counter() - start


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def memory_of(job: str, threads: int, answer: Any) -> None:
    """In a process of its own: how far the peak of memory rises above what the model and prompts take."""
    torch.set_num_threads(threads)
    model, ids = xglm(), prompts(64, 200, 320)
    prefix = find_blocks(model)[0].stack
    padded = [nn.functional.pad(row, (0, PADDED - len(row)))[None] for row in ids]

    def run() -> None:
        if job == "published":
            published_wanda(model, list(model.get_submodule(prefix)), prefix, padded, SPARSITY)
        else:
            prune_model(model, as_batches(ids), Wanda(), Unstructured(SPARSITY), propagate=job)

    answer.put(peak_above(run))


def print_memory(threads: int) -> None:
    context = multiprocessing.get_context("spawn")
    for job in ("published", "pruned", "dense", "layer"):
        answer = context.Queue()
        process = context.Process(target=memory_of, args=(job, threads, answer))
        process.start()
        print(f"memory of {job}: peak {answer.get():.3f} GiB above the model", flush=True)
        process.join()


PARTS = {
    "_call": "forward passes of blocks, hooks included",
    "see": "of which squares of the inputs",
    "prune_layer": "scores, masks, zeroing, reports",
    "keep_highest": "of which selection",
    "_enter_stack": "embeddings and block arguments",
    "reform": "batches",
}


def print_profile(run: Callable[[], Any]) -> None:
    """Where the time goes, by cumulative seconds of the parts."""
    profile = cProfile.Profile()
    seconds, _ = timed(lambda: profile.runcall(run))
    spent = dict.fromkeys(PARTS, 0.0)
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():
        if name in PARTS and "mlprune" in file:
            spent[name] += cumulative
    print(f"profile of pruned ({seconds:.2f} s with the profiler on)")
    for name, text in PARTS.items():
        print(f"  {text:42s} {spent[name]:6.2f} s")


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return sum(int((a[path] != b[path]).sum()) for path in a) / sum(mask.numel() for mask in a.values())


def check(name: str, share: float) -> None:
    print(f"masks, {name}: {100 * share:.4f}% of entries differ", flush=True)
    if share > NEAR_TIES:
        raise SystemExit(f"{name}: more than near-ties ({100 * NEAR_TIES}%) differ")


def bench_xglm(rounds: int) -> None:
    model = xglm()
    paths = [block.path for block in find_blocks(model)]
    prefix = paths[0].rpartition(".")[0]
    ids = prompts(64, 200, 320)
    batches = as_batches(ids)
    formed = reform(batches, 2048)
    padded = [nn.functional.pad(row, (0, PADDED - len(row)))[None] for row in ids]

    def ours(propagate: str) -> Callable[[], Any]:
        fresh = copy.deepcopy(model)
        return lambda: prune_model(fresh, batches, Wanda(), Unstructured(SPARSITY), propagate=propagate)

    def theirs(rows: list[Tensor]) -> Callable[[], Any]:
        fresh = copy.deepcopy(model)
        return lambda: published_wanda(fresh, list(fresh.get_submodule(prefix)), prefix, rows, SPARSITY)

    print("XGLM-shaped, 8 blocks, hidden 512, ffn 2048; 64 prompts of 200-320 tokens; float32")
    jobs = {
        "published": lambda: timed(theirs(padded))[0],
        "pruned": lambda: timed(ours("pruned"))[0],
        "dense": lambda: timed(ours("dense"))[0],
        "layer": lambda: timed(ours("layer"))[0],
        "the model's own forward": lambda: forward(model, formed),
        "blocks up to their last layer's input": lambda: blocks_alone(model, formed, stopped=True),
        "blocks of one forward": lambda: blocks_alone(model, formed, stopped=False),
        "matrix products of one forward": lambda: products(model, formed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            seconds[name].append(job())
    best = {name: min(values) for name, values in seconds.items()}
    for name in jobs:
        print(f"{name:40s} {best[name]:7.2f} s (median {stats.median(seconds[name]):.2f})")
    for name in ("pruned", "dense", "layer"):
        floor = best["the model's own forward"]
        if name == "pruned":
            floor += best["blocks up to their last layer's input"]
        faster = best["published"] / best[name]
        print(f"{name}: {best[name] / floor:.3f} of its floor, {faster:.2f} times as fast as the published")
    print_profile(ours("pruned"))
    unpadded = theirs([row[None] for row in ids])()
    check("pruned against the published procedure without padding", difference(ours("pruned")(), unpadded))
    fresh = copy.deepcopy(model)
    given = [{"input_ids": row} for row in padded]
    counted = prune_model(fresh, given, Wanda(), Unstructured(SPARSITY), count_padding=True)
    check("count_padding against the published procedure as it is", difference(counted, theirs(padded)()))


@contextmanager
def reread(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The same model from a folder, in which llmcompressor reads its configuration again."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        yield LlamaForCausalLM.from_pretrained(folder, dtype=model.dtype).eval()


def compress(model: nn.Module, ids: list[Tensor]) -> None:
    """Prune with llmcompressor's Wanda."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import WandaPruningModifier
    from tokenizers import Tokenizer, models

    unused = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"x": 0}, "x")))  # it insists on one
    loader = torch.utils.data.DataLoader(as_batches(ids), batch_size=None)
    recipe = WandaPruningModifier(sparsity=SPARSITY, mask_structure="0:0", ignore=["re:.*lm_head"])
    oneshot(model=model, dataset=loader, recipe=recipe, processor=unused, num_calibration_samples=len(ids))


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    """Masks as a pruned model's zeros show them, on the CPU."""
    layers = {path: layer for block in find_blocks(model) for path, layer in block.layers.items()}
    return {path: layer.matrix().cpu() != 0 for path, layer in layers.items()}


def bench_llmcompressor(rounds: int) -> None:
    if importlib.util.find_spec("llmcompressor") is None:
        print("llmcompressor is not installed; its comparison is left out")
        return
    model, ids = llama(), prompts(64, 512, 512)
    print("Llama-shaped, 8 blocks, hidden 512; 64 prompts of 512 tokens; float32")
    best: dict[str, float] = {}
    masks: dict[str, dict[str, Tensor]] = {}
    for _ in range(rounds):
        for name in ("llmcompressor", "pruned", "layer", "dense"):
            if name == "llmcompressor":
                with reread(model) as fresh:
                    seconds, _ = timed(lambda fresh=fresh: compress(fresh, ids))
                masks[name] = zeros_of(fresh)
            else:
                fresh = copy.deepcopy(model)
                seconds, masks[name] = timed(
                    lambda fresh=fresh, name=name: prune_model(
                        fresh, as_batches(ids), Wanda(), Unstructured(SPARSITY), propagate=name
                    )
                )
            best[name] = min(seconds, best.get(name, seconds))
    for name, value in best.items():
        print(f"{name:40s} {value:7.2f} s, {best['llmcompressor'] / value:.2f} times llmcompressor")
    check("pruned against llmcompressor", difference(masks["pruned"], masks["llmcompressor"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds; the best of each is reported")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench_xglm(options.rounds)
    print_memory(options.threads)
    bench_llmcompressor(options.rounds)


if __name__ == "__main__":
    main()
