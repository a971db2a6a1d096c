"""How time and memory of pruning and scoring grow with parameters, tokens and processes, and what that says of more.

    python tests/benchmarks/bench_scaling.py [--quick]

Random Llamas of 25 and 100 million parameters and Gemma 3 270M (`demo`), float32, one thread, 1 to 64 prompts of 32
tokens, each model in a process of its own; processor time, so that a busy machine matters less. A model of each cost is
fitted by non-negative least squares on relative errors, and printed with every residual. ``--quick`` takes the smallest
model only, and fits nothing.
"""

import argparse
import ctypes
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from memory import peak_above
from scipy.optimize import nnls
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from mlprune.batching import deal
from mlprune.evaluation import score_candidate_ids
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.pruning import prune_model

CLOCK = time.process_time
LENGTH = 32  # tokens of a prompt, and of a scored text
ANSWERS, ANSWER = 3, 2  # candidates of a text, and their own tokens
PROMPTS = (1, 8, 64)
SIZES = {"25M": (256, 16, 16384), "100M": (640, 12, 16384)}  # hidden size, blocks, vocabulary
GIB = 2**30


class Cost(NamedTuple):
    """What was measured of one model and number of prompts."""

    model: str
    prompts: int
    matrices: int  # weights of the blocks' matrices, which every token meets
    width: int
    head: int  # weights of the output head
    seconds: dict[str, float]  # forward, prune, score
    gib: dict[str, float]  # prune, score: peak above the model


@dataclass(frozen=True)
class Large:
    """A model that is not here: billions of parameters, and of weights in its blocks' matrices."""

    parameters: float
    matrices: float
    width: int
    blocks: int


LARGE = {
    "XGLM-7.5B": Large(7.5, 6.44, 4096, 32),
    "BLOOM-176B": Large(176.2, 172.6, 14336, 70),
    "Llama-3.1-405B": Large(405.9, 401.7, 16384, 126),
}
CALIBRATION_TOKENS, SCORED_TOKENS = 45_000, 1_500_000  # of the paper's settings: configs/README.md
BATCH_TOKENS = 2048  # of calibration, which is all that was measured at a time here
STREAMED_BLOCKS = 5  # in memory at a time: bench_streaming.py measured 3.3 GiB where a block has 0.65 GB
FLOPS, DISK = 50e12, 2e9  # assumed: sustained by one device; bytes a second


