"""Reading parquet files, batch by batch."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlprune.data.rows import TWICE, Row, Rows
from mlprune.data.unpacked import unpacked
from mlprune.errors import UserError

BATCH_ROWS = 1024


class ParquetRows(Rows):
    """Rows of a parquet file.

    Args:
        path: The file.

    Raises:
        UserError: If it is not a parquet file, or has no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = unpacked(path)
        try:
            with pq.ParquetFile(self._content.plain) as file:
                self._count = int(file.metadata.num_rows)
                self.names = file.schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0]}") from error
        self._twice: Row = {name: TWICE for name in self.names if self.names.count(name) > 1}
        if not self._count:
            raise UserError(f"{path}: there are no rows")

    def __len__(self) -> int:
        return self._count

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        wanted = iter(positions)
        position = next(wanted, None)
        start = 0
        try:
            with pq.ParquetFile(self._content.plain) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    if position is None:
                        return
                    rows: list[Row] = []
                    while position is not None and position < start + len(batch):
                        rows = rows or batch.to_pylist()
                        yield rows[position - start] | self._twice
                        position = next(wanted, None)
                    start += len(batch)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path}: rows from {start + 1} on cannot be read: {reason}") from error
