"""Evaluate and prune a random model of 4 GiB whose weights are split over processes, and compare with whole weights.

    python tests/benchmarks/bench_split.py --processes 2

Prints each process' peak resident memory (VmHWM, libraries included) against its share of the weights plus 1 GiB, the
seconds that each part took, and whether scores and masks are those of one process with whole weights, which runs last.
"""

import argparse
import hashlib
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from bench_streaming import make_checkpoint
from memory import resident
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from mlprune.batching import deal
from mlprune.distributed import gather_objects
from mlprune.evaluation.scoring import score_candidate_ids
from mlprune.models.checkpoint import read_checkpoint
from mlprune.models.split import split_of
from mlprune.models.split_checkpoint import SplitCheckpoint
from mlprune.pruning import Calibration, Pruner, calibrating, prune_blocks

WIDTH, VOCABULARY = 1024, 8000
ALLOWED_GIB = 1.0  # beside the share
TEXTS = [[[3 + 7 * k + j + 11 * c for j in range(24)] for c in range(3)] for k in range(4)]
PROMPTS = [{"input_ids": torch.arange(3, 67)[None] * (k + 1) % VOCABULARY} for k in range(4)]


def llama(num_blocks: int) -> LlamaConfig:
    """51 MiB a block in float32."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=WIDTH * 27 // 10,
        num_hidden_layers=num_blocks,
        num_attention_heads=WIDTH // 128,
        num_key_value_heads=WIDTH // 128,
        tie_word_embeddings=False,
        dtype="float32",
    )


def prune(model: PreTrainedModel, number: int, processes: int) -> str:
    """Prune on a process' share of the prompts, and return a digest of all masks."""
    split, digest = split_of(model), hashlib.sha256()
    options: dict[str, Any] = {"groups": ["default"], "enter_block": None if split is None else split.enter}
    with calibrating(model):
        for step in prune_blocks(Calibration(model, deal(PROMPTS, number, processes), pruner=Pruner(), **options)):
            for report in step.prune().values():
                digest.update(report.mask.numpy().tobytes())
    if split is not None:
        split.leave()
    return digest.hexdigest()


def score(model: PreTrainedModel, number: int, processes: int) -> Tensor:
    """Score a process' share of the texts; all processes return all scores, in order."""
    parts = gather_objects([score_candidate_ids(model, [text]) for text in deal(TEXTS, number, processes)])
    return torch.cat([parts[i % processes][i // processes] for i in range(len(TEXTS))])


def work(folder: Path, number: int, processes: int, answers: Any) -> None:
    """One process; a single one has the whole model."""
    device, seconds = torch.device("cpu"), {}
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=processes)

    def timed(name: str, do: Any) -> Any:
        start = time.perf_counter()
        found = do()
        seconds[name] = time.perf_counter() - start
        return found

    checkpoint = read_checkpoint(folder / "dense")
    if processes > 1:
        model = timed("reading", lambda: SplitCheckpoint(checkpoint, "float32", device)).model
    else:
        model = timed("reading", lambda: checkpoint.load(torch.float32))
    before = timed("evaluating", lambda: score(model, number, processes))
    masks = timed("pruning", lambda: prune(model, number, processes))
    after = timed("evaluating again", lambda: score(model, number, processes))
    answers.put((number, resident("VmHWM"), seconds, masks, before.tolist(), after.tolist()))
    if processes > 1:
        dist.destroy_process_group()


def run(folder: Path, processes: int) -> list[Any]:
    """Run so many processes and return what they found, by number."""
    (folder / "store").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    started = [context.Process(target=work, args=(folder, k, processes, answers)) for k in range(processes)]
    for process in started:
        process.start()
    found = []
    while len(found) < processes:
        if not answers.empty():
            found.append(answers.get())
        elif any(process.exitcode for process in started):
            for process in started:
                process.kill()
            raise SystemExit("a process failed")
        time.sleep(0.1)
    for process in started:
        process.join()
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--blocks", type=int, default=84, help="84 are 4 GiB")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="folder for 4 GiB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="mlprune-split-", dir=options.scratch))
    try:
        size = 2 * make_checkpoint(folder / "dense", llama(options.blocks)) / 2**30  # stored in bfloat16
        print(f"random model of {size:.2f} GiB in float32", flush=True)
        split: dict[int, list[Any]] = {}
        for processes in options.processes:
            found = split[processes] = run(folder, processes)
            share = size / processes
            peaks = ", ".join(f"{peak:.2f}" for _, peak, *_ in found)
            fits = all(peak < share + ALLOWED_GIB for _, peak, *_ in found)
            print(f"{processes} processes: peak {peaks} GiB; share {share:.2f} + {ALLOWED_GIB:.0f} GiB: {fits}")
            print("  " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found[0][2].items()), flush=True)
        (_, peak, seconds, *whole), *_ = run(folder, 1)
        print(f"1 process, whole: peak {peak:.2f} GiB")
        print("  " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
        for processes, found in split.items():
            print(f"{processes} processes: the same masks and scores: {all(own[3:] == tuple(whole) for own in found)}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
