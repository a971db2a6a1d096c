"""What each way of making a model smaller gives and costs: size, speed, bits per character in six languages.

    python tests/benchmarks/bench_smaller.py [--flores DIR] [--model demo] [--results FILE.json] [--figure FILE.png]

Gemma 3 270M (`demo`), float32, one thread; processor time, all ways in turn in each of some rounds, so that they share
whatever else the machine does. Prefill is one text of 128 tokens with the logits of the last; scoring has those of all;
decoding is greedy, after a short prompt. Bits per character are of 20 bundled texts a language that chose neither
tokens nor what is left out; those of a trimmed model are under the original's normalizer. Intervals: 95%, of the
difference to the original, texts resampled with their translations. ``--flores`` is a folder of FLORES files, whose
texts then choose the tokens of one more way. Exits with an error if a logit of a kept token differs from the whole
model's.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from smaller_figure import draw
from transformers import PreTrainedTokenizerBase

from mlprune.analysis.influence import block_influence, least_influential
from mlprune.comparison import Difference, differences_of
from mlprune.data.corpora import Bundled
from mlprune.data.demonstrations import MonolingualDemonstrations
from mlprune.evaluation.tasks import PerplexityTask
from mlprune.languages import language_name
from mlprune.metrics.measure import AVERAGE_ALL
from mlprune.models.loading import ModelSource
from mlprune.models.tokens import encode
from mlprune.present import Table, influence_table, to_markdown
from mlprune.pruning import Unstructured, Wanda, prune_model
from mlprune.smaller import Trimmed, narrow, remove_blocks, trim_vocabulary
from mlprune.smaller.archive import compress
from mlprune.smaller.costs import under_old_normalizer
from mlprune.smaller.quality import PERPLEXITY, records_of
from mlprune.smaller.texts import PROMPTS, Texts, prompt_texts, texts_for

LANGUAGES = ["en", "es", "fr", "hi", "sw", "zh"]
TEXTS, PROMPTS_EACH, SHOTS = 20, 3, 2
PREFILL, NEW_TOKENS = 128, 16
PROMPT = "French: Il pleut depuis ce matin et la rivière monte.\nEnglish:"


@dataclass
class Way:
    """One model.

    Args:
        kind: What was done, for the picture.
        name: How much of it.
        folder: The model; the name of a packaged one.
        stored: What is kept of it, if it is not the model as it is.
        whole: The same with all tokens, if it is trimmed.
        trimmed: What trimming did.
    """

    kind: str
    name: str
    folder: str
    stored: Path | None = None
    whole: str | None = None
    trimmed: Trimmed | None = None
    num_parameters: int = 0
    ids: torch.Tensor = field(default_factory=lambda: torch.empty(1, 0, dtype=torch.int64))
    prompt: torch.Tensor = field(default_factory=lambda: torch.empty(1, 0, dtype=torch.int64))
    seconds: dict[str, list[float]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def source(self) -> ModelSource:
        return ModelSource(self.folder, "float32")

    @property
    def megabytes(self) -> float:
        return sum(file.stat().st_size for file in (self.stored or self.source.folder()).iterdir()) / 1e6

    def speed(self, what: str) -> float:
        """Tokens a second."""
        tokens = NEW_TOKENS if what == "decoding" else PREFILL
        return tokens / statistics.median(self.seconds[what]) if what in self.seconds else float("nan")

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "parameters": self.num_parameters,
            "megabytes": self.megabytes,
            "tokens_per_second": {what: self.speed(what) for what in self.seconds},
            "differences": [row.to_json() for row in self.differences],
        }


class Data:
    """Texts that are evaluated, and all others."""

    def __init__(self, languages: Sequence[str]) -> None:
        rows = {lang: Bundled("parallel").rows(lang) for lang in languages}
        self.held_out = [str(row["id"]) for row in rows[languages[0]]][-TEXTS:]
        self.evaluated = {
            lang: [row["text"] for row in own if str(row["id"]) in self.held_out] for lang, own in rows.items()
        }

    def task(self) -> PerplexityTask:
        return PerplexityTask(list(self.evaluated), PERPLEXITY, Texts(self.evaluated), aligned=False)

    def texts(self, corpora: list[str]) -> dict[str, list[str]]:
        """Texts that may choose tokens."""
        found = texts_for(corpora, list(self.evaluated))
        return {lang: [text for text in own if text not in self.evaluated[lang]] for lang, own in found.items()}

    def batches(self, source: ModelSource) -> list[dict[str, Any]]:
        """Calibration prompts, a group a language."""
        tokenizer, rows = source.load_tokenizer(), source.checkpoint.skeleton.get_input_embeddings().weight.shape[0]
        found = []
        for lang in self.evaluated:
            demonstrations = MonolingualDemonstrations(lang, label=False, shots=SHOTS)
            prompts = demonstrations.prompts(tokenizer, PROMPTS_EACH, 0, self.held_out)
            ids = [encode(tokenizer, prompt.text, rows) for prompt in prompts]
            found += [{"input_ids": torch.tensor([own]), "group": lang} for own in ids]
        return found


def make_ways(model: str, data: Data, flores: str | None, folder: Path) -> list[Way]:
    """Write all models."""
    source = ModelSource(model, "float32")
    batches = data.batches(source)
    ways = [Way("original", "", model), trimmed(model, "bundled texts", data.texts(["bundled"]), folder)]
    if flores:
        texts = data.texts(["bundled", f"flores:{flores}"])
        ways.append(trimmed(model, "bundled texts and FLORES devtest", texts, folder))
    for share in (0.1, 0.2, 0.3):
        narrow(source, folder / f"units-{share}", batches, units=share)
        ways.append(Way("feed-forward units", f"-{share:.0%}", str(folder / f"units-{share}")))
    heads = source.checkpoint.config.num_attention_heads
    narrow(source, folder / "heads", batches, heads=heads // 2)
    ways.append(Way("heads", f"-{heads // 2} of {heads}", str(folder / "heads")))
    influences = block_influence(source.load_model(), batches)
    order = least_influential(influences)
    print(to_markdown(influence_table(influences, order)), flush=True)
    for count in (1, 2, 4):
        if count < len(order):
            remove_blocks(source, folder / f"blocks-{count}", order[:count])
            ways.append(Way("layers", f"-{count} of {len(order)}", str(folder / f"blocks-{count}")))
    remove_blocks(ways[1].source, folder / "both", order[:1])
    way = Way("vocabulary and layers", "both", str(folder / "both"), whole=str(folder / "blocks-1"))
    ways.append(replace(way, trimmed=ways[1].trimmed))
    return ways + [sparse(source, batches, sparsity, folder) for sparsity in (0.3, 0.5)]


def trimmed(model: str, name: str, texts: Mapping[str, list[str]], folder: Path) -> Way:
    target = folder / name.replace(" ", "-")
    found = trim_vocabulary(ModelSource(model, "float32"), target, {**texts, PROMPTS: prompt_texts(texts)})
    return Way("vocabulary", f"{len(found.kept):,} tokens: {name}", str(target), whole=model, trimmed=found)


def sparse(source: ModelSource, batches: list[dict[str, Any]], sparsity: float, folder: Path) -> Way:
    """A model with zeros, as an archive."""
    model, plain = source.load_model(), folder / f"sparse-{sparsity}"
    prune_model(model, batches, importance=Wanda(), pattern=Unstructured(sparsity))
    model.save_pretrained(plain)
    source.load_tokenizer().save_pretrained(plain)
    compress(plain, folder / f"archive-{sparsity}")
    return Way("zeros, as an archive", f"{sparsity:.0%}", str(plain), folder / f"archive-{sparsity}")


@torch.no_grad()
def check_logits(way: Way) -> None:
    """Demand the logits of kept tokens that the model with all tokens has."""
    assert way.trimmed is not None
    assert way.whole is not None
    model, tokenizer, kept = way.source.load_model(), way.source.load_tokenizer(), torch.tensor(way.trimmed.kept)
    ids = tokenizer("Il pleut depuis ce matin.", return_tensors="pt")["input_ids"]
    expected = ModelSource(way.whole, "float32").load_model()(kept[ids]).logits[..., kept]
    found = model(ids).logits
    worst = float(((found - expected).abs() / expected.abs().clamp(min=1e-3)).max())
    print(f"{way.name}: logits of kept tokens differ by at most {worst:.1e} (equal: {torch.equal(found, expected)})")
    if worst > 1e-6:
        raise SystemExit("logits of kept tokens differ")


def read_inputs(way: Way) -> PreTrainedTokenizerBase:
    """Keep the ids that a model's speed is measured on; return its tokenizer."""
    tokenizer = way.source.load_tokenizer()
    text = " ".join(row["text"] for row in Bundled("parallel").rows("fr"))
    way.ids = torch.tensor([tokenizer(text)["input_ids"][:PREFILL]])
    way.prompt = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    return tokenizer


