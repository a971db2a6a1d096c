"""What each way of making a model smaller gives and costs: size, speed, bits per character in six languages.

    python tests/benchmarks/bench_smaller.py [--flores DIR] [--rounds 3] [--wall-time]

Gemma 3 270M (`demo`), float32, one thread, all ways in one run and in turn, so that they share whatever else the
machine does; processor time unless ``--wall-time``. Scoring: rows of the bundled inference task, three candidates each.
Generation: greedy, one prompt. Bits per character are under the original's normalizer. ``--flores`` is a folder of
FLORES files, whose French and Swahili then choose the tokens of one more way. Exits with an error if a logit of a
kept token differs from the original's.

Archives: the model in bfloat16, pruned by magnitude, as `mlprune compress` writes it, beside zstd of the plain file.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import torch

from mlprune.data.corpora import Bundled
from mlprune.evaluation import score_candidates
from mlprune.evaluation.tasks import CandidateTask
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.present import to_markdown
from mlprune.pruning import NofM, Pattern, Unstructured
from mlprune.smaller import Trimmed, trim_vocabulary
from mlprune.smaller.archive import compress
from mlprune.smaller.report import measure_costs, tables
from mlprune.smaller.texts import PROMPTS, prompt_texts, texts_for

LANGUAGES = ["en", "es", "fr", "hi", "sw", "zh"]
NEW_TOKENS = 48
PROMPT = "French: Il pleut depuis ce matin et la rivière monte.\nEnglish:"


@dataclass
class Way:
    """One model: where it is, and the times it took."""

    name: str
    source: ModelSource
    trimmed: Trimmed | None = None

    def __post_init__(self) -> None:
        self.model, self.tokenizer = self.source.load_model(), self.source.load_tokenizer()
        self.scoring: list[float] = []
        self.generation: list[float] = []

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def megabytes(self) -> float:
        return sum(file.stat().st_size for file in self.source.folder().iterdir()) / 1e6


def trimmed(name: str, corpora: list[str], languages: list[str], folder: Path) -> Way:
    """Trim to what corpora of some languages need."""
    texts = texts_for(corpora, languages)
    found = trim_vocabulary("demo", folder / name.replace(" ", "-"), {**texts, PROMPTS: prompt_texts(texts)})
    print("\n\n".join(map(to_markdown, tables(found.folder))), flush=True)
    return Way(name, ModelSource(str(found.folder)), found)


@torch.no_grad()
def generate(way: Way) -> Any:
    given = way.tokenizer(PROMPT, return_tensors="pt")
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
    return way.model.generate(**given, **options)


def seconds(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    begun = clock()
    run()
    return clock() - begun


@torch.no_grad()
def check_logits(original: Way, way: Way) -> None:
    """Demand the original's logits of kept tokens."""
    assert way.trimmed is not None
    kept = torch.tensor(way.trimmed.kept)
    ids = way.tokenizer("Il pleut depuis ce matin.", return_tensors="pt")["input_ids"]
    expected, found = original.model(kept[ids]).logits[..., kept], way.model(ids).logits
    worst = float(((found - expected).abs() / expected.abs().clamp(min=1e-3)).max())
    print(f"{way.name}: logits of kept tokens differ by at most {worst:.1e} (equal: {torch.equal(found, expected)})")
    if worst > 1e-6:
        raise SystemExit("logits of kept tokens differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flores", help="folder of fra_Latn.devtest and so on")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=24, help="texts a language that are evaluated")
    parser.add_argument("--wall-time", action="store_true")
    parser.add_argument("--parts", default="ways,archives")
    options = parser.parse_args()
    if "ways" in options.parts:
        compare_ways(options)
    if "archives" in options.parts:
        measure_archives()


@torch.no_grad()
def measure_archives() -> None:
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


def compare_ways(options: argparse.Namespace) -> None:
    clock = time.perf_counter if options.wall_time else time.process_time
    torch.set_num_threads(1)
    task = CandidateTask("nli", ["fr"], Bundled("nli"), "xnli", limit=options.rows)
    rows = [list(example.candidates) for example in task.examples("fr")]
    with tempfile.TemporaryDirectory() as scratch:
        original = Way("original", ModelSource("demo", "float32"))
        ways = [original, trimmed("trimmed to six languages", ["bundled"], LANGUAGES, Path(scratch))]
        if options.flores:
            corpora = ["bundled", f"flores:{options.flores}"]
            ways.append(trimmed("trimmed to fr and sw", corpora, ["fr", "sw"], Path(scratch)))
        for way in ways[1:]:
            check_logits(original, way)
        for _ in range(options.rounds):
            for way in ways:
                way.scoring.append(seconds(lambda w=way: score_candidates(w.model, w.tokenizer, rows), clock))
                way.generation.append(seconds(lambda w=way: generate(w), clock))
        print("| | parameters | MB on disk | scoring, s | generation, s a token |\n| --- | ---: | ---: | ---: | ---: |")
        for way in ways:
            scoring, token = statistics.median(way.scoring), statistics.median(way.generation) / NEW_TOKENS
            size = f"{way.num_parameters / 1e6:.1f} M | {way.megabytes:,.0f}"
            print(f"| {way.name} | {size} | {scoring:.1f} | {token:.3f} |", flush=True)
        found = [(way.name, way.trimmed) for way in ways if way.trimmed is not None]
        del ways, original
        texts = texts_for(["bundled:parallel"], LANGUAGES)
        for name, one in found:
            costs = measure_costs(ModelSource("demo", "float32"), one.folder, texts, options.limit)
            chosen = [lang for lang in LANGUAGES if lang in one.usage]
            print(f"\n# {name}\n\n" + "\n\n".join(map(to_markdown, costs.tables(chosen))), flush=True)


if __name__ == "__main__":
    main()
