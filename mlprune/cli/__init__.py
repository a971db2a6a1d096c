"""The command line ``mlprune``; importing it loads neither torch nor Lightning."""

from mlprune.cli.entry import console_script, main

__all__ = ["console_script", "main"]
