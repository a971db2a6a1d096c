"""Models made really smaller: what is left out is not stored and not computed."""

from mlprune.smaller.base import Prompts, Reduction
from mlprune.smaller.blocks import Shallower, remove_blocks
from mlprune.smaller.narrow import Narrowed, narrow
from mlprune.smaller.narrowing import Narrow
from mlprune.smaller.shallower import RemoveBlocks
from mlprune.smaller.trim import Trimmed, trim_vocabulary
from mlprune.smaller.vocabulary import TrimVocabulary

__all__ = [
    "Narrow",
    "Narrowed",
    "Prompts",
    "Reduction",
    "RemoveBlocks",
    "Shallower",
    "TrimVocabulary",
    "Trimmed",
    "narrow",
    "remove_blocks",
    "trim_vocabulary",
]
