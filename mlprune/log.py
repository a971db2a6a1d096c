"""One logger for the package; processes other than the first keep quiet unless something is wrong."""

import logging
import os

import torch.distributed as dist


class _RankZeroOrWarning(logging.Filter):
    """Let every record of the first process pass, and only errors of the others."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _is_first() or record.levelno >= logging.ERROR


def _is_first() -> bool:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    launched = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))  # processes yet to connect
    return next((rank for rank in launched if rank), "0") == "0"


log = logging.getLogger("mlprune")
log.addFilter(_RankZeroOrWarning())
