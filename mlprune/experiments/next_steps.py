"""What to try after an experiment: commands that ask further, in the way the user came."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlprune.callbacks.console import print_line
from mlprune.callbacks.pruning import PruningCallback
from mlprune.comparison import Difference, verdict
from mlprune.invocation import program
from mlprune.metrics.measure import AVERAGE
from mlprune.pruning import Random, Unstructured
from mlprune.run import Run
from mlprune.runs.folder import CONFIG

MOST = 0.9  # sparsity that is worth a try


def next_steps(run: Run, pruning: PruningCallback | None, rows: Sequence[Difference]) -> list[tuple[str, str]]:
    """Return what to ask after a comparison with the dense model: how much, why, and whether it holds.

    Args:
        run: The run, which nothing repeats without its config.yaml.
        pruning: How it pruned; None if it removed something else than weights.
        rows: What it found.

    Returns:
        Questions, each with the command that answers it.
    """
    if not (run.folder / CONFIG).is_file():
        return []
    folder = shown_folder(run.folder)
    start = [*shlex.split(program()), "fit", "--config", str(folder / CONFIG)]
    taken = [] if run.module.smaller else ["--dense", str(folder)]  # the dense results need not be computed again
    steps = [(asked, [*taken, *flags]) for asked, flags in _variations(run, pruning, rows)] if pruning else []
    steps.append(("whether it holds with other prompts", ["--seed_everything", str(run.data.seed + 1)]))
    return [(asked, shlex.join([*start, *flags])) for asked, flags in steps]


def print_next(steps: Sequence[tuple[str, str]]) -> None:
    """Print questions and their commands, which are not wrapped, to be copied.

    Args:
        steps: What :func:`next_steps` returned.
    """
    if steps:
        print_line("What to try next:")
    for asked, command in steps:
        print_line(f"  {asked}")
        print_line(f"    {command}", wrap=False)


def _variations(run: Run, pruning: PruningCallback, rows: Sequence[Difference]) -> Iterator[tuple[str, list[str]]]:
    """How much of it, and the control."""
    pattern, importance = pruning.pruner.pattern, pruning.pruner.importance
    if run.trains:
        yield "what longer training recovers", ["--trainer.max_epochs", str(2 * (run.trainer.max_epochs or 1))]
    elif not isinstance(pattern, Unstructured):
        flags = ["--pruning.pattern", "mlprune.pruning.Unstructured"]
        flags += ["--pruning.pattern.init_args.sparsity", f"{pattern.sparsity:g}"]
        yield "as many weights, wherever they are", flags
    else:
        hurt = any(row.language == AVERAGE and verdict(row, row.clear) == "worse" for row in rows)
        levels = "[{}]".format(",".join(f"{level:g}" for level in _levels(pattern.sparsity, hurt)))
        asked = "at which sparsity it begins to hurt" if hurt else "how far it can go"
        yield f"{asked}, by language", ["--pruning.propagate", "dense", "--pruning.sweep", levels]
    other = "Wanda" if isinstance(importance, Random) else "Random"
    yield f"whether the scores matter: {other} in their place", ["--pruning.importance", f"mlprune.pruning.{other}"]


def _levels(sparsity: float, hurt: bool) -> list[float]:
    """Sparsities below one that hurt, or above one that did not."""
    parts = (0.25, 0.5, 0.75) if hurt else (1.25, 1.5, 1.75)
    return sorted({min(round(part * sparsity, 3), MOST) for part in parts})


def shown_folder(folder: Path) -> Path:
    """Return a folder as it is shown: from the working folder on, if it lies there."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
