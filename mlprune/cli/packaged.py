"""The configs that come with the package: ``--config demo`` finds ``demo.yaml`` from any folder."""

import itertools
import shutil
from importlib.resources import files
from pathlib import Path

from mlprune.errors import UserError, did_you_mean
from mlprune.invocation import program


def configs_folder() -> Path:
    """Return the folder of the packaged configs: of the installed package, or of the source tree."""
    beside = Path(__file__).parents[2] / "configs"
    if (beside / "demo.yaml").is_file():
        return beside
    return Path(str(files("mlprune") / "configs"))


def config_names() -> list[str]:
    """Return the names of the packaged configs, those in folders as ``paper/xglm-2.9b.fr-en``."""
    root = configs_folder()
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted((name for name in names if "fragments/" not in name), key=lambda name: (name.count("/"), name))


def find_config(given: str) -> str:
    """Return the path of a packaged config if that is what was named; a path that exists wins.

    Args:
        given: Path or name.

    Raises:
        UserError: If no such file or packaged config exists.
    """
    if Path(given).exists() or given.lstrip().startswith(("{", "[")):
        return given
    name = given.removesuffix(".yaml").removeprefix("configs/")
    if (path := configs_folder() / f"{name}.yaml").is_file():
        return str(path)
    raise UserError(f"--config: file '{given}' does not exist, and no packaged config has that name{_hint(name)}")


def configs_first(args: list[str]) -> list[str]:
    """Return a command line with its configs before its other flags, by path, so that a flag always wins over a file.

    Args:
        args: The command line after the program's name, the subcommand first.

    Example:
        >>> configs_first(["fit", "--data.limit", "3", "--config={}", "--seed_everything", "1"])
        ['fit', '--config={}', '--data.limit', '3', '--seed_everything', '1']
    """
    configs: list[str] = []
    others: list[str] = []
    rest = iter(args[1:])
    for arg in rest:
        if arg in ("--config", "-c"):
            configs += [arg, *map(find_config, itertools.islice(rest, 1))]
        elif arg.startswith("--config="):
            configs.append(f"--config={find_config(arg.partition('=')[2])}")
        else:
            others.append(arg)
    return [*args[:1], *configs, *others]


def copy_config(name: str, folder: Path) -> list[Path]:
    """Copy a packaged config, and the fragments that it names, to edit it.

    Args:
        name: Its name.
        folder: Where to.

    Returns:
        The files written.

    Raises:
        UserError: If there is no such config, or a file is there already; then nothing is written.
    """
    root = configs_folder()
    if name not in config_names():
        hint = did_you_mean(name, config_names()) or "; `mlprune list configs` shows them"
        raise UserError(f"config '{name}' does not exist{hint}")
    source = root / f"{name}.yaml"
    fragments = (
        sorted((source.parent / "fragments").glob("*.yaml")) if "fragments/" in source.read_text("utf-8") else []
    )
    pairs = [(path, folder / path.relative_to(source.parent)) for path in (source, *fragments)]
    if there := [target for _, target in pairs if target.exists()]:
        raise UserError(f"'{there[0]}' is there already; nothing was copied")
    for path, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return [target for _, target in pairs]


def config_line(name: str) -> str:
    """Return what a config says of itself: its second comment, else nothing."""
    lines = (configs_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ") for line in lines[:2] if line.startswith("#")]
    return comments[1] if len(comments) > 1 else ""


def _hint(name: str) -> str:
    return did_you_mean(name, config_names()) or f"; `{program()} list configs` shows them"
