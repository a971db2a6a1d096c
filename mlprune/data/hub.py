"""Data sets of the hub, and folders in its layout: ``datasets`` finds the files; text is read as it stands in them."""

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlprune.data.json_lines import JsonRows
from mlprune.data.reading import read_file
from mlprune.data.rows import ChainedRows, ListRows, MappedRows, Row, Rows
from mlprune.data.tables import TableRows
from mlprune.errors import UserError, first_line, reason_of

TEXT_FILES = ("csv", "json", "text")
WHERE_FILES_ARE = {"name", "version", "data_dir", "data_files", "description", "features", "sep", "delimiter"}
LOCAL = "give local files (LocalFiles, FloresFolder)"


def read_hub(name: str, config: str | None, split: str, revision: str | None, data_files: str | None) -> Rows:
    """Open a data set of the hub, or of a folder in the hub's layout.

    Text files are not read by ``datasets``, which guesses types: it takes "null" for a missing value, and text that
    looks like a date for a date.

    Raises:
        UserError: If it is missing, gated, unreachable or damaged, with the cause and what to do.
    """
    import datasets
    from huggingface_hub.errors import GatedRepoError

    datasets.disable_progress_bars()
    where = f"data set '{name}' (config {config}, split {split})"
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return _read_folder(folder, config, split, data_files)
        return _read_repository(name, config, split, revision, data_files)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (datasets.exceptions.DatasetNotFoundError, GatedRepoError) as error:
        gated = isinstance(error, GatedRepoError) or "gated" in str(error).lower()
        todo = (
            f"accept its conditions at https://huggingface.co/datasets/{name} and log in with `hf auth login`"
            if gated
            else f"check the id, or the network, or {LOCAL}"
        )
        raise UserError(f"data set '{name}' is {'gated' if gated else 'not found'}: {todo}") from error
    except Exception as error:  # yaml, pandas, pyarrow and the file system raise anything
        away = f"; check the network, or {LOCAL}" if "reach" in str(error) else ""
        reason = reason_of(error.__cause__ or error)
        raise UserError(f"{where}: {reason[:300]}{away}") from error


def _read_repository(name: str, config: str | None, split: str, revision: str | None, data_files: str | None) -> Rows:
    """Text files are kept in the hub's cache, where they are found without a network."""
    import datasets
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        builder = datasets.load_dataset_builder(name, config, revision=revision, data_files=data_files)
    except ConnectionError as error:
        try:
            folder = snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
        except LocalEntryNotFoundError:
            raise error from None
        return _read_folder(Path(folder), config, split, data_files)
    if not _holds_text(builder):
        return DatasetRows(datasets.load_dataset(name, config, split=split, revision=revision, data_files=data_files))
    # hf://datasets/<name>@<commit>/<file>
    found = [str(file).split("@", 1)[1] for files in builder.config.data_files.values() for file in files]
    files = ["README.md", *(file.split("/", 1)[1] for file in found)]
    folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=files)
    return _read_folder(Path(folder), config, split, data_files)


def _read_folder(folder: Path, config: str | None, split: str, data_files: str | None) -> Rows:
    import datasets

    with tempfile.TemporaryDirectory() as linked:
        plain = folder.resolve()
        if set(str(plain)) & set("[]*?"):  # the library would interpret the folder's name as a pattern
            folder, plain = plain, Path(linked).resolve()
            for entry in folder.iterdir():
                (plain / entry.name).symlink_to(entry)
        builder = datasets.load_dataset_builder(str(plain), config, data_files=data_files)
        if not (_holds_text(builder) or _kind(builder) == "parquet"):
            return DatasetRows(datasets.load_dataset(str(plain), config, split=split, data_files=data_files))
        found = {name: [Path(file) for file in files] for name, files in builder.config.data_files.items()}
        if plain == Path(linked).resolve():
            found = {name: [folder / file.relative_to(plain) for file in files] for name, files in found.items()}
    return _stretches({str(name): files for name, files in found.items()}, builder, split)


