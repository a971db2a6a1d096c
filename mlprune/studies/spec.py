"""A study as the file declares it: endpoint, rows, recipes, grid and seeds, checked before anything runs."""

import re
from dataclasses import dataclass, field
from typing import Any

from mlprune.errors import UserError
from mlprune.evaluation.tasks.selection import NamedRows
from mlprune.studies.endpoint import Endpoint

SHARD = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@dataclass(frozen=True)
class Select:
    """The rows that choose recipes.

    Args:
        rows: As a task's ``rows``; all if omitted.
        metric: What recipes are chosen by: a measure of the tasks, such as ``accuracy``; if omitted, the probability of
            the right answer where there are candidates, else the endpoint's measure.
        screen: Margin of the dense model, in the units of a task's scores, from which on rows are not asked: no recipe
            is expected to turn such an answer; for all tasks, or by task (others are asked in full). The chosen recipes
            are asked them at last, and the report says whether one was turned. Needs ``confirm``.
    """

    rows: NamedRows | None = None
    metric: str | None = None
    screen: float | dict[str, float] | None = None


@dataclass(frozen=True)
class Confirm:
    """The rows that judge the chosen recipes, once.

    Args:
        rows: As a task's ``rows``; all if omitted, which only a study without selection can have.
        top: How many recipes are judged; 3 if there is a selection, all without.
    """

    rows: NamedRows | None = None
    top: int | None = None


@dataclass(frozen=True)
class Study:
    """Many recipes under one declared endpoint; without recipes and grid there is none.

    Args:
        question: What it asks, for the report.
        endpoint: What decides; needed with ``confirm``.
        select: The rows that choose recipes.
        confirm: The rows that judge the chosen ones, once.
        seeds: Seeds of the choice of calibration prompts (and of random scores), each of which gives a result.
        recipes: Name to what differs from the configuration, such as ``{importance: Magnitude}`` or
            ``{pruning.pattern.sparsity: 0.2}``.
        grid: Key to values; every recipe is tried with every combination.
        controls: Run controls of the confirmed recipes beside them.
        earlier: Folders of earlier studies, whose looks at the confirmation rows count.
        look_again: Look at confirmation rows that were looked at before.
        shard: Evaluate only a part of the recipes, as ``1/4``; ``mlprune report`` merges the parts' folders. What needs
            the results of all recipes is left to the merged run: the confirmation of those that are chosen, and
            controls.

    Raises:
        UserError: If a value is not allowed, or two do not go together.

    Example:
        >>> Study(grid={"pruning.pattern.sparsity": [0.1, 0.2]}).is_declared
        True
        >>> Study(recipes={"wanda": {}}, confirm=Confirm("0-99"))
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: study.confirm needs study.endpoint: say what decides before anything runs
    """

    question: str = ""
    endpoint: Endpoint | None = None
    select: Select | None = None
    confirm: Confirm | None = None
    seeds: list[int] | None = None
    recipes: dict[str, dict[str, Any] | None] | None = None
    grid: dict[str, list[Any]] | None = None
    controls: bool = True
    earlier: list[str] = field(default_factory=list)
    look_again: bool = False
    shard: str | None = None

    @property
    def is_declared(self) -> bool:
        """Whether there is a study at all."""
        return self.recipes is not None or self.grid is not None

    @property
    def top(self) -> int | None:
        """How many recipes are confirmed; None for all."""
        if self.confirm is None or (self.select is None and self.confirm.top is None):
            return None
        return self.confirm.top or 3

    @property
    def part(self) -> tuple[int, int]:
        """Which part of how many is evaluated, from 0."""
        found = SHARD.fullmatch(self.shard or "1/1")
        assert found is not None
        return int(found[1]) - 1, int(found[2])

    def __post_init__(self) -> None:
        others = [name for name in ("endpoint", "select", "confirm", "seeds", "shard") if getattr(self, name)]
        if not self.is_declared:
            if others:
                raise UserError(f"study.{others[0]}: there is no study yet; give study.recipes or study.grid")
            return
        if self.recipes == {} or self.grid == {}:
            raise UserError(
                f"study.{'recipes' if self.recipes == {} else 'grid'} is empty; give at least one, or leave it out"
            )
        for key, values in (self.grid or {}).items():
            if not values or any(values.count(value) > 1 for value in values):
                raise UserError(f"study.grid: {key} {values} is not allowed; give at least one value, each once")
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0):
            raise UserError(f"study.seeds {self.seeds} is not allowed; give at least one, each once, from 0 on")
        self._check_rows()
        if self.shard is not None:
            found = SHARD.fullmatch(self.shard)
            if not found or int(found[1]) > int(found[2]):
                raise UserError(f"study.shard '{self.shard}' is not allowed; give i/n, such as 1/4, i from 1 to n")

    def _check_rows(self) -> None:
        if self.confirm is not None and self.endpoint is None:
            raise UserError("study.confirm needs study.endpoint: say what decides before anything runs")
        if self.confirm is not None and self.confirm.top is not None and self.confirm.top < 1:
            raise UserError(f"study.confirm.top {self.confirm.top} is not allowed; give at least 1")
        self._check_screen()
        if self.select is not None and self.confirm is not None:
            for name, part in (("select", self.select), ("confirm", self.confirm)):
                if part.rows is None:
                    raise UserError(f"study.{name}.rows is missing; rows that choose and rows that judge must differ")

    def _check_screen(self) -> None:
        screen = None if self.select is None else self.select.screen
        if screen is None:
            return
        if self.confirm is None:
            raise UserError("study.select.screen needs study.confirm, whose recipes are asked what was screened")
        for margin in screen.values() if isinstance(screen, dict) else [screen]:
            if not 0 < margin < float("inf"):
                raise UserError(f"study.select.screen {margin:g} is not allowed; give a margin above 0")
