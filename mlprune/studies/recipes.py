"""Recipes as data: a name and what differs from the configuration, over a grid of keys."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from mlprune.errors import UserError, did_you_mean

SHORT = {  # keys that recipes may give by their last part
    **{name: f"pruning.{name}" for name in ("importance", "pattern", "allocation", "propagate", "include", "exclude")},
    "count_padding": "pruning.count_padding",
    "demonstrations": "data.demonstrations",
    "num_prompts": "data.num_prompts",
    "max_tokens": "data.max_tokens",
    "num_tokens": "data.num_tokens",
    "interventions": "model.interventions",
    "model": "model.name",
    "dtype": "model.dtype",
    "groups": "pruning.importance.groups",
}
DEFAULTS: dict[str, dict[str, Any]] = {  # what a section is where the configuration leaves it out
    "pruning.importance": {"class_path": "mlprune.pruning.Wanda"},
    "pruning.pattern": {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.3}},
}
FIXED = ("data.tasks", "data.seed", "data.limit", "data.training", "pruning.sweep", "pruning.streaming", "model.lora")
SECTIONS = ("model", "data", "pruning")


@dataclass(frozen=True)
class Recipe:
    """What is done to a model.

    Args:
        name: What tables call it.
        differs: Key, such as ``pruning.pattern.sparsity``, to value.
        values: The keys of the grid among them.
        control: What it is a control of; None for a recipe of the study.
        endpoint: The ``tasks`` and ``languages`` that decide for it, where they are not those of the study.
    """

    name: str
    differs: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    control: str | None = None
    endpoint: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its folder.

        Example:
            >>> Recipe("wanda, sparsity 0.1").folder
            'wanda-sparsity-0.1'
        """
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.name).strip("-.") or "recipe"


@contextmanager
def in_recipe(name: str) -> Iterator[None]:
    """Inside this context, errors name the recipe."""
    try:
        yield
    except UserError as error:
        raise UserError(f"study, recipe '{name}': {error}") from error


def expand(
    recipes: Mapping[str, Mapping[str, Any] | None] | None, grid: Mapping[str, Sequence[Any]] | None
) -> list[Recipe]:
    """Return every recipe with every combination of the grid's values.

    Args:
        recipes: Name to what differs; one recipe in which nothing differs if omitted.
        grid: Key to values.

    Raises:
        UserError: If a key cannot differ between recipes, or two recipes would share a folder.

    Example:
        >>> [recipe.name for recipe in expand({"wanda": {}, "random": None}, {"pruning.pattern.sparsity": [0.1, 0.2]})]
        ['wanda, sparsity 0.1', 'wanda, sparsity 0.2', 'random, sparsity 0.1', 'random, sparsity 0.2']
    """
    found = []
    for name, given in (recipes or {"pruned": {}}).items():
        if not name.strip() or not name.isprintable() or len(name) > 80:
            raise UserError(f"study.recipes: {name!r} is not allowed as a name; give one line of at most 80 characters")
        parts = {place: part for place, part in (given or {}).items() if place != "endpoint"}
        keys = {key: value for place, part in parts.items() for key, value in _keys(name, place, part)}
        endpoint = _endpoint(name, (given or {}).get("endpoint"))
        axes = [[(full_key("study.grid", key), value) for value in values] for key, values in (grid or {}).items()]
        for values in itertools.product(*axes):
            words = [f"{key.rpartition('.')[2]} {_word(value)}" for key, value in values]
            found.append(Recipe(", ".join([name, *words]), keys | dict(values), dict(values), endpoint=endpoint))
    folders = [recipe.folder for recipe in found]
    for recipe in found:
        if folders.count(recipe.folder) > 1:
            raise UserError(f"study.recipes: '{recipe.name}' has the folder name of another recipe; give another name")
    return found


