"""Reading local files: text is unchanged; errors name file, row and reason."""

from pathlib import Path

from mlprune.data.json_lines import JsonRows
from mlprune.data.lines import LineRows
from mlprune.data.parquet import ParquetRows
from mlprune.data.rows import Rows
from mlprune.data.tables import TableRows
from mlprune.data.tmx import TmxRows
from mlprune.data.unpacked import without_compression
from mlprune.errors import UserError, first_line

KINDS = {name: name for name in ("jsonl", "json", "csv", "tsv", "parquet", "tmx")} | {"txt": "text"}  # by extension


def kind_of(path: str) -> str | None:
    """Return what a file is by its extension, compression aside; None if it is not known.

    Example:
        >>> kind_of("corpus.fr.tsv.gz"), kind_of("corpus.fr.TXT"), kind_of("corpus.fr")
        ('tsv', 'text', None)
    """
    extension = without_compression(path).rpartition(".")[2].lower()
    return KINDS.get(extension)


def read_file(path: Path, kind: str | None = None, header: bool = True) -> Rows:
    """Open a local file as rows; blank lines are rows too, so that row numbers of parallel files agree.

    Args:
        path: The file.
        kind: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet``, ``tmx`` or ``text`` (one line a row, column ``text``);
            the file's extension if omitted. Cells of ``tsv`` are not quoted. A file that ends in ``.gz``, ``.bz2``,
            ``.xz`` or ``.zst`` is unpacked.
        header: Whether the first line of csv and tsv names the columns; else they are named ``0``, ``1``, ...

    Raises:
        UserError: If the file cannot be read, naming file, row (1 is the first below the header) and reason.
    """
    kind = kind or kind_of(path.name)
    try:
        if kind == "parquet":
            return ParquetRows(path)
        if kind == "tmx":
            return TmxRows(path)
        if kind in ("csv", "tsv"):
            return TableRows(path, "\t" if kind == "tsv" else ",", quoted=kind == "csv", header=header)
        return LineRows(path) if kind == "text" else JsonRows(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from error
