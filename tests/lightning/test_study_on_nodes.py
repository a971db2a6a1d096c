"""A study of every method, which selects and confirms, gives on two nodes the bytes of one process."""

from pathlib import Path
from typing import Any

import pytest
from nodes import NODES, one_process, run
from tiny_runs import RUN, bundled_task, tiny_config, write_config

from mlprune.cli.catalog import Catalog

pytestmark = pytest.mark.slow


def recipes() -> dict[str, Any]:
    """Every method that there is, some with a pool of groups, another pattern or another order of blocks, and LRP2."""
    paths = {found.name: found.path for found in Catalog().concrete("Importance")}
    found: dict[str, Any] = {name: {"importance": path} for name, path in paths.items()}
    found["RIA"] = {"importance": {"class_path": paths["RIA"], "init_args": {"pool": "worst"}}}
    pairs = {"class_path": "mlprune.pruning.NofM", "init_args": {"kept": 2, "of": 4}}
    found["ALPS"] |= {"pattern": pairs, "propagate": "pruned"}
    found["DSnoT"] |= {"pattern": pairs}
    found["SparseGPT"] |= {"propagate": "layer"}
    lrp2 = {
        "class_path": "mlprune.interventions.LRP2",
        "init_args": {"validation": [bundled_task("reviews", ["fr"], rows="0-2")]},
    }
    return found | {"LRP2": {"intervention": lrp2, "pattern.sparsity": 0.0}}


def test_a_study_of_every_method(tmp_path: Path, tiny_folder: Path) -> None:
    given = tiny_config(tiny_folder)["data"]["demonstrations"]
    code = {"class_path": "mlprune.data.demonstrations.MonolingualDemonstrations", "init_args": {"lang": "fr"}}
    endpoint = {"metric": "accuracy", "tasks": ["reviews"], "languages": ["fr"]}
    study = {"endpoint": endpoint, "select": {"rows": "0-4", "screen": 0.5}, "confirm": {"rows": "5-9", "top": 1}}
    config = write_config(
        tmp_path,
        tiny_folder,
        data={
            "tasks": [bundled_task("reviews", ["fr"], rows="3-12")],
            "num_prompts": 3,
            "demonstrations": given | {"code": code},
        },
        pruning={"propagate": "dense"},
        study=study | {"controls": False, "recipes": recipes()},
    )
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    one = one_process(folders[0], "fit", "--config", config)
    nodes = run(folders[1], "fit", "--config", config, *NODES, "ddp")
    assert [node.status for node in nodes] == [0, 0], nodes
    files = [path.relative_to(one) for path in one.rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".tex")]
    compared = [file for file in files if file.parts[0] in ("recipes", "predictions.dense") or "study" in file.name]
    assert {file.parts[1] for file in compared if file.parts[0] == "recipes"} == set(recipes())
    assert {"confirm", "select.0", "study.csv", "study.tex"} <= {part for file in compared for part in file.parts}
    assert [file for file in compared if (one / file).read_bytes() != (folders[1] / RUN / file).read_bytes()] == []
