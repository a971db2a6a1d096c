"""The command ``lm_eval`` with ``--model mlprune``: ``python -m mlprune.evaluation.harness --model mlprune ...``."""

import importlib
import sys

from mlprune.errors import UserError
from mlprune.evaluation.harness.installed import check_installed


def main() -> int:
    """Run the harness' command line with the model ``mlprune`` among its models; returns the exit status."""
    try:
        check_installed()
        from lm_eval.__main__ import cli_evaluate

        importlib.import_module("mlprune.evaluation.harness.model")  # which registers it
        cli_evaluate()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
