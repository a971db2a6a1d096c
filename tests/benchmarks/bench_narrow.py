"""What leaving out heads and feed-forward units gives and costs, before and after a short recovery training.

    python tests/benchmarks/bench_narrow.py [--model demo] [--texts 80] [--results FILE.json] [--figure FILE.png]

Gemma 3 270M (`demo`), float32, one thread, processor time, all ways in one run; speed, texts and intervals as in
bench_smaller.py. Recovery: one pass over bundled texts of the six languages that are not evaluated, AdamW. These are of
the same origin as those evaluated, so the original is trained in the same way, for comparison. Results are written
after each model.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from bench_smaller import LANGUAGES, Data, Way, log, measure_speed, read_inputs, tables
from smaller_figure import draw
from transformers import PreTrainedModel

from mlprune.comparison import TaskRecords, differences_of
from mlprune.models.loading import ModelSource
from mlprune.present import to_markdown
from mlprune.smaller import narrow
from mlprune.smaller.quality import records_of

HEADS, SHARES = (2, 3), (0.1, 0.2, 0.3)  # heads of 4 and units that go
RATE, BATCH = 2e-5, 24


def make_ways(model: str, data: Data, folder: Path) -> list[Way]:
    """Write all models."""
    source = ModelSource(model, "float32")
    batches, number = data.batches(source), source.checkpoint.config.num_attention_heads
    ways = [Way("original", "", model)]
    for share in SHARES:
        narrow(source, folder / f"units-{share}", batches, units=share)
        ways.append(Way("feed-forward units", f"-{share:.0%}", str(folder / f"units-{share}")))
    for heads in HEADS:
        narrow(source, folder / f"heads-{heads}", batches, heads=heads)
        ways.append(Way("heads", f"-{heads} of {number}", str(folder / f"heads-{heads}")))
    return ways


def trained(way: Way, data: Data, num_texts: int) -> PreTrainedModel:
    """Return a model after one pass over texts of all languages in turn."""
    model, tokenizer = way.source.load_model(), way.source.load_tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    texts = data.texts(["bundled:parallel"])
    rows = [text for place in range(num_texts) for text in (texts[lang][place] for lang in LANGUAGES)]
    model.train()
    tokens = 0
    for start in range(0, len(rows), BATCH):
        batch = tokenizer(rows[start : start + BATCH], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens += int(batch["attention_mask"].sum())
    log(f"trained {way.kind} {way.name} on {tokens} tokens in {len(rows) // BATCH} steps")
    return model.eval()


def evaluated(way: Way, model: PreTrainedModel, data: Data, before: TaskRecords | None) -> TaskRecords:
    """Compare a model with the original; the ids that its speed is measured on are kept."""
    after = records_of(model, read_inputs(way), data.task())
    way.differences = differences_of(before or after, after, ("original", "smaller"), 0)
    rows = (f"{row.language} {row.after:.3f} ({row.low:+.3f} to {row.high:+.3f})" for row in way.differences)
    log(f"{way.kind} {way.name}: {', '.join(rows)}")
    return after


def write(ways: Sequence[Way], results: Path | None, figure: Path | None) -> None:
    rows = [way.to_json() for way in ways]
    if results:
        results.write_text(json.dumps(rows, indent=1))
    if figure:
        draw(rows, figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=int, default=80, help="texts a language of recovery training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="JSON file for all numbers")
    parser.add_argument("--figure", type=Path, help="PNG file for the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        data = Data(LANGUAGES)
        ways = make_ways(options.model, data, Path(scratch))
        before: TaskRecords | None = None
        for way in ways:
            before = before or evaluated(way, way.source.load_model(), data, None)
            if way.kind != "original":
                evaluated(way, way.source.load_model(), data, before)
        for number in range(options.rounds):
            for way in ways:
                measure_speed(way, time.process_time)
            log(f"round {number + 1}")
        write(ways, options.results, options.figure)
        done = list(ways)
        for way in sorted(ways, key=lambda way: way.kind == "original"):
            done.append(replace(way, kind=f"{way.kind}, trained"))  # training changes no width
            evaluated(done[-1], trained(way, data, options.texts), data, before)
            write(done, options.results, options.figure)
        print("\n\n".join(map(to_markdown, tables(done))), flush=True)


if __name__ == "__main__":
    main()
