"""Corpora: where rows of text come from. Each is a class, chosen by ``class_path`` in YAML.

A corpus gives, for a language, a sequence of rows (dicts). Every row has an ``id``; rows of two languages with the same
id are translations of each other. Two corpora with the same ``identity`` hold the same rows, which is how rows used for
calibration, few-shot prompts and tests are kept apart.
"""

from mlprune.data.corpora.base import Blank, Corpus, checked_blank
from mlprune.data.corpora.bundled import Bundled
from mlprune.data.corpora.files import FloresFolder, LocalFiles
from mlprune.data.corpora.hub import HubDataset
from mlprune.data.corpora.python_files import PythonFiles

__all__ = [
    "Blank",
    "Bundled",
    "Corpus",
    "FloresFolder",
    "HubDataset",
    "LocalFiles",
    "PythonFiles",
    "checked_blank",
]
