"""How much of a model's blocks pruning sees, in entries of their matrices, so that whatever was not found shows."""

from collections.abc import Collection

from torch import nn

from mlprune.errors import UserError
from mlprune.models.blocks import Block
from mlprune.models.layers import is_kernel_or_table, routers_below

SHOWN = 3  # names in a message


def matrix_sizes(block: Block) -> dict[str, int]:
    """Return the numbers of entries of all matrices of a block: its layers, and what else could have been one.

    That is every parameter with two or more dimensions, but for routers, which are never pruned, and for what holds no
    matrix: embeddings (relative positions, too), depthwise convolutions, biases and scales.

    Args:
        block: A block.

    Returns:
        Layer path, or ``<module path>.<parameter>``, to number of entries.

    Example:
        >>> parts = nn.ModuleDict({"fc": nn.Linear(2, 3), "positions": nn.Embedding(5, 2), "conv": nn.Conv1d(4, 5, 3)})
        >>> matrix_sizes(Block("0", parts, {}))
        {'0.fc.weight': 6, '0.conv.weight': 60}
    """
    sizes = {path: layer.stored.numel() for path, layer in block.layers.items()}
    counted = {id(layer.stored) for layer in block.layers.values()}
    routers = routers_below(block.module)
    for name, module in block.module.named_modules():
        if name in routers or (is_kernel_or_table(module) and not _mixes_features(module)):
            continue
        for parameter, value in module.named_parameters(recurse=False):
            is_matrix = sum(length > 1 for length in value.shape) > 1 and not parameter.endswith("bias")
            if is_matrix and id(value) not in counted:
                counted.add(id(value))
                sizes[".".join(part for part in (block.path, name, parameter) if part)] = value.numel()
    return sizes


def _mixes_features(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups == 1


def check_share(sizes: dict[str, int], wanted: Collection[str], scored: Collection[str]) -> None:
    """Refuse to prune a model of which less than half is seen.

    Args:
        sizes: Of all blocks' matrices, from :func:`matrix_sizes`.
        wanted: Those that include and exclude leave.
        scored: Those that a score can be computed for.

    Raises:
        UserError: If ``scored`` holds less than half of the entries of ``wanted``, naming the largest of the others.

    Example:
        >>> check_share({"fc": 10, "experts.w": 90}, wanted=["fc", "experts.w"], scored=["fc"])
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: only 10% of the blocks' matrices can be scored; not seen: experts.w (90 weights); ...
    """
    share = share_of(sizes, set(scored) & set(wanted), wanted)
    if share >= 0.5:
        return
    missed = sorted(set(wanted) - set(scored), key=lambda name: (-sizes[name], name))
    named = ", ".join(f"{name} ({sizes[name]} weights)" for name in missed[:SHOWN])
    more = f" and {len(missed) - SHOWN} more" if len(missed) > SHOWN else ""
    raise UserError(
        f"only {share:.0%} of the blocks' matrices can be scored; not seen: {named}{more}; to leave them dense, name "
        "them in exclude, or in include the layers to prune"
    )


def share_of(sizes: dict[str, int], some: Collection[str], all_of: Collection[str] | None = None) -> float:
    """Return which share of the entries of some matrices others hold.

    Example:
        >>> share_of({"fc": 10, "experts.w": 90}, ["fc"])
        0.1
    """
    total = sum(sizes[name] for name in (sizes if all_of is None else all_of))
    return sum(sizes[name] for name in some) / total if total else 1.0
