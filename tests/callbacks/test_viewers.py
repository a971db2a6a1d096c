"""What only shows results may fail: one warning each, and the run ends with everything it computed."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from matplotlib.figure import Figure
from tiny_runs import RUN, start, tiny_config, write_config

from mlprune.callbacks import RunCallback, Viewer
from mlprune.report.__main__ import main as report

Break = Callable[[pytest.MonkeyPatch], None]
COMPUTED = ("results.json", "results.dense.json", *(f"comparison.{kind}" for kind in ("json", "md", "csv", "tex")))


class Blocks(RunCallback):
    """Puts a folder where a file is to be written."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_test_start(self, trainer, pl_module) -> None:
        (self.run.folder / self.name).mkdir(exist_ok=True)


class Sulks(Viewer):
    """A viewer of a user's that always fails."""

    def on_block_pruned(self, run, block, reports, seconds) -> None:
        raise ValueError("no\nwindow \x1b[31m")

    def on_run_end(self, run) -> None:
        raise ValueError("still none")


class Refusing(Logger):
    """A logger whose every call fails."""

    name, version, save_dir = "refusing", 0, "logs"

    def log_metrics(self, *args, **kwargs) -> None:
        raise ConnectionError("the server is gone")

    log_hyperparams = save = finalize = log_graph = after_save_checkpoint = log_metrics


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(sys.modules, "test_viewers", sys.modules[__name__])


def fails(*args: Any, **kwargs: Any) -> None:
    raise ValueError("cannot be drawn")


def nothing(patch: pytest.MonkeyPatch) -> None:
    """The member breaks by itself."""


def small(model: Path, **trainer: Any) -> dict[str, Any]:
    """A run of one task, with one measure to draw."""
    config = tiny_config(model)
    config["data"]["tasks"] = config["data"]["tasks"][-1:]
    config["trainer"] |= trainer
    return config


def warnings_of(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("warning: ")]


def own(cls: str, /, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"test_viewers.{cls}", "init_args": arguments}


