"""Activation statistics of a layer's inputs: energies (mean squares) and Gram matrices, by demonstration group.

Shapes: x (tokens, in_features); energy (in_features,); gram (in_features, in_features).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mlprune.errors import UserError
from mlprune.exact import ExactMetric, accumulator_dtype
from mlprune.files import whole_file
from mlprune.pruning.sums import sum_of_outer_products, sum_of_squares

SMALLEST = torch.finfo(torch.float32).tiny
Pool = Literal["tokens", "mean", "max", "worst"]
"""How one statistic is made of those of several groups, such as languages, at each input.

``tokens``: the mean over all tokens, so that longer text counts more; ``mean``: the mean over groups, all alike;
``max``: the largest, so that what one group needs is kept; ``worst``: the same after each group's numbers were divided
by their own mean over the inputs, so that a group with small numbers everywhere does not lose to the others.
"""

FEW_ROWS = 4  # statistics with more numbers an input are too large to carry rounding errors along


@dataclass(frozen=True)
class Statistic:
    """What calibration measures of a layer's inputs.

    Args:
        name: What messages call it.
        total: Sums it over the tokens of (tokens, in_features), all of them or those of some slices.
        dims: 1 for (in_features,), 2 for (in_features, in_features).
        is_stored: Whether runs keep it on disk; large ones are not worth the space.
        by_prompt: Whether ``total`` must see each prompt (row of a batch) alone, as the tokens of two make no sum.
        one_prompt: Whether a batch must hold a single prompt.
        scope: What a batch has to pass before it is known: the layer, its whole block, or the whole dense model.

    Example:
        >>> ENERGY.shape(3), GRAM.shape(3)
        ((3,), (3, 3))
        >>> GRAM.energy(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
        tensor([1., 4.])
    """

    name: str
    total: Callable[[Tensor, list[slice] | None], Tensor]
    dims: int
    is_stored: bool
    by_prompt: bool = False
    one_prompt: bool = False
    scope: Literal["layer", "block", "model"] = "layer"

    def shape(self, in_features: int) -> tuple[int, ...]:
        """Return the statistic's shape for one matrix."""
        return (in_features,) * self.dims

    def energy(self, mean: Tensor) -> Tensor:
        """Return the energies, (..., in_features), that the statistic holds."""
        return mean if self.dims == 1 else mean.diagonal(dim1=-2, dim2=-1)

    def includes(self, wanted: "Statistic") -> bool:
        """Return whether another statistic can be read from this one, as energies can from any."""
        return wanted in (self, ENERGY)

    def part(self, mean: Tensor, wanted: "Statistic") -> Tensor:
        """Return the mean of another statistic that this one includes."""
        return mean if wanted == self else self.energy(mean)


ENERGY = Statistic("energies", sum_of_squares, 1, is_stored=True)
GRAM = Statistic("Gram matrices", sum_of_outer_products, 2, is_stored=False)


class TokenMean(ExactMetric):
    """Mean over tokens of a per-layer measure: sums and a count, added up over processes.

    Sums of energies carry along what rounding lost, so that any number of processes, each with its share of the
    batches, comes to the same float64; Gram matrices do only where the device has no float64, for their size.

    Args:
        shape: Shape of the sum: (in_features,) for energies, (in_features, in_features) for Gram matrices.
        device: Where the inputs are.
        experts: Number of stacked experts, each with a sum and a count of its own; None for an ordinary layer.

    Example:
        >>> mean = TokenMean((2,))
        >>> mean.update(torch.tensor([10.0, 4.0]), tokens=2)
        >>> mean.compute()
        (tensor([5., 2.], dtype=torch.float64), tensor(2))
    """

    sums: Tensor  # (1 or 2, ...): the sum, and what rounding lost of it
    tokens: Tensor

    def __init__(self, shape: tuple[int, ...], device: torch.device | str = "cpu", experts: int | None = None) -> None:
        super().__init__()
        leading = () if experts is None else (experts,)
        dtype = accumulator_dtype(device)
        carried = math.prod(shape[:-1]) <= FEW_ROWS or dtype != torch.float64
        sums = torch.zeros((2 if carried else 1, *leading, *shape), dtype=dtype, device=device)
        self.add_state("sums", sums, dist_reduce_fx=_sum_of_processes)
        self.add_state("tokens", torch.zeros(leading, dtype=torch.int64, device=device), dist_reduce_fx="sum")
        self.to(device)

    @property
    def update_called(self) -> bool:
        """Always true: zero tokens is a valid result, so torchmetrics should not warn."""
        return True

    def update(self, sums: Tensor, tokens: int, expert: int | None = None) -> None:
        """Add a sum over some tokens, to one expert where there are several."""
        place = ... if expert is None else expert
        _add(self.sums[:, place], sums)
        self.tokens[place] += tokens

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the mean (zeros if there was no token) and the number of tokens."""
        total = self.sums.sum(0)
        return total / _like(self.tokens.clamp(min=1), total), self.tokens

    def result(self) -> tuple[Tensor, Tensor]:
        """Return :meth:`compute` in the shapes of the states; torchmetrics makes scalars of tensors of one element.

        Example:
            >>> mean = TokenMean((1,))
            >>> mean.update(torch.tensor([10.0]), tokens=2)
            >>> mean.result()
            (tensor([5.], dtype=torch.float64), tensor(2))
        """
        mean, tokens = self.compute()
        return mean.reshape(self.sums.shape[1:]), tokens.reshape(self.tokens.shape)


def _add(sums: Tensor, value: Tensor) -> None:
    """Add a value to a sum, (1 or 2, ...), in place; of two, the second takes what rounding loses (Knuth's TwoSum)."""
    value = value.to(sums.dtype)
    if len(sums) == 1:
        sums[0] += value
        return
    total = sums[0] + value
    added = total - sums[0]
    sums[1] += (sums[0] - (total - added)) + (value - added)
    sums[0] = total


def _sum_of_processes(sums: Tensor) -> Tensor:
    """Add up the sums of all processes, (processes, 1 or 2, ...)."""
    result = sums[0].clone()
    for process in sums[1:]:
        for part in process:
            _add(result, part)
    return result


class LayerStatistics:
    """What calibration saw at one layer: for each group a mean statistic and the number of tokens.

    Args:
        means: Group name to mean statistic: energies (in_features,), or (experts, in_features) for stacked experts; or
            Gram matrices, or another statistic.
        tokens: Group name to number of tokens; (experts,) for stacked experts.
        statistic: What the means are of; energies or Gram matrices, by their dimensions, if omitted.
        pool: How :meth:`pooled` makes one statistic of those of all groups.

    Example:
        >>> s = LayerStatistics({"mt": torch.tensor([4.0]), "code": torch.tensor([1.0])},
        ...                     {"mt": torch.tensor(1), "code": torch.tensor(2)})
        >>> s.pooled()
        tensor([2.])
    """

    def __init__(
        self,
        means: dict[str, Tensor],
        tokens: dict[str, Tensor],
        statistic: Statistic | None = None,
        pool: Pool = "tokens",
    ) -> None:
        self.means = means
        self.tokens = tokens
        self.pool = pool
        self._statistic = statistic

    def _with(
        self, means: dict[str, Tensor], tokens: dict[str, Tensor], statistic: Statistic | None = None
    ) -> "LayerStatistics":
        return LayerStatistics(means, tokens, statistic or self._statistic, self.pool)

    @property
    def statistic(self) -> Statistic:
        """What the means are of."""
        if self._statistic is not None:
            return self._statistic
        stacked = next(iter(self.tokens.values())).dim()  # one more dimension for stacked experts
        return ENERGY if next(iter(self.means.values())).dim() - stacked < 2 else GRAM

    def of(self, group: str) -> Tensor:
        """Return the mean statistic of a group.

        Raises:
            UserError: If calibration had no such group.
        """
        if group not in self.means:
            raise UserError(f"calibration has no group '{group}'; it has {', '.join(self.means)}")
        return self.means[group]

    def only(self, groups: Sequence[str]) -> "LayerStatistics":
        """Return the same statistics of some groups.

        Raises:
            UserError: If calibration had no such group.

        Example:
            >>> seen = LayerStatistics({name: torch.ones(1) for name in "ab"}, {name: torch.tensor(1) for name in "ab"})
            >>> list(seen.only(["b"]).means)
            ['b']
        """
        means = {group: self.of(group) for group in groups}
        return self._with(means, {group: self.tokens[group] for group in groups})

    def pooled_by(self, pool: Pool) -> "LayerStatistics":
        """Return the same statistics, pooled another way."""
        return LayerStatistics(self.means, self.tokens, self._statistic, pool)

    def pooled(self) -> Tensor:
        """Return one statistic of all groups: by default the mean over all their tokens, else by :data:`Pool`.

        A group without a token (of an expert, which other groups reach) does not count.

        Example:
            >>> means = {"en": torch.tensor([1.0, 7.0]), "sw": torch.tensor([2.0, 1.0])}
            >>> seen = LayerStatistics(means, {"en": torch.tensor(30), "sw": torch.tensor(10)})
            >>> [seen.pooled_by(pool).pooled().tolist() for pool in ("tokens", "mean", "max")]
            [[1.25, 5.5], [1.5, 4.0], [2.0, 7.0]]
            >>> seen.pooled_by("worst").pooled()  # 4/3 of the mean of sw, 7/4 of that of en, times 2.75, that of both
            tensor([3.6667, 4.8125])
        """
        if len(self.means) == 1:
            return next(iter(self.means.values()))
        means = torch.stack(list(self.means.values()))  # (groups, ...)
        if self.pool in ("max", "worst") and self.statistic.dims > 1:
            raise UserError(f"pool '{self.pool}' is of single numbers; {self.statistic.name} have none to compare")
        if self.pool == "max":
            return means.amax(0)
        weights = self._heard()
        if self.pool == "tokens":
            weights = _like(torch.stack(list(self.tokens.values())), means)
        if self.pool == "worst":
            levels = means.mean(-1, keepdim=True)
            level = (levels * weights).sum(0) / weights.sum(0).clamp(min=1)
            return (means / levels.clamp(min=SMALLEST)).amax(0) * level
        return (means * weights).sum(0) / weights.sum(0).clamp(min=1)

    def variance(self) -> Tensor:
        """Return the variance of the statistic over groups, such as languages: how much they differ; 0 for one group.

        A group without a token does not count.

        Example:
            >>> means = {"en": torch.tensor([1.0, 7.0]), "sw": torch.tensor([3.0, 7.0])}
            >>> LayerStatistics(means, {"en": torch.tensor(30), "sw": torch.tensor(10)}).variance()
            tensor([1., 0.])
        """
        means, weights = torch.stack(list(self.means.values())), self._heard()
        count = weights.sum(0).clamp(min=1)
        center = (means * weights).sum(0) / count
        return ((means - center).square() * weights).sum(0) / count

    def _heard(self) -> Tensor:
        """1 for each group with a token, else 0, (groups, ...), to be multiplied with stacked means."""
        tokens, mean = torch.stack(list(self.tokens.values())), next(iter(self.means.values()))
        return _like((tokens > 0).to(tokens.dtype), mean[None])

    def of_expert(self, expert: int) -> "LayerStatistics":
        """Return what one of the stacked experts saw."""
        return self._with(
            {group: mean[expert] for group, mean in self.means.items()},
            {group: tokens[expert] for group, tokens in self.tokens.items()},
        )

    def total_tokens(self) -> Tensor:
        """Return the number of tokens of all groups: a scalar, or (experts,)."""
        return torch.stack(list(self.tokens.values())).sum(0)

    def to(self, device: torch.device) -> "LayerStatistics":
        """Return the same statistics on a device, in its most exact dtype."""
        exact = accumulator_dtype(device)
        means = {group: mean.to(device, exact) for group, mean in self.means.items()}
        tokens = {group: count.to(device) for group, count in self.tokens.items()}
        return self._with(means, tokens)

    def energies(self) -> "LayerStatistics":
        """Return the same statistics as energies (a Gram matrix's diagonal is its energy)."""
        return self.part(ENERGY)

    def part(self, wanted: Statistic) -> "LayerStatistics":
        """Return another statistic that these include."""
        statistic = self.statistic
        if wanted == statistic:
            return self
        means = {group: statistic.part(mean, wanted) for group, mean in self.means.items()}
        return self._with(means, self.tokens, wanted)


def _like(tokens: Tensor, mean: Tensor) -> Tensor:
    return tokens.to(mean.dtype).reshape(tokens.shape + (1,) * (mean.dim() - tokens.dim()))


def kept_on_host(statistics: Mapping[str, LayerStatistics]) -> dict[str, LayerStatistics]:
    """Return statistics on the CPU: those of many blocks, such as Gram matrices, are larger than a device."""
    return {path: layer.to(torch.device("cpu")) for path, layer in statistics.items()}


def check_finite(path: str, group: str, statistic: Tensor) -> None:
    """Raise UserError naming the layer if a statistic has NaN or Inf.

    Example:
        >>> check_finite("fc", "mt", torch.tensor([1.0, float("inf")]))
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: fc: inputs hold NaN or Inf in group 'mt'; check the weights, or use a wider ...
    """
    if not torch.isfinite(statistic).all():
        raise UserError(
            f"{path}: inputs hold NaN or Inf in group '{group}'; check the weights, or use a wider model.dtype"
        )


def save_statistics(statistics: dict[str, LayerStatistics], path: str | Path) -> None:
    """Write statistics to a safetensors file, keys ``<group>/<layer path>/mean|tokens``.

    Args:
        statistics: Layer path to statistics.
        path: Target; it appears only when complete.

    Raises:
        UserError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> seen = LayerStatistics({"mt": torch.tensor([4.0, 1.0])}, {"mt": torch.tensor(9)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_statistics({"fc": seen}, f"{folder}/statistics.safetensors")
        ...     load_statistics(f"{folder}/statistics.safetensors")["fc"].means
        {'mt': tensor([4., 1.])}
    """
    tensors = {}
    for layer, entry in statistics.items():
        for group, mean in entry.means.items():
            tensors[f"{group}/{layer}/mean"] = mean.cpu().contiguous()
            tensors[f"{group}/{layer}/tokens"] = entry.tokens[group].cpu().contiguous()
    with whole_file(path) as partial:
        save_file(tensors, partial)


def load_statistics(path: str | Path) -> dict[str, LayerStatistics]:
    """Read what :func:`save_statistics` wrote.

    Raises:
        UserError: If the file does not exist.

    Example:
        >>> load_statistics("nowhere.safetensors")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: statistics file 'nowhere.safetensors' does not exist
    """
    if not Path(path).is_file():
        raise UserError(f"statistics file '{path}' does not exist")
    loaded: dict[str, LayerStatistics] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - safe_open is not a dict
            (group, layer), kind = key.rsplit("/", 1)[0].split("/", 1), key.rsplit("/", 1)[1]
            entry = loaded.setdefault(layer, LayerStatistics({}, {}))
            (entry.means if kind == "mean" else entry.tokens)[group] = file.get_tensor(key)
    return loaded


def groups_of(batches: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the groups in batches, in order of first appearance.

    Example:
        >>> groups_of([{"group": "mt"}, {}, {"group": "mt"}])
        ['mt', 'default']
    """
    return list(dict.fromkeys(batch.get("group", "default") for batch in batches))
