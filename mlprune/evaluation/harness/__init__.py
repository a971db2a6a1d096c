"""lm-evaluation-harness: its tasks are loaded, and its requests answered by this package's scoring and generation.

The harness is the extra ``interop``; it is imported only where it is needed.
"""

from mlprune.evaluation.harness.command import main
from mlprune.evaluation.harness.installed import check_installed

__all__ = ["check_installed", "main"]
