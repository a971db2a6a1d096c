"""Compare the predictions of two runs: ``python -m mlprune.evaluation.compare RUN_A RUN_B``."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlprune.errors import UserError
from mlprune.evaluation.comparison_text import headline, markdown
from mlprune.evaluation.paired import Pairs, accuracy_rows, bits_row, rankc_row, translation_row
from mlprune.files import write_json
from mlprune.log import log

Records = dict[str, dict[str, Any]]
Comparison = dict[str, Any]


def read_predictions(folder: Path) -> dict[str, dict[str, Records]]:
    """Read a run's predictions.

    Args:
        folder: A run's ``predictions`` folder.

    Returns:
        Task to language to id to record.

    Raises:
        UserError: If there are none, or a file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "xnli.fr.jsonl").write_text('{"id": "0", "prediction": "neutral"}')
        ...     read_predictions(Path(folder))
        {'xnli': {'fr': {'0': {'id': '0', 'prediction': 'neutral'}}}}
    """
    found: dict[str, dict[str, Records]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        task, _, lang = file.stem.rpartition(".")
        lines = file.read_text(encoding="utf-8").split("\n")  # U+2028 and its like stand within texts
        try:
            records = [json.loads(line) for line in lines if line]
            found.setdefault(task, {})[lang] = {record["id"]: record for record in records}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"'{file}' cannot be read: {error}") from error
    if not found:
        raise UserError(f"'{folder}' holds no predictions; give a run folder that `test` or `fit` wrote")
    return found


def compare(before: Path, after: Path, seed: int = 0, systems: tuple[str, str] = ("dense", "pruned")) -> Comparison:
    """Compare two predictions folders, example by example.

    Args:
        before: Predictions of the first system (dense).
        after: Predictions of the second (pruned).
        seed: Seed of the resampling.
        systems: What they are called.

    Returns:
        ``tasks``: task to language to ``dense``, ``pruned``, ``delta``, ``delta_ci95``, ``p``, ``p_holm``, ``n`` and
        ``disagreement``, the share of examples whose prediction changed.
        ``average``: task to ``non_en``, the average over the other languages with its paired interval.
        ``rankc``: task to pair of languages to the same figures and ``expected``, what random rankings have.
        ``translation``: direction to BLEU figures, and under ``chrf`` chrF++'s.
        ``perplexity``: language to bits per character.
        ``headline``: one plain sentence. ``systems``: what they are called.

    Raises:
        UserError: If there are no predictions, or the runs have no example in common or differ in one's label.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = '{"id": "0", "label": "neutral", "prediction": "neutral", "scores": [1, 2, 0]}'
        ...     _ = Path(folder, "xnli.fr.jsonl").write_text(record)
        ...     comparison = compare(Path(folder), Path(folder))
        >>> comparison["tasks"]["xnli"]["fr"]["delta"], comparison["tasks"]["xnli"]["fr"]["n"]
        (0.0, 1)
    """
    first, second = read_predictions(before), read_predictions(after)
    result: Comparison = {"systems": list(systems), "tasks": {}, "average": {}, "rankc": {}, "translation": {}}
    result["perplexity"] = {}
    for task in sorted(first.keys() ^ second.keys()):
        log.warning("%s: only in %s", task, systems[0] if task in first else systems[1])
    for task in (task for task in first if task in second):
        for lang in sorted(first[task].keys() ^ second[task].keys()):
            log.warning("%s.%s: only in %s", task, lang, systems[0] if lang in first[task] else systems[1])
        shared = [lang for lang in _english_first(first[task]) if lang in second[task]]
        languages = {lang: _pairs(first[task][lang], second[task][lang], f"{task}.{lang}") for lang in shared}
        languages = {lang: pairs for lang, pairs in languages.items() if pairs}
        sample = next(iter(languages.values()))[0][0] if languages else {}
        if "prediction" in sample:
            result["tasks"][task], average = accuracy_rows(languages, seed)
            result["average"][task] = {"non_en": average} if average else {}
            aligned = sample.get("aligned", True) and "en" in languages
            others = [lang for lang in languages if lang != "en"] if aligned else []
            rankc = {f"en-{lang}": rankc_row(languages["en"], languages[lang], seed) for lang in others}
            result["rankc"][task] = {pair: row for pair, row in rankc.items() if row}
        elif "output" in sample:
            prefix = "" if task == "translation" else f"{task}:"
            for lang, pairs in languages.items():
                result["translation"][f"{prefix}{lang}-{sample.get('target_lang', 'en')}"] = translation_row(pairs)
        elif "log_prob" in sample:
            result["perplexity"] |= {lang: bits_row(pairs, seed) for lang, pairs in languages.items()}
    if not (any(result["tasks"].values()) or result["translation"] or result["perplexity"]):
        raise UserError(f"'{systems[0]}' and '{systems[1]}' have no example in common; evaluate both on the same tasks")
    result["headline"] = headline(result)
    return result


def _pairs(first: Records, second: Records, where: str) -> Pairs:
    """Pair records by id; both runs must have asked the same."""
    pairs = [(first[key], second[key]) for key in first if key in second]
    for one, other in pairs:
        for name in ("label", "reference", "chars"):
            if one.get(name) != other.get(name):
                raise UserError(
                    f"{where}, example {one['id']}: the runs differ in its {name}; compare runs on the same data"
                )
    if len(pairs) < max(len(first), len(second)):
        log.warning("%s: %d and %d examples, of which %d are in both runs", where, len(first), len(second), len(pairs))
    return pairs


def _english_first(languages: Iterable[str]) -> list[str]:
    return sorted(languages, key=lambda lang: (lang != "en", lang))


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mlprune.evaluation.compare", description=__doc__)
    parser.add_argument("run_a", type=Path, help="run folder of the first system, such as the dense one")
    parser.add_argument("run_b", type=Path, help="run folder of the second")
    parser.add_argument("--json", type=Path, help="also write the comparison to this file")
    arguments = parser.parse_args(args)
    runs = (arguments.run_a, arguments.run_b)
    try:
        comparison = compare(*(run / "predictions" for run in runs), systems=(str(runs[0]), str(runs[1])))
        if arguments.json:
            write_json(arguments.json, comparison)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(markdown(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
