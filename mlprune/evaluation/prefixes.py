"""Token sequences as a tree of shared prefixes, so that shared prefixes run once.

A node is a segment of tokens that follows its parent's. Nodes of one level run together, on their ancestors' cache.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

MIN_SAVED_TOKENS = 16  # a node costs a copy of its cache, which pays off from about this many tokens
MAX_SEGMENT = 2048  # tokens; attention of a longer segment to all before it would take memory by their square


@dataclass
class Node:
    """A segment of tokens, run once for all sequences that pass through it.

    Args:
        tokens: The segment.
        parent: The node before it, or None.
        start: Number of tokens before the segment.
        level: Number of nodes before it.

    Example:
        >>> first = Node([1, 2, 3], parent=None, start=0, level=0)
        >>> Node([7], parent=first, start=3, level=1).end
        4
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
    sequences: Iterable[tuple[int, ...]], min_saved: int | None = MIN_SAVED_TOKENS
) -> tuple[list[list[Node]], dict[tuple[int, ...], Node]]:
    """Cut sequences into a tree of segments.

    Args:
        sequences: Token sequences, none empty. One that is a prefix of another lies on the other's path.
        min_saved: Segments whose sharing saves fewer tokens are repeated in their children; None shares nothing, for
            models that cannot go on from a cache.

    Returns:
        Nodes by level, and the node whose path holds each sequence. Where the model can go on from a cache, a node has
        at most ``MAX_SEGMENT`` tokens.

    Example:
        >>> levels, ends = prefix_tree([(1, 2, 3, 7), (1, 2, 3, 8), (9,), (1, 2)], min_saved=2)
        >>> [[list(node.tokens) for node in level] for level in levels]
        [[[1, 2, 3], [9]], [[7], [8]]]
        >>> ends[(1, 2, 3, 8)].start
        3
    """
    ordered = sorted(set(sequences))
    # sorted order puts a sequence right before those that begin with it
    longest = [one for one, after in zip(ordered, [*ordered[1:], ()], strict=True) if after[: len(one)] != one]
    levels: list[list[Node]] = []
    ends: dict[tuple[int, ...], Node] = {}
    pending: list[tuple[int, int, Node | None]] = [
        (low, high, None) for low, high in _by_token(longest, 0, len(longest), 0)
    ]
    if min_saved is None:
        pending = [(i, i + 1, None) for i in range(len(longest))]
    pending.reverse()
    while pending:  # a range of sequences below `parent` that agree up to its end
        low, high, parent = pending.pop()
        start = parent.end if parent else 0
        common = _common_length(longest[low], longest[high - 1])
        branches = [] if high - low == 1 else list(_by_token(longest, low, high, common))
        if branches and (len(branches) - 1) * (common - start) < (min_saved or 0):
            pending += [(one, other, parent) for one, other in reversed(branches)]
            continue
        step = common if min_saved is None else MAX_SEGMENT
        for begin in range(start, common, step):
            parent = _follow(parent, longest[low][begin : min(begin + step, common)], levels)
        assert parent is not None
        if not branches:
            ends[longest[low]] = parent
        pending += [(one, other, parent) for one, other in reversed(branches)]
    for one, after in reversed(list(zip(ordered, [*ordered[1:], ()], strict=True))):
        if one not in ends:
            ends[one] = ends[after]
    return levels, ends


def _follow(parent: Node | None, tokens: Sequence[int], levels: list[list[Node]]) -> Node:
    """Add a segment to the tree."""
    node = Node(tokens, parent, parent.end if parent else 0, parent.level + 1 if parent else 0)
    if parent:
        parent.children.append(node)
    if len(levels) == node.level:
        levels.append([])
    levels[node.level].append(node)
    return node


def _by_token(ordered: list[tuple[int, ...]], low: int, high: int, position: int) -> Iterator[tuple[int, int]]:
    """Split a range of sorted sequences where the token at a position changes."""
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
