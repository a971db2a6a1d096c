"""The command line: LightningCLI with fit, validate and test, and errors of one line."""

import logging
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from rich.console import Console
from rich.logging import RichHandler

from mlprune.callbacks import (
    FeatureAnalysis,
    ProgressDisplay,
    PruningCallback,
    ReportCallback,
    ResultsTable,
    RunWriter,
    SaveConfig,
    TensorBoard,
)
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.experiment import run_experiment
from mlprune.log import log
from mlprune.module import PruningModule
from mlprune.plain import one_line, plain
from mlprune.resume import refuse_differences, take_resume
from mlprune.sweep import run_sweep

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # batches are dealt by the data module
    "inference_mode": False,  # weights are edited during validation
    "max_epochs": 0,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


# warnings of libraries that the user can do nothing about
UNHELPFUL = (
    ".*args parameter is intended to run from within Python.*",
    ".*does not have many workers.*",
    ".*was configured so `validation_step`.*",
    ".*litlogger.*",
    ".*LeafSpec.*is deprecated.*",
    ".*dataloader.*is empty.*|.*returned 0 length.*|.*Total length of.*zero.*",
    ".*sync_dist=True.*",
    ".*is_gradient_checkpointing.*is deprecated.*",
    ".*number of training batches.*smaller than the logging interval.*",
)


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line, without usage text."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        keys = {key for parser in (self, *_subparsers(self)) for key in _keys(parser)}
        raise UserError(plain(message, sorted(keys)))


def _subparsers(parser: LightningArgumentParser) -> list[LightningArgumentParser]:
    action = parser._subcommands_action
    return list(dict(action.choices).values()) if action is not None else []


def _keys(parser: LightningArgumentParser) -> list[str]:
    names = [action.dest for action in parser._actions]
    return [name for name in names if name.rpartition(".")[2] not in ("help", "print_config", "config")]