def _endpoint(name: str, given: Any) -> dict[str, list[str]]:
    """The tasks and languages that decide for one recipe."""
    if given is None:
        return {}
    known = [key for key in ("tasks", "languages") if isinstance(given, Mapping) and key in given]
    if not known or set(given) - set(known) or not all(isinstance(given[key], list) and given[key] for key in known):
        raise UserError(f"study.recipes.{name}.endpoint {given} is not allowed; give lists of tasks and languages")
    return {key: list(map(str, given[key])) for key in known}


def _keys(name: str, place: str, part: Any) -> list[tuple[str, Any]]:
    """The full keys of one entry of a recipe; a section may be given as a mapping."""
    if place in SECTIONS and isinstance(part, Mapping):
        return [(full_key(f"study.recipes.{name}", f"{place}.{key}"), value) for key, value in part.items()]
    if place == "intervention":
        return [("model.interventions", [part])]
    return [(full_key(f"study.recipes.{name}", place), part)]


def full_key(where: str, key: str) -> str:
    """Return a key with its section.

    Args:
        where: Where it stands, for messages.
        key: As given, such as ``importance`` or ``pruning.pattern.sparsity``.

    Raises:
        UserError: If recipes cannot differ in it.

    Example:
        >>> full_key("study.recipes.a", "importance"), full_key("study.grid", "pattern.sparsity")
        ('pruning.importance', 'pruning.pattern.sparsity')
    """
    first, dot, rest = key.partition(".")
    full = f"{SHORT[first]}{dot}{rest}" if first in SHORT and not (first in SECTIONS and rest) else key
    if full.partition(".")[0] not in SECTIONS or "." not in full:
        allowed = [*SHORT, "intervention", "endpoint", *(f"{name}.KEY" for name in SECTIONS)]
        raise UserError(
            f"{where}: '{key}' is not a key; give one of {', '.join(allowed)}{did_you_mean(first, allowed)}"
        )
    if fixed := next((prefix for prefix in FIXED if full == prefix or full.startswith(f"{prefix}.")), None):
        raise UserError(f"{where}: {fixed} is the same for all recipes of a study; leave '{key}' out")
    return full


def _word(value: Any) -> str:
    """A value as it stands in a name."""
    if isinstance(value, Mapping):
        options = value.get("init_args") or {}
        words = [
            str(value.get("class_path", "")).rpartition(".")[2],
            *(f"{key} {_word(value)}" for key, value in options.items()),
        ]
        return " ".join(filter(None, words))
    if isinstance(value, list):
        return "+".join(map(_word, value))
    return (
        f"{value:g}" if isinstance(value, float) else str(value).rpartition(".")[2] if _is_path(value) else str(value)
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[a-z_]\w*(\.\w+)+", value))


def applied(settings: Mapping[str, Any], differs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with what differs put in; a key of a class is put under its ``init_args``.

    Args:
        settings: The configuration.
        differs: Key to value.

    Example:
        >>> pattern = {"class_path": "mlprune.pruning.Unstructured", "init_args": {"sparsity": 0.3}}
        >>> applied({"pruning": {"pattern": pattern}}, {"pruning.pattern.sparsity": 0.1})["pruning"]["pattern"]
        {'class_path': 'mlprune.pruning.Unstructured', 'init_args': {'sparsity': 0.1}}
    """
    found: dict[str, Any] = deepcopy(dict(settings))
    for key, value in sorted(differs.items(), key=lambda item: item[0].count(".")):  # whole classes before options
        place = found
        *parents, last = [part for part in key.split(".") if part != "init_args"]
        path = ""
        for parent in parents:
            path = f"{path}.{parent}".lstrip(".")
            below = place.get(parent)
            if isinstance(below, str):
                below = {"class_path": below}
            if below is None:
                below = deepcopy(DEFAULTS.get(path, {}))
            place[parent] = below
            place = below.setdefault("init_args", {}) if "class_path" in below else below
            if place is None:
                place = below["init_args"] = {}
        if key == "data.demonstrations" and isinstance(value, Mapping):
            value = {**(place.get(last) or {}), **value}
        place[last] = deepcopy(value)
    return found
