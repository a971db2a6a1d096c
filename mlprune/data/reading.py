"""Reading files and hub data sets through ``datasets``; what cannot be read is refused by file, row and reason."""

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

from mlprune.errors import UserError

BUILDERS = {"jsonl": "json", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet", "text": "text"}


def read_file(path: Path, kind: str | None = None, header: bool = True) -> list[dict[str, Any]]:
    """Read a local file into rows.

    Args:
        path: The file.
        kind: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or ``text`` (one line a row, column ``text``); the
            file's extension if omitted.
        header: Whether the first line of csv and tsv names the columns; else they are named ``0``, ``1``, ...

    Raises:
        UserError: If the file cannot be read, naming file, row and reason.
    """
    import datasets

    kind = kind or path.suffix[1:]
    options: dict[str, Any] = {}
    if kind in ("csv", "tsv"):
        separator = "\t" if kind == "tsv" else ","
        first = first_row(path, separator, header)
        names = first if header else [str(i) for i in range(len(first))]
        features = datasets.Features({name: datasets.Value("string") for name in names})
        options = {"sep": separator, "features": features, "na_filter": False, "encoding": "utf-8-sig"}
        options |= {} if kind == "csv" else {"quoting": csv.QUOTE_NONE}
        options |= {} if header else {"names": names, "header": None}
    if kind == "text":
        return [{"text": line} for line in lines_of(path)]
    if kind in ("jsonl", "json"):
        refuse_bad_json(path)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        try:
            loaded = datasets.load_dataset(
                BUILDERS[kind], data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True, **options
            )
        except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {first_line(error.__cause__ or error)}") from error
        if not len(loaded):
            raise UserError(f"{path}: there are no rows")
        return [{str(name): value for name, value in row.items()} for row in loaded]


def read_hub(
    name: str, config: str | None, split: str, revision: str | None, data_files: str | None
) -> list[dict[str, Any]]:
    """Read a data set of the hub, or of a folder in the hub's layout.

    Raises:
        UserError: If it is missing, gated or unreachable, with what to do.
    """
    import datasets
    from huggingface_hub.errors import GatedRepoError

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, config, split=split, revision=revision, data_files=data_files)
    except (datasets.exceptions.DatasetNotFoundError, GatedRepoError) as error:
        gated = isinstance(error, GatedRepoError) or "gated" in str(error).lower()
        todo = (
            f"accept its conditions at https://huggingface.co/datasets/{name} and log in with `hf auth login`"
            if gated
            else "check the id, or the network, or give local files (LocalFiles, FloresFolder)"
        )
        raise UserError(f"data set '{name}' is {'gated' if gated else 'not found'}: {todo}") from error
    except (OSError, ValueError, RuntimeError) as error:
        away = "; check the network, or give local files (LocalFiles, FloresFolder)" if "reach" in str(error) else ""
        where = f"data set '{name}' (config {config}, split {split})"
        raise UserError(f"{where}: {first_line(error)}{away}") from error
    return [dict(row) for row in loaded]


def decode(path: Path) -> str:
    """Read a text file as UTF-8, a byte order mark dropped and line ends made alike.

    Raises:
        UserError: If a line is not UTF-8, naming it.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: row {line} is not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: Path) -> list[str]:
    """Read a text file's lines, which end at line feeds alone: U+2028 and its like stand within sentences."""
    return decode(path).removesuffix("\n").split("\n")


def refuse_bad_json(path: Path) -> None:
    """Raise UserError naming the first line that is not a JSON object, or if there is none."""
    lines = decode(path).split("\n")
    if not any(map(str.strip, lines)):
        raise UserError(f"{path}: there are no rows")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}: row {number} is not JSON: {error.msg}; write one object a line") from error
            if not isinstance(value, dict):
                raise UserError(f"{path}: row {number} is not a JSON object; write one object a line")


def first_row(path: Path, separator: str, header: bool) -> list[str]:
    """Return the cells of a table's first row, which may be the column names.

    Raises:
        UserError: If there are no rows, or one has another number of cells, naming it.
    """
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    first: list[str] = []
    rows = 0
    for number, row in enumerate(csv.reader(decode(path).split("\n"), delimiter=separator, quoting=quoting), start=1):
        if row and len(row) != len(first or row):
            raise UserError(f"{path}: row {number} has {len(row)} cells, the first has {len(first)}")
        first = first or row
        rows += bool(row)
    if rows <= header:
        raise UserError(f"{path}: there are no rows")
    return first


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text.

    Example:
        >>> first_line(ValueError("no such split\\nmore"))
        'no such split'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
