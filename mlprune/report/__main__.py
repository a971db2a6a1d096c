"""``python -m mlprune.report RUN [RUN ...]``: write one run's report, or several runs side by side."""

import sys
from pathlib import Path

from mlprune.arguments import Arguments
from mlprune.errors import UserError, one_line
from mlprune.report.page import write_report
from mlprune.runs.content import RunContent, read_run
from mlprune.runs.folder import resume_hint
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
        if len(runs) > 1 and all(map(_is_part, runs)):
            print(visible(_merge(arguments.runs, arguments.output)))
            return 0
        target = arguments.output or (runs[0].folder / "report.html" if len(runs) == 1 else Path("comparison.html"))
        print(visible(str(write_report(runs, target))))
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0


def _is_part(run: RunContent) -> bool:
    """Whether a run is a part of a study; one that is not complete says so in its configuration alone."""
    return bool(run.study.get("shard") or (run.config.get("study") or {}).get("shard"))


def _merge(folders: list[Path], output: Path | None) -> str:
    """Merge the parts of a study, and say where its report is, or how it is completed."""
    from mlprune.studies.shards import merge_shards

    target = output or folders[0].with_name(f"{folders[0].name}_merged")
    if left := merge_shards(folders, target):
        return f"{target}: {left}; {resume_hint(target, 'fit')}"
    return str(write_report([read_run(target)], target / "report.html"))


if __name__ == "__main__":
    sys.exit(main())
