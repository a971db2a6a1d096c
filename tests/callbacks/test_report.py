"""Every run ends with its report, and with what pruning did to each layer."""

import csv
import json
from pathlib import Path

from markupsafe import escape
from tiny_runs import write_config

from mlprune.models.blocks import find_blocks
from mlprune.models.loading import ModelSource

RUN = Path("lightning_logs/version_0")


def test_fit_leaves_a_report_and_figures_of_every_layer(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    assert mlprune("fit", "--config", write_config(tmp_path, tiny_folder))[0] == 0
    page = (RUN / "report.html").read_text(encoding="utf-8")
    for part in ("Outside English", "What was pruned", "Where importance was lost", "Generated answers", "nli: acc"):
        assert part in page
    (start,) = json.loads((RUN / "run.json").read_text(encoding="utf-8"))["starts"]
    assert start["command"] == f"python main.py fit --config {tmp_path / 'run.yaml'}"
    names = ["evaluating the dense model", "calibrating and pruning", "evaluating the pruned model", "comparing"]
    assert [phase["name"] for phase in start["phases"]] == names
    assert all(phase["seconds"] >= 0 for phase in start["phases"])
    assert (start["dtype"], start["devices"], start["processes"]) == ("float32", 1, 1)
    assert start["data"]["task nli, examples sw"]["origin"] == "bundled corpus 'nli' in 'sw'"
    for part in (start["command"], start["machine"], *names, start["data"]["task nli, examples sw"]["sha256"]):
        assert str(escape(part)) in page
    card = (RUN / "pruned" / "README.md").read_text(encoding="utf-8")
    for part in (
        "language: [fr, en, sw]",
        "Outside English",
        "### nli: accuracy, %",
        "bundled corpus 'parallel' in 'fr'",
    ):
        assert part in card
    assert "### nli: answered" not in card  # details
    assert str(tmp_path) not in card
    with (RUN / "layers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    blocks = find_blocks(ModelSource(str(tiny_folder)).load_model())
    assert [row["layer"] for row in rows] == [path for block in blocks for path in block.layers]
    assert {row["block"] for row in rows} == {"0", "1", "2"}
    assert all(0.2 < float(row["sparsity"]) < 0.4 and 0.5 < float(row["kept_importance"]) < 1 for row in rows)


def test_validate_and_test_alone_leave_one_too(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    assert mlprune("validate", "--config", config, "--trainer.default_root_dir", "a")[0] == 0
    assert "What was pruned" in Path("a", RUN, "report.html").read_text()
    assert mlprune("test", "--config", config, "--trainer.default_root_dir", "b")[0] == 0
    assert "nli: accuracy, %" in Path("b", RUN, "report.html").read_text()
