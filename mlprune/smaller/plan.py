"""How many heads and units of a model stay, and which biases make up for the others; no weights are needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlprune.errors import UserError
from mlprune.models.changed import added_biases, check_config
from mlprune.models.checkpoint import Checkpoint
from mlprune.models.widths import Kind, Width, find_heads, find_units
from mlprune.pruning import FLAP, Importance, Statistic, joined
from mlprune.pruning.moments import TOKEN_MOMENTS
from mlprune.pruning.statistics import ENERGY


@dataclass(frozen=True)
class Planned:
    """A width and its new numbers."""

    width: Width
    after: Mapping[Kind, int]

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the configuration and their new values."""
        return self.width.changes(self.after)


def plan(
    checkpoint: Checkpoint, units: float = 0.0, heads: int = 0, whole_groups: bool = False, multiple_of: int = 1
) -> list[Planned]:
    """Return what becomes of a model's widths; :func:`mlprune.smaller.narrow` describes the arguments.

    Raises:
        UserError: If a number is out of range or does not fit the model, or it cannot have other widths.
    """
    if not 0 <= units < 1:
        raise UserError(f"units {units} is not allowed; give a share from 0 to below 1")
    if heads < 0 or multiple_of < 1:
        number = f"heads {heads}" if heads < 0 else f"multiple_of {multiple_of}"
        raise UserError(f"{number} is not allowed; give {0 if heads < 0 else 1} or more")
    if not units and not heads:
        raise UserError("units 0 and heads 0 leave nothing out; give one of them")
    if checkpoint.is_quantized:
        raise UserError(f"'{checkpoint.folder}' holds quantized weights; give the model they were made of")
    found = [_fewer_units(width, units, multiple_of) for width in find_units(checkpoint)] if units else []
    if heads:
        width = find_heads(checkpoint)
        found.append(Planned(width, _fewer_heads(width, heads, whole_groups)))
    return found


def _fewer_units(width: Width, share: float, multiple: int) -> Planned:
    before = width.counts["unit"]
    after = -(-(before - int(before * share)) // multiple) * multiple
    if not 0 < after < before:
        name = next(iter(width.fields))
        raise UserError(f"units {share:g} with multiple_of {multiple} leaves {after} of {before} ({name}); give others")
    return Planned(width, {"unit": after})


def _fewer_heads(width: Width, heads: int, whole_groups: bool) -> dict[Kind, int]:
    """How many heads stay: whole key-value heads with their query heads, or as many query heads of each."""
    queries = width.counts["query"]
    groups = width.counts.get("key_value", queries)
    size = queries // groups
    whole = whole_groups or size == 1
    allowed = range(size, queries, size) if whole else range(groups, queries, groups)
    if heads not in allowed:
        why = f"a key-value head has {size} query heads" if whole else f"each of {groups} key-value heads loses as many"
        give = f"give one of {', '.join(map(str, allowed))}" if allowed else "none can go"
        hint = "" if whole or groups == 1 else ", or whole_groups: true, so that key-value heads go too"
        raise UserError(f"heads {heads} of {queries} is not allowed: {why}; {give}{hint}")
    after: dict[Kind, int] = {"query": queries - heads}
    if "key_value" in width.counts:
        after["key_value"] = groups - heads // size if whole else groups
    return after


@dataclass(frozen=True)
class Narrowing:
    """What is to become of one model: widths, how the heads and units are scored, and which biases make up for them.

    Args:
        checkpoint: The model.
        planned: Its widths.
        importance: How weights are scored.
        compensated: Paths of the readers whose bias takes over the mean of what goes.
        switches: Fields of the configuration that give some of them a bias.
        biases: Names of all biases that come with these.
    """

    checkpoint: Checkpoint
    planned: list[Planned]
    importance: Importance
    compensated: list[str]
    switches: dict[str, Any]
    biases: list[str]

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the configuration and their new values."""
        return {
            **self.switches,
            **{field: value for planned in self.planned for field, value in planned.changes.items()},
        }

    @property
    def needs(self) -> Statistic | None:
        """What calibration measures: what the score needs, and the means of inputs for biases."""
        needs = self.importance.needs
        if not self.compensated:
            return needs
        return TOKEN_MOMENTS if needs in (None, ENERGY, TOKEN_MOMENTS) else joined(needs, TOKEN_MOMENTS)


def narrowing(
    checkpoint: Checkpoint,
    importance: Importance | None = None,
    compensate: bool = True,
    add_biases: bool = False,
    **widths: Any,
) -> Narrowing:
    """Return what is to become of a model; :func:`narrow` describes the arguments.

    Raises:
        UserError: If the model cannot have these widths, or the importance gives heads and units no scores.
    """
    importance = importance or FLAP()
    if not importance.has_fixed_scores:
        raise UserError(f"{type(importance).__name__} gives heads and units no scores of their own; use FLAP or Wanda")
    planned = plan(checkpoint, **widths)
    readers = {site.reader.path: site.reader.module for width in planned for site in width.width.sites}
    with_bias = [path for path, module in readers.items() if getattr(module, "bias", None) is not None]
    switches: dict[str, Any] = {}
    biases: list[str] = []
    if add_biases and compensate:
        switches, biases = added_biases(checkpoint, [path for path in readers if path not in with_bias])
    compensated = [path for path in readers if path in with_bias or f"{path}.bias" in biases] if compensate else []
    found = Narrowing(checkpoint, planned, importance, compensated, switches, biases)
    check_config(checkpoint, found.changes)
    return found