def evaluate(ways: Sequence[Way], data: Data) -> None:
    """Compare every way with the original; trimmed models under the normalizer of all tokens."""
    task, before = data.task(), None
    for way in ways:
        tokenizer = read_inputs(way)
        if way.trimmed is not None and way.whole is not None:
            check_logits(way)
            model = ModelSource(way.whole, "float32").load_model()
            after = under_old_normalizer(model, tokenizer, way.trimmed.kept, task)
        else:
            after = records_of(way.source.load_model(), tokenizer, task)
        before = before or after
        way.differences = differences_of(before, after, ("original", "smaller"), 0)
        log(f"evaluated {way.kind} {way.name}")


@torch.no_grad()
def measure_speed(way: Way, clock: Callable[[], float]) -> None:
    """One round: load the model, take each time once."""
    model, ids = way.source.load_model(), way.ids
    way.num_parameters = sum(parameter.numel() for parameter in model.parameters())
    greedy = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
    runs: dict[str, Callable[[], Any]] = {
        "prefill": lambda: model(ids, logits_to_keep=1),
        "scoring": lambda: model(ids),
        "decoding": lambda: model.generate(way.prompt, attention_mask=torch.ones_like(way.prompt), **greedy),
    }
    model(ids[:, :8])  # pages of the file are read
    for what, run in runs.items():
        begun = clock()
        run()
        way.seconds.setdefault(what, []).append(clock() - begun)


