"""Clusters of dependent examples: rows with one id in several languages, and rows of one group within a file."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mlprune.metrics import Record

Indices = NDArray[np.int64]


def cluster_records(records: Mapping[str, Sequence[Record]], aligned: bool) -> dict[str, Indices]:
    """Return the cluster of every record: examples of different clusters are independent.

    A cluster is a connected component of the graph that joins records of one id in several languages (where these are
    translations of each other) and records of one group within a language (such as hypotheses of one premise).

    Args:
        records: Language to records with ``id`` and, where they are grouped, ``group``.
        aligned: Whether records of two languages with the same id are translations of each other.

    Returns:
        Language to cluster numbers, (n,), from 0 in order of first appearance.

    Example:
        >>> french = [{"id": "0", "group": "a"}, {"id": "1", "group": "a"}, {"id": "2"}]
        >>> found = cluster_records({"fr": french, "sw": [{"id": "2"}, {"id": "1"}]}, aligned=True)
        >>> found["fr"].tolist(), found["sw"].tolist()
        ([0, 0, 1], [1, 0])
    """
    joined: list[tuple[int, Hashable]] = []
    num_rows = 0
    for lang, rows in records.items():
        for row, record in enumerate(rows, start=num_rows):
            joined.append((row, ("id", record["id"]) if aligned else ("id", lang, record["id"])))
            if "group" in record:
                joined.append((row, ("group", lang, record["group"])))
        num_rows += len(rows)
    labels = _components(joined, num_rows)
    ends = np.cumsum([len(rows) for rows in records.values()])
    return dict(zip(records, np.split(labels, ends[:-1]), strict=True)) if records else {}


def strata(clusters: Iterable[Indices], num_clusters: int) -> Indices:
    """Return the stratum of every cluster: languages that share no cluster are samples of their own.

    Args:
        clusters: For each language the clusters of its records.
        num_clusters: How many there are.

    Example:
        >>> strata([np.array([0, 1]), np.array([1]), np.array([2, 3])], 4).tolist()
        [0, 0, 1, 1]
    """
    joined = [(int(cluster), lang) for lang, ids in enumerate(clusters) for cluster in np.unique(ids)]
    return _components(joined, num_clusters)


def _components(joined: Sequence[tuple[int, Any]], num_rows: int) -> Indices:
    """Number the components of rows joined by names, in order of first appearance."""
    names = {name: num_rows + i for i, name in enumerate(dict.fromkeys(name for _, name in joined))}
    rows, columns = (
        (np.array(part, dtype=np.int64) for part in zip(*((row, names[name]) for row, name in joined)))
        if joined
        else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    )
    size = num_rows + len(names)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][:num_rows]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
