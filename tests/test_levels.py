"""Imports point down: each level may use those below it and no other, and few files know of Lightning."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mlprune"
BOTTOM = {
    "allocator",
    "arguments",
    "batching",
    "distributed",
    "errors",
    "exact",
    "files",
    "invocation",
    "languages",
    "log",
    "text",
}
ALLOWED = {
    "models": BOTTOM,
    "data": BOTTOM | {"models"},
    "metrics": BOTTOM,
    "pruning": BOTTOM | {"models"},
    "analysis": BOTTOM | {"models", "pruning"},
    "comparison": BOTTOM | {"metrics", "runs"},
    "studies": BOTTOM | {"metrics", "comparison", "evaluation", "present", "pruning", "runs"},
    "present": BOTTOM | {"metrics", "comparison"},
    "interventions": BOTTOM | {"models", "data", "metrics", "pruning", "analysis", "evaluation"},
    "evaluation": BOTTOM | {"models", "data", "metrics", "comparison", "present"},
    "report": BOTTOM | {"models", "metrics", "comparison", "present", "runs", "studies"},
    "runs": BOTTOM | {"models", "pruning"},
    "smaller": BOTTOM | {"models", "data", "metrics", "comparison", "present", "evaluation", "pruning", "analysis"},
}
LIGHTNING = {"cli", "experiments", "run", "module", "datamodule", "callbacks"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    names = imported(path)
    if part(path) not in LIGHTNING:
        assert not {name for name in names if name.split(".")[0] in ("lightning", "pytorch_lightning")}
    own = {name.split(".")[1] for name in names if name.startswith("mlprune.")}
    if part(path) in ALLOWED:
        assert own <= ALLOWED[part(path)] | {part(path)}
    elif part(path) in BOTTOM:
        assert own <= BOTTOM


def test_the_core_is_a_library_without_lightning() -> None:
    import subprocess
    import sys

    code = "import sys, mlprune, mlprune.pruning; assert not any(m.split('.')[0] == 'lightning' for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_one_place_decides_whether_a_model_has_an_encoder() -> None:
    asking = [path for path in FILES if "is_encoder_decoder" in path.read_text(encoding="utf-8")]
    assert asking == [PACKAGE / "models" / "encoder.py"]


def test_tests_mirror_the_package() -> None:
    tests = Path(__file__).parent
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    folders = {path.parent.name for path in tests.glob("*/test_*.py")}
    assert folders == packages | {"lightning", "devices"}
