"""The way in and out: which command is meant, the log on stderr, and errors of one line with an exit status."""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler

from mlprune import __version__
from mlprune.cli.commands import RUNS, SUMMARIES, TOOLS, overview, tool
from mlprune.errors import FULL, UserError, did_you_mean, is_out_of_memory, lack_of, one_line, reason_of

if TYPE_CHECKING:
    from mlprune.cli.command import MlpruneCLI

MAX_ERROR = 1500  # characters


def main(args: list[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line and exit status 2."""
    args = sys.argv[1:] if args is None else args
    first = args[0] if args else ""
    if first in ("--help", "-h"):
        print(overview())
        sys.exit(0)  # as the parsers of the subcommands do
    if first == "--version":
        print(f"mlprune {__version__}")
        sys.exit(0)
    try:
        if first in TOOLS:
            status = tool(first)(args[1:])
            sys.stdout.flush()
            return status
        if first not in RUNS and not first.startswith("-"):
            wrong = f"subcommand '{first}' does not exist" if first else "no subcommand was given"
            raise UserError(f"{wrong}; give one of {', '.join(SUMMARIES)}{did_you_mean(first, SUMMARIES)}")
        _run(args)
    except UserError as error:
        print(f"error: {_shortened(one_line(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted before the run began", file=sys.stderr)
        return 1
    except UnicodeDecodeError as error:
        print(f"error: --config: a file is not UTF-8 text ({error.reason} at byte {error.start})", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: {_shortened(lack_of(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # an OS-level write error, from anywhere
        if error.filename is None and error.errno not in FULL:
            raise
        place = "the run's folder cannot be written" if error.filename is None else f"'{error.filename}'"
        print(one_line(f"error: {place}: {error.strerror}"), file=sys.stderr)
        return 2
    return 0


def _shortened(line: str) -> str:
    """Leave out the middle of a line that quotes something of great length, such as a name from a damaged file."""
    return line if len(line) <= MAX_ERROR else f"{line[: MAX_ERROR - 400]} ... {line[-395:]}"


def _run(args: list[str]) -> None:
    """Fit, validate or test: only now are the libraries imported, which take seconds."""
    handler = signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # Ctrl-C during the imports ends at once, without a traceback
    command = import_command()
    from mlprune.log import log

    signal.signal(signal.SIGINT, handler)
    log.setLevel(logging.INFO)
    log.handlers = [log_handler()]
    with one_line_of_threads():
        command(args)


@contextmanager
def one_line_of_threads() -> Iterator[None]:
    """While open, a thread that fails, such as one in which a logger writes, is one line and no traceback."""
    from mlprune.log import log

    def warn(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "a thread"
        reason = "" if args.exc_value is None else reason_of(args.exc_value)
        log.warning("warning: %s, which works in the background, failed: %s", name, reason)

    before, threading.excepthook = threading.excepthook, warn
    try:
        yield
    finally:
        threading.excepthook = before


def import_command() -> "type[MlpruneCLI]":
    """Import what runs need; it stays, so no garbage collection looks at it, now or later."""
    is_first = "mlprune.cli.command" not in sys.modules
    gc.disable()
    from mlprune.cli.libraries import keep_files_in_cache, quiet_libraries

    keep_files_in_cache()
    quiet_libraries()
    from mlprune.cli.command import MlpruneCLI

    if is_first:
        gc.freeze()
    gc.enable()
    return MlpruneCLI


def log_handler() -> logging.Handler:
    """Return what writes the log to stderr: beside live lines on a terminal, elsewhere whole lines of plain text."""
    console = Console(stderr=True)
    if console.is_terminal:
        return RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    return logging.StreamHandler()


def console_script() -> None:
    """The entry point of the installed command ``mlprune``."""
    sys.exit(main())