MEMBERS: dict[str, tuple[Break, dict[str, Any], str]] = {
    "report": (lambda patch: patch.setattr("mlprune.callbacks.report.write_report", fails), {}, "report.html failed"),
    "report is a folder": (
        nothing,
        {"callbacks": [own("Blocks", name="report.html")]},
        "report.html failed",
    ),
    "comparison.md is a folder": (
        nothing,
        {"callbacks": [own("Blocks", name="comparison.md")]},
        "comparison.md failed",
    ),
    "console": (
        lambda patch: patch.setattr("mlprune.callbacks.console.to_console", fails),
        {},
        "console table failed: cannot be drawn",
    ),
    "histograms": (
        lambda patch: patch.setattr("mlprune.callbacks.tensorboard._log10", fails),
        {"callbacks": [{"class_path": "mlprune.callbacks.TensorBoard", "init_args": {"histograms": True}}]},
        "TensorBoard failed: cannot be drawn",
    ),
    "TensorBoard": (
        lambda patch: patch.setattr(TensorBoardLogger, "log_metrics", fails),
        {},
        "TensorBoardLogger failed: cannot be drawn",
    ),
    "settings": (
        lambda patch: patch.setattr("mlprune.callbacks.run_logger.settings_of", fails),
        {},
        "RunLogger failed: cannot be drawn",
    ),
    "files of a logger": (
        lambda patch: patch.setattr(CSVLogger, "save", fails),
        {"logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "."}}},
        "CSVLogger failed: cannot be drawn",
    ),
    "a logger": (nothing, {"logger": own("Refusing")}, "Refusing failed: the server is gone"),
    "progress": (
        lambda patch: patch.setattr("mlprune.callbacks.progress.ProgressDisplay._advance", fails),
        {},
        "ProgressDisplay failed: cannot be drawn",
    ),
    "a viewer of the user's": (
        nothing,
        {"callbacks": [own("Sulks")]},
        r"Sulks failed: no window \x1b[31m",
    ),
    "card": (
        lambda patch: patch.setattr("mlprune.models.loading.ModelSource.card", fails),
        {},
        "model card failed: cannot be drawn",
    ),
    "matplotlib": (lambda patch: patch.setattr(Figure, "savefig", fails), {}, "report.html failed: cannot be drawn"),
}


@pytest.mark.parametrize("member", MEMBERS)
def test_no_viewer_ends_a_run(
    mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    broken, trainer, warning = MEMBERS[member]
    config = write_config(tmp_path, tiny_folder, **small(tiny_folder, **trainer))
    with monkeypatch.context() as patch:
        broken(patch)
        status, _, err = mlprune("fit", "--config", config)
    assert status == 0, err
    assert "Traceback" not in err
    (line,) = warnings_of(err)
    assert warning in line
    run = Path("logs/mlprune_run") if member == "a logger" else next(Path("lightning_logs").iterdir())
    for name in (*COMPUTED, "pruned/mlprune.json", "pruned/model.safetensors", "masks.safetensors", "layers.csv"):
        if name not in member:
            assert (run / name).is_file(), name
    assert json.loads((run / "results.json").read_text())["warnings"] == [line.removeprefix("warning: ")]
    assert not (run / ".unfinished").exists()
    if not member.startswith(("report", "matplotlib")):
        assert line.removeprefix("warning: ").split(":")[0] in (run / "report.html").read_text()
        return
    if (run / "report.html").is_dir():
        (run / "report.html").rmdir()
    assert report([str(run)]) == 0
    assert (run / "report.html").is_file()


def test_a_run_without_results_keeps_its_warnings_too(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder, **small(tiny_folder, callbacks=[own("Sulks")]))
    status, _, err = mlprune("validate", "--config", config)
    assert status == 0, err
    assert len(warnings_of(err)) == 1
    assert json.loads((RUN / "warnings.json").read_text())["warnings"] == [warnings_of(err)[0].partition(" ")[2]]


def test_figures_of_a_sweep_and_of_an_analysis(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    sweep = write_config(tmp_path, tiny_folder, **small(tiny_folder), pruning={"propagate": "dense", "sweep": [0.2]})
    analysis = {"callbacks": [{"class_path": "mlprune.callbacks.FeatureAnalysis", "init_args": {"top": 2}}]}
    features = write_config(tmp_path, tiny_folder, name="features.yaml", **small(tiny_folder, **analysis))
    with monkeypatch.context() as patch:
        patch.setattr("mlprune.experiments.study.sparsity_curves", fails)
        patch.setattr("mlprune.callbacks.features.overlap_maps", fails)
        for number, (command, config) in enumerate((("fit", sweep), ("validate", features))):
            status, _, err = mlprune(command, "--config", config)
            assert status == 0, err
            assert all("figure" in line for line in warnings_of(err))
            run = Path(f"lightning_logs/version_{number}")
            assert (run / "report.html").is_file()
            assert json.loads((run / "warnings.json").read_text())["warnings"]
    assert (run / "overlap.json").is_file()
    assert (run / "figures" / "top2.mt.png").is_file()


def test_groups_of_any_name(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    groups = ["../fr/en <script>alert(1)", 'a,b\n"c" [/red]', "x" * 300, "$x_$ \x1b[31m\u202e"]
    config = small(
        tiny_folder, callbacks=[{"class_path": "mlprune.callbacks.FeatureAnalysis", "init_args": {"top": 2}}]
    )
    config["data"]["demonstrations"] = dict.fromkeys(groups, config["data"]["demonstrations"]["mt"])
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    status, out, err = mlprune("validate", "--config", "run.yaml")
    assert status == 0, err
    assert warnings_of(err) == []
    page = (RUN / "report.html").read_text(encoding="utf-8")
    assert not set("\x1b\u202e") & set(out + err + page)
    assert "<script>alert" not in page
    figures = list((RUN / "figures").iterdir())
    assert len([file for file in figures if file.name.startswith("top2.linear.")]) == len(groups)
    assert all(file.suffix == ".png" for file in figures)
    with (RUN / "features.csv").open(encoding="utf-8", newline="") as file:
        assert {row["group"] for row in csv.DictReader(file)} == set(groups)


NAMES = ["m[/red] [lr=1e-3]", "<script>alert(1)</script>", 'say "$x_$" \x1b[31m\u202e\x07']


@pytest.mark.parametrize("name", NAMES)
def test_models_of_any_name(mlprune, tmp_path: Path, tiny_folder: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(tiny_folder, folder)
    (folder / "README.md").write_bytes(b"---\nlicense: \x1b[31m\xff: [\n---\n")
    (folder / "NOTICE").write_text("Mine.\x1b[2J\n\tYours.\u202e\n")
    config = write_config(tmp_path, folder, data=small(folder)["data"])
    status, out, err = mlprune("fit", "--config", config)
    assert status == 0, err
    assert warnings_of(err) == []
    files = ("report.html", "comparison.md", "pruned/README.md", "pruned/NOTICE")
    shown = "".join([out, err, *((RUN / file).read_text(encoding="utf-8") for file in files)])
    assert not set("\x1b\x07\u202e") & set(shown)
    assert "<script>alert" not in shown
    header = yaml.safe_load((RUN / "pruned/README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert set(header) == {"library_name", "pipeline_tag", "language", "tags"}  # what is ours to say


def test_killed_while_it_reports(tmp_path: Path, tiny_folder: Path) -> None:
    """After the comparison and before the report: what was computed is there, and the run can be resumed."""
    kill = {"class_path": "kill_once.KillOnce", "init_args": {"stage": "end", "batch": 0, "marker": "killed"}}
    config = write_config(tmp_path, tiny_folder, **small(tiny_folder, callbacks=[kill]))
    assert start(tmp_path, "fit", "--config", config).returncode == -9
    run = tmp_path / RUN
    assert all((run / name).is_file() for name in COMPUTED)
    assert not (run / "report.html").exists()
    before = [(run / name).read_bytes() for name in COMPUTED]
    again = start(tmp_path, "fit", "--resume", RUN)
    assert again.returncode == 0, again.stderr
    assert [(run / name).read_bytes() for name in COMPUTED] == before
    assert (run / "report.html").is_file()
    assert not (run / ".unfinished").exists()
