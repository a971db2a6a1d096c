"""The subcommands that run something: LightningCLI with fit, validate and test."""

import re
import shlex
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import yaml
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from mlprune.callbacks import ProgressDisplay, PruningCallback
from mlprune.callbacks.console import print_tables
from mlprune.callbacks.run_folder import VERSIONS
from mlprune.cli.checks import (
    check_callbacks,
    check_checkpoint,
    check_optimizer,
    check_processes,
    check_slurm_tasks,
    check_strategy,
    check_trainer,
    is_slurm_step,
)
from mlprune.cli.commands import RUNS
from mlprune.cli.config_files import check_files
from mlprune.cli.packaged import configs_first
from mlprune.cli.parser import ActionTakenBefore, OneLineParser, explain
from mlprune.cli.resume import refuse_differences, take_resume
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError, one_line
from mlprune.experiments import TRAINER_DEFAULTS, Engine
from mlprune.experiments.dry_run import DryRun, estimate_tables
from mlprune.experiments.engine import callbacks_of
from mlprune.experiments.experiment import check_precision
from mlprune.invocation import program
from mlprune.models.loading import without_weights
from mlprune.module import PruningModule
from mlprune.run import reopened
from mlprune.studies.spec import Study

USAGE = "{0} {1} --config FILE_OR_NAME [--config ...] [--KEY VALUE ...]\n       {0} {1} --resume RUN"
DRY_RUN = "--dry-run"
ESTIMATE = "Say what would be run, and estimate its time on this machine, memory and disk; nothing is written."
RESUME = "Folder of an interrupted run, which resumes there with the same configuration."
DENSE = "Folder of a run of fit or test; fit takes the dense model's results from there if nothing differs."
WROTE = "Versions, threads and instruction set that a run's config.yaml was written with; not read."


