"""Studies of a tiny model whose answers are planted (planted.py): their configurations, and what they wrote."""

import json
from pathlib import Path
from typing import Any

import yaml
from planted import NOTHING, SHIFT, SKILL
from tiny_runs import tiny_config

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
    bundled = {"class_path": "mlprune.data.corpora.Bundled", "init_args": {"name": "reviews"}}
    options = {"name": "reviews", "template": "marc", "languages": ["en", "fr", "es"], "corpus": bundled}
    config = tiny_config(model, pruning={"propagate": "dense"})
    config["data"]["tasks"] = [{"class_path": "planted.Planted", "init_args": options}]
    config["study"] = {**STUDY, "controls": False, **changes}
    (folder / name).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder / name


def read(run: Path) -> dict[str, Any]:
    return json.loads((run / "study.json").read_text(encoding="utf-8"))
