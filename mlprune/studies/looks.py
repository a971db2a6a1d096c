"""Looks at confirmation rows: each study counts its own and those of studies before it, by hash of the rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.runs.facts import digest
from mlprune.runs.reading import read_json
from mlprune.studies.rows import Examples, Ids, content

STUDY = "study.json"


@dataclass(frozen=True)
class Looks:
    """How often some rows have been looked at.

    Args:
        rows: Their hash.
        before: Looks of earlier studies, each by an id of its own.
        look: The id of this study's look.
        where: Folder of an earlier study.
    """

    rows: str
    before: frozenset[str]
    look: str
    where: str = ""

    @property
    def count(self) -> int:
        """How often they have been looked at, this study included."""
        return len(self.before | {self.look})

    def to_json(self) -> dict[str, Any]:
        """Return what study.json has of it."""
        return {"looks": {self.rows: self.count}, "look_ids": {self.rows: sorted(self.before | {self.look})}}

    def check(self, look_again: bool) -> None:
        """Raise UserError if the rows were looked at before, unless that is asked for."""
        if self.before and not look_again:
            times = "once" if len(self.before) == 1 else f"{len(self.before)} times"
            raise UserError(
                f"study.confirm.rows: these rows were looked at {times} already, by '{self.where}'; choose other "
                "rows, or give --study.look-again true, which the report will say"
            )


def hash_of(examples: Mapping[str, Examples], ids: Ids) -> str:
    """Return the hash of rows, by content: the same under other ids, in another order or in another file.

    Args:
        examples: Task to language to examples.
        ids: Task to the ids of its rows.
    """
    found = []
    for task, chosen in ids.items():
        wanted = set(chosen)
        for lang, rows in examples[task].items():
            found += [digest([lang, *content(example)]) for example in rows if example.id in wanted]
    return digest(sorted(found))


def find_looks(rows: str, study: Any, folders: Iterable[Path], own_folder: Path | None = None) -> Looks:
    """Return the looks at rows that studies in some folders have counted.

    Args:
        rows: Hash of the rows.
        study: What this study declares, from which its look has its id.
        folders: Folders that may hold a study.
        own_folder: This study's folder, which does not count: a resumed study looks once.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if own_folder is None or folder.resolve() != own_folder.resolve():
            found |= dict.fromkeys(_look_ids(folder, rows), folder)
    if own_folder is not None:
        found.pop(_own_look(_look_ids(own_folder, rows), rows, study), None)
    before = frozenset(found)
    where = str(next(reversed(found.values()))) if found else ""
    return Looks(rows, before, _look_id(rows, study, before), where)


def _look_ids(folder: Path, rows: str) -> list[str]:
    return [str(look) for look in read_json(folder / STUDY).get("look_ids", {}).get(rows, [])]


def _look_id(rows: str, study: Any, before: Iterable[str]) -> str:
    return digest([rows, study, sorted(before)])


def _own_look(known: Sequence[str], rows: str, study: Any) -> str:
    """Which of the looks that a folder knows is its study's; its parts, which may lie beside it, know the same."""
    return next((look for look in known if _look_id(rows, study, {*known} - {look}) == look), "")
