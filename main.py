"""``python main.py fit|validate|test --config FILE``: the command line of mlprune."""

import signal
import sys

handler = signal.signal(
    signal.SIGINT, signal.SIG_DFL
)  # Ctrl-C during the imports ends at once, without their traceback

from mlprune.cli import main  # noqa: E402

signal.signal(signal.SIGINT, handler)

if __name__ == "__main__":
    sys.exit(main())
