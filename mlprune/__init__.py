"""mlprune: prune multilingual language models with translation demonstrations and see what it did to each language."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlprune.experiments import Engine
    from mlprune.smaller.archive import load_compressed

try:
    __version__ = version("mlprune")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = ["Engine", "__version__", "load_compressed"]

_HOMES = {
    "Engine": "mlprune.experiments",
    "load_compressed": "mlprune.smaller.archive",
}  # imported on first use, since they load torch and lightning


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
