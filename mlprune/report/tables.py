"""The tables of a report that are not of figures: settings, and what pruning did to layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlprune.models.paths import LayerPath
from mlprune.present import Table
from mlprune.report.provenance import provenance
from mlprune.runs.content import RunContent


def settings_rows(runs: Sequence[RunContent]) -> list[tuple[str, list[str], bool]]:
    """Return (setting, value in each run, whether runs differ), settings without a value anywhere left out."""
    columns = [_settings(run) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [(key, [column.get(key, "") for column in columns]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in rows if any(values)]


def _settings(run: RunContent) -> dict[str, str]:
    recipe, final = run.recipe or run.overlap, run.final
    data = run.config.get("data") or {}
    prunes = bool(run.recipe or run.layers or run.sweep)
    pruning = (run.config.get("pruning") or {}) if prunes else {}  # else not what the evaluated model was pruned by
    sparsity = run.recipe.get("sparsity", final.get("sparsity"))
    scored = run.recipe.get("scored_share", 1.0)
    made = provenance(run)
    settings: dict[str, Any] = {
        "date": made.pop("date", None),
        "model": final.get("model") or recipe.get("base_model") or (run.config.get("model") or {}).get("name"),
        "sparsity reached": f"{100 * sparsity:.2f}%" if sparsity else None,
        "sparsities": ", ".join(dict.fromkeys(f"{100 * float(row['sparsity']):g}%" for row in run.sweep)),
        "share of the blocks' weights scored": f"{100 * scored:.1f}%" if scored < 1 else None,
        "importance": recipe.get("importance") or _class(pruning.get("importance")),
        "pattern": recipe.get("pattern") or _class(pruning.get("pattern"), without=("sparsity",) if run.sweep else ()),
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
    settings |= made
    settings["seed"] = final.get("seed", recipe.get("seed", run.config.get("seed_everything")))
    settings["configuration hash"] = final.get("config_hash")
    versions = final.get("versions") or recipe.get("versions") or {}
    settings["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {key: "" if value is None else str(value) for key, value in settings.items()}


def _training(run: RunContent) -> dict[str, str | None]:
    """Settings of recovery training, of a run that trained."""
    epochs = (run.config.get("trainer") or {}).get("max_epochs") or 0
    if epochs < 1 or (len(run.results) < 2 and "trained" not in run.results):
        return {}
    model = run.config.get("model") or {}
    lora = ", ".join(f"{key}={value}" for key, value in (model.get("lora") or {}).items())
    text = f"{epochs} epoch{'s' if epochs > 1 else ''}, {_class(model.get('optimizer')) or 'AdamW'}"
    return {"recovery training": text + (f", adapters ({lora})" if lora else "")}


def share_lost(row: Mapping[str, str]) -> float:
    """Return the share of a layer's importance that was pruned away, from its row of layers.csv.

    Example:
        >>> share_lost({"kept_importance": "0.75"}), share_lost({"kept_importance": "1.0000000000000002"})
        (0.25, 0.0)
    """
    return max(1 - float(row["kept_importance"]), 0.0)


def _class(entry: Any, without: Sequence[str] = ()) -> str | None:
    """A class of the configuration with its plain arguments."""
    if not isinstance(entry, Mapping):
        return None
    name = str(entry.get("class_path", "")).rpartition(".")[2]
    arguments = {
        k: v for k, v in (entry.get("init_args") or {}).items() if isinstance(v, str | int | float) and k not in without
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def facts_of(run: RunContent) -> list[str]:
    """Return in a few words what was done to which model: the line under a report's title."""
    settings = _settings(run)
    prompts = sum(entry["prompts"] for entry in (run.recipe.get("calibration") or {}).values())
    found = [
        settings["model"],
        settings["sparsity reached"] and f"{settings['sparsity reached']} of the weights pruned",
        settings["importance"] and f"scored by {settings['importance'].partition('(')[0]}",
        f"{prompts} calibration prompts" if prompts else "",
        settings.get("date"),
        settings.get("duration", "").partition(":")[0],
    ]
    return [fact for fact in found if fact]


def layer_summary(run: RunContent | None) -> list[Table]:
    """Return the ten layers that lost the largest share of their importance; of several runs none."""
    rows = [row for row in (run.layers if run else []) if row.get("kept_importance")]
    rows = sorted(rows, key=lambda row: float(row["kept_importance"]))[:10]
    if not rows:
        return []
    head = ("layer", "block", "weights pruned, %", "score pruned away, %", "threshold")
    cells = [
        (
            LayerPath.of(row["layer"]).layer,
            row["block"],
            f"{100 * float(row['sparsity']):.1f}",
            f"{100 * share_lost(row):.2f}",
            f"{float(row['threshold']):.3g}",
        )
        for row in rows
    ]
    return [Table("The ten layers that lost most", head, cells)]