def tables(ways: Sequence[Way]) -> list[Table]:
    """Size and speed, and the cost in each language."""
    first = ways[0]
    sizes, costs = [], []
    for way in ways:
        speeds = (f"{way.speed(what):.1f} ({way.speed(what) / first.speed(what):.2f})" for what in first.seconds)
        mean = next(row for row in way.differences if row.language == AVERAGE_ALL)
        cost = "" if way is first else f"{mean.delta:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]"
        name = f"{way.kind} {way.name}".strip()
        sizes.append((name, f"{way.megabytes:,.0f}", f"{way.num_parameters / 1e6:.1f}", *speeds, cost))
        rows = [row for row in way.differences if row.language in LANGUAGES]
        shown = [
            f"{row.after:.3f}" if way is first else f"{row.delta:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
            for row in rows
        ]
        costs.append((name, *shown))
    heads = ("", "MB", "parameters, M", *(f"{what}, tokens/s" for what in first.seconds), "bits a character, mean")
    languages = [language_name(row.language) for row in first.differences if row.language in LANGUAGES]
    return [Table("Size, speed and cost", heads, sizes), Table("Bits a character", ("", *languages), costs)]


def log(text: str) -> None:
    print(f"[{time.process_time():.0f} s] {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flores", help="folder of fra_Latn.devtest and so on")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--wall-time", action="store_true")
    parser.add_argument("--results", type=Path, help="JSON file for all numbers")
    parser.add_argument("--figure", type=Path, help="PNG file for the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        data = Data(LANGUAGES)
        ways = make_ways(options.model, data, options.flores, Path(scratch))
        evaluate(ways, data)
        for number in range(options.rounds):
            for way in ways:
                measure_speed(way, time.perf_counter if options.wall_time else time.process_time)
            log(f"round {number + 1}")
        print("\n\n".join(map(to_markdown, tables(ways))), flush=True)
        results = [way.to_json() for way in ways]
    if options.results:
        options.results.write_text(json.dumps(results, indent=1))
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
