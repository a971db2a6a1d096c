"""One logger for the package; processes other than the first keep quiet unless something is wrong."""

import logging

from mlprune.distributed import launched_rank
from mlprune.text import visible


class _RankZeroOrWarning(logging.Filter):
    """Let every record of the first process pass, and only errors of the others; control characters are written out."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = visible(record.getMessage()), None
        return launched_rank() == 0 or record.levelno >= logging.ERROR


log = logging.getLogger("mlprune")
log.addFilter(_RankZeroOrWarning())
