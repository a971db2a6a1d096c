"""How time and memory of pruning and scoring grow with parameters, tokens and processes, and what that says of more.

    python tests/benchmarks/bench_scaling.py [--quick]

Random Llamas of 25 and 100 million parameters and Gemma 3 270M (`demo`), float32, 1 to 64 prompts of 32 tokens, on 1, 2
and 4 processes of one thread that share the prompts; processor time of the busiest process, so that a busy machine
matters less. A model of each cost is fitted by non-negative least squares on relative errors, and printed with every
residual. ``--quick`` takes the smallest model on one process only, and fits nothing.
"""

import argparse
import ctypes
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from memory import peak_above
from scipy.optimize import nnls
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from mlprune.batching import deal
from mlprune.evaluation import score_candidate_ids
from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource
from mlprune.pruning import prune_model

LENGTH = 32  # tokens of a prompt, and of a scored text
ANSWERS, ANSWER = 3, 2  # candidates of a text, and their own tokens
PROMPTS = (1, 8, 64)
PROCESSES = (1, 2, 4)
SIZES = {"25M": (256, 16, 16384), "100M": (640, 12, 16384)}  # hidden size, blocks, vocabulary
GIB = 2**30


class Cost(NamedTuple):
    """What was measured of one model, number of processes and number of prompts: the most of any process."""

    model: str
    processes: int
    prompts: int
    layers: int
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


def matrices_of(model: PreTrainedModel) -> list[int]:
    return [layer.matrix().numel() for block in find_blocks(model) for layer in block.layers.values()]


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


def measure(name: str, rank: int, world: int, store: str, answer: Any) -> None:
    """Measure a process' share of each number of prompts; the pruned model costs what the dense one does."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    model = make(name)
    generator = torch.Generator().manual_seed(2)
    forward(model, prompts_of(model, 1))
    score_candidate_ids(model, [[[5, 6, 7]]])  # what is found out once for a model
    for count in counts_on(world):
        ids = deal(prompts_of(model, count), rank, world)
        texts = [
            [
                [*row[0].tolist(), *torch.randint(3, 1000, (ANSWER,), generator=generator).tolist()]
                for _ in range(ANSWERS)
            ]
            for row in ids
        ]
        given = [[LENGTH] * ANSWERS] * len(ids)
        runs: dict[str, Callable[[], Any]] = {
            "forward": lambda ids=ids: forward(model, ids),
            "score": lambda texts=texts, given=given: score_candidate_ids(model, texts, given=given),
            "prune": lambda ids=ids: prune_model(model, [{"input_ids": row} for row in ids]),
        }
        seconds, gib = {}, {}
        for what, run in runs.items():
            settle()
            begun = time.process_time()
            gib[what] = peak_above(run)
            seconds[what] = time.process_time() - begun
        head = model.get_output_embeddings().weight.numel()
        width = model.config.get_text_config().hidden_size
        sizes = matrices_of(model)
        answer.put(Cost(name, world, count, len(sizes), sum(sizes), width, head, seconds, gib))
    if world > 1:
        dist.destroy_process_group()


def counts_on(world: int) -> list[int]:
    """Numbers of prompts that give each process one at least."""
    return [count for count in PROMPTS if count >= world]


def most(costs: Sequence[Cost]) -> Cost:
    """The most that any process took of each."""
    seconds = {what: max(cost.seconds[what] for cost in costs) for what in costs[0].seconds}
    gib = {what: max(cost.gib[what] for cost in costs) for what in costs[0].gib}
    return costs[0]._replace(seconds=seconds, gib=gib)


def measured(name: str, world: int) -> list[Cost]:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        started = [
            context.Process(target=measure, args=(name, rank, world, f"{folder}/store", answer))
            for rank in range(world)
        ]
        for process in started:
            process.start()
        found = [answer.get() for _ in range(world * len(counts_on(world)))]
        for process in started:
            process.join()
    costs = [most([cost for cost in found if cost.prompts == count]) for count in counts_on(world)]
    for cost in costs:
        times = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in cost.seconds.items())
        sizes = ", ".join(f"{what} {cost.gib[what]:.3f} GiB" for what in ("prune", "score"))
        print(f"{name}, {world} processes, {cost.prompts} prompts: {times}; peak above the model: {sizes}", flush=True)
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
    shares = [(cost, cost.prompts / cost.processes) for cost in costs]
    columns = {
        "P*T": [cost.matrices * share * LENGTH / 1e12 for cost, share in shares],
        "P*S": [cost.matrices * share * (LENGTH + ANSWERS * ANSWER) / 1e12 for cost, share in shares],
        "P": [cost.matrices / 1e6 for cost in costs],
        "H*T": [cost.width * share * LENGTH / 1e6 for cost, share in shares],
        "V*A": [cost.head * share * ANSWERS * ANSWER / 1e12 for cost, share in shares],
        "L": [float(cost.layers * (cost.processes > 1)) for cost in costs],
        "": [1.0] * len(costs),
    }

    def of(title: str, what: str, names: Sequence[str], unit: str) -> Any:
        values = [max(cost.seconds[what] if unit == "s" else cost.gib[what], 1e-3) for cost in costs]
        return fit(title, names, list(zip(*(columns[name] for name in names), strict=True)), values, unit)

    print("P, V: millions of weights in blocks, of the head; H: width; L: layers, if there are several processes")
    print("of a process T: millions of tokens of prompts, S: of texts, A: of answers")
    return {
        "forward": of("bare forward passes", "forward", ("", "P*T"), "s"),
        "prune": of("pruning", "prune", ("", "P*T", "P", "L"), "s"),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest model on one process only")
    quick = parser.parse_args().quick
    names, worlds = (["25M"], [1]) if quick else ([*SIZES, "270M"], list(PROCESSES))
    costs = [cost for name in names for world in worlds for cost in measured(name, world)]
    if not quick:
        foretell(fitted(costs))


if __name__ == "__main__":
    main()
