"""Compare the predictions of two or more runs: ``mlprune compare RUN_A RUN_B [RUN_C ...]``."""

import sys
from pathlib import Path

from mlprune.arguments import Arguments
from mlprune.comparison import compare, compare_all
from mlprune.errors import UserError, one_line
from mlprune.files import write_json, write_text
from mlprune.present import FORMATS

__all__ = ["compare", "main"]


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Arguments("compare", "Compare the predictions of runs with the first.")
    samples = "or a folder of samples_*.jsonl that lm-evaluation-harness wrote"
    parser.add_argument("run_a", type=Path, help=f"run folder of the first system, such as the dense one, {samples}")
    parser.add_argument("run_b", type=Path, nargs="+", help="the same of the second, or of several")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="of what is printed (default: markdown)")
    parser.add_argument("--output", type=Path, help="file to write it to, instead of printing it")
    parser.add_argument("--json", type=Path, help="also write the comparison to this file, as comparison.json has it")
    arguments = parser.parse_args(args)
    runs = [arguments.run_a, *arguments.run_b]
    folders, names = [_predictions(run) for run in runs], [str(run) for run in runs]
    try:
        if len(runs) == 2:
            comparison = compare(folders[0], folders[1], systems=(names[0], names[1]))
        else:
            comparison = compare_all(folders, names)
        text = FORMATS[arguments.format](comparison)
        if arguments.json:
            write_json(arguments.json, comparison)
        if arguments.output:
            write_text(arguments.output, text)
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 1
    print(arguments.output or text, end="\n" if arguments.output else "")
    return 0


def _predictions(run: Path) -> Path:
    """Where a system's predictions are: in a run's folder, else in the folder of samples."""
    predictions = run / "predictions"
    return predictions if predictions.is_dir() or not any(run.rglob("samples_*.jsonl")) else run


if __name__ == "__main__":
    sys.exit(main())
