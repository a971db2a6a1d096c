"""``python main.py COMMAND``: the command line of mlprune, from the source tree."""

import sys

from mlprune.cli import main

if __name__ == "__main__":
    sys.exit(main())
