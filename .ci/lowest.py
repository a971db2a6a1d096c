"""Prints constraints for pip that hold dependencies at the lowest versions that pyproject.toml allows.

python .ci/lowest.py [EXTRA ...]
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

BOUND = re.compile(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)")


def lowest(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Return ``name==bound`` for each requirement ``name>=bound`` of a project and some of its extras.

    Args:
        project: The table ``project`` of a pyproject.toml.
        extras: Names of optional dependencies.
    """
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    found = (BOUND.fullmatch(requirement) for group in groups for requirement in group)
    return sorted({f"{bound[1]}=={bound[2]}" for bound in found if bound})


if __name__ == "__main__":
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    print(*lowest(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"], sys.argv[1:]), sep="\n")
