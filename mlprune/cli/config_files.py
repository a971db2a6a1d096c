"""Configuration files, looked at before the parser reads them: what YAML readers accept silently is an error here."""

from collections.abc import Hashable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from mlprune.cli.foreign import named_here
from mlprune.errors import UserError, one_line

SECTIONS = ("model", "data", "trainer", "pruning")
FRAGMENTS = (".yaml", ".yml", ".json")  # a section may be the path of one
MAX_DEPTH = 50  # brackets within brackets
MAX_VALUES = 100_000  # with aliases written out


def check_files(args: list[str]) -> None:
    """Raise UserError if a configuration file on the command line holds something else than settings.

    Args:
        args: The command line after the program's name.
    """
    for flag, following in pairwise([*args, ""]):
        name = following if flag in ("--config", "-c") else flag.removeprefix("--config=")
        if not flag.startswith(("--config", "-c")) or not Path(name).is_file():
            continue  # the parser reports missing files
        try:
            settings = read_yaml(Path(name).read_bytes())
            _check_sections(settings, Path(name).parent)
        except UserError as error:
            raise UserError(f"--config {name}: {error}") from error


def read_yaml(content: bytes) -> Any:
    """Read YAML strictly: without keys that are given twice, nesting without end, or aliases that multiply.

    Raises:
        UserError: If it is not UTF-8, not YAML, or has one of these.

    Example:
        >>> read_yaml(b"model: {name: demo}")
        {'model': {'name': 'demo'}}
        >>> read_yaml(b"seed: 1\\nseed: 2")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: key 'seed' is given twice, again in line 2
    """
    try:
        loader = _Strict(content.decode("utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {one_line(str(error))}") from error
    except RecursionError as error:
        raise UserError(f"nested more than {MAX_DEPTH} deep") from error


class _Strict(yaml.SafeLoader):
    """Refuses keys that are given twice, of which YAML readers silently take the last, and keys that are not words."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"a list or mapping is a key in line {line}; give a word")
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise UserError(f"key '{key.value}' is given twice, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check_size(root: yaml.Node) -> None:
    """Count nodes as often as aliases repeat them, since code that walks over the settings visits each that often."""
    known: dict[yaml.Node, tuple[int, int]] = {}
    above: set[yaml.Node] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return how many values a node holds, and how deep it is."""
        if node in known or isinstance(node, yaml.ScalarNode):
            return known.get(node, (1, 0))
        line = node.start_mark.line + 1
        if node in above:
            raise UserError(f"the alias of line {line} stands within itself")
        above.add(node)
        children = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        sizes, depths = zip((1, 0), *map(measure, children), strict=True)
        above.remove(node)
        if sum(sizes) > MAX_VALUES:
            raise UserError(f"more than {MAX_VALUES:,} values, with the aliases of line {line} written out")
        if max(depths) >= MAX_DEPTH:
            raise UserError(f"nested more than {MAX_DEPTH} deep in line {line}")
        known[node] = sum(sizes), 1 + max(depths)
        return known[node]

    measure(root)


def _check_sections(settings: Any, folder: Path) -> None:
    if not isinstance(settings, dict):
        raise UserError("holds no settings; give keys and values, such as `model: {name: demo}`")
    for section in SECTIONS:
        if str(settings.get(section)).endswith(FRAGMENTS):
            settings[section] = _read_fragment(section, folder / settings[section])
        if section in settings and not isinstance(settings[section], dict):
            value = settings[section]
            problem = "is empty; leave it out or give" if value is None else f"'{value}' is not allowed; give"
            raise UserError(f"{section}: {problem} keys and values")
    for key in (f"model.{name}" for name in settings.get("model", {})):
        if instead := named_here(key):  # with values that the parser cannot read, such as a device_map {"": 0}
            raise UserError(f"'{key}' is not a key{instead}")
    if found := _bare_no(settings):
        raise UserError(f"{found}: YAML reads a bare no as false; quote it: 'no'")
    if "seed" in settings.get("data", {}):
        raise UserError("data.seed follows seed_everything, the run's one seed; give that")


def _read_fragment(section: str, file: Path) -> Any:
    """Return a section that stands in a file of its own, whose path is relative to the config that includes it."""
    if not file.is_file():
        raise UserError(f"{section}: file '{file}' does not exist")
    try:
        return read_yaml(file.read_bytes())
    except UserError as error:
        raise UserError(f"{section}: {file}: {error}") from error


def _bare_no(settings: Any, key: str = "") -> str:
    """Return the key under which a language's code is false, or nothing."""
    if isinstance(settings, dict):
        found = (str(key) if code is False else _bare_no(value, code) for code, value in settings.items())
        return next(filter(None, found), "")
    if isinstance(settings, list):
        if key == "languages":
            return key if any(code is False for code in settings) else ""
        return next(filter(None, (_bare_no(entry) for entry in settings)), "")
    return key if settings is False and (key == "lang" or str(key).endswith("_lang")) else ""
