"""``python main.py fit|validate|test --config FILE``: the command line of mlprune."""

import sys

from mlprune.cli import main

if __name__ == "__main__":
    sys.exit(main())
