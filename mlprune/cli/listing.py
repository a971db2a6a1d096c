"""``mlprune list [KIND [NAME]]``: what a config may name, one line each, and the arguments of one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill, shorten

from mlprune.arguments import Arguments
from mlprune.cli.catalog import PACKAGE, Catalog
from mlprune.cli.packaged import config_line, config_names, configs_folder, copy_config
from mlprune.errors import UserError, did_you_mean
from mlprune.invocation import program
from mlprune.languages import LISTED, language

CLASSES = {  # kind: what its classes derive from
    "tasks": "Task",
    "metrics": "Metric",
    "importances": "Importance",
    "patterns": "Pattern",
    "allocations": "Allocation",
    "demonstrations": "DemonstrationGroups",
    "corpora": "Corpus",
    "callbacks": "RunCallback",
    "interventions": "Intervention",
    "reductions": "Reduction",
}
EVERYWHERE = {  # callbacks that every run has
    "MakeSmaller",
    "Peers",
    "ProgressDisplay",
    "PruningCallback",
    "RecoveryTraining",
    "ReportCallback",
    "ResultsTable",
    "RunFolder",
    "RunLogger",
    "RunWriter",
}
INTERNAL = {"RecipeCalibration", "Viewer"}  # callbacks that a config has no use for
KEYS = {  # where a config names them
    "configs": "--config NAME",
    "tasks": "data.tasks",
    "metrics": "the argument metrics of a task",
    "importances": "pruning.importance",
    "patterns": "pruning.pattern",
    "allocations": "pruning.allocation",
    "demonstrations": "data.demonstrations",
    "corpora": "the argument corpus of a task or of demonstrations",
    "callbacks": "trainer.callbacks",
    "interventions": "model.interventions",
    "reductions": "model.smaller",
    "templates": "the argument template of a CandidateTask",
    "languages": "languages, source_lang, target_lang, lang; any other BCP-47 tag is one too",
}


def main(args: list[str]) -> int:
    """Run ``mlprune list``; returns the exit status.

    Raises:
        UserError: If there is no such kind, name or config.
    """
    parser = Arguments("list", "Show what a config may name.")
    parser.add_argument("kind", nargs="?", metavar="KIND", help=", ".join(KEYS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them, to see its arguments or content")
    parser.add_argument("--copy", metavar="NAME", help="with configs: copy one here, with its fragments, to edit it")
    arguments = parser.parse_args(args)
    if arguments.copy is None:
        print(listing(arguments.kind, arguments.name))
        return 0
    if arguments.kind != "configs":
        raise UserError("--copy goes with configs: list configs --copy NAME")
    print("\n".join(map(str, copy_config(arguments.copy, Path()))))
    return 0


def listing(kind: str | None = None, name: str | None = None) -> str:
    """Return the text of ``mlprune list``.

    Args:
        kind: One of ``KEYS``; all kinds with their number if omitted.
        name: One of that kind, with all that is known of it; all, a line each, if omitted.

    Raises:
        UserError: If there is no such kind or name.

    Example:
        >>> print(listing("patterns"))
        NofM          Keeps the N highest-scored of every M consecutive inputs...
        Unstructured  ...
    """
    if kind is None:
        rows = {each: f"{len(_entries(each))}, for {key}" for each, key in KEYS.items()}
        return f"{_table(rows)}\n\n{program()} list KIND [NAME] shows them."
    if kind not in KEYS:
        raise UserError(f"list: '{kind}' does not exist; give one of {', '.join(KEYS)}{did_you_mean(kind, KEYS)}")
    entries = _entries(kind)
    if name is None:
        return _table(entries)
    if kind == "languages":
        return f"{name}: {language(name).name} ({', '.join(language(name).flores_codes)})"
    if name not in entries:
        hint = did_you_mean(name, entries) or f"; `{program()} list {kind}` shows them"
        raise UserError(f"list {kind}: '{name}' does not exist{hint}")
    return _shown(kind, name)


def _entries(kind: str) -> dict[str, str]:
    """The names of a kind, each with one line."""
    if kind == "configs":
        return {name: config_line(name) for name in config_names()}
    if kind == "templates":
        return {path.stem: _first_comment(path) for path in sorted((PACKAGE / "data" / "templates").glob("*.yaml"))}
    if kind == "languages":
        return {code: f"{language(code).name} ({language(code).flores})" for code in LISTED}
    home = "mlprune.metrics." if kind == "metrics" else "mlprune."  # elsewhere a torchmetrics class counts tokens
    named = _catalog().concrete(CLASSES[kind])
    found = [entry for entry in named if entry.name not in EVERYWHERE | INTERNAL and entry.path.startswith(home)]
    return {entry.name: entry.summary for entry in found}


@cache
def _catalog() -> Catalog:
    return Catalog()


def _shown(kind: str, name: str) -> str:
    readers: dict[str, Callable[[], str]] = {
        "configs": lambda: (configs_folder() / f"{name}.yaml").read_text(encoding="utf-8").rstrip(),
        "templates": lambda: (PACKAGE / "data" / "templates" / f"{name}.yaml").read_text(encoding="utf-8").rstrip(),
    }
    return readers.get(kind, lambda: _class(name))()


def _class(name: str) -> str:
    """A class: its import path, its docstring, its arguments with type and default."""
    catalog = _catalog()
    entry = catalog.classes[name]
    text = entry.doc.partition("\nArgs:")[0].partition("\nExample:")[0].partition("\nRaises:")[0].strip()
    lines = [f"class_path: {entry.path}", "", text, ""]
    for argument in catalog.arguments(name):
        value = "must be given" if argument.default is None else f"default {argument.default}"
        lines.append(f"  {argument.name}: {argument.type} ({value})")
        if argument.text:
            lines.append(fill(argument.text, _columns(), initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines).rstrip()


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    room = max(40, _columns() - width - 2)
    return "\n".join(
        f"{name:<{width}}  {shorten(text, room, placeholder='...')}".rstrip() for name, text in rows.items()
    )


def _columns() -> int:
    return get_terminal_size((120, 24)).columns


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
