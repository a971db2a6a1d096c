"""Facts that runs write down: settings, versions, hashes."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mlprune.pruning.importance import Importance
from mlprune.pruning.losses import Loss

PACKAGES = (
    *("mlprune", "torch", "lightning", "transformers", "tokenizers", "torchmetrics", "datasets", "sacrebleu"),
    *("safetensors", "numpy", "scipy", "jinja2"),
)
version = cache(metadata.version)  # which parses a package's whole description


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


def hardware() -> str:
    """Return the machine that a run is on, in words: system, processor, cores, memory, accelerators.

    Example:
        >>> "cores" in hardware()
        True
    """
    processor = next(iter(_lines("/proc/cpuinfo", "model name")), platform.processor() or platform.machine())
    memory = next(
        (f"{int(text.split()[0]) / 2**20:.0f} GiB memory" for text in _lines("/proc/meminfo", "MemTotal")), ""
    )
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cards = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    cores = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    return ", ".join(filter(None, [f"{platform.system()} {platform.machine()}", processor, cores, memory, *cards]))


def _lines(file: str, key: str) -> list[str]:
    """What a file of the kernel says of a key; nothing where there is no such file."""
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]


def machine() -> dict[str, str | int]:
    """Return what the last bits of float32 sums depend on besides versions.

    Example:
        >>> sorted(machine())
        ['cpu_capability', 'threads']
    """
    return {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