class MlpruneCLI(LightningCLI):
    """The command line of mlprune: ``fit`` runs the experiment, ``validate`` prunes, ``test`` evaluates."""

    def __init__(self, args: list[str] | None = None) -> None:
        args, self.resumed = take_resume(list(sys.argv[1:] if args is None else args))
        check_configs(args)
        super().__init__(
            PruningModule,
            PruningDataModule,
            save_config_callback=SaveConfig,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=OneLineParser,
            parser_kwargs={"description": "Prune multilingual language models and see what it did to every language."},
            auto_configure_optimizers=False,
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The three subcommands and the trainer's arguments that are not the user's."""
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"},
            "validate": {"model", "dataloaders", "datamodule", "verbose", "ckpt_path", "weights_only"},
            "test": {"model", "dataloaders", "datamodule", "verbose", "ckpt_path", "weights_only"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the section ``pruning``; one seed serves everything."""
        parser.add_lightning_class_args(PruningCallback, "pruning")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_plain_seed)

    def before_instantiate_classes(self) -> None:
        """Check what Lightning would only find later, and make ``fast_dev_run`` mean a small but whole run."""
        config = self.config[self.subcommand]
        trainer = config.trainer
        if trainer.max_epochs is not None and trainer.max_epochs < 0:
            raise UserError(f"trainer.max_epochs {trainer.max_epochs} would never end; give 0 or more")
        if self.resumed is not None:
            refuse_differences(self.resumed, self._parser(self.subcommand).dump(config, skip_none=False))
        checkpoint = config.get("ckpt_path")
        if checkpoint is not None and not Path(checkpoint).is_file():
            raise UserError(f"ckpt_path '{checkpoint}' does not exist; give a Lightning checkpoint")
        if self.subcommand != "test" and trainer.limit_val_batches not in (None, 1.0):
            value = trainer.limit_val_batches
            raise UserError(f"trainer.limit_val_batches {value} would prune half a model; use data.num_prompts instead")
        if trainer.fast_dev_run:
            trainer.fast_dev_run = False
            trainer.logger = False
            config.data.num_prompts = config.data.limit = 2
            for demonstrations in (config.data.demonstrations or {}).values():
                demonstrations.init_args.num_prompts = None

    def instantiate_classes(self) -> None:
        """Build trainer, model and data; what they refuse is the user's to mend."""
        try:
            super().instantiate_classes()
        except UserError:
            raise
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise UserError(f"trainer: {one_line(str(error))}") from error
        except TypeError as error:
            if "`devices`" not in str(error):
                raise
            raise UserError(f"trainer.devices: {one_line(str(error))}") from error
        except ValueError as error:
            raise UserError(plain(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Add the callbacks that write and print what a run found; refuse strategies that split the weights."""
        chosen = self.config_init[self.subcommand].trainer.callbacks or []
        own_bar = any(isinstance(callback, ProgressBar) for callback in chosen)  # before Lightning adds its own
        trainer = super().instantiate_trainer(**kwargs)
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            name = type(trainer.strategy).__name__
            raise UserError(
                f"trainer.strategy {name} splits weight matrices, and masks are held on whole ones; give auto or ddp, "
                "and prune a model that is too large for a device with --pruning.streaming true"
            )
        if getattr(trainer.strategy, "_start_method", "popen") != "popen":
            raise UserError("trainer.strategy: spawned or forked processes give nothing back; give ddp")
        if self.resumed is not None:
            trainer.resumes = True
            trainer.mlprune_run_folder = run = self.resumed
            if trainer.loggers and type(trainer.loggers[0]) is TensorBoardLogger:
                trainer.loggers = [TensorBoardLogger(run.parents[1], run.parent.name, run.name), *trainer.loggers[1:]]
        config = self.config[self.subcommand].as_dict()
        described = {name: config[name] for name in ("model", "data", "pruning", "seed_everything")}
        trainer.callbacks += [
            RunWriter(described, self.subcommand),
            ResultsTable(quiet=self.subcommand == "fit"),
            ReportCallback(),
        ]
        if not any(isinstance(callback, TensorBoard) for callback in trainer.callbacks):
            trainer.callbacks.append(TensorBoard())
        if not own_bar:
            trainer.callbacks = [ProgressDisplay() if isinstance(c, ProgressBar) else c for c in trainer.callbacks]
        analysed = any(isinstance(callback, FeatureAnalysis) for callback in trainer.callbacks)
        if self.subcommand == "validate" and analysed:
            trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, PruningCallback)]  # measures instead
        # the pruning callback first: the others look at its work
        trainer.callbacks.sort(key=lambda callback: not isinstance(callback, PruningCallback))
        return trainer

    def fit(self, model: PruningModule, datamodule: PruningDataModule, ckpt_path: str | None = None) -> None:
        """Run the whole experiment, or the sweep if one is asked for."""
        pruning = next(callback for callback in self.trainer.callbacks if isinstance(callback, PruningCallback))
        if pruning.sweep is not None:
            run_sweep(self.trainer, model, datamodule, pruning)
            return
        run_experiment(self.trainer, model, datamodule, ckpt_path)

    def validate(self, model: PruningModule, datamodule: PruningDataModule) -> None:
        """Calibrate and prune."""
        self.trainer.validate(model, datamodule=datamodule, verbose=False)

    def test(self, model: PruningModule, datamodule: PruningDataModule) -> None:
        """Evaluate."""
        self.trainer.test(model, datamodule=datamodule, verbose=False)


def check_configs(args: list[str]) -> None:
    """Raise UserError if a configuration file holds something else than settings."""
    for flag, following in pairwise([*args, ""]):
        name = following if flag == "--config" else flag.removeprefix("--config=")
        if not flag.startswith("--config") or not Path(name).is_file():
            continue  # the parser tells what is missing
        try:
            settings = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"--config {name}: not YAML: {one_line(str(error))}") from error
        if not isinstance(settings, dict):
            raise UserError(
                f"--config {name}: holds no settings; give keys and values, such as `model: {{name: demo}}`"
            )


def _plain_seed(seed: bool | int) -> int:
    if isinstance(seed, bool):
        raise ValueError("seed_everything: give an integer, so that the run can be repeated")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: {seed} is not allowed; give 0 to 4294967295")
    return seed


def quiet_libraries() -> None:
    """Silence what the user can do nothing about."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for pattern in UNHELPFUL:
        warnings.filterwarnings("ignore", pattern)


def main(args: list[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line and exit status 2."""
    log.setLevel(logging.INFO)
    log.handlers = [RichHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)]
    quiet_libraries()
    try:
        MlpruneCLI(args)
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:
        print(f"error: --config: a file is not UTF-8 text ({error.reason} at byte {error.start})", file=sys.stderr)
        return 2
    except OSError as error:  # a folder or disk that refuses, wherever that was noticed
        if error.filename is None:
            raise
        print(f"error: '{error.filename}': {error.strerror}", file=sys.stderr)
        return 2
    return 0


def console_script() -> None:
    """The entry point of the installed command ``mlprune``."""
    sys.exit(main())
