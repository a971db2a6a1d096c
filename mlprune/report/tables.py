"""The tables of a report as rows of text, formatted here so that the template only lays them out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlprune.models.paths import LayerPath
from mlprune.report.reading import Json, Run


@dataclass(frozen=True)
class Table:
    """A table: its title, its head, its rows; the first cell of a row names it. ``prose``: the last column is text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: bool = False


def comparison_tables(comparison: Json, results: Json) -> list[Table]:
    """Dense against pruned with intervals and p values.

    Args:
        comparison: Content of comparison.json; empty gives no table.
        results: Content of results.json, for the order of tasks and languages.
    """
    tables = []
    measured, ranked = results.get("tasks", {}), results.get("rankc", {})
    for task, unordered in _ordered(comparison.get("tasks", {}), measured).items():
        rows = _ordered(unordered, measured.get(task, {}))
        head = ("language", "dense", "pruned", "difference", "95% CI of it", "p (McNemar)", "p (Holm)", "n")
        cells = [
            (lang, *_change(row, 100, 1), _p(row.get("p")), _p(row.get("p_holm")), str(row["n"]))
            for lang, row in rows.items()
        ]
        average = comparison.get("average", {}).get(task, {}).get("non_en")
        if average:
            cells.append(("without English", *_change(average, 100, 1), "", "", str(average["n"])))
        tables.append(Table(f"{task}: accuracy, %", head, cells))
        pairs = _ordered(comparison.get("rankc", {}).get(task, {}), ranked.get(task, {}))
        if pairs:
            head = ("languages", "dense", "pruned", "difference", "95% CI of it", "by chance", "n")
            cells = [
                (pair, *_change(row, 1, 3), _number(row.get("expected"), 3), str(row["n"]))
                for pair, row in pairs.items()
            ]
            tables.append(Table(f"{task}: consistency with English (RankC)", head, cells))
    if comparison.get("translation"):
        head = (
            "direction",
            *("BLEU dense", "pruned", "difference", "p"),
            *("chrF++ dense", "pruned", "difference", "p", "n"),
        )
        cells = [
            (direction, *_scores(row), *_scores(row.get("chrf") or {}), str(row["n"]))
            for direction, row in _ordered(comparison["translation"], results.get("translation", {})).items()
        ]
        tables.append(Table("Translation (p by paired bootstrap)", head, cells))
    if comparison.get("perplexity"):
        head = ("language", "dense", "pruned", "difference", "95% CI of it", "n")
        rows = _ordered(comparison["perplexity"], results.get("perplexity", {}))
        cells = [(lang, *_change(row, 1, 3), str(row["n"])) for lang, row in rows.items()]
        tables.append(Table("Bits per character, lower is better", head, cells))
    return tables


def _ordered(rows: Mapping[str, Any], like: Iterable[str]) -> dict[str, Any]:
    """The rows in the order of the run's own settings, which the charts have too."""
    return {key: rows[key] for key in dict.fromkeys([*like, *rows]) if key in rows}


def _change(row: Mapping[str, Any], scale: float, digits: int) -> tuple[str, str, str, str]:
    interval = row.get("delta_ci95") or ()
    shown = " to ".join(f"{scale * bound:+.{digits}f}" for bound in interval)
    dense, pruned = (_number(row.get(name), digits, scale) for name in ("dense", "pruned"))
    return dense, pruned, f"{scale * row['delta']:+.{digits}f}", shown


def _scores(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    delta = f"{row['delta']:+.1f}" if "delta" in row else ""
    return _number(row.get("dense"), 1), _number(row.get("pruned"), 1), delta, _p(row.get("p"))


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None, digits: int, scale: float = 1) -> str:
    return "" if value is None else f"{scale * value:.{digits}f}"


def result_tables(systems: Mapping[str, Json]) -> list[Table]:
    """Every evaluation's own figures, a column each.

    Args:
        systems: Name to results.
    """
    parts: dict[str, dict[str, dict[str, str]]] = {}
    for name, results in systems.items():
        for task, languages in results.get("tasks", {}).items():
            for lang, row in languages.items():
                _put(parts, f"{task}: accuracy, % (95% interval)", lang, name, _accuracy(row), row)
            average = results.get("average", {}).get(task, {}).get("non_en")
            if average:
                _put(parts, f"{task}: accuracy, % (95% interval)", "without English", name, _accuracy(average), {})
        for task, pairs in results.get("rankc", {}).items():
            for pair, value in pairs.items():
                _put(parts, f"{task}: RankC", pair, name, f"{value:.3f}", {})
        for direction, row in results.get("translation", {}).items():
            text = f"{_number(row.get('bleu'), 1)} / {_number(row.get('chrf'), 1)}"
            _put(parts, "Translation: BLEU / chrF++", direction, name, text, row)
        for lang, row in results.get("perplexity", {}).items():
            _put(parts, "Bits per character, lower is better", lang, name, _number(row.get("bits_per_char"), 3), row)
    tables = []
    for title, rows in parts.items():
        counted = any("n" in row for row in rows.values())
        head = ["", *systems, *(["n"] if counted else [])]
        cells = [
            [key, *(row.get(name, "") for name in systems), *([row.get("n", "")] if counted else [])]
            for key, row in rows.items()
        ]
        tables.append(Table(title, head, cells))
    return tables


