"""mlprune: prune multilingual language models with translation demonstrations and see what it did to each language."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mlprune")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
