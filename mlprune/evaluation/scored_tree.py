"""The tree of prefixes of texts to be scored, and where in it each scored token is predicted."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

from torch import Tensor

from mlprune.evaluation.marks import token_id
from mlprune.evaluation.prefixes import Node, prefix_tree
from mlprune.evaluation.spans import Span
from mlprune.evaluation.targets import Key, Targets


class ScoredTree:
    """Spans along a tree of their prefixes.

    Args:
        spans: Number to span; one without a token to score needs no forward pass.
        min_saved: Tokens that sharing a prefix must save; None shares nothing but equal texts.

    Attributes:
        levels: Nodes by level.

    Example:
        >>> tree = ScoredTree({0: Span(0, 0, (1, 2, 3), 2, 1), 1: Span(0, 1, (1, 2, 4), 2, 1)}, None)
        >>> [len(level) for level in tree.levels], [key[1:] for key in tree.keys(1)]
        ([1], [(1, 4)])
    """

    def __init__(self, spans: Mapping[int, Span], min_saved: int | None) -> None:
        # the last token is only predicted
        inputs = {i: span.ids[:-1] for i, span in spans.items() if span.start < len(span.ids)}
        self.levels, ends = prefix_tree(inputs.values(), min_saved)
        self._keys = {i: list(_keys(ends[run], spans[i])) for i, run in inputs.items()}
        self._wanted: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        for node, at, target in (key for keys in self._keys.values() for key in keys):
            self._wanted[node][at].add(target)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the spans that have tokens to score."""
        return list(self._keys)

    def numbers_in(self, nodes: Collection[int]) -> list[int]:
        """Return the numbers of the spans whose scored tokens are all predicted in nodes of these ``id()``."""
        return [i for i, keys in self._keys.items() if all(node in nodes for node, _, _ in keys)]

    def keys(self, number: int, run: Hashable = None) -> list[Key]:
        """Return the keys of a span's tokens.

        Args:
            number: The span's.
            run: Tells several runs through the tree apart.
        """
        return [((run, node), at, target) for node, at, target in self._keys[number]]

    def add(self, targets: Targets, nodes: Sequence[Node], hidden: Tensor, run: Hashable = None) -> None:
        """Add the positions of a batch of nodes that predict a scored token.

        Args:
            targets: Where they are gathered.
            nodes: B nodes.
            hidden: What the output head receives for their segments, (B, T, H).
            run: As in :meth:`keys`.
        """
        places = [(row, at) for row, node in enumerate(nodes) for at in sorted(self._wanted.get(id(node), ()))]
        wanted = [sorted(self._wanted[id(nodes[row])][at]) for row, at in places]
        keys: list[list[Key]] = [
            [((run, id(nodes[row])), at, target) for target in found]
            for (row, at), found in zip(places, wanted, strict=True)
        ]
        targets.add(hidden, places, keys)


def _keys(end: Node, span: Span) -> Iterator[tuple[int, int, int]]:
    """For each scored token: the node and the position in it that predict it, and the token."""
    for node in end.path():
        for t in range(max(node.start, span.start - 1), min(node.end, len(span.ids) - 1)):
            yield id(node), t - node.start, token_id(span.ids[t + 1])
