"""One logger for the package; processes other than the first keep quiet unless something is wrong."""

import logging

from mlprune.distributed import rank


class _RankZeroOrWarning(logging.Filter):
    """Let every record of the first process pass, and only errors of the others."""

    def filter(self, record: logging.LogRecord) -> bool:
        return rank() == 0 or record.levelno >= logging.ERROR


log = logging.getLogger("mlprune")
log.addFilter(_RankZeroOrWarning())
