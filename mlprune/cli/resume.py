"""``--resume RUN``: the run's own configuration again, in the run's own folder."""

from pathlib import Path
from typing import Any

import yaml

from mlprune.errors import UserError
from mlprune.runs.folder import CONFIG, UNFINISHED

FLAG = "--resume"
MISSING = object()


def take_resume(args: list[str]) -> tuple[list[str], Path | None]:
    """Replace ``--resume RUN`` by the run's configuration.

    Args:
        args: The command line after the program's name.

    Returns:
        The command line for the parser, and the run's folder, absolute; None if nothing is to be resumed.

    Raises:
        UserError: If there is no such run, or it is complete.
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
            f"{FLAG} '{run}': no config.yaml there; give the folder of a run, such as lightning_logs/version_0"
        )
    if not (run / UNFINISHED).is_dir():
        raise UserError(f"{FLAG} '{run}': the run is complete; there is nothing to go on with")
    rest = [*args[1:place], *args[place + 2 :]]
    return [args[0], "--config", str(run / "config.yaml"), *rest], run.resolve()


def refuse_differences(run: Path, settings: dict[str, Any]) -> None:
    """Raise UserError if a configuration is not the run's own.

    Args:
        run: The run's folder.
        settings: The configuration as parsed now.
    """
    stored = flat(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))
    given = flat(settings)
    for key in sorted(stored.keys() | given.keys()):
        before, now = stored.get(key, MISSING), given.get(key, MISSING)
        if before != now:
            was = "not given" if before is MISSING else repr(before)
            raise UserError(f"{FLAG}: {key} was {was} when the run began; leave it out, or start a new run")


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as one level.

    Example:
        >>> flat({"data": {"tasks": ["a"], "limit": None}})
        {'data.tasks.0': 'a', 'data.limit': None}
    """
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {prefix: tree}
    return {
        key: value
        for name, branch in items
        for key, value in flat(branch, f"{prefix}.{name}" if prefix else str(name)).items()
    }
