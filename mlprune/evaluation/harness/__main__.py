"""The command: ``python -m mlprune.evaluation.harness``."""

import sys

from mlprune.evaluation.harness import main

sys.exit(main())
