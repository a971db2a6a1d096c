"""``python -m mlprune.report RUN [RUN ...]``: write one run's report, or several runs side by side."""

import sys
from pathlib import Path

from mlprune.arguments import Arguments
from mlprune.errors import UserError, one_line
from mlprune.report.page import write_report
from mlprune.runs.content import read_run
from mlprune.text import visible


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Arguments("report", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder such as lightning_logs/version_0")
    parser.add_argument(
        "--output",
        type=Path,
        help="RUN/report.html if omitted, comparison.html for several; a folder RUN_merged for a study's parts",
    )
    arguments = parser.parse_args(args)
    try:
        runs = [read_run(folder) for folder in arguments.runs]
        if len(runs) > 1 and all(run.study.get("shard") for run in runs):
            from mlprune.studies.shards import merge_shards

            folder = arguments.output or runs[0].folder.with_name(f"{runs[0].folder.name}_merged")
            merge_shards(arguments.runs, folder)
            print(visible(str(write_report([read_run(folder)], folder / "report.html"))))
            return 0
        target = arguments.output or (runs[0].folder / "report.html" if len(runs) == 1 else Path("comparison.html"))
        print(visible(str(write_report(runs, target))))
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
