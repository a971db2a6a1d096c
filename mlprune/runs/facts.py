"""Facts that runs write down: settings, versions, hashes."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from mlprune.pruning.importance import Importance
from mlprune.pruning.losses import Loss

PACKAGES = (
    *("mlprune", "torch", "lightning", "transformers", "tokenizers", "torchmetrics", "datasets", "sacrebleu"),
    *("safetensors", "numpy", "scipy", "jinja2"),
)


def describe(part: Any) -> str:
    """Name an object with its settings.

    Example:
        >>> from mlprune.pruning import Unstructured
        >>> describe(Unstructured(0.3))
        "Unstructured(sparsity=0.3, scope='row', drop='lowest')"
        >>> from mlprune.pruning import RIA, DSnoT
        >>> describe(DSnoT(RIA(), cycles=5))
        'DSnoT(first=RIA(exponent=0.5), cycles=5, threshold=0.1, power=1.0, same_sign=False)'
    """
    groups = () if "keep" in vars(part) else vars(part).get("groups")  # which are what keep and drop say
    settings = {
        name: describe(value) if isinstance(value, Importance | Loss) else repr(value)
        for name, value in vars(part).items()
        if isinstance(value, str | int | float | bool | Importance | Loss) or (name == "groups" and groups)
    }
    return f"{type(part).__name__}({', '.join(f'{name}={value}' for name, value in settings.items())})"


def digest(content: Any) -> str:
    """Return a short SHA-256 of JSON-able content.

    Example:
        >>> digest([1, 2])
        '3a316d6d3226f84c'
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def calibration_facts(prompts: Mapping[str, list[list[int]]]) -> dict[str, dict[str, Any]]:
    """Return how many prompts and tokens each group has, and their hash.

    Args:
        prompts: Group to the token ids of its prompts.

    Example:
        >>> calibration_facts({"mt": [[1, 2], [3]]})
        {'mt': {'prompts': 2, 'tokens': 3, 'sha256': '192f318fa6690229'}}
    """
    return {
        group: {"prompts": len(ids), "tokens": sum(map(len, ids)), "sha256": digest(ids)}
        for group, ids in prompts.items()
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, str | int]:
    """Return what the last bits of float32 sums depend on besides versions.

    Example:
        >>> sorted(machine())
        ['cpu_capability', 'threads']
    """
    return {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
