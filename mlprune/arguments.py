"""The arguments of commands that are not runs: a mistake is one line, without the usage."""

import argparse
from typing import NoReturn

from mlprune.invocation import program


class Arguments(argparse.ArgumentParser):
    """A parser for one command; it ends the program with status 2 where arguments are missing or wrong.

    Args:
        command: The command's name.
        description: What it does.

    Example:
        >>> parser = Arguments("report", "Write a report.")
        >>> _ = parser.add_argument("run")
        >>> parser.parse_args(["version_0"]).run
        'version_0'
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"{program()} {command}", description=description)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong."""
        self.exit(2, f"error: {message}; `{self.prog} --help` explains them\n")
