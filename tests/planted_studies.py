"""Studies of a tiny model whose answers are planted (planted.py): their configurations, and what they wrote."""

import json
from pathlib import Path
from typing import Any

import yaml
from planted import NOTHING, SHIFT, SKILL
from tiny_runs import bundled_task, tiny_config

STUDY: dict[str, Any] = {
    "question": "Does any recipe help?",
    "endpoint": {"metric": "accuracy", "tasks": ["reviews"], "languages": ["fr", "es"], "average": True},
    "select": {"rows": "0-39"},
    "confirm": {"rows": "40-155", "top": 3},
    "seeds": [0, 1],
    "recipes": {
        "nothing": {"pattern.sparsity": NOTHING},
        "skill": {"pattern.sparsity": SKILL},
        "shift": {"pattern.sparsity": SHIFT},
    },
}


def write(folder: Path, model: Path, name: str = "study.yaml", **changes: Any) -> Path:
    """Write the configuration of a study over one planted task."""
    config = tiny_config(model, pruning={"propagate": "dense"})
    config["data"]["tasks"] = [bundled_task("reviews", ["en", "fr", "es"]) | {"class_path": "planted.Planted"}]
    config["study"] = {**STUDY, "controls": False, **changes}
    (folder / name).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder / name


def read(run: Path) -> dict[str, Any]:
    return json.loads((run / "study.json").read_text(encoding="utf-8"))
