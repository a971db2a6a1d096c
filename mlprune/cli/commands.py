"""Every subcommand of ``mlprune``, with its line of help; nothing here loads torch."""

from collections.abc import Callable
from importlib import import_module

from mlprune import __version__
from mlprune.invocation import program

RUNS = {
    "fit": "Evaluate, prune, train if trainer.max_epochs is above 0, evaluate again, and compare.",
    "validate": "Calibrate and prune.",
    "test": "Evaluate a model, dense or pruned.",
}
TOOLS = {  # what is not a run, and the function that takes its arguments and returns the exit status
    "list": ("Show what a config may name: configs, tasks, scores, corpora and so on.", "mlprune.cli.listing:main"),
    "compare": ("Compare the predictions of two runs, or of several.", "mlprune.evaluation.compare:main"),
    "report": ("Write the report of a run, or of several side by side.", "mlprune.report.__main__:main"),
    "convert": ("Convert a model's pickled weights to safetensors.", "mlprune.models.convert:main"),
    "push": ("Upload a run's pruned model to the Hugging Face hub.", "mlprune.cli.push:main"),
    "trim": ("Write a smaller model, with only the tokens that some languages' texts need.", "mlprune.cli.trim:main"),
    "compress": ("Write a pruned model with a bit a weight and no zeros, or restore it.", "mlprune.cli.compress:main"),
}
SUMMARIES = RUNS | {name: summary for name, (summary, _) in TOOLS.items()}


def tool(name: str) -> Callable[[list[str]], int]:
    """Import the function of a subcommand that is not a run."""
    module, _, function = TOOLS[name][1].partition(":")
    found: Callable[[list[str]], int] = getattr(import_module(module), function)
    return found


def overview() -> str:
    """Return what ``--help`` prints."""
    width = max(map(len, SUMMARIES))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in SUMMARIES.items())
    return f"""usage: {program()} COMMAND [OPTIONS]

Prune multilingual language models and measure what that did to every language.

{commands}

  {program()} fit --config demo     prune a small model from PyPI and compare it with the dense one
  {program()} list configs          what else to start from
  {program()} COMMAND --help        the options of a command
  {program()} --version             {__version__}"""
