"""Seeded damage to files that others write: model folders, data, configurations."""

import json
import random
import struct
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Random = random.Random

STRANGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1e308, -0.0, float("nan"), float("inf"), 0.5),
    *("", " ", "x", "3", "null", "no", "../../etc/passwd", "/", "~", "someone/repo", "a\0b", "\x1b[31mred\x1b[0m"),
    *("two\nlines", "\u202eright to left", "\ufeff", "é" * 300, "x" * 100_000, "{lang}", "{{ 7 * 7 }}", "[/red]", "🙂"),
    *([], {}, [[]], [None], {"": {}}, {"class_path": "os.system", "init_args": {"command": "true"}}),
    *(["en", "fr"] * 300, {"a": {"b": {"c": {}}}}, {str(i): i for i in range(1000)}),
]
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]


def strange(rng: Random) -> Any:
    """Return a value that nobody expects, one that no other place shares."""
    return deepcopy(rng.choice(STRANGE))


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in a tree of mappings and lists: what holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    left, seen = [tree], set[int]()
    while left:
        holder = left.pop()
        if id(holder) in seen or not isinstance(holder, dict | list):
            continue
        seen.add(id(holder))
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            left.append(holder[key])
    return found


def mutate_tree(rng: Random, tree: Any) -> Any:
    """Change a tree of mappings and lists at one or a few places, and return it."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        spots = places(tree)
        if not spots:
            return strange(rng)
        holder, key = rng.choice(spots)
        change = rng.randrange(9)
        value = holder[key]
        if change == 0:
            del holder[key]
        elif change == 1:
            holder[key] = str(value)
        elif change == 2:
            holder[key] = [value]
        elif change == 3:
            holder[key] = {"x": value}
        elif change == 4 and isinstance(holder, dict):
            holder[rng.choice((f"{key}x", str(key)[:-1], "", "\x1b[1m", "é"))] = holder.pop(key)
        elif change == 5:
            other, name = rng.choice(spots)
            try:
                holder[key], other[name] = other[name], value
            except (KeyError, IndexError):  # it was within what was changed before
                holder[key] = None
            if _depth(tree) > 300:
                return DEEP
        elif change == 6 and isinstance(value, int | float):
            holder[key] = rng.choice((-value, value * 10**6, value + 0.5, value + 1))
        elif change == 7:
            holder[key] = deepcopy(DEEP)
        else:
            holder[key] = strange(rng)
    return strange(rng) if rng.random() < 0.03 else tree


def _depth(tree: Any) -> int:
    """How deep a tree is; of one that holds itself, more than anything."""
    level, depth = [tree], 0
    while level and depth <= 300:
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
        level, depth = level[:2000], depth + 1
    return depth


def _children(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """Change bytes as cut downloads, editors and hands do."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    inserts = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"'", b"\t", b",", b"{", b"[" * 5000, b"]",
               b"\x1b[31m", "\u2028".encode(), "é".encode("latin-1"), b"x" * 200_000, b"- " * 3000, b"&a [*a, *a]",
               b"\xed\xa0\x80", b"%", b"!!python/name:os.system ")  # fmt: skip
    return rng.choice(
        (
            lambda: data[:end],
            lambda: data[start:],
            lambda: data[:start] + data[end:],
            lambda: data[:end] + data[start:],
            lambda: data[:start] + rng.choice(inserts) + data[start:],
            lambda: data[:start] + rng.randbytes(rng.randrange(1, 40)) + data[start:],
            lambda: rng.choice(inserts) + data,
            lambda: data + rng.choice(inserts),
            lambda: data.replace(b"\n", b"\r\n"),
            lambda: data.replace(b'"', b""),
            lambda: data.decode("utf-8", "ignore").encode("utf-16"),
            lambda: b"",
            lambda: rng.choice(inserts),
        )
    )()


def written(dump: Callable[[Any], str], tree: Any) -> bytes:
    """Write a tree; what is too deep to be written, or holds itself, is many brackets."""
    try:
        return dump(tree).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        return b"[" * 3000


def mutate_json(rng: Random, data: bytes) -> bytes:
    """Change a JSON file, mostly so that it still is one."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    if data.count(b"\n") and b"\n{" in data:  # an object a line
        return mutate_rows(rng, data)
    return written(json.dumps, mutate_tree(rng, json.loads(data)))


def mutate_yaml(rng: Random, data: bytes) -> bytes:
    """Change a YAML file, mostly so that it still is one."""
    if rng.random() < 0.25:
        return mutate_bytes(rng, data)
    dump = partial(yaml.safe_dump, allow_unicode=rng.random() < 0.5)
    return written(dump, mutate_tree(rng, yaml.safe_load(data)))


def mutate_safetensors(rng: Random, data: bytes) -> bytes:
    """Change a safetensors file: its header, its bytes or its length."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data)
    size = struct.unpack("<Q", data[:8])[0]
    header = written(json.dumps, mutate_tree(rng, json.loads(data[8 : 8 + size])))
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def mutate_rows(rng: Random, data: bytes) -> bytes:
    """Change a file of JSON lines, mostly within its lines."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data)
    lines = [json.loads(line) for line in data.splitlines()]
    changed = mutate_tree(rng, lines)
    return b"\n".join(written(json.dumps, line) for line in (changed if isinstance(changed, list) else [changed]))


def mutate_parquet(rng: Random, data: bytes) -> bytes:
    """Change a parquet file: its bytes, or the type of its columns."""
    if rng.random() < 0.5:
        return mutate_bytes(rng, data)
    rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    name = rng.choice(sorted(rows[0]))
    value = rng.choice((None, 3, 0.5, [1], {"a": 1}, b"\xff", True, "x" * 200_000, "\x1b[31m"))
    rows = [{**row, name: value} for row in rows]
    if rng.random() < 0.3:
        rows = [{f"{key}x": cell for key, cell in row.items()} for row in rows]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


MUTATE: dict[str, Callable[[Random, bytes], bytes]] = {
    "json": mutate_json,
    "yaml": mutate_yaml,
    "jsonl": mutate_rows,
    "safetensors": mutate_safetensors,
    "parquet": mutate_parquet,
}


def mutate_file(rng: Random, file: Path) -> None:
    """Change a file in the way of its kind, or put a folder, or nothing, in its place."""
    choice = rng.random()
    data = file.read_bytes()
    if choice > 0.97:
        file.unlink()
    elif choice > 0.94:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(MUTATE.get(file.suffix[1:], mutate_bytes)(rng, data))
