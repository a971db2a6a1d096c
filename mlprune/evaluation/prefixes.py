"""Token sequences as a tree of shared prefixes, so that what several sequences begin with runs once.

A node is a segment of tokens that follows its parent's. Nodes of one level run together, on their ancestors' cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MIN_SAVED_TOKENS = 16  # a node of its own costs a copy of its cache: worth it from about so many tokens


@dataclass
class Node:
    """A segment of tokens, run once for all sequences that pass through it.

    Args:
        tokens: The segment.
        parent: The node before it, or None.
        start: Number of tokens before the segment.
        level: Number of nodes before it.
    """

    tokens: Sequence[int]
    parent: "Node | None"
    start: int
    level: int
    children: list["Node"] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Number of tokens up to and including the segment."""
        return self.start + len(self.tokens)

    def path(self) -> list["Node"]:
        """Return the nodes from the first to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


def prefix_tree(
    sequences: Sequence[tuple[int, ...]], min_saved: int = MIN_SAVED_TOKENS
) -> tuple[list[list[Node]], dict[tuple[int, ...], Node]]:
    """Cut sequences into a tree of segments.

    Args:
        sequences: Token sequences, none empty; equal ones are one.
        min_saved: Segments whose sharing saves fewer tokens are repeated in their children instead.

    Returns:
        Nodes by level, and the node at which each sequence ends.

    Example:
        >>> levels, ends = prefix_tree([(1, 2, 3, 7), (1, 2, 3, 8), (9,)], min_saved=2)
        >>> [[list(node.tokens) for node in level] for level in levels]
        [[[1, 2, 3], [9]], [[7], [8]]]
        >>> ends[(1, 2, 3, 8)].start
        3
    """
    ordered = sorted(set(sequences))
    levels: list[list[Node]] = []
    ends: dict[tuple[int, ...], Node] = {}
    # a stretch of sequences that agree up to `common`, hang on `parent` and have their tokens from `parent.end` to run
    pending: list[tuple[int, int, Node | None]] = []
    pending += [(low, high, None) for low, high in reversed(list(_by_token(ordered, 0, len(ordered), 0)))]
    while pending:
        low, high, parent = pending.pop()
        start = parent.end if parent else 0
        common = _common_length(ordered[low], ordered[high - 1])
        stops_here = len(ordered[low]) == common  # sorted order puts a sequence before its continuations
        branches = list(_by_token(ordered, low + stops_here, high, common))
        if branches and not stops_here and (len(branches) - 1) * (common - start) < min_saved:
            pending += [(one, other, parent) for one, other in reversed(branches)]
            continue
        node = Node(ordered[low][start:common], parent, start, parent.level + 1 if parent else 0)
        if parent:
            parent.children.append(node)
        while len(levels) <= node.level:
            levels.append([])
        levels[node.level].append(node)
        if stops_here:
            ends[ordered[low]] = node
        pending += [(one, other, node) for one, other in reversed(branches)]
    return levels, ends


def _by_token(ordered: list[tuple[int, ...]], low: int, high: int, position: int) -> Iterator[tuple[int, int]]:
    """Cut a stretch of sorted sequences where the token at a position changes."""
    start = low
    for i in range(low + 1, high + 1):
        if i == high or ordered[i][position] != ordered[start][position]:
            yield start, i
            start = i


def _common_length(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
