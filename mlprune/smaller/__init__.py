"""Models made really smaller: what is left out is not stored and not computed."""

from mlprune.smaller.trim import Trimmed, trim_vocabulary

__all__ = ["Trimmed", "trim_vocabulary"]
