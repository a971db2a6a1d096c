"""Every logger gets a run's figures, settings, images and tables, as far as it has a place for them."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from tiny_runs import tiny_config

from mlprune.cli import main
from mlprune.experiments import Engine
from mlprune.run import claim_folder

LOGGERS = "lightning.pytorch.loggers"
SETTINGS = {"sparsity", "importance", "pattern", "languages", "data_hash", "learning_rate", "model", "seed"}


class Remembering(Logger):
    """A logger of a user's that has images and tables."""

    name, version = "remembering", 0
    metrics: dict[str, tuple[float, int | None]] = {}
    settings: dict[str, Any] = {}
    images: dict[str, np.ndarray] = {}
    tables: dict[str, list[dict[str, Any]]] = {}

    def log_metrics(self, metrics, step=None) -> None:
        self.metrics.update({name: (value, step) for name, value in metrics.items()})

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        self.settings.update(params)

    def log_image(self, key: str, images: list[np.ndarray]) -> None:
        (self.images[key],) = images

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        self.tables[key] = [dict(zip(columns, row, strict=True)) for row in data]


def write(folder: Path, model: Path, *loggers: dict[str, Any], **sections: Any) -> Path:
    """A config of one task, with loggers."""
    config = tiny_config(model, **sections)
    config["data"]["tasks"] = config["data"]["tasks"][:1]
    config["trainer"] |= {"logger": list(loggers)}
    (folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "run.yaml"


def named(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"{LOGGERS}.{kind}", "init_args": arguments}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Path]:
    """The folder of a run of fit with a logger of the user's and Lightning's CSVLogger."""
    folder = tmp_path_factory.mktemp("loggers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(Path(__file__).parent)
        patch.setitem(sys.modules, "test_loggers", sys.modules[__name__])
        config = write(
            folder, tiny_folder, {"class_path": "test_loggers.Remembering"}, named("CSVLogger", save_dir="csv")
        )
        assert main(["fit", "--config", str(config)]) == 0
    return folder / "csv/lightning_logs/version_0"


def figures(run: Path, file: str) -> dict[str, float]:
    """Every figure of a system under its name, in the unit of tables."""
    rows = json.loads((run / file).read_text())["figures"]
    return {
        f"{row['system']}/{row['task']}/{row['language']}/{row['metric']}": row["scale"] * row["value"]
        for row in rows
        if row["value"] is not None
    }


def test_figures_have_the_name_of_their_system_and_the_unit_of_tables(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, step in (("results.dense.json", 0), ("results.json", 28)):
        expected = figures(run, name)
        assert len(expected) > 5
        assert {name: (pytest.approx(value), step) for name, value in expected.items()}.items() <= (
            Remembering.metrics.items()
        )
        (row,) = [row for row in rows if row[next(iter(expected))]]
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
        assert int(row["step"]) == step
    assert 20 < Remembering.metrics["pruned/nli/fr/accuracy"][0] < 80  # percent
    assert [float(row["pruning/block/sparsity"]) for row in rows if row["pruning/block/sparsity"]] == pytest.approx(
        [100 * json.loads((run / "pruned/mlprune.json").read_text())["sparsity"]] * 3
    )


def test_settings_are_those_of_the_run(run: Path) -> None:
    hparams = yaml.safe_load((run / "hparams.yaml").read_text())
    assert hparams == Remembering.settings
    assert set(hparams) >= SETTINGS
    assert hparams["sparsity"] == 0.3
    assert hparams["importance"].startswith("Wanda(")
    assert (hparams["languages"], hparams["learning_rate"], hparams["num_prompts"]) == ("en fr sw", 0.0, 5)


def test_images_and_tables_reach_a_logger_that_has_them(run: Path) -> None:
    assert set(Remembering.images) == {"pruning/kept_importance", "results/nli"}
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in Remembering.images.values())
    rows = Remembering.tables["results"]
    assert {row["system"] for row in rows} == {"dense", "pruned"}
    (french,) = [row for row in rows if (row["system"], row["language"], row["metric"]) == ("dense", "fr", "accuracy")]
    assert french["value"] == pytest.approx(figures(run, "results.dense.json")["dense/nli/fr/accuracy"])
    assert french["low"] < french["value"] < french["high"]
    assert french["unit"] == "%"
    differences = json.loads((run / "comparison.json").read_text())["differences"]
    assert [row["p"] for row in Remembering.tables["comparison"]] == [row["p"] for row in differences]


@pytest.mark.filterwarnings("ignore:Experiment logs directory")  # as the command line does
def test_a_resumed_run_keeps_what_was_logged(tmp_path: Path) -> None:
    before = "step,loss\n0,0.5\n1,\n"
    (tmp_path / "runs/version_0").mkdir(parents=True)
    (tmp_path / "runs/version_0/metrics.csv").write_text(before)
    trainer = trainer_of(CSVLogger(tmp_path, "runs", "version_0"))
    Engine("demo", trainer=trainer, resumed=tmp_path / "runs/version_0")
    assert trainer.logger is not None
    trainer.logger.log_metrics({"accuracy": 50.0}, 2)
    trainer.logger.save()
    with (tmp_path / "runs/version_0/metrics.csv").open(newline="") as file:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    assert rows == [{"step": "0", "loss": "0.5"}, {"step": "1"}, {"step": "2", "accuracy": "50.0"}]


class Unreachable(Remembering):
    """A logger whose server does not answer when Lightning asks for its experiment."""

    asked = 0

    @property
    def experiment(self) -> Any:
        Unreachable.asked += 1
        raise ConnectionError("no answer")


def test_a_server_that_does_not_answer_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_of(Unreachable())
    Engine("demo", trainer=trainer)
    for _ in range(2):
        trainer.logger.experiment.anything(1, two=2)
    assert Unreachable.asked == 1
    assert [text for text in caplog.messages if "warning" in text] == ["warning: Unreachable failed: no answer"]


# -- where the run's files lie ------------------------------------------------------------------------------------


def trainer_of(*loggers: Logger) -> Trainer:
    return Trainer(logger=list(loggers) or False, accelerator="cpu", enable_checkpointing=False)


class Elsewhere(Remembering):
    """A logger with one folder for all runs."""

    def __init__(self, save_dir: str | None) -> None:
        self._save_dir = save_dir

    @property
    def save_dir(self) -> str | None:
        return self._save_dir


@pytest.mark.parametrize(
    ("make", "folders"),
    [
        (lambda: [], ["mlprune_run", "mlprune_run_1"]),
        (lambda: [Elsewhere("project")], ["project/mlprune_run", "project/mlprune_run_1"]),
        (lambda: [Elsewhere(None)], ["mlprune_run", "mlprune_run_1"]),
        (lambda: [Elsewhere("s3://bucket/logs")], ["mlprune_run", "mlprune_run_1"]),
        (lambda: [Elsewhere(None), Elsewhere("b")], ["b/mlprune_run", "b/mlprune_run_1"]),
        (lambda: [Elsewhere("a"), CSVLogger("b")], ["b/lightning_logs/version_0", "b/lightning_logs/version_1"]),
        (
            lambda: [TensorBoardLogger("a"), CSVLogger("a")],
            ["a/lightning_logs/version_0", "a/lightning_logs/version_1"],
        ),
        (
            lambda: [TensorBoardLogger("a", name="x"), CSVLogger("b")],
            ["a/x/version_0", "a/x/version_1"],
        ),
    ],
)
def test_every_run_has_a_folder_of_its_own(make, folders: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in folders:
        trainer = trainer_of(*make())
        assert claim_folder(trainer).resolve() == (tmp_path / folder).resolve()
        beside = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger) and logger.save_dir == "a"]
        assert all(Path(logger.log_dir).resolve() == (tmp_path / folder).resolve() for logger in beside)