def _kind(builder: Any) -> str:
    return str(type(builder).__module__).rsplit(".", 1)[-1]


def _holds_text(builder: Any) -> bool:
    """Return whether a data set is text files without special options on its card."""
    if _kind(builder) not in TEXT_FILES:
        return False
    usual = type(builder.config)()
    names = {field.name for field in fields(usual)} - WHERE_FILES_ARE
    return all(getattr(builder.config, name) == getattr(usual, name) for name in names)


def _stretches(files: dict[str, list[Path]], builder: Any, split: str) -> Rows:
    """Return the rows that a split such as ``test`` or ``train[:100]+test`` means."""
    import datasets

    wanted = [re.split(r"[\[+]", part, maxsplit=1)[0].strip() for part in split.split("+")]
    for name in wanted:
        if name not in files:
            raise UserError(f"split '{name}' does not exist; it has {', '.join(files)}")
    # compressed files are unpacked into the library's cache
    manager = datasets.DownloadManager(dataset_name=builder.dataset_name)
    plain = {
        name: [Path(f) for f in manager.iter_files(manager.extract(list(map(str, files[name]))))] for name in wanted
    }
    rows = {name: _one_split(plain[name], builder) for name in wanted}
    spec = datasets.ReadInstruction.from_spec(split)
    stretches = spec.to_absolute({name: len(part) for name, part in rows.items()})
    return ChainedRows(
        [(rows[one.splitname], range(*slice(one.from_, one.to).indices(len(rows[one.splitname])))) for one in stretches]
    )


def _one_split(files: Sequence[Path], builder: Any) -> Rows:
    parts = [_one_file(file, builder) for file in files]
    for file, part in zip(files, parts, strict=True):
        if _kind(builder) != "json" and set(part.names) != set(parts[0].names):
            raise UserError(
                f"{file.name} has the columns {', '.join(part.names)}, {files[0].name} has {', '.join(parts[0].names)}"
            )
    return ChainedRows([(part, range(len(part))) for part in parts])


def _one_file(file: Path, builder: Any) -> Rows:
    kind = _kind(builder)
    if kind in ("parquet", "text"):
        return read_file(file, kind)
    if kind == "csv":
        rows: Rows = TableRows(file, builder.config.sep, quoted=True, header=True)
    else:
        rows = ListRows(_array(file)) if file.read_bytes()[:64].lstrip().startswith(b"[") else JsonRows(file)
    features = builder.info.features
    if not features:
        return rows
    promised = MappedRows(rows, lambda number, row: _promised(row, features, f"{file}: row {number + 1}"))
    for _ in promised:  # so that a cell of another type is reported first
        pass
    return promised


def _array(file: Path) -> list[Row]:
    """A whole file of JSON that is one list."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.name} is not JSON: {first_line(error)}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file.name}: row {number} is not a JSON object")
    return list(rows)


def _promised(row: Row, features: dict[str, Any], where: str) -> Row:
    """Return a row with the types that the data set's card gives its columns; strings stay as they are."""
    import datasets

    cells = dict(row)
    for name, feature in features.items():
        cell = row.get(name)
        if not isinstance(cell, str) or not isinstance(feature, datasets.ClassLabel | datasets.Value):
            continue
        if feature.dtype not in ("string", "large_string"):
            try:
                cells[name] = feature.encode_example(cell) if cell else None
            except ValueError as error:
                raise UserError(f"{where}: {name} is '{cell}', but the card says {feature.dtype}") from error
    return cells


class DatasetRows(Rows):
    """Rows of a data set that ``datasets`` holds."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded
        self.names = loaded.column_names

    def __len__(self) -> int:
        return len(self._loaded)

    def read(self, positions: Iterable[int]) -> Iterator[Row]:
        return (dict(self._loaded[position]) for position in positions)