def make(name: str) -> PreTrainedModel:
    """Build a random model of a size, or load Gemma 3 270M."""
    if name not in SIZES:
        return ModelSource("demo", "float32").load_model().eval()
    width, blocks, vocabulary = SIZES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=blocks,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def prompts_of(model: PreTrainedModel, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    top = model.config.get_text_config().vocab_size
    return [torch.randint(3, top, (1, LENGTH), generator=generator) for _ in range(count)]


def matrices_of(model: PreTrainedModel) -> int:
    return sum(layer.matrix().numel() for block in find_blocks(model) for layer in block.layers.values())


def timed(run: Callable[[], Any]) -> float:
    start = CLOCK()
    run()
    return CLOCK() - start


def settle() -> None:
    """Give freed memory back, so that the next peak is its own."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@torch.no_grad()
def forward(model: PreTrainedModel, ids: Sequence[torch.Tensor]) -> None:
    """The floor: bare passes through the blocks, in batches of 1,024 tokens."""
    rows = torch.cat(list(ids))
    for part in rows.split(1024 // LENGTH):
        model.base_model(part, use_cache=False)


def measure(name: str, counts: Sequence[int], answer: Any) -> None:
    """Measure one model at every number of prompts; the pruned model costs what the dense one does."""
    torch.set_num_threads(1)
    model = make(name)
    generator = torch.Generator().manual_seed(2)
    forward(model, prompts_of(model, 1))
    score_candidate_ids(model, [[[5, 6, 7]]])  # what is found out once for a model
    for count in counts:
        ids = prompts_of(model, count)
        texts = [
            [
                [*row[0].tolist(), *torch.randint(3, 1000, (ANSWER,), generator=generator).tolist()]
                for _ in range(ANSWERS)
            ]
            for row in ids
        ]
        given = [[LENGTH] * ANSWERS] * count
        runs: dict[str, Callable[[], Any]] = {
            "forward": lambda ids=ids: forward(model, ids),
            "score": lambda texts=texts, given=given: score_candidate_ids(model, texts, given=given),
            "prune": lambda ids=ids: prune_model(model, [{"input_ids": row} for row in ids]),
        }
        seconds, gib = {}, {}
        for what, run in runs.items():
            settle()
            begun = CLOCK()
            gib[what] = peak_above(run)
            seconds[what] = CLOCK() - begun
        head = model.get_output_embeddings().weight.numel()
        width = model.config.get_text_config().hidden_size
        answer.put(Cost(name, count, matrices_of(model), width, head, seconds, gib))
    answer.put(None)


def measured(name: str, counts: Sequence[int]) -> list[Cost]:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=measure, args=(name, counts, answer))
    process.start()
    costs = list(iter(answer.get, None))
    process.join()
    for cost in costs:
        times = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in cost.seconds.items())
        sizes = ", ".join(f"{what} {cost.gib[what]:.3f} GiB" for what in ("prune", "score"))
        print(f"{name}, {cost.prompts} prompts: {times}; peak above the model: {sizes}", flush=True)
    return costs


def fit(what: str, names: Sequence[str], rows: Sequence[Sequence[float]], values: Sequence[float], unit: str) -> Any:
    """Fit values by non-negative weights of columns, print them with all residuals, and return them."""
    table, goal = np.array(rows), np.array(values)
    weights, _ = nnls(table / goal[:, None], np.ones(len(goal)))
    off = 100 * (table @ weights / goal - 1)
    terms = " + ".join(
        f"{weight:.3g} {name}" if name else f"{weight:.3g}" for weight, name in zip(weights, names, strict=True)
    )
    print(f"{what}, {unit} = {terms}; residuals, %: {' '.join(f'{each:+.0f}' for each in off)}")
    return weights


def fitted(costs: Sequence[Cost]) -> dict[str, Any]:
    """Fit what there is to be fitted."""
    columns = {
        "P*T": [cost.matrices * cost.prompts * LENGTH / 1e12 for cost in costs],
        "P*S": [cost.matrices * cost.prompts * (LENGTH + ANSWERS * ANSWER) / 1e12 for cost in costs],
        "P": [cost.matrices / 1e6 for cost in costs],
        "H*T": [cost.width * cost.prompts * LENGTH / 1e6 for cost in costs],
        "V*A": [cost.prompts * ANSWERS * ANSWER * cost.head / 1e12 for cost in costs],
        "": [1.0] * len(costs),
    }

    def of(title: str, what: str, names: Sequence[str], unit: str) -> Any:
        values = [max(cost.seconds[what] if unit == "s" else cost.gib[what], 1e-3) for cost in costs]
        return fit(title, names, list(zip(*(columns[name] for name in names), strict=True)), values, unit)

    print("P: millions of weights in blocks, T, S: millions of tokens, V: of the head, A: of scored tokens, H: width")
    return {
        "forward": of("bare forward passes", "forward", ("", "P*T"), "s"),
        "prune": of("pruning", "prune", ("", "P*T", "P"), "s"),
        "score": of("scoring", "score", ("", "P*S", "V*A"), "s"),
        "prune memory": of("pruning, peak above the model", "prune", ("", "P", "H*T"), "GiB"),
        "score memory": of("scoring, peak above the model", "score", ("", "H*T"), "GiB"),
    }


def foretell(found: dict[str, Any]) -> None:
    """Say what the fits mean for larger models, on one device and by streaming."""
    passes, scoring = found["prune"][1] / found["forward"][1], found["score"][1] / found["forward"][1]
    per_value = found["prune memory"][2] * GIB / 1e6 / 4  # float32 values in memory for each of a batch's hidden states
    print(f"pruning takes {passes:.2f} bare passes of its tokens, scoring {scoring:.2f}")
    for name, large in LARGE.items():
        once = 2e9 * large.matrices / FLOPS  # a pass of one token
        calibrating = passes * once * CALIBRATION_TOKENS
        sorting = found["prune"][2] * 1e3 * large.matrices  # on a processor core, as here
        moving = 2 * 2e9 * large.parameters / DISK  # read and written, two bytes each
        block = 2e9 * large.matrices / large.blocks
        hidden = 2 * large.width * (CALIBRATION_TOKENS + per_value * BATCH_TOKENS)
        print(
            f"{name}: pruning {calibrating / 60:.1f} min of passes, {sorting / 60:.0f} min of sorting on a core, "
            f"{moving / 60:.0f} min of disk, {(STREAMED_BLOCKS * block + hidden) / GIB:.0f} GiB when streaming "
            f"({2e9 * large.parameters / GIB:.0f} whole); evaluating {scoring * once * SCORED_TOKENS / 3600:.1f} h"
        )


def share(rank: int, world: int, folder: str) -> None:
    """Prune the smallest model on one of several processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    model = make("25M")
    batches = deal([{"input_ids": row} for row in prompts_of(model, max(PROMPTS))], rank, world)
    seconds = timed(lambda: prune_model(model, batches))
    Path(folder, str(rank)).write_text(str(seconds))
    dist.destroy_process_group()


def processes(counts: Sequence[int]) -> None:
    for world in counts:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(share, args=(world, folder), nprocs=world)
            seconds = [float(Path(folder, str(rank)).read_text()) for rank in range(world)]
        print(
            f"25M, {max(PROMPTS)} prompts, {world} processes: {' '.join(f'{each:.2f}' for each in seconds)} s of each"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest model only")
    quick = parser.parse_args().quick
    costs = [cost for name in ("25M", *(() if quick else ("100M", "270M"))) for cost in measured(name, PROMPTS)]
    if not quick:
        foretell(fitted(costs))
    processes((1, 2))


if __name__ == "__main__":
    main()
