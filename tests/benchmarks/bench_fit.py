"""Where the time of a whole ``fit`` goes, and how far it is from the passes of the model that it cannot do without.

    python tests/benchmarks/bench_fit.py [--config demo] [--plain] [OPTIONS OF fit]

``fit`` runs in this process. Every call of the model in it is kept: its token ids, mask, positions and the shapes of
its cache, and how many positions reached the output head. Then two programs do the same work again, without fit:

- the floor: the very same calls, bare, with a cache of random numbers that is made beforehand; the output head's
  products for as many positions, in slices of the vocabulary and without what follows them; and two passes of the
  calibration prompts, one that shows the dense blocks their inputs and one through the pruned blocks;
- with ``--plain``, what one would write first: each scored text in full, in padded batches of similar length, with all
  its logits; prompts continued by ``generate`` in batches of eight, for as many tokens as ``fit`` generated; and the
  same two passes of calibration. Only the dense model's share is run, and counted twice.

Times are of the wall clock and of all threads of the processor; the second is less disturbed by other programs.
"""

import argparse
import functools
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Clocks = tuple[float, float]
STARTED: Clocks = time.perf_counter(), time.process_time()
TOKENS, ROWS = 1024, 8  # of a padded batch, and of a batch that is continued


class Ledger:
    """Time by phase; the clock of a phase stands still while another one runs inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.phase = "imports"
        self._since = STARTED

    def enter(self, phase: str) -> str:
        """Start a phase and return the one before."""
        now = time.perf_counter(), time.process_time()
        for i in range(2):
            self.spent[self.phase][i] += now[i] - self._since[i]
        before, self.phase, self._since = self.phase, phase, now
        return before

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        before = self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def watch(self, owner: Any, name: str, phase: str | Callable[..., str]) -> None:
        """Count a function's time to a phase, which may depend on its arguments."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.during(phase if isinstance(phase, str) else phase(*args)):
                return inner(*args, **kwargs)

        setattr(owner, name, timed)


@dataclass
class Work:
    """What the run had the model do."""

    model: Any = None
    calls: list[tuple[dict[str, Any], list[Any]]] = field(default_factory=list)  # arguments, shapes of the cache
    head: list[int] = field(default_factory=list)  # positions of each product of the output head
    texts: list[tuple[int, ...]] = field(default_factory=list)
    prompts: list[tuple[list[int], int]] = field(default_factory=list)  # and how many tokens followed
    calibration: list[dict[str, Any]] = field(default_factory=list)