def _put(parts: dict, title: str, key: str, system: str, text: str, row: Mapping[str, Any]) -> None:
    cells = parts.setdefault(title, {}).setdefault(key, {})
    cells[system] = text
    if "n" in row and str(row["n"]) not in cells.get("n", "").split(" / "):
        cells["n"] = " / ".join(filter(None, [cells.get("n", ""), str(row["n"])]))


def _accuracy(row: Mapping[str, Any]) -> str:
    if "accuracy" not in row:
        return ""
    interval = " to ".join(f"{100 * bound:.1f}" for bound in row.get("ci95", []))
    return f"{100 * row['accuracy']:.1f}" + (f" ({interval})" if interval else "")


def settings_rows(runs: Sequence[Run]) -> list[tuple[str, list[str], bool]]:
    """Return (setting, value in each run, whether runs differ), settings without a value anywhere left out."""
    columns = [_settings(run) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [(key, [column.get(key, "") for column in columns]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in rows if any(values)]


def _settings(run: Run) -> dict[str, str]:
    recipe, final = run.recipe or run.overlap, run.final
    data = run.config.get("data") or {}
    prunes = bool(run.recipe or run.layers or run.sweep)
    pruning = (run.config.get("pruning") or {}) if prunes else {}  # else not what the evaluated model was pruned by
    sparsity = run.recipe.get("sparsity", final.get("sparsity"))
    settings = {
        "model": final.get("model") or recipe.get("base_model") or (run.config.get("model") or {}).get("name"),
        "sparsity reached": f"{100 * sparsity:.2f}%" if sparsity else None,
        "importance": recipe.get("importance") or _class(pruning.get("importance")),
        "pattern": recipe.get("pattern") or _class(pruning.get("pattern")),
        "allocation": recipe.get("allocation") or _class(pruning.get("allocation")),
        "propagate": recipe.get("propagate") or pruning.get("propagate"),
    }
    name = "calibration" if prunes else "demonstrations"
    described = (data.get("demonstrations") or {}) if prunes or run.overlap else {}
    for group, entry in (recipe.get("calibration") or {}).items():
        text = f"{entry['prompts']} prompts, {entry['tokens']} tokens, SHA-256 {entry['sha256']}"
        settings[f"{name} '{group}'"] = f"{_class(described.get(group))}; {text}" if group in described else text
    for group in described:
        settings.setdefault(f"{name} '{group}'", _class(described[group]))
    settings |= _training(run)
    settings["seed"] = final.get("seed", recipe.get("seed", run.config.get("seed_everything")))
    settings["configuration hash"] = final.get("config_hash")
    versions = final.get("versions") or recipe.get("versions") or {}
    settings["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {key: "" if value is None else str(value) for key, value in settings.items()}


def _training(run: Run) -> dict[str, str | None]:
    """Settings of recovery training, of a run that trained."""
    epochs = (run.config.get("trainer") or {}).get("max_epochs") or 0
    if epochs < 1 or len(run.results) < 2:
        return {}
    model = run.config.get("model") or {}
    lora = ", ".join(f"{key}={value}" for key, value in (model.get("lora") or {}).items())
    text = f"{epochs} epoch{'s' if epochs > 1 else ''}, {_class(model.get('optimizer')) or 'AdamW'}"
    return {"recovery training": text + (f", adapters ({lora})" if lora else "")}


def _class(entry: Any) -> str | None:
    """A class of the configuration with the arguments that are not None."""
    if not isinstance(entry, Mapping):
        return None
    name = str(entry.get("class_path", "")).rpartition(".")[2]
    arguments = {k: v for k, v in (entry.get("init_args") or {}).items() if isinstance(v, str | int | float)}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def layer_summary(run: Run) -> list[Table]:
    """Return the ten layers that lost the largest share of their importance."""
    rows = [row for row in run.layers if row.get("kept_importance")]
    rows = sorted(rows, key=lambda row: float(row["kept_importance"]))[:10]
    if not rows:
        return []
    head = ("layer", "block", "weights pruned, %", "score pruned away, %", "threshold")
    cells = [
        (
            LayerPath.of(row["layer"]).layer,
            row["block"],
            f"{100 * float(row['sparsity']):.1f}",
            f"{100 * (1 - float(row['kept_importance'])):.2f}",
            f"{float(row['threshold']):.3g}",
        )
        for row in rows
    ]
    return [Table("The ten layers that lost most", head, cells)]
