"""How long a study still takes."""

import time
from datetime import timedelta


class TimeLeft:
    """Estimates the time that is left from the time that was needed so far, by numbers of rows.

    Args:
        rows: About how many rows are to be asked in all.

    Example:
        >>> left = TimeLeft(rows=30)
        >>> str(left)
        ''
        >>> left.skip(10)  # an earlier start of the run asked them
        >>> left.count(5)
        >>> left.rows, str(left)
        (15, ' (whole study: 0:00:00 left)')
    """

    def __init__(self, rows: float) -> None:
        self.rows = rows
        self._asked = 0
        self._began = time.monotonic()

    def skip(self, rows: int) -> None:
        """Leave out rows that need not be asked."""
        self.rows -= rows

    def count(self, rows: int) -> None:
        """Count rows that were asked."""
        self.rows -= rows
        self._asked += rows

    def __str__(self) -> str:
        if not self._asked:
            return ""
        seconds = (time.monotonic() - self._began) / self._asked * max(self.rows, 0)
        return f" (whole study: {timedelta(seconds=round(seconds))} left)"