def watch(ledger: Ledger, work: Work) -> None:
    """Time the parts of a run, and keep what it has the model do."""
    from mlprune import callbacks, experiments, models
    from mlprune.evaluation.forward import Scorer, output_head
    from mlprune.module import PruningModule

    run_logger, tensorboard = callbacks.RunLogger, "TensorBoard"
    ledger.watch(models.loading, "packaged_folder", "converting")
    ledger.watch(models.loading.ModelSource, "load_tokenizer", "reading the tokenizer")
    ledger.watch(models.checkpoint.Checkpoint, "load", "loading")
    ledger.watch(experiments.Engine, "_read", "reading and tokenizing")
    ledger.watch(experiments.stages.Stages, "validate", "pruning and writing")
    ledger.watch(experiments.stages.Stages, "evaluate", "evaluating, around the tasks")
    ledger.watch(PruningModule, "validation_step", "calibrating")
    ledger.watch(PruningModule, "test_step", lambda module, batch, *_: f"{batch.task.name}, {module.system}")
    ledger.watch(experiments.experiment.Experiment, "compare", "comparing")
    ledger.watch(callbacks.ReportCallback, "on_run_end", "report")
    for name in ("setup", "on_block_pruned", "on_validation_end", "on_test_end", "on_run_end"):
        ledger.watch(run_logger, name, tensorboard)

    load, log_probs = models.loading.ModelSource.load_model, Scorer.log_probs

    def kept(source: Any) -> Any:
        work.model = load(source)
        work.model.base_model.register_forward_pre_hook(call, with_kwargs=True)
        output_head(work.model).register_forward_hook(headed)
        return work.model

    def evaluates() -> bool:
        return ", " in ledger.phase

    def call(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if evaluates():
            with ledger.during("keeping the calls"):
                given = {**kwargs, **({"input_ids": args[0]} if args else {})}
                cache = given.pop("past_key_values", None)
                shapes = [getattr(layer.keys, "shape", None) for layer in cache.layers] if cache is not None else []
                work.calls.append((given, shapes))

    def headed(module: Any, args: Any, output: Any) -> None:
        if evaluates():
            work.head.append(output.numel() // output.shape[-1])

    def scored(scorer: Any, hidden: Any, *args: Any) -> Any:
        work.head.append(len(hidden))
        return log_probs(scorer, hidden, *args)

    models.loading.ModelSource.load_model = kept
    Scorer.log_probs = scored
    _watch_texts(work)


def _watch_texts(work: Work) -> None:
    from mlprune.datamodule import PruningDataModule
    from mlprune.evaluation import generation, scoring

    score, proceed, batches = scoring._score, generation._continue, PruningDataModule.calibration_batches

    def scored(model: Any, request: Any, spans: Any, *args: Any, **kwargs: Any) -> Any:
        work.texts += [span.ids for span in spans]
        return score(model, request, spans, *args, **kwargs)

    def continued(model: Any, kind: Any, tokenizer: Any, ids: Any, *args: Any) -> Any:
        found = proceed(model, kind, tokenizer, ids, *args)
        longest = max(map(len, found))
        work.prompts += [(prompt, longest) for prompt in ids]
        return found

    def formed(*args: Any) -> Any:
        work.calibration = batches(*args)
        return work.calibration

    scoring._score, generation._continue = scored, continued
    PruningDataModule.calibration_batches = formed  # type: ignore[method-assign]


def bare(work: Work, ledger: Ledger) -> None:
    """The floor: the same calls again."""
    import torch
    from transformers import DynamicCache

    from mlprune.evaluation.forward import VOCABULARY_SLICE, output_head

    weight = output_head(work.model).weight
    for given, shapes in work.calls:
        cache = DynamicCache()
        for i, shape in enumerate(shapes):
            if shape is not None:
                cache.update(torch.randn(shape), torch.randn(shape), i)
        with ledger.during("calls"):
            work.model.base_model(**given, past_key_values=cache if given.get("use_cache") else None)
    for rows in work.head:
        hidden = torch.randn(rows, weight.shape[1])
        with ledger.during("output head"):
            for part in weight.split(VOCABULARY_SLICE if rows > 1 else len(weight)):
                torch.nn.functional.linear(hidden, part)
    calibrate(work, ledger)


def calibrate(work: Work, ledger: Ledger) -> None:
    """Two passes of the calibration prompts."""
    with ledger.during("calibration"):
        for batch in [*work.calibration, *work.calibration]:
            work.model.base_model(batch["input_ids"], batch["attention_mask"], use_cache=False)


def plain(work: Work, ledger: Ledger) -> None:
    """The dense model's texts in full, twice."""
    import torch

    from mlprune.batching import token_batches
    from mlprune.evaluation.padding import pad

    texts = [list(text) for text in work.texts[: len(work.texts) // 2]]
    for batch in token_batches(list(map(len, texts)), TOKENS):
        with ledger.during("texts"):
            work.model(**pad([texts[i] for i in batch], 0, "right", torch.device("cpu")), use_cache=False)
    prompts = work.prompts[: len(work.prompts) // 2]
    for start in range(0, len(prompts), ROWS):
        part = prompts[start : start + ROWS]
        count = max(count for _, count in part)
        with ledger.during("continuations"):
            ids = pad([prompt for prompt, _ in part], 0, "left", torch.device("cpu"))
            work.model.generate(**ids, min_new_tokens=count, max_new_tokens=count, do_sample=False)
    for phase in ("texts", "continuations"):
        ledger.spent[phase] = [2 * seconds for seconds in ledger.spent[phase]]
    calibrate(work, ledger)


def shown(title: str, ledger: Ledger, phases: list[str]) -> Clocks:
    """Print the phases of a ledger, the longest first, and return their sum."""
    total = tuple(sum(ledger.spent[phase][i] for phase in phases) for i in range(2))
    print(f"\n{title:32s}{'wall, s':>10s}{'processor, s':>14s}")
    for phase in sorted(phases, key=lambda phase: -ledger.spent[phase][1]):
        wall, processor = ledger.spent[phase]
        print(f"{phase:32s}{wall:10.2f}{processor:14.2f}{processor / total[1]:8.1%}")
    print(f"{'in all':32s}{total[0]:10.2f}{total[1]:14.2f}")
    return total[0], total[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--plain", action="store_true", help="run what one would write first, too")
    given, options = parser.parse_known_args()
    ledger, work = Ledger(), Work()
    from mlprune.cli import main as mlprune
    from mlprune.cli.entry import import_command

    import_command()
    watch(ledger, work)
    config = str(Path(given.config).resolve()) if Path(given.config).is_file() else given.config
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with ledger.during("command line"):
            status = mlprune(["fit", "--config", config, *options])
        os.chdir("/")
    if status:
        sys.exit(status)
    import torch

    phases = [phase for phase in ledger.spent if phase != "keeping the calls"]
    whole = shown("fit", ledger, phases)
    with torch.no_grad():
        for name, program in {"the floor": bare, **({"plain passes": plain} if given.plain else {})}.items():
            ledger = Ledger()
            ledger.enter("preparing")
            program(work, ledger)
            found = shown(name, ledger, [phase for phase in ledger.spent if phase not in ("imports", "preparing")])
            by_wall, by_processor = (whole[i] / found[i] for i in range(2))
            print(f"fit took {by_wall:.2f} times as long by the wall, {by_processor:.2f} by processor")


if __name__ == "__main__":
    main()
