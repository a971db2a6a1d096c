"""What a run's folder holds, read for people: every part may be missing, and is then empty."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from mlprune.errors import UserError
from mlprune.runs.journal import read_starts
from mlprune.runs.reading import Json, read_json, read_predictions, read_yaml
from mlprune.runs.warnings import read_warnings

Predictions = dict[str, dict[str, dict[str, Json]]]  # task, language, id


@dataclass(frozen=True)
class RunContent:
    """A run's folder in memory.

    Args:
        folder: Where it is.
        name: What the report calls it.
        config: config.yaml.
        results: System (``dense``, ``pruned``, ``trained``) to results, the last evaluation last.
        comparison: comparison.json.
        predictions: System to predictions.
        recipe: mlprune.json.
        layers: Rows of layers.csv: what pruning did to each layer.
        study: study.json.
        study_rows: Lines of study.csv.
        sweep: Those of a sweep, or of sweep.csv of an older run: figures by sparsity.
        overlap: overlap.json of a feature analysis.
        overlap_linear: overlap.linear.json of a feature analysis.
        warnings: What could not be shown when the run ended.
        starts: What run.json says of each start of the run; empty for a run of an older version.
    """

    folder: Path
    name: str
    config: Json = field(default_factory=dict)
    results: dict[str, Json] = field(default_factory=dict)
    comparison: Json = field(default_factory=dict)
    predictions: dict[str, Predictions] = field(default_factory=dict)
    recipe: Json = field(default_factory=dict)
    layers: list[dict[str, str]] = field(default_factory=list)
    study: Json = field(default_factory=dict)
    study_rows: list[dict[str, str]] = field(default_factory=list)
    sweep: list[dict[str, str]] = field(default_factory=list)
    overlap: Json = field(default_factory=dict)
    overlap_linear: Json = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    starts: list[Json] = field(default_factory=list)

    @property
    def final(self) -> Json:
        """The results of the last evaluation; empty if there is none."""
        return next(reversed(self.results.values()), {})

    def predictions_folder(self, system: str) -> Path:
        """Return the folder of a system's predictions; the last system's has no name of its own."""
        last = next(reversed(self.results), "")
        return self.folder / ("predictions" if system == last else f"predictions.{system}")

    @property
    def pruned(self) -> bool:
        """Whether the run pruned a model, or evaluated a pruned one."""
        return bool(self.recipe or self.layers or self.sweep or self.study or self.results.keys() - {"dense"})


def read_run(folder: Path) -> RunContent:
    """Read a run's folder.

    Args:
        folder: The logger's folder, such as ``lightning_logs/version_0``.

    Raises:
        UserError: If it holds nothing of a run, or a file in it cannot be read.
    """
    results: dict[str, Json] = {}
    predictions: dict[str, Predictions] = {}
    for kind, default in ((".dense", "dense"), (".pruned", "pruned"), ("", "pruned")):
        content = read_json(folder / f"results{kind}.json")
        name = str(content.get("system") or content.get("stage") or default)
        found = read_predictions(folder / f"predictions{kind}")
        results |= {name: content} if content else {}
        predictions |= {name: found} if found else {}
    study, lines, sweep = read_study(folder)
    run = RunContent(
        folder=folder,
        name="/".join(folder.resolve().parts[-2:]),
        config=read_yaml(folder / "config.yaml"),
        results=results,
        comparison=read_json(folder / "comparison.json"),
        predictions=predictions,
        recipe=read_json(folder / "pruned" / "mlprune.json") or read_json(folder / "mlprune.json"),
        layers=_rows(folder / "layers.csv"),
        study=study,
        study_rows=lines,
        sweep=sweep,
        overlap=read_json(folder / "overlap.json"),
        overlap_linear=read_json(folder / "overlap.linear.json"),
        warnings=read_warnings(folder),
        starts=read_starts(folder),
    )
    if not (run.config or run.results or run.recipe or run.layers or run.overlap):
        raise UserError(f"'{folder}' is not a run's folder; give one that fit, validate or test wrote")
    return run


def read_study(folder: Path) -> tuple[Json, list[dict[str, str]], list[dict[str, str]]]:
    """Return study.json, the lines of study.csv, and what of them is a sweep, or an older run's sweep.csv.

    Args:
        folder: As for :func:`read_run`.

    Raises:
        UserError: If a file cannot be read.
    """
    study, lines = read_json(folder / "study.json"), _rows(folder / "study.csv")
    return study, lines, _sweep(study, lines) or _rows(folder / "sweep.csv")


def _sweep(study: Json, lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """The lines of a study that only tries one recipe at many sparsities."""
    keys = {tuple(recipe["values"]) for recipe in study.get("recipes", [])}
    names = {recipe["name"].partition(",")[0] for recipe in study.get("recipes", [])}
    seeds = {line["seed"] for line in lines}
    is_sweep = keys == {("pruning.pattern.sparsity",)} and len(names) == len(seeds) == 1
    return lines if is_sweep and study.get("endpoint") is None else []


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