# -- loggers of the extra `loggers` -------------------------------------------------------------------------------


def test_two_runs_in_one_project_of_wandb(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = write(tmp_path, tiny_folder, named("WandbLogger", save_dir="wb", project="p", offline=True))
    for folder in ("wb/mlprune_run", "wb/mlprune_run_1"):
        status, _, err = mlprune("fit", "--config", config)
        assert status == 0, err
        assert "warning: " not in err
        summary, settings = dict(wandb.run.summary), dict(wandb.run.config)
        wandb.finish()  # as the end of a process does
        expected = figures(tmp_path / folder, "results.dense.json") | figures(tmp_path / folder, "results.json")
        assert {name: summary[name] for name in expected} == pytest.approx(expected)
        assert set(settings) >= SETTINGS
        assert {summary[name]["_type"] for name in ("results", "comparison")} == {"table-file"}
        assert {summary[name]["_type"] for name in ("results/nli", "pruning/kept_importance")} == {"images/separated"}
    assert len(list((tmp_path / "wb/wandb").glob("offline-run-*"))) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's, of SQLAlchemy and pandas
def test_two_runs_in_one_project_of_mlflow(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    logger = named("MLFlowLogger", experiment_name="p", tracking_uri=store, artifact_location=str(tmp_path / "files"))
    config = write(tmp_path, tiny_folder, logger)
    for _ in range(2):
        status, _, err = mlprune("fit", "--config", config)
        assert status == 0, err
        assert "warning: " not in err
    client = mlflow.MlflowClient(store)
    (experiment,) = [found for found in client.search_experiments() if found.name == "p"]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    for found in runs:
        assert found.info.status == "FINISHED"
        expected = figures(Path("mlprune_run"), "results.dense.json") | figures(Path("mlprune_run_1"), "results.json")
        assert {name: found.data.metrics[name] for name in expected} == pytest.approx(expected)
        assert set(found.data.params) >= SETTINGS
        assert {file.path for file in client.list_artifacts(found.info.run_id)} >= {
            *("results.json", "comparison.json", "comparison.md", "results", "pruning")
        }
        table = json.loads(mlflow.artifacts.load_text(f"{found.info.artifact_uri}/results.json"))
        assert {"system", "language", "value"} <= set(table["columns"])


def test_mlflows_own_folder_holds_no_runs(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert claim_folder(trainer_of(MLFlowLogger(save_dir="mlruns"))).resolve() == tmp_path / "mlprune_run"
