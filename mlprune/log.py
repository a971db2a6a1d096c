"""One logger for the package; processes other than the first keep quiet unless something is wrong."""

import logging

import torch.distributed as dist


class _RankZeroOrWarning(logging.Filter):
    """Let every record of the first process pass, and only errors of the others."""

    def filter(self, record: logging.LogRecord) -> bool:
        first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
        return first or record.levelno >= logging.ERROR


log = logging.getLogger("mlprune")
log.addFilter(_RankZeroOrWarning())
