"""What a report asks, and what it answers in one sentence."""

from mlprune.report.features import layer_name
from mlprune.report.reading import Json, Run

TRANSLATES = "A multilingual language model answers better in English than in other languages, yet it translates well. "
PRUNED = TRANSLATES + (
    "If the weights that matter least for translation are pruned, without training, "
    "does it answer better in the other languages?"
)
FEATURES = TRANSLATES + "Which of its features are large when it translates, and in no language alone?"
DENSE = "How well does the model answer in English, and how well in other languages?"


def question(run: Run) -> str:
    """Return what a run asks.

    Example:
        >>> from pathlib import Path
        >>> question(Run(Path("v0"), "v0", results={"dense": {}}))
        'How well does the model answer in English, and how well in other languages?'
    """
    if run.pruned:
        return PRUNED
    return FEATURES if run.overlap else DENSE if run.results else ""


def headline(run: Run) -> str:
    """Return a run's finding in one sentence; empty if there is none."""
    if run.comparison.get("headline"):
        return str(run.comparison["headline"])
    if run.sweep:
        return _swept(run.sweep)
    if run.results:
        return _evaluated(run.final)
    if run.layers:
        return _pruned(run)
    return _features(run.overlap) if run.overlap.get("only_translation") else ""


def _evaluated(results: Json) -> str:
    found = []
    for task, rows in results.get("tasks", {}).items():
        means = results.get("average", {}).get(task, {})
        places = {"English": rows.get("en", {}), "the other languages": means.get("non_en", {})}
        shown = [f"{100 * row['accuracy']:.1f}% in {place}" for place, row in places.items() if "accuracy" in row]
        if shown:
            found.append(f"{task} {' and '.join(shown)}")
    if not found:
        return ""
    return f"The {results.get('stage', 'dense')} model answers right: {'; '.join(found)}."


def _swept(rows: list[dict[str, str]]) -> str:
    found = []
    for task in dict.fromkeys(row["task"] for row in rows if row["language"] == "non_en"):
        own = [row for row in rows if (row["task"], row["language"]) == (task, "non_en")]
        own.sort(key=lambda row: float(row["sparsity"]))
        clear = [row for row in own if float(row["low"] or 0) > 0 or float(row["high"] or 0) < 0]
        if clear:
            row = clear[0]
            moved = f"{100 * float(row['delta']):+.1f} points at {100 * float(row['sparsity']):g}% sparsity"
            found.append(f"{task} accuracy first changes by {moved} (95% intervals, uncorrected, of {len(own)})")
        else:
            found.append(f"{task} accuracy shows no clear change up to {100 * float(own[-1]['sparsity']):g}% sparsity")
    return f"Outside English, as more weights are pruned: {'; '.join(found)}." if found else ""


def _pruned(run: Run) -> str:
    lost = {row["layer"]: 1 - float(row["kept_importance"]) for row in run.layers if row.get("kept_importance")}
    sparsity = run.recipe.get("sparsity") or sum(float(row["sparsity"]) for row in run.layers) / len(run.layers)
    text = f"Pruning took {100 * sparsity:.1f}% of the weights of {len(run.layers)} layers"
    if not lost:
        return text + "."
    most = max(lost, key=lambda layer: lost[layer])
    mean = sum(lost.values()) / len(lost)
    return f"{text}, and with them {100 * mean:.1f}% of a layer's score on average, {100 * lost[most]:.1f}% in {most}."


def _features(overlap: Json) -> str:
    counts = {layer_name(layer): len(only) for layer, only in zip(overlap["layers"], overlap["only_translation"])}
    total, most = sum(counts.values()), max(counts, key=lambda layer: counts[layer])
    text = f"Of the hidden states' top {overlap['percent']:g}% features, {total or 'none'} over {len(counts)} layers"
    where = f", with the most ({counts[most]}) after {most}" if total > 1 else ""
    return f"{text} {'is' if total == 1 else 'are'} large under translation and in no other group{where}."
