"""Templates and verbalizers as data, each with its origin, checked by a person."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlprune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Template:
    """How a row becomes candidate texts.

    Args:
        template: Text with ``{column}`` slots and ``{label}`` for the verbalized label.
        label_column: Column that holds the right label.
        verbalizer: Label to the word that stands for it, in label order.
        labels: Cell of the label column (as text) to label.
        dropped: Cells of the label column whose rows are left out.
        truncate: ``column``, ``length`` and ``character_languages``: cut a column to so many words, or characters.
        group_size: So many consecutive rows belong together and are sampled together.
        origin: Where it comes from.
        version: Raised when the text changes.
    """

    template: str
    label_column: str
    verbalizer: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    truncate: dict[str, Any] = field(default_factory=dict)
    group_size: int = 1
    origin: str = "given by the user"
    version: int = 1

    def cut(self, row: dict[str, Any], lang: str) -> dict[str, Any]:
        """Return the row with its long column cut."""
        if not self.truncate:
            return row
        column, length = self.truncate["column"], self.truncate["length"]
        if lang in self.truncate.get("character_languages", ()):
            return row | {column: row[column][:length]}
        return row | {column: " ".join(row[column].split()[:length])}


def load_template(name: str) -> Template:
    """Load a template that comes with the package.

    Raises:
        UserError: If there is none of that name.

    Example:
        >>> load_template("xnli").verbalizer["neutral"]
        'Also'
    """
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise UserError(f"template '{name}' does not exist; give one of {', '.join(names)}{did_you_mean(name, names)}")
    return Template(**yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))
