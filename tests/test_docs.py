"""What the documents print is run: Python is executed, YAML and commands are parsed, and links lead somewhere."""

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny, tiny_batches, tiny_model

from mlprune.cli import main
from mlprune.cli.commands import TOOLS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("[a-z]*/**/*.md")]
    if "lightning_logs" not in path.parts and "build" not in path.parts
)
NOT_RUN = ("pip ", "pytest", "tensorboard ", "ruff ", "mypy")  # the suite itself, and other programs
RESUMES = "--resume"


def blocks(language: str) -> list[Any]:
    """Every fenced block of a language, with a name that says where it stands."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{path.relative_to(ROOT)}:{line}"))
    return found


def test_there_is_something_to_check() -> None:
    assert len(DOCUMENTS) > 6
    assert all(blocks(language) for language in ("python", "yaml", "bash"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    broken = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert not broken


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lightning_logs/version_0").mkdir(parents=True)
    save_tiny("lightning_logs/version_0/pruned")
    names = {
        "model": tiny_model("llama"),
        "batches": tiny_batches("llama", [9, 7]),
        "folder": tmp_path,
        "evaluate": lambda model: None,
    }
    exec(compile(code.replace('"demo"', repr(str(tiny_folder))), "snippet", "exec"), names)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_is_a_config(text: str, mlprune, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files_of_the_users(monkeypatch)
    Path("snippet.yaml").write_text(text, encoding="utf-8")
    assert parsed(mlprune, "fit", "--config", "snippet.yaml", "--model.name", str(tiny_folder))


def commands() -> list[Any]:
    """Every command of a bash block that is ours to understand."""
    return [
        pytest.param(command, id=f"{block.id} {command[:40]}")
        for block in blocks("bash")
        for line in block.values[0].replace("\\\n", " ").splitlines()
        for command in (part.strip() for part in line.split("#")[0].split("&&"))
        if command and not command.startswith(NOT_RUN)
    ]


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str, mlprune, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if words[:2] == ["python", "-m"]:
        assert callable(importlib.import_module(words[2]).main)
        return
    assert words[0] in ("python", "torchrun", "mlprune"), command
    arguments = words[next(i for i, word in enumerate(words) if word in ("main.py", "mlprune")) + 1 :]
    if arguments[0] in TOOLS:
        with pytest.raises(SystemExit):
            main([arguments[0], "--help"])
        return
    if RESUMES in arguments:  # there is no run to resume; that flag has tests of its own
        return
    write_files_of_the_users(monkeypatch)
    for stand_in in ("C", "split.yaml"):
        Path(stand_in).write_text("{model: {name: demo}}", encoding="utf-8")
    Path("configs").symlink_to(ROOT / "configs")
    assert parsed(mlprune, *arguments)


def write_files_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files that the documents tell to write: a name in backticks, at the end of what precedes the code."""
    texts = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    found = re.findall(r"`(my_\w+\.py)`[^`]*\n\n```python\n(.*?)^```", texts, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in found} == {"my_scores.py", "my_task.py"}
    for name, code in found:
        Path(name).write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(Path.cwd())


def parsed(mlprune: Any, *arguments: str) -> bool:
    """Whether the command line takes the arguments; raises what it says where it does not."""
    try:
        status, _, err = mlprune(*arguments, "--print_config")
    except SystemExit as end:
        status, err = end.code or 0, ""
    assert status == 0, err
    return True
