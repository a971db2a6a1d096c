"""Statistics of several calibrations of one model, merged by group."""

from collections.abc import Iterable, Mapping

from mlprune.errors import UserError
from mlprune.pruning.statistics import LayerStatistics


def merge_statistics(parts: Iterable[Mapping[str, LayerStatistics]]) -> dict[str, LayerStatistics]:
    """Return the statistics of all groups, so that calibrations made apart serve one score.

    Args:
        parts: From :func:`mlprune.pruning.collect_statistics` or :func:`mlprune.pruning.load_statistics`, each of
            groups of its own.

    Raises:
        UserError: If two parts have the same group, other layers, or other kinds of statistics.

    Example:
        >>> import torch
        >>> def seen(group):
        ...     return {"fc": LayerStatistics({group: torch.tensor([4.0])}, {group: torch.tensor(9)})}
        >>> list(merge_statistics([seen("mt"), seen("code")])["fc"].means)
        ['mt', 'code']
    """
    merged: dict[str, LayerStatistics] = {}
    for part in parts:
        if merged and part.keys() != merged.keys():
            other = sorted(part.keys() ^ merged.keys())[0]
            raise UserError(f"statistics to be merged are of other layers: {other} is not in all of them")
        for path, layer in part.items():
            before = merged.get(path, LayerStatistics({}, {}, layer.statistic))
            if twice := before.means.keys() & layer.means.keys():
                raise UserError(f"statistics to be merged have the group '{sorted(twice)[0]}' twice")
            if before.statistic != layer.statistic:
                raise UserError(f"statistics of {path} are {before.statistic.name} and {layer.statistic.name}")
            merged[path] = LayerStatistics(before.means | layer.means, before.tokens | layer.tokens, layer.statistic)
    return merged