class MlpruneCLI(LightningCLI):
    """The command line of mlprune: ``fit`` runs the experiment, ``validate`` prunes, ``test`` evaluates."""

    def __init__(self, args: list[str] | None = None) -> None:
        given = list(sys.argv[1:] if args is None else args)
        self.typed = f"{program()} {shlex.join(given)}"
        self.given = given[0] if given else ""
        args, self.is_dry = take_dry_run(given)
        args, self.resumed = take_resume(configs_first(args))
        args = [re.sub(r"^--study\.look-again\b", "--study.look_again", arg) for arg in args]
        check_files(args)
        super().__init__(
            PruningModule,
            PruningDataModule,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={"description": "Prune multilingual language models and see what it did to every language."}
            | {name: {"description": text, "usage": USAGE.format(program(), name)} for name, text in RUNS.items()},
            auto_configure_optimizers=False,
            args=args,
        )

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Build the parser of the subcommand that was given, or all where none was; building one takes a while."""
        self._subcommand_parsers = {}
        action = parser.add_subcommands()
        for name in [self.given] if self.given in RUNS else RUNS:
            made = self._prepare_subcommand_parser(Trainer, name, **kwargs[name])
            self._subcommand_parsers[name] = made
            action.add_subcommand(name, made, help=RUNS[name])

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The three subcommands and the trainer's arguments that users cannot give."""
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": {"model", "dataloaders", "datamodule", "verbose", "ckpt_path", "weights_only"},
            "test": {"model", "dataloaders", "datamodule", "verbose", "ckpt_path", "weights_only"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the section ``pruning``; one seed serves everything."""
        parser.add_lightning_class_args(PruningCallback, "pruning")
        parser.add_class_arguments(Study, "study")
        parser.add_argument("--resume", action=ActionTakenBefore, metavar="RUN", help=RESUME)
        parser.add_argument(DRY_RUN, action=ActionTakenBefore, help=ESTIMATE)
        parser.add_argument("--dense", type=str | None, help=DENSE)
        parser.add_argument(f"--{VERSIONS}", type=dict[str, Any] | None, help=WROTE)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_plain_seed)

    def _parse_ckpt_path(self) -> None:
        """Take no settings from a Lightning checkpoint, since the run has its own; only check that it is one."""
        check_checkpoint(self.config[self.config.subcommand].get("ckpt_path"))

    def before_instantiate_classes(self) -> None:
        """Check what Lightning would only find later, and make ``fast_dev_run`` a small but complete run."""
        config = self.config[self.subcommand]
        trainer = config.trainer
        check_trainer(str(self.subcommand), trainer)
        check_slurm_tasks()
        if config.data.tasks is None and not config.config and self.subcommand != "validate":
            raise UserError(
                f"data.tasks: no tasks were given; start from a config, such as --config demo (`{program()} list "
                "configs` shows more), or give --data.tasks '[]' to evaluate nothing"
            )
        if config.dense is not None and self.subcommand != "fit":
            raise UserError(f"--dense goes with fit; {self.subcommand} compares nothing")
        if self.subcommand == "validate" and (config.study.recipes or config.study.grid):
            raise UserError("study goes with fit, which evaluates its recipes; validate prunes one model")
        if self.resumed is not None:
            refuse_differences(self.resumed, self._settings())
        if trainer.fast_dev_run:
            trainer.fast_dev_run = False
            trainer.logger = False
            config.data.num_prompts = config.data.limit = 2
            for demonstrations in (config.data.demonstrations or {}).values():
                demonstrations.init_args.num_prompts = None

    def _settings(self) -> dict[str, Any]:
        """The run's whole configuration, as config.yaml has it."""
        text = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        settings: dict[str, Any] = yaml.safe_load(text)
        return settings

    def _dump_config(self) -> None:
        """Take the configuration as config.yaml has it for Lightning's hyperparameters too, which nothing reads."""
        if not hasattr(self, "config_dump"):
            self.config_dump = self._settings()

    def instantiate_classes(self) -> None:
        """Build trainer, model and data; what they refuse is the user's mistake."""
        try:
            with without_weights() if self.is_dry else nullcontext():
                super().instantiate_classes()
            if self.subcommand == "fit" and self.trainer.max_epochs:
                check_optimizer(self.model.optimizer)
        except UserError:
            raise
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise UserError(f"trainer: {one_line(str(error))}") from error
        except TypeError as error:
            if "`devices`" not in str(error):
                raise
            raise UserError(f"trainer.devices: {one_line(str(error))}") from error
        except ValueError as error:
            raise UserError(explain(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Show our progress display unless the user has a progress bar; refuse strategies that cannot hold masks."""
        chosen = self.config_init[self.subcommand].trainer.callbacks or []
        chosen = [chosen] if isinstance(chosen, Callback) else chosen
        has_bar = any(isinstance(callback, ProgressBar) for callback in chosen)  # before Lightning adds its own
        check_callbacks(chosen)
        given = self.config_init[self.subcommand].trainer
        if is_slurm_step() and not given.plugins:
            kwargs["plugins"] = [SLURMEnvironment(auto_requeue=False)]  # whose checkpoint lands in the working folder
        trainer = super().instantiate_trainer(**kwargs)
        check_strategy(trainer)
        check_precision(str(trainer.precision), self.subcommand == "fit" and bool(trainer.max_epochs))
        check_processes(trainer)
        if given.logger is None or given.logger is True:
            trainer.loggers = [TensorBoardLogger(trainer.default_root_dir)]  # Lightning's has the SLURM job as version
        if self.resumed is not None:
            trainer.loggers = reopened(trainer, self.resumed)
        if not has_bar:
            callbacks = callbacks_of(trainer)
            callbacks[:] = [ProgressDisplay() if isinstance(c, ProgressBar) else c for c in callbacks]
        return trainer

    def _engine(self, model: PruningModule, datamodule: PruningDataModule) -> Engine:
        settings: dict[str, Any] = self.config_dump
        study: Study = self.config_init[self.subcommand].study
        # as they were given: recipes build their classes themselves
        recipes, grid = (settings["study"][name] for name in ("recipes", "grid"))
        return Engine(
            model,
            datamodule,
            trainer=self.trainer,
            config=settings,
            command=str(self.subcommand),
            resumed=self.resumed,
            dense=self.config[self.subcommand].dense,
            typed=self.typed,
            study=replace(study, recipes=recipes, grid=grid),
            parser=OneLineParser(),
        )

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it, or only estimate what that would cost."""
        if not self.is_dry:
            super()._run_subcommand(subcommand)
            return
        engine = self._engine(self.model, self.datamodule)
        has_dense = engine.dense is not None
        estimate = DryRun(engine.run, engine.pruning, subcommand, has_dense, engine.study).estimate()
        if engine.run.writes:
            print_tables(estimate_tables(estimate))

    def fit(self, model: PruningModule, datamodule: PruningDataModule, ckpt_path: str | None = None) -> None:
        """Run the whole experiment, or the study if there is one."""
        self._engine(model, datamodule).experiment(ckpt_path)

    def validate(self, model: PruningModule, datamodule: PruningDataModule) -> None:
        """Calibrate and prune."""
        self._engine(model, datamodule).prune()

    def test(self, model: PruningModule, datamodule: PruningDataModule) -> None:
        """Evaluate."""
        self._engine(model, datamodule).evaluate()


def take_dry_run(args: list[str]) -> tuple[list[str], bool]:
    """Return the command line without ``--dry-run``, and whether it was there.

    Raises:
        UserError: If the run is to be resumed.

    Example:
        >>> take_dry_run(["fit", "--dry-run", "--config", "demo"])
        (['fit', '--config', 'demo'], True)
    """
    is_dry = DRY_RUN in args
    if is_dry and any(arg.partition("=")[0] == "--resume" for arg in args):
        raise UserError(f"{DRY_RUN} estimates a whole run; leave --resume out")
    return [arg for arg in args if arg != DRY_RUN], is_dry


def _plain_seed(seed: bool | int) -> int:
    if isinstance(seed, bool):
        raise ValueError("seed_everything: give an integer, so that the run can be repeated")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: {seed} is not allowed; give 0 to 4294967295")
    return seed
