"""Compare the predictions of two runs: ``python -m mlprune.evaluation.compare RUN_A RUN_B``."""

import argparse
import sys
from pathlib import Path

from mlprune.comparison import compare
from mlprune.errors import UserError, one_line
from mlprune.files import write_json
from mlprune.invocation import program
from mlprune.present import comparison_markdown

__all__ = ["compare", "main"]


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=f"{program()} compare", description=__doc__)
    parser.add_argument("run_a", type=Path, help="run folder of the first system, such as the dense one")
    parser.add_argument("run_b", type=Path, help="run folder of the second")
    parser.add_argument("--json", type=Path, help="also write the comparison to this file")
    arguments = parser.parse_args(args)
    runs = (arguments.run_a, arguments.run_b)
    try:
        comparison = compare(runs[0] / "predictions", runs[1] / "predictions", systems=(str(runs[0]), str(runs[1])))
        if arguments.json:
            write_json(arguments.json, comparison)
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 1
    print(comparison_markdown(comparison), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
