"""Seconds and memory on a GPU, against the published procedure, lm-evaluation-harness and llmcompressor; 2:4 products.

    python tests/benchmarks/bench_gpu.py [--device cuda] [--width 2048 --blocks 8]

Llama-shaped random model, bfloat16 on a GPU. The device may be the CPU, to see that everything runs. What is not
installed is left out and said so. Prints the device's name before its figures.
"""

import argparse
import copy
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from bench_pruning import VOCABULARY, as_batches, compress, difference, prompts, reread, zeros_of
from published import published_wanda
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from mlprune.evaluation.scoring import score_candidate_ids
from mlprune.models.blocks import find_blocks
from mlprune.pruning import NofM, Unstructured, Wanda, prune_model
from mlprune.pruning.propagation import Propagate

SPARSITY, PADDED = 0.3, 512
PROPAGATIONS: tuple[Propagate, ...] = get_args(Propagate)


def llama(width: int, blocks: int, dtype: torch.dtype, device: str) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=blocks,
        num_attention_heads=max(width // 128, 1),
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def measured(device: str, run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, GiB above what the device held (0 on a CPU), and what the run returned."""
    if device == "cpu":
        start = time.perf_counter()
        found = run()
        return time.perf_counter() - start, 0.0, found
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    found = run()
    torch.cuda.synchronize()
    return time.perf_counter() - start, (torch.cuda.max_memory_allocated() - before) / 2**30, found


def bench_pruning(model: PreTrainedModel, device: str, ids: list[Tensor]) -> None:
    """Pruning in its three propagations against the published procedure."""
    prefix = find_blocks(model)[0].stack
    padded = [nn.functional.pad(row, (0, PADDED - len(row)))[None].to(device) for row in ids]
    masks: dict[str, dict[str, Tensor]] = {}

    def published(fresh: PreTrainedModel, rows: list[Tensor]) -> dict[str, Tensor]:
        found = published_wanda(fresh, list(fresh.get_submodule(prefix)), prefix, rows, SPARSITY)
        return {path: mask.cpu() for path, mask in found.items()}

    def ours(fresh: PreTrainedModel, rows: list[Tensor], propagate: Propagate) -> dict[str, Tensor]:
        pattern = Unstructured(SPARSITY)
        return prune_model(fresh, as_batches(rows), importance=Wanda(), pattern=pattern, propagate=propagate)

    runs: dict[str, tuple[Callable[..., dict[str, Tensor]], list[Tensor]]] = {"published": (published, padded)}
    runs |= {name: (partial(ours, propagate=name), ids) for name in PROPAGATIONS}
    for name, (run, rows) in runs.items():
        run(copy.deepcopy(model), rows[:2])  # a GPU loads its kernels when they are first used
        fresh = copy.deepcopy(model)
        seconds, memory, masks[name] = measured(device, partial(run, fresh, rows))
        print(f"pruning, {name:10s} {seconds:8.2f} s, {memory:6.2f} GiB above the model", flush=True)
    plain = published(copy.deepcopy(model), [row[None].to(device) for row in ids])
    print(
        f"masks, pruned against the published without padding: {100 * difference(masks['pruned'], plain):.4f}% differ"
    )


@torch.no_grad()
def bench_scoring(model: PreTrainedModel, device: str, examples: int) -> None:
    """Three candidates an example that share 96 tokens, against a plain forward of each full text."""
    starts = prompts(examples, 96, 96)
    asked = [[[*row.tolist(), *(3 + c + k for k in range(6))] for c in range(3)] for row in starts]

    def plain() -> Tensor:
        rows = []
        for example in asked:
            ids = torch.tensor(example, device=device)
            log_probs = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
            rows.append(log_probs.gather(-1, ids[:, 1:, None])[..., 0].mean(-1).cpu())
        return torch.stack(rows)

    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        score_candidate_ids(model, asked)  # learns about the model, and loads kernels
        seconds, memory, scores = measured(device, lambda: score_candidate_ids(model, asked))
        plain()
        theirs, theirs_memory, expected = measured(device, plain)
        print(
            f"scoring, {attention}: {seconds:.2f} s, {memory:.2f} GiB; plain forwards {theirs:.2f} s, "
            f"{theirs_memory:.2f} GiB; scores differ by {float((scores - expected).abs().max()):.1e} at most",
            flush=True,
        )


def bench_llmcompressor(model: PreTrainedModel, device: str, ids: list[Tensor]) -> None:
    """llmcompressor's Wanda, which has no padding to leave out in texts of one length."""
    if importlib.util.find_spec("llmcompressor") is None:
        print("llmcompressor is not installed; its comparison is left out")
        return
    with reread(model) as fresh:
        fresh.to(device)  # type: ignore[arg-type]  # transformers wraps it without types
        seconds, memory, _ = measured(device, lambda: compress(fresh, ids))
    print(f"llmcompressor {seconds:.2f} s, {memory:.2f} GiB above the model", flush=True)
    pruned = copy.deepcopy(model)
    seconds, memory, masks = measured(
        device, lambda: prune_model(pruned, as_batches(ids), importance=Wanda(), pattern=Unstructured(SPARSITY))
    )
    differing = 100 * difference(masks, zeros_of(fresh))
    print(f"the same, pruned {seconds:.2f} s, {memory:.2f} GiB; masks: {differing:.4f}% differ", flush=True)


def bench_harness(model: PreTrainedModel, count: int) -> None:
    """Requests of lm-evaluation-harness, against its own model class."""
    if importlib.util.find_spec("lm_eval") is None:
        print("lm_eval is not installed; its comparison is left out")
        return
    from bench_lm_eval import documents, make, scores
    from tiny import tiny_tokenizer

    asked = documents(count, letters=False, words=20)
    device = str(next(model.parameters()).device)
    for name in ("hf", "mlprune"):
        answering = make(name, model, tiny_tokenizer())
        scores(answering, asked)
        seconds, memory, _ = measured(device, lambda answering=answering: scores(answering, asked))
        print(f"lm-evaluation-harness, {name}: {seconds:.2f} s, {memory:.2f} GiB", flush=True)


def bench_2_of_4(width: int, dtype: torch.dtype, device: str) -> None:
    """One product of a 2:4 matrix, as PyTorch's semi-structured kernels take it, against the dense one."""
    rows = width if device == "cpu" else 8192
    weight, x = (torch.randn(count, width, dtype=dtype, device=device) for count in (width, rows))
    weight *= NofM(2, 4).mask(weight.abs().float(), 0.5)

    def seconds(matrix: Tensor) -> float:
        for _ in range(3):
            nn.functional.linear(x, matrix)
        return measured(device, lambda: [nn.functional.linear(x, matrix) for _ in range(20)])[0] / 20

    dense = seconds(weight)
    try:
        sparse = seconds(to_sparse_semi_structured(weight))
    except (RuntimeError, NotImplementedError, ValueError) as error:  # kernels are for some GPUs and dtypes
        print(f"2:4, {width}: dense {1000 * dense:.3f} ms; no sparse kernel here ({str(error).splitlines()[0]:.80})")
        return
    found = f"dense {1000 * dense:.3f} ms, sparse {1000 * sparse:.3f} ms: {dense / sparse:.2f} times as fast"
    print(f"2:4, {width} wide, {rows} tokens: {found}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=320, help="of the longest prompt")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device; --device cpu shows that everything runs")
    name = "CPU" if options.device == "cpu" else torch.cuda.get_device_name()
    print(f"{name}; torch {torch.__version__}; width {options.width}, {options.blocks} blocks", flush=True)
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    model = llama(options.width, options.blocks, dtype, options.device)
    bench_pruning(model, options.device, prompts(options.prompts, options.tokens * 5 // 8, options.tokens))
    bench_scoring(model, options.device, options.prompts)
    bench_harness(model, max(options.prompts // 4, 1))
    for width in (options.width, 4 * options.width):
        bench_2_of_4(width, dtype, options.device)
    bench_llmcompressor(model, options.device, prompts(options.prompts, options.tokens, options.tokens))


if __name__ == "__main__":
    main()
