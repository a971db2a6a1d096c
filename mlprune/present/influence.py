"""How much each block of a model changes what passes through it, as a table."""

from collections.abc import Mapping, Sequence

from mlprune.present.table import Table

NOTE = "1 - cosine of a block's input and output, mean over tokens; rank 1: the least influential."


def influence_table(
    influences: Mapping[str, Mapping[str, float]], order: Sequence[str], removed: Sequence[str] = ()
) -> Table:
    """Return influences as a table, a row a block and a column a group.

    Args:
        influences: Group to path of a block to its influence.
        order: Paths of the blocks, the least influential first.
        removed: Paths of the blocks that were left out.

    Example:
        >>> influence_table({"fr": {"h.0": 0.5, "h.1": 0.1}}, ["h.1", "h.0"], ["h.1"]).rows
        [('h.0', '0.5000', '2'), ('h.1 (left out)', '0.1000', '1')]
    """
    rows = [
        (
            path + (" (left out)" if path in removed else ""),
            *(f"{values[path]:.4f}" for values in influences.values()),
            str(order.index(path) + 1),
        )
        for path in next(iter(influences.values()), {})
    ]
    return Table("Influence of blocks", ("block", *influences, "rank"), rows, [NOTE])
