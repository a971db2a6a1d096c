"""Parts of a study that were evaluated apart, on several machines say, merged into one."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.files import whole_folder, write_json, write_text
from mlprune.present.study import leaderboard, study_csv
from mlprune.present.table import to_csv, to_latex
from mlprune.runs.reading import read_json
from mlprune.studies.endpoint import Endpoint
from mlprune.studies.judging import Entry, Judge, against_of
from mlprune.studies.looks import STUDY
from mlprune.studies.outcome import CONFIRM, Outcome, conclude
from mlprune.studies.store import RECIPES, Store

SHARED = ("config.yaml", "results.dense.json", "predictions.dense", "dense")


def write_outcome(folder: Path, declared: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Write study.json, study.csv and study.tex, and return the content of the first.

    Args:
        folder: The study's folder.
        declared: What was declared.
        outcome: What was found.
    """
    content = declared | outcome.to_json()
    write_text(folder / "study.csv", to_csv(study_csv([(line.before, line.row) for line in outcome.lines])))
    write_text(folder / "study.tex", "\n\n".join(map(to_latex, leaderboard(content))) + "\n")
    write_json(folder / STUDY, content)
    return content


def merge_shards(folders: Sequence[Path], target: Path) -> None:
    """Write the folder of a study from those of its parts; it is as that of one run.

    Args:
        folders: Folders of all its parts, in any order.
        target: The folder; complete or absent.

    Raises:
        UserError: If parts are of different studies, or one is missing, there twice, or incomplete.
    """
    contents = [read_json(folder / STUDY) for folder in folders]
    first = contents[0]
    if any(content.get("id") != first.get("id") for content in contents):
        raise UserError(f"'{folders[0]}' and others are parts of different studies; give those of one")
    given = sorted(int(str(content["shard"]).partition("/")[0]) for content in contents)
    total = int(str(first["shard"]).partition("/")[2])
    if given != list(range(1, total + 1)):
        raise UserError(f"parts {', '.join(map(str, given))} of {total} were given; give each once, all {total}")
    if unfinished := [
        str(folder) for folder, content in zip(folders, contents, strict=True) if "answer" not in content
    ]:
        raise UserError(f"'{unfinished[0]}' is not complete; resume it first")
    if target.exists():
        raise UserError(f"'{target}' exists; remove it or give another --output")
    with whole_folder(target) as partial:
        for folder in folders:
            shutil.copytree(folder / RECIPES, partial / RECIPES, dirs_exist_ok=True)
        for path in (folders[0] / name for name in SHARED):
            if path.is_dir():
                shutil.copytree(path, partial / path.name)
            elif path.is_file():
                shutil.copy(path, partial / path.name)
        entries = [Entry(**entry) for entry in first["recipes"]]
        endpoint = Endpoint(**first["endpoint"]) if first["endpoint"] else None
        rounds = zip(*(content["gains"] for content in contents), strict=True)
        gains = [{name: gain for part in found for name, gain in part.items()} for found in rounds]
        against = against_of(entries, endpoint)
        judged = [entry.name for entry in entries if entry is not against]
        gains = [{name: gain[name] for name in judged} for gain in gains]
        parts = [name for name in first["sizes"] if name != CONFIRM]
        chosen = judged if CONFIRM in first["sizes"] else []
        looks = max(first["looks"].values(), default=1)
        judge = Judge(Store(partial), endpoint, None, first["seed"], against)
        declared = {name: first[name] for name in first if name not in Outcome([]).to_json()} | {"shard": None}
        write_outcome(partial, declared, conclude(judge, entries, parts, gains, chosen, looks))
