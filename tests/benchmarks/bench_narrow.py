"""What leaving out heads and feed-forward units gives and costs, before and after a short recovery training.

    python tests/benchmarks/bench_narrow.py [--model demo] [--texts 40] [--results FILE.json]

Gemma 3 270M (`demo`), float32, one thread, processor time, all ways in one run; speed, texts and intervals as in
bench_smaller.py. Recovery: one pass over bundled texts of the six languages that are not evaluated, AdamW. These are of
the same origin as those evaluated, so the original is trained in the same way, for comparison.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from bench_smaller import LANGUAGES, Data, Way, log, measure_speed, read_inputs, tables

from mlprune.comparison import TaskRecords, differences_of
from mlprune.errors import UserError
from mlprune.models.loading import ModelSource
from mlprune.present import to_markdown
from mlprune.pruning import Random, Wanda
from mlprune.smaller import narrow
from mlprune.smaller.quality import records_of

WAYS: dict[str, tuple[bool, dict[str, Any]]] = {  # name: whether it is trained, arguments of narrow
    "units -20%": (True, {"units": 0.2}),
    "heads, 2 of 4 left": (True, {"heads": 2}),
    "units -10%": (True, {"units": 0.1}),
    "units -30%": (True, {"units": 0.3}),
    "heads, 1 of 4 left": (True, {"heads": 3}),
    "heads, 3 of 4 left": (False, {"heads": 1}),
    "units -20%, random": (False, {"units": 0.2, "importance": Random()}),
    "units -20%, Wanda": (False, {"units": 0.2, "importance": Wanda()}),
    "heads, 2 of 4 left, with biases": (False, {"heads": 2, "add_biases": True}),
}
RATE, BATCH = 2e-5, 6


def trained(way: Way, data: Data, num_texts: int, folder: Path) -> Way:
    """One pass over texts of all languages in turn."""
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
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    log(f"trained {way.kind} on {tokens} tokens")
    return Way(f"{way.kind}, trained", "", str(folder))


def make_ways(model: str, data: Data, num_texts: int, folder: Path) -> Iterator[Way]:
    source = ModelSource(model, "float32")
    batches = data.batches(source)
    yield (original := Way("original", "", model))
    yield trained(original, data, num_texts, folder / "original")
    for number, (name, (trains, settings)) in enumerate(WAYS.items()):
        target = folder / str(number)
        try:
            narrow(source, target, batches, **settings)
        except UserError as error:
            log(f"{name} is refused: {error}")
            continue
        yield (way := Way(name, "", str(target)))
        if trains:
            yield trained(way, data, num_texts, folder / f"{number}-trained")


def evaluated(way: Way, data: Data) -> TaskRecords:
    """Records of a model; the ids that its speed is measured on are kept."""
    tokenizer = read_inputs(way)
    return records_of(way.source.load_model(), tokenizer, data.task())


def timed(ways: Sequence[Way], rounds: int) -> None:
    """Measure each width once a round; training changes no width."""
    for number in range(rounds):
        for way in ways:
            if "trained" not in way.kind:
                measure_speed(way, time.process_time)
        log(f"round {number + 1}")
    for before, way in pairwise(ways):
        if "trained" in way.kind:
            way.seconds, way.num_parameters = before.seconds, before.num_parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=int, default=40, help="texts a language of recovery training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="JSON file for all numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        data = Data(LANGUAGES)
        ways: list[Way] = []
        before = None
        for way in make_ways(options.model, data, options.texts, Path(scratch)):
            after = evaluated(way, data)
            before = before or after
            way.differences = differences_of(before, after, ("original", "smaller"), 0)
            ways.append(way)
            rows = (f"{row.language} {row.after:.3f} ({row.low:+.3f} to {row.high:+.3f})" for row in way.differences)
            log(f"{way.kind}: {', '.join(rows)}")
        timed(ways, options.rounds)
        print("\n\n".join(map(to_markdown, tables(ways))), flush=True)
        if options.results:
            options.results.write_text(json.dumps([way.to_json() for way in ways], indent=1))


if __name__ == "__main__":
    main()
