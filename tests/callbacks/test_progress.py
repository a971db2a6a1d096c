"""What the console shows while a run goes on: a live line on a terminal, plain lines elsewhere."""

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console
from rich.logging import RichHandler
from tiny_runs import write_config

from mlprune.callbacks import ProgressDisplay
from mlprune.callbacks import progress as module
from mlprune.log import log


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch):
    """Let the command line write its log and progress to a console of the test's own."""

    def make(**settings: object) -> io.StringIO:
        out = io.StringIO()
        monkeypatch.setattr("mlprune.cli.entry.Console", lambda **_: Console(file=out, width=100, **settings))
        return out

    yield make
    log.handlers = []
    log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("propagate", ["pruned", "dense", "layer"])
def test_plain_lines_where_there_is_no_terminal(
    mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch, propagate: str
) -> None:
    monkeypatch.setattr("mlprune.cli.command.ProgressDisplay", lambda: ProgressDisplay(seconds_between_lines=0.0))
    config = write_config(tmp_path, tiny_folder, pruning={"propagate": propagate})
    status, _, err = mlprune("validate", "--config", config)
    assert status == 0
    lines = [line for line in err.splitlines() if line.startswith("calibrating")]
    assert lines[0].startswith("calibrating: block 1 of 3, ")
    assert lines[-1].startswith("calibrating: block 3 of 3, ")
    assert lines[-1].endswith("tokens/s, 0:00:00 left")
    assert len(lines) > 3  # within blocks too
    assert "\x1b" not in err
    report = next(line for line in err.splitlines() if line.startswith("report: "))
    assert report.endswith("report.html")  # however long, a line of its own


def test_a_live_line_on_a_terminal(mlprune, tmp_path: Path, tiny_folder: Path, console, monkeypatch) -> None:
    out = console(force_terminal=True)
    monkeypatch.setattr(module, "Progress", lambda *args, **kwargs: _Eager(*args, **kwargs))
    assert mlprune("test", "--config", write_config(tmp_path, tiny_folder))[0] == 0
    assert "evaluating, dense" in out.getvalue()
    assert "nli fr" in out.getvalue()
    assert "examples/s" in out.getvalue()


def test_the_users_own_bar_is_kept(mlprune, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr("mlprune.cli.command.Engine.experiment", lambda engine, _: kept.append(engine.run.trainer))
    own = [{"class_path": "lightning.pytorch.callbacks.TQDMProgressBar"}]
    trainer = {"accelerator": "cpu", "devices": 1}
    other = [{"class_path": "mlprune.callbacks.FeatureAblation", "init_args": {"features": {}}}]
    for settings in ({"callbacks": own}, {"callbacks": other}, {}, {"enable_progress_bar": False}):
        assert mlprune("fit", "--config", write_config(tmp_path, tiny_folder, trainer=trainer | settings))[0] == 0
    bars = [type(trainer.progress_bar_callback).__name__ for trainer in kept]
    assert bars == ["TQDMProgressBar", "ProgressDisplay", "ProgressDisplay", "NoneType"]


def test_log_and_progress_share_a_console() -> None:
    handler = RichHandler(console=Console(file=io.StringIO()))
    before, log.handlers = log.handlers, [handler]
    try:
        assert module.shared_console() is handler.console
    finally:
        log.handlers = before


class _Eager(module.Progress):
    """Draws at every update, so that a run of a second is seen."""

    def update(self, *args: object, **kwargs: object) -> None:
        super().update(*args, **kwargs)
        self.refresh()
