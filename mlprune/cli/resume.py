"""``--resume RUN``: the run's configuration again, in the same folder."""

import shlex
from pathlib import Path
from typing import Any

from mlprune.callbacks.run_folder import VERSIONS
from mlprune.cli.config_files import read_yaml
from mlprune.errors import UserError
from mlprune.invocation import program
from mlprune.runs.folder import CONFIG, UNFINISHED
from mlprune.runs.inputs import MISSING, flat, read_inputs, refuse_changes

FLAG = "--resume"


def take_resume(args: list[str]) -> tuple[list[str], Path | None]:
    """Replace ``--resume RUN`` by the run's configuration.

    Args:
        args: The command line after the program's name.

    Returns:
        The command line for the parser, and the run's folder, absolute; None if nothing is to be resumed.

    Raises:
        UserError: If there is no such run, it is complete, or its configuration was edited since.
    """
    args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith(f"{FLAG}=") else [arg])]
    if FLAG not in args:
        return args, None
    place = args.index(FLAG)
    if place == len(args) - 1:
        raise UserError(f"{FLAG} needs the folder of a run, such as lightning_logs/version_0")
    if place == 0:
        raise UserError(f"{FLAG} goes after the subcommand: fit, validate or test")
    run = Path(args[place + 1])
    if not (run / CONFIG).is_file():
        raise UserError(
            f"{FLAG} '{run}': no {CONFIG} there; give the folder of a run, such as lightning_logs/version_0"
        )
    if not (run / UNFINISHED).is_dir():
        again = f"{program()} report {shlex.quote(str(run))}"
        raise UserError(f"{FLAG} '{run}': the run is complete; {again} writes its report again")
    _refuse_edits(run)
    rest = [*args[1:place], *args[place + 2 :]]
    return [args[0], "--config", str(run / CONFIG), *rest], run.resolve()


def refuse_differences(run: Path, settings: dict[str, Any]) -> None:
    """Raise UserError if a configuration is not the run's.

    Args:
        run: The run's folder.
        settings: The configuration as parsed now.
    """
    stored, given = (flat({**found, VERSIONS: None}) for found in (_config(run), settings))
    for key in sorted(stored.keys() | given.keys()):
        before, now = stored.get(key, MISSING), given.get(key, MISSING)
        if before != now:
            was = "not given" if before is MISSING else repr(before)
            raise UserError(f"{FLAG}: {key} was {was} when the run began; leave it out, or start a new run")


def _refuse_edits(run: Path) -> None:
    """Raise UserError if a run's config.yaml is not as the run wrote it, naming the key."""
    began = read_inputs(run)
    if began is not None:
        now = flat({key: value for key, value in _config(run).items() if key != VERSIONS})
        refuse_changes(run, began.config, now, f"{CONFIG}:")


def _config(run: Path) -> dict[str, Any]:
    try:
        content = read_yaml((run / CONFIG).read_bytes())
    except (OSError, UserError) as error:
        raise UserError(f"{FLAG} '{run}': {CONFIG} cannot be read: {error}; start a new run") from error
    if not isinstance(content, dict):
        raise UserError(f"{FLAG} '{run}': {CONFIG} holds no settings; start a new run")
    return content
