"""``python -m mlprune``: the command line."""

import sys

from mlprune.cli import main

sys.exit(main())
