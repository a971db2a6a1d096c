"""Compare the predictions of two runs: ``python -m mlprune.evaluation.compare RUN_A RUN_B``."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from mlprune.errors import UserError
from mlprune.evaluation.significance import holm, mcnemar_exact, paired_bootstrap, stratified_bootstrap
from mlprune.metrics.translation import TOKENIZERS

Records = dict[str, dict[str, Any]]
Comparison = dict[str, Any]


def read_predictions(folder: Path) -> dict[str, dict[str, Records]]:
    """Read a run's predictions.

    Args:
        folder: A run's ``predictions`` folder.

    Returns:
        Task to language to id to record.

    Raises:
        UserError: If there are none.
    """
    found: dict[str, dict[str, Records]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        task, lang = file.stem.rsplit(".", 1)
        records = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
        found.setdefault(task, {})[lang] = {record["id"]: record for record in records}
    if not found:
        raise UserError(f"'{folder}' holds no predictions; give a run folder that `test` or `fit` wrote")
    return found


def compare(before: Path, after: Path, seed: int = 0) -> Comparison:
    """Compare two predictions folders, example by example.

    Args:
        before: Predictions of the first system (dense).
        after: Predictions of the second (pruned).
        seed: Seed of the resampling.

    Returns:
        ``tasks``: task to language to ``dense``, ``pruned``, ``delta``, ``delta_ci95``, ``p``, ``p_holm``, ``n``;
        ``average``: task to the non-English average's delta and interval; ``translation``: direction to BLEU figures;
        ``headline``: one plain sentence.
    """
    first, second = read_predictions(before), read_predictions(after)
    result: Comparison = {"tasks": {}, "average": {}, "translation": {}}
    for task in (task for task in first if task in second):
        languages = {
            lang: _shared(first[task][lang], second[task][lang]) for lang in first[task] if lang in second[task]
        }
        languages = {lang: pairs for lang, pairs in languages.items() if pairs}
        sample = next(iter(languages.values()))[0][0] if languages else {}
        if "prediction" in sample:
            result["tasks"][task], result["average"][task] = _accuracies(languages, seed)
        elif "output" in sample:
            for lang, pairs in languages.items():
                target = pairs[0][0].get("target_lang", "en")
                result["translation"][f"{lang}-{target}"] = _bleu(pairs, target, seed)
    result["headline"] = headline(result)
    return result


def _shared(first: Records, second: Records) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(first[key], second[key]) for key in first if key in second]


def _accuracies(languages: dict[str, list[tuple[dict, dict]]], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rows: dict[str, Any] = {}
    differences: dict[str, np.ndarray] = {}
    for lang, pairs in languages.items():
        a, b = (np.array([pair[i]["prediction"] == pair[i]["label"] for pair in pairs]) for i in (0, 1))
        difference = b.astype(float) - a.astype(float)
        differences[lang] = difference
        rows[lang] = {
            "dense": float(a.mean()),
            "pruned": float(b.mean()),
            "delta": float(difference.mean()),
            "delta_ci95": list(paired_bootstrap(difference, seed)),
            "p": mcnemar_exact(a, b),
            "n": len(pairs),
        }
    for lang, corrected in zip(rows, holm([row["p"] for row in rows.values()]), strict=True):
        rows[lang]["p_holm"] = corrected
    others = [difference for lang, difference in differences.items() if lang != "en"]
    average = {}
    if others:
        average = {
            "delta": float(np.mean([difference.mean() for difference in others])),
            "delta_ci95": list(stratified_bootstrap(others, seed)),
            "n": sum(map(len, others)),
        }
    return rows, {"non_en": average} if average else {}


def _bleu(pairs: list[tuple[dict, dict]], target: str, seed: int) -> dict[str, Any]:
    systems = [(name, [pair[i]["output"] for pair in pairs]) for i, name in enumerate(("dense", "pruned"))]
    references = [[pair[0]["reference"] for pair in pairs]]
    scorer = BLEU(tokenize=TOKENIZERS.get(target, "13a"), references=references)
    scores = [scorer.corpus_score(outputs, None).score for _, outputs in systems]
    _, tested = PairedTest(systems, {"BLEU": scorer}, references, test_type="bs", n_samples=1000)()
    p_value = tested["BLEU"][1].p_value if scores[0] != scores[1] else 1.0
    row = {"dense": scores[0], "pruned": scores[1], "delta": scores[1] - scores[0], "p": p_value, "n": len(pairs)}
    return row


def headline(comparison: Comparison) -> str:
    """Say in one plain sentence whether pruning helped outside English; "too few to tell" unless an interval tells.

    Example:
        >>> row = {"non_en": {"delta": 0.05, "delta_ci95": [-0.01, 0.1], "n": 60}}
        >>> headline({"average": {"xnli": row}})
        'Outside English, pruning changed xnli accuracy by +5.0 points (95% CI -1.0 to +10.0, n = 60): too few to tell.'
    """
    parts = []
    for task, average in comparison["average"].items():
        row = average.get("non_en")
        if row:
            low, high = (100 * bound for bound in row["delta_ci95"])
            verdict = "it helped" if low > 0 else "it hurt" if high < 0 else "too few to tell"
            change = f"{100 * row['delta']:+.1f} points (95% CI {low:+.1f} to {high:+.1f}, n = {row['n']})"
            parts.append(f"{task} accuracy by {change}: {verdict}")
    if not parts:
        return "No task was evaluated outside English in both runs, so nothing can be said."
    return f"Outside English, pruning changed {'; '.join(parts)}."


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables, the headline first."""
    lines = ["# Dense against pruned", "", comparison["headline"], ""]
    for task, rows in comparison["tasks"].items():
        lines += [
            f"## {task} (accuracy, %)",
            "",
            "| language | dense | pruned | delta | 95% CI of delta | p (McNemar) | p (Holm) | n |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for lang, row in rows.items():
            low, high = row["delta_ci95"]
            lines.append(
                f"| {lang} | {100 * row['dense']:.1f} | {100 * row['pruned']:.1f} | {100 * row['delta']:+.1f} | "
                f"{100 * low:+.1f} to {100 * high:+.1f} | {row['p']:.3f} | {row['p_holm']:.3f} | {row['n']} |"
            )
        lines.append("")
    if comparison["translation"]:
        lines += ["## Translation (BLEU)", "", "| direction | dense | pruned | delta | p (paired bootstrap) | n |"]
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
        for direction, row in comparison["translation"].items():
            figures = f"{row['dense']:.1f} | {row['pruned']:.1f} | {row['delta']:+.1f} | {row['p']:.3f} | {row['n']}"
            lines.append(f"| {direction} | {figures} |")
        lines.append("")
    return "\n".join(lines)


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mlprune.evaluation.compare", description=__doc__)
    parser.add_argument("run_a", type=Path, help="run folder of the first system, such as the dense one")
    parser.add_argument("run_b", type=Path, help="run folder of the second")
    arguments = parser.parse_args(args)
    try:
        comparison = compare(arguments.run_a / "predictions", arguments.run_b / "predictions")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(markdown(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
