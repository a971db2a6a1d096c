"""The way in and out: the log on stderr, and errors of one line with an exit status."""

import errno
import logging
import sys

from rich.console import Console
from rich.logging import RichHandler

from mlprune.cli.libraries import quiet_libraries
from mlprune.errors import UserError, one_line
from mlprune.log import log


def log_handler() -> logging.Handler:
    """Return what writes the log to stderr: beside live lines on a terminal, elsewhere whole lines of plain text."""
    console = Console(stderr=True)
    if console.is_terminal:
        return RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    return logging.StreamHandler()


def main(args: list[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line and exit status 2."""
    log.setLevel(logging.INFO)
    log.handlers = [log_handler()]
    quiet_libraries()
    from mlprune.cli.command import MlpruneCLI  # only now: Lightning takes seconds, and warns

    try:
        MlpruneCLI(args)
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted before the run began", file=sys.stderr)
        return 1
    except UnicodeDecodeError as error:
        print(f"error: --config: a file is not UTF-8 text ({error.reason} at byte {error.start})", file=sys.stderr)
        return 2
    except OSError as error:  # a folder or disk that refuses, wherever that was noticed
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        place = "the run's folder cannot be written" if error.filename is None else f"'{error.filename}'"
        print(f"error: {place}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def console_script() -> None:
    """The entry point of the installed command ``mlprune``."""
    sys.exit(main())
