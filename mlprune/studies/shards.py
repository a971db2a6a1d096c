"""Parts of a study that were evaluated apart, on several machines say, merged into one run.

What needs the results of all recipes is not done by a part: the confirmation of those that are chosen, and controls.
The merged run is then unfinished, and resumed as any other.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_json, write_text
from mlprune.pruning import load_statistics, merge_statistics, save_statistics
from mlprune.runs.folder import CONFIG, UNFINISHED
from mlprune.runs.inputs import MISSING, Inputs, read_inputs
from mlprune.runs.journal import read_starts, write_starts
from mlprune.runs.reading import read_json, read_yaml
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.judging import Entry, Judge, against_of, next_round
from mlprune.studies.looks import STUDY
from mlprune.studies.outcome import Outcome, conclude, write_outcome
from mlprune.studies.plan import CONFIRM, choosing_parts
from mlprune.studies.selection import Round
from mlprune.studies.store import RECIPES, Store

DENSE = ("results.dense.json", "predictions.dense")  # the same in all parts
SHARD = "study.shard"
SECTIONS = ("model", "data", "pruning", "study", "seed_everything", "trainer.precision")
APART = (SHARD, "study.earlier", "study.look_again", "model.name")  # keys of these in which parts may differ


@dataclass(frozen=True)
class Parts:
    """All parts of one study.

    Args:
        folders: Their folders.
        contents: What study.json says in each.
        inputs: What each was computed from.
    """

    folders: Sequence[Path]
    contents: Sequence[Mapping[str, Any]]
    inputs: Sequence[Inputs]

    @classmethod
    def read(cls, folders: Sequence[Path]) -> "Parts":
        """Read the parts of a study.

        Args:
            folders: Their folders, in any order.

        Raises:
            UserError: If they are of different studies, or one is missing, there twice, or incomplete.
        """
        contents = [read_json(folder / STUDY) for folder in folders]
        inputs = []
        for folder, content in zip(folders, contents, strict=True):
            found = read_inputs(folder)
            if "answer" not in content or found is None:
                raise UserError(f"'{folder}' is not complete; resume it first")
            inputs.append(found)
        first = contents[0]
        for folder, content in zip(folders, contents, strict=True):
            if content.get("id") != first.get("id"):
                raise UserError(f"'{folders[0]}' and '{folder}' are parts of different studies; give those of one")
        shards = sorted(tuple(map(int, str(content["shard"]).split("/"))) for content in contents)
        total = shards[0][1]
        if shards != [(number, total) for number in range(1, total + 1)]:
            given = ", ".join(f"{number}/{of}" for number, of in shards)
            raise UserError(f"parts {given} were given; give each once, all {total}")
        for folder, other in zip(folders[1:], inputs[1:], strict=True):
            if differing := _differing(inputs[0], other):
                raise UserError(f"'{folders[0]}' and '{folder}' differ in {differing}; give parts of one study")
        return cls(folders, contents, inputs)

    @property
    def left(self) -> list[str]:
        """What is left to be done once all parts are there."""
        return list(self.contents[0].get("left", []))  # parts of an older version left nothing

    @property
    def declared(self) -> dict[str, Any]:
        """What study.json says of the whole study before anything is concluded."""
        found = {"left", *Outcome([]).to_json()}
        return {name: value for name, value in self.contents[0].items() if name not in found} | {"shard": None}


def merge_shards(folders: Sequence[Path], target: Path) -> str:
    """Write the folder of a study from those of its parts; it is as that of one run, complete or to be resumed.

    Args:
        folders: Folders of all its parts, in any order.
        target: The folder; complete or absent.

    Returns:
        What is left to be done by resuming it, in words; empty if the study is complete.

    Raises:
        UserError: If parts are of different studies, or one is missing, there twice, or incomplete.
    """
    parts = Parts.read(folders)
    if target.exists():
        raise UserError(f"'{target}' exists; remove it or give another --output")
    with whole_folder(target) as partial:
        _copy(parts, partial)
        declared = parts.declared
        entries = [Entry(**entry) for entry in declared["recipes"]]
        endpoint = Endpoint(**declared["endpoint"]) if declared["endpoint"] else None
        against = against_of(entries, endpoint)
        judged = [entry for entry in entries if entry is not against]
        gains, chosen = _select(parts, judged, Store(partial))
        if parts.left:
            (partial / UNFINISHED).mkdir()
            those = ", ".join(entry.name for entry in chosen)
            left = f"{len(chosen)} of {len(judged)} recipes ({those}); left: {'; '.join(parts.left)}"
            write_json(partial / STUDY, declared | {"gains": gains, "answer": f"Not complete: {left}."})
            return left
        names = [entry.name for entry in chosen if CONFIRM in declared["sizes"]]
        looks = max(declared["looks"].values(), default=1)
        judge = Judge(Store(partial), endpoint, None, declared["seed"], against)
        write_outcome(
            partial, declared, conclude(judge, entries, choosing_parts(declared["sizes"]), gains, names, looks)
        )
        return ""


def _differing(one: Inputs, other: Inputs) -> str:
    """The first of what parts are computed from in which two are not the same; empty if there is none."""
    sides = [
        {
            **{key: value for key, value in part.config.items() if _is_shared(key)},
            **{f"version of {package}": version for package, version in part.versions.items()},
            **part.contents,
        }
        for part in (one, other)
    ]
    names = (name for name in {**sides[0], **sides[1]} if sides[0].get(name, MISSING) != sides[1].get(name, MISSING))
    return next(names, "")


def _is_shared(key: str) -> bool:
    def within(prefix: str) -> bool:
        return key == prefix or key.startswith(f"{prefix}.")

    return any(map(within, SECTIONS)) and not any(map(within, APART))


def _copy(parts: Parts, target: Path) -> None:
    """Copy what the parts evaluated and measured, their starts, and the configuration of the first without its part."""
    for folder in parts.folders:
        for name in (RECIPES, "dense"):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, target / name, dirs_exist_ok=True)
    first = parts.folders[0]
    shutil.copytree(first / DENSE[1], target / DENSE[1])
    shutil.copy(first / DENSE[0], target / DENSE[0])
    if config := read_yaml(first / CONFIG):
        content = config | {"study": config["study"] | {"shard": None}}
        write_text(target / CONFIG, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
    starts = [
        start | {"part": content["shard"]}
        for content, folder in zip(parts.contents, parts.folders, strict=True)
        for start in read_starts(folder)
    ]
    write_starts(target, sorted(starts, key=lambda start: str(start.get("date", ""))))
    inputs = parts.inputs[0]
    replace(inputs, config=inputs.config | ({SHARD: None} if SHARD in inputs.config else {})).write(target)
    for name in sorted({file.name for folder in parts.folders for file in folder.glob("statistics*.safetensors")}):
        _merge_statistics([folder / name for folder in parts.folders if (folder / name).is_file()], target / name)


def _merge_statistics(files: Sequence[Path], target: Path) -> None:
    """Keep each group of prompts once: what is resumed prunes by the statistics that the parts pruned by."""
    merged = load_statistics(files[0])
    for other in map(load_statistics, files[1:]):
        known = next(iter(merged.values())).means
        if new := [group for group in next(iter(other.values())).means if group not in known]:
            merged = merge_statistics([merged, {path: layer.only(new) for path, layer in other.items()}])
    save_statistics(merged, target)


def _select(parts: Parts, judged: Sequence[Entry], store: Store) -> tuple[list[dict[str, float]], list[Entry]]:
    """The gains of each round, and who is left after the last: what one run would have seen.

    Parts evaluate all their recipes on all rows that choose, since which of them go on is known only now; what one
    run would not have evaluated is removed.
    """
    declared, left, gains = parts.declared, list(judged), []
    top = (declared["confirm"] or {}).get("top", 0)
    steps = [Round(**step) for step in declared["rounds"]]
    for number, found in enumerate(zip(*(content["gains"] for content in parts.contents), strict=True)):
        known = {name: gain for part in found for name, gain in part.items()}
        gains.append({entry.name: known[entry.name] for entry in left})
        if top:
            following = next_round(left, gains[-1], steps, number, top)
            for entry in (entry for entry in left if entry not in following):
                store.forget(entry.folder, entry.seeds, choosing_parts(declared["sizes"])[number + 1 :])
            left = following
    return gains, left
