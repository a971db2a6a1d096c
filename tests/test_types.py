"""What mypy is told to pass over; ``.ci/run`` runs it, strict, on the whole package."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "mlprune").rglob("*.py"))]
MOST_IGNORED = 15


def test_every_ignored_error_has_its_code_and_a_reason() -> None:
    lines = [line for source in SOURCES for line in source.splitlines() if "type: ignore" in line]
    assert 0 < len(lines) <= MOST_IGNORED
    assert [line for line in lines if not re.search(r"# type: ignore\[[a-z-]+\]  # \w", line)] == []


def test_nothing_is_excused_from_strict_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings.pop("strict") is True
    assert settings.pop("packages") == ["mlprune"]
    assert [set(part) for part in settings.pop("overrides")] == [{"module", "ignore_missing_imports"}]
    assert set(settings) == {"untyped_calls_exclude"}
    assert not any("# mypy:" in source for source in SOURCES)
