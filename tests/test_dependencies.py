"""Whatever the package imports is among its dependencies, so that no other package has to bring it along."""

import ast
import re
import runpy
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"lingua": ["lingua-language-detector"]}  # of modules that need not be installed
EXTRAS = {name for group in PROJECT["optional-dependencies"].values() for name in group}


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def imported() -> set[str]:
    """Top-level modules that the package imports, whether at once or when they are needed."""
    names = set()
    for file in (ROOT / "mlprune").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"mlprune"}


def test_every_import_is_a_dependency() -> None:
    distributions = DISTRIBUTIONS | dict(packages_distributions())
    allowed = named([*PROJECT["dependencies"], *EXTRAS])
    missing = {
        module
        for module in imported()
        if not {name.lower().replace("_", "-") for name in distributions.get(module, [module])} & allowed
    }
    assert missing == set()


def test_lowest_versions() -> None:
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"]
    project = {"dependencies": ["b[c]>=3", "a>=1.2"], "optional-dependencies": {"x": ["a>=1.2", "d==4"], "y": ["e>=5"]}}
    assert lowest(project, ["x"]) == ["a==1.2", "b==3"]


def test_every_dependency_has_a_lowest_version() -> None:
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"]
    assert named(lowest(PROJECT, [])) == named(PROJECT["dependencies"])


def test_the_tests_at_the_lowest_versions_exist() -> None:
    listed = re.findall(r"^        (tests/\S+)(?: (tests/\S+))?", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    paths = [path for pair in listed for path in pair if path]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
