"""The callback that settles a run's folder and keeps there what the run is computed from."""

from collections.abc import Mapping
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mlprune.callbacks.base import RunCallback
from mlprune.distributed import gather_objects
from mlprune.files import write_text
from mlprune.inputs import MODEL_FILE
from mlprune.log import log
from mlprune.runs.checkpoints import CHECKPOINTS
from mlprune.runs.facts import machine, versions
from mlprune.runs.folder import CONFIG, clear, has_work
from mlprune.runs.inputs import Inputs, Part, flat, hashes, read_inputs, refuse_changes, stamps_of

VERSIONS = "versions"  # their key in config.yaml


class RunFolder(RunCallback):
    """Writes ``config.yaml`` and ``inputs.json``, and holds a resumed run to what they say.

    Every process settles the folder here before any other callback needs it.

    Args:
        config: The run's whole configuration; without it no config.yaml is written.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = None if config is None else {key: value for key, value in config.items() if key != VERSIONS}
        self._began: Inputs | None = None
        self._parts: dict[str, Part] = {}
        self._written: dict[str, Part] | None = None
        self._restarts = False

    def begin(self) -> None:
        """Write config.yaml into the folder that was claimed; of a resumed run, look up what it began with.

        Raises:
            UserError: If a version is not the one that it began with.
        """
        run = self.run
        if not run.resumes:
            if run.writes and not self._restarts:
                self._write_config()
            return
        self._began = read_inputs(run.folder)
        if self._began is not None:
            refuse_changes(run.folder, self._began.versions, versions(), "version of")
            return
        if has_work(run.folder):
            log.warning("'%s' does not say what it was computed from; everything is computed again", run.folder)
        run.begin_again()
        self._restarts = True

    def hold(self, parts: Mapping[str, Part]) -> None:
        """Take note of what is computed from, before any of it is used.

        Raises:
            UserError: If a resumed run began with something else, naming it.
        """
        self._parts |= parts
        if self._began is not None:
            before, now = self._began.contents, hashes(self._parts)
            names = [
                name for name in {**before, **now} if name.startswith(MODEL_FILE) or (name in before and name in now)
            ]
            refuse_changes(
                self.run.folder,
                {name: before[name] for name in names if name in before},
                {name: now[name] for name in names if name in now},
                origins={name: part.origin for name, part in self._parts.items()},
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle the folder; before anything is computed, say where processes or starts differ, and keep the inputs."""
        folder = self.run.settle_folder()
        for checkpoint in trainer.checkpoint_callbacks:
            if isinstance(checkpoint, ModelCheckpoint) and checkpoint.dirpath is None:
                checkpoint.dirpath = str(folder / CHECKPOINTS)  # Lightning's own choice depends on the logger
        if self._written == self._parts:
            return
        self._warn_of_machines()
        if self.run.writes and self._began is None:
            if self._restarts:
                clear(self.run.folder)
            self._write_config()  # again, for connecting processes may have changed the number of threads
            self._write_inputs()
        self._written = dict(self._parts)

    def _warn_of_machines(self) -> None:
        """Warn where processes are not alike, or a resumed run is computed on another machine than it began on."""
        here = {**versions(), **machine()}
        found = gather_objects(here)
        for rank, other in enumerate(found):
            if other != found[0]:
                log.warning(
                    "processes 0 and %d differ (%s); the last bits may depend on it", rank, _differing(found[0], other)
                )
                break
        if self._began is not None and self._began.machine != machine():
            log.warning(
                "the run began on another machine than it is resumed on (%s); the last bits may depend on it",
                _differing(self._began.machine, machine()),
            )

    def _write_config(self) -> None:
        if self.config is not None:
            content = {**self.config, VERSIONS: {**versions(), **machine()}}
            write_text(
                self.run.folder / CONFIG, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
            )

    def _write_inputs(self) -> None:
        stamps = stamps_of(self._parts.values())
        Inputs(flat(self.config or {}), versions(), machine(), hashes(self._parts), stamps).write(self.run.folder)


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    return ", ".join(f"{key} {first.get(key)} and {second.get(key)}" for key in keys)
