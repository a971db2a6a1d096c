"""Reading local files: text is unchanged; errors name file, row and reason."""

from pathlib import Path

from mlprune.data.json_lines import JsonRows
from mlprune.data.lines import LineRows
from mlprune.data.parquet import ParquetRows
from mlprune.data.rows import Rows
from mlprune.data.tables import TableRows
from mlprune.errors import UserError, first_line


def read_file(path: Path, kind: str | None = None, header: bool = True) -> Rows:
    """Open a local file as rows; blank lines are rows too, so that row numbers of parallel files agree.

    Args:
        path: The file.
        kind: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or ``text`` (one line a row, column ``text``); the
            file's extension if omitted. Cells of ``tsv`` are not quoted.
        header: Whether the first line of csv and tsv names the columns; else they are named ``0``, ``1``, ...

    Raises:
        UserError: If the file cannot be read, naming file, row (1 is the first below the header) and reason.
    """
    kind = kind or path.suffix[1:].lower()
    try:
        if kind == "parquet":
            return ParquetRows(path)
        if kind in ("csv", "tsv"):
            return TableRows(path, "\t" if kind == "tsv" else ",", quoted=kind == "csv", header=header)
        return LineRows(path) if kind == "text" else JsonRows(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from error
