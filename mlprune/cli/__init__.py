"""The command line ``mlprune``; importing it loads neither torch nor Lightning."""

from mlprune.cli.entry import console_script, main
from mlprune.cli.libraries import quiet_libraries

__all__ = ["console_script", "main", "quiet_libraries"]
