"""What a step did, beside the smaller model: facts as JSON, and the same as tables in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlprune.files import write_json, write_text
from mlprune.models.folder import read_object
from mlprune.present import Table, to_markdown

Content = Mapping[str, Any]


def add_summary(facts: Path, report: str, what: str, more: Content, tables: Callable[[Content], list[Table]]) -> None:
    """Add to the facts of a smaller model, and write them as tables beside it.

    Args:
        facts: The JSON file, which is there.
        report: Name of the Markdown file.
        what: What became of the model, in the title.
        more: Further facts.
        tables: Returns facts as tables.

    Raises:
        UserError: If a file cannot be written.
    """
    content = {**read_object(facts), **more}
    write_json(facts, content)
    text = "\n\n".join(map(to_markdown, tables(content)))
    write_text(facts.parent / report, f"# {content['base_model']}, {what}\n\n{text}\n")


def size_table(facts: Content, smaller: str, notes: Sequence[str] = ()) -> Table:
    """Return the sizes of a model before and after it was made smaller, as a table.

    Args:
        facts: What the smaller model's folder says of them.
        smaller: What the smaller model is called.
        notes: What else is to be said.

    Example:
        >>> sizes = {"parameters": {"before": 1000, "after": 500}, "bytes": {"before": 4e6, "after": 2e6}}
        >>> size_table(sizes, "halved").rows
        [('parameters', '1,000', '500', '50.0%'), ('MB', '4.0', '2.0', '50.0%')]
    """
    counts = {name: facts[name] for name in ("tokens", "blocks") if name in facts}
    counts |= {**facts.get("widths", {}), "parameters": facts["parameters"]}
    shown = [*((name, sizes, 1.0, ",.0f") for name, sizes in counts.items()), ("MB", facts["bytes"], 1e6, ",.1f")]
    rows = []
    for name, sizes, unit, form in shown:
        before, after = sizes["before"], sizes["after"]
        rows.append((name, f"{before / unit:{form}}", f"{after / unit:{form}}", f"{after / before:.1%}"))
    return Table("Size", ("", "original", smaller, "left"), rows, notes)
