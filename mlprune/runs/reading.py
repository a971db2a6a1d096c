"""Files of a run read back: whole, of this version or an older one, or one line that says what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mlprune.errors import UserError, one_line

SCHEMA_VERSION = 2
Json = dict[str, Any]


def check_version(content: dict[str, Any], file: Path) -> None:
    """Raise UserError if a newer version of the package wrote a file.

    Example:
        >>> check_version({"schema_version": 99}, Path("results.json"))
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: 'results.json' has schema_version 99; this version of mlprune reads up to 2; update it
    """
    version = content.get("schema_version", 1)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"'{file}' has schema_version {version}; this version of mlprune reads up to {SCHEMA_VERSION}; update it"
        )


def read_json(file: Path) -> Json:
    """Return a JSON file's mapping; empty if there is no file.

    Raises:
        UserError: If it cannot be read, or a newer version wrote it.
    """
    content = _mapping(file, json.loads)
    check_version(content, file)
    return content


def read_yaml(file: Path) -> Json:
    """Return a YAML file's mapping; empty if there is no file.

    Raises:
        UserError: If it cannot be read.
    """
    return _mapping(file, yaml.safe_load)


def _mapping(file: Path, parse: Callable[[str], Any]) -> Json:
    if not file.is_file():
        return {}
    try:
        content = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"'{file}' cannot be read: {one_line(str(error))}") from error
    if not isinstance(content, dict):
        raise UserError(f"'{file}' cannot be read: it holds no mapping")
    return content


def read_predictions(folder: Path) -> dict[str, dict[str, dict[str, Json]]]:
    """Return task to language to id to record, in the order of the corpus; empty if there is no such folder.

    Args:
        folder: A run's ``predictions``, or ``predictions.dense``.

    Raises:
        UserError: If a file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "xnli.fr.jsonl").write_text('{"id": "0", "prediction": "neutral"}')
        ...     read_predictions(Path(folder))
        {'xnli': {'fr': {'0': {'id': '0', 'prediction': 'neutral'}}}}
    """
    found: dict[str, dict[str, dict[str, Json]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        task, _, lang = file.stem.rpartition(".")
        try:
            lines = file.read_text(encoding="utf-8").split("\n")  # U+2028 and its like stand within texts
            records = [json.loads(line) for line in lines if line]
            found.setdefault(task, {})[lang] = {str(record["id"]): record for record in records}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"'{file}' cannot be read: {error}") from error
    return found
