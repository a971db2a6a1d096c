"""Two systems on the same examples: differences with intervals and p values.

A pair is one example's record under the first system and under the second; rows call them ``dense`` and ``pruned``.
"""

from typing import Any

import numpy as np
import torch
from sacrebleu.metrics import CHRF
from sacrebleu.significance import PairedTest

from mlprune.evaluation.significance import holm, mcnemar_exact, paired_bootstrap, stratified_bootstrap
from mlprune.metrics import expected_rankc, rankc_each
from mlprune.metrics.translation import bleu_scorer

Record = dict[str, Any]
Pairs = list[tuple[Record, Record]]
Row = dict[str, Any]


def accuracy_rows(languages: dict[str, Pairs], seed: int = 0) -> tuple[dict[str, Row], Row]:
    """Compare accuracies; p values by McNemar's exact test, corrected by Holm over the languages.

    Args:
        languages: Language to pairs of records with ``label`` and ``prediction``.
        seed: Seed of the resampling.

    Returns:
        A row a language, and the average over those that are not English, empty if there are none.

    Example:
        >>> right, wrong = {"label": "a", "prediction": "a"}, {"label": "a", "prediction": "b"}
        >>> rows, average = accuracy_rows({"fr": [(wrong, right), (right, right)]})
        >>> rows["fr"]["delta"], rows["fr"]["disagreement"], rows["fr"]["p"], average["n"]
        (0.5, 0.5, 1.0, 2)
    """
    rows: dict[str, Row] = {}
    differences: dict[str, np.ndarray] = {}
    for lang, pairs in languages.items():
        a, b = (np.array([pair[i]["prediction"] == pair[i]["label"] for pair in pairs]) for i in (0, 1))
        differences[lang] = b.astype(float) - a.astype(float)
        changed = [first["prediction"] != second["prediction"] for first, second in pairs]
        rows[lang] = _difference(float(a.mean()), float(b.mean()), differences[lang], seed)
        rows[lang] |= {"p": mcnemar_exact(a, b), "n": len(pairs), "disagreement": sum(changed) / len(pairs)}
    for row, corrected in zip(rows.values(), holm([row["p"] for row in rows.values()]), strict=True):
        row["p_holm"] = corrected
    others = [lang for lang in languages if lang != "en"]
    if not others:
        return rows, {}
    means = [float(np.mean([rows[lang][name] for lang in others])) for name in ("dense", "pruned")]
    interval = stratified_bootstrap([differences[lang] for lang in others], seed)
    average = {"dense": means[0], "pruned": means[1], "delta": means[1] - means[0], "delta_ci95": list(interval)}
    return rows, average | {"n": sum(len(languages[lang]) for lang in others)}


def rankc_row(pivot: Pairs, other: Pairs, seed: int = 0) -> Row:
    """Compare RankC of two languages, paired by example id.

    Args:
        pivot: One language's pairs of records with ``id`` and ``scores``.
        other: The other's.
        seed: Seed of the resampling.

    Returns:
        The row, with ``expected``, what random rankings have on average; empty if no example is in both languages.

    Example:
        >>> english, french = {"id": "0", "scores": [2.0, 1.0]}, {"id": "0", "scores": [0.1, 0.5]}
        >>> pruned = {"id": "0", "scores": [0.5, 0.1]}
        >>> row = rankc_row([(english, english)], [(french, pruned)])
        >>> round(row["dense"], 3), round(row["pruned"], 3), round(row["expected"], 3)
        (0.269, 1.0, 0.634)
    """
    by_id = {pair[0]["id"]: pair for pair in other}
    shared = [(pair, by_id[pair[0]["id"]]) for pair in pivot if pair[0]["id"] in by_id]
    shared = [(one, two) for one, two in shared if len(one[0]["scores"]) == len(two[0]["scores"])]
    if not shared:
        return {}
    values = [[_rankc(one[i]["scores"], two[i]["scores"]) for one, two in shared] for i in (0, 1)]
    difference = np.array(values[1]) - np.array(values[0])
    expected = float(np.mean([expected_rankc(len(one[0]["scores"])) for one, _ in shared]))
    row = _difference(float(np.mean(values[0])), float(np.mean(values[1])), difference, seed)
    return row | {"expected": expected, "n": len(shared)}


def _rankc(first: list[float], second: list[float]) -> float:
    return float(rankc_each(torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64)))


def bits_row(pairs: Pairs, seed: int = 0, num_resamples: int = 1000) -> Row:
    """Compare bits per character over a corpus; texts are resampled for the interval.

    Args:
        pairs: Pairs of records with ``log_prob`` and ``chars``.
        seed: Seed of the resampling.
        num_resamples: How many resamples.

    Example:
        >>> row = bits_row([({"log_prob": -2 * np.log(2), "chars": 1}, {"log_prob": -np.log(2), "chars": 1})])
        >>> row["dense"], row["pruned"], row["delta_ci95"]
        (2.0, 1.0, [-1.0, -1.0])
    """
    bits = np.array([[-record["log_prob"] / np.log(2) for record in pair] for pair in pairs])
    chars = np.array([first["chars"] for first, _ in pairs])
    dense, pruned = (float(total) for total in bits.sum(0) / chars.sum())
    picks = np.random.default_rng(seed).integers(0, len(pairs), size=(num_resamples, len(pairs)))
    changes = (bits[picks, 1] - bits[picks, 0]).sum(1) / chars[picks].sum(1)
    interval = [float(bound) for bound in np.percentile(changes, [2.5, 97.5])]
    return {"dense": dense, "pruned": pruned, "delta": pruned - dense, "delta_ci95": interval, "n": len(pairs)}


def translation_row(pairs: Pairs, num_resamples: int = 1000) -> Row:
    """Compare BLEU, and under ``chrf`` chrF++, by sacrebleu's paired bootstrap.

    Source: Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation".

    Args:
        pairs: Pairs of records with ``output`` and ``reference``, and ``target_lang``.
        num_resamples: How many resamples.

    Example:
        >>> right = {"output": "the cat is on the mat", "reference": "the cat is on the mat"}
        >>> row = translation_row([(right, right)])
        >>> row["delta"], row["chrf"]["delta"], row["p"]
        (0.0, 0.0, 1.0)
    """
    systems = [(name, [pair[i]["output"] for pair in pairs]) for i, name in enumerate(("dense", "pruned"))]
    references = [[first["reference"] for first, _ in pairs]]
    first = pairs[0][0]
    scorers = {
        "bleu": bleu_scorer(first.get("target_lang", "en"), first.get("bleu_tokenizer"), references),
        "chrf": CHRF(word_order=2, references=references),
    }
    _, tested = PairedTest(systems, scorers, references, test_type="bs", n_samples=num_resamples)()
    results = [entries for column, entries in tested.items() if column != "System"]  # by metric, as they were given
    rows = {}
    for (name, scorer), (_, changed) in zip(scorers.items(), results, strict=True):
        dense, pruned = (scorer.corpus_score(outputs, None).score for _, outputs in systems)
        p_value = 1.0 if dense == pruned else changed.p_value  # sacrebleu's is small where both score 0
        rows[name] = {"dense": dense, "pruned": pruned, "delta": pruned - dense, "p": p_value}
    return rows["bleu"] | {"n": len(pairs), "chrf": rows["chrf"]}


def _difference(dense: float, pruned: float, difference: np.ndarray, seed: int) -> Row:
    interval = list(paired_bootstrap(difference, seed))
    return {"dense": dense, "pruned": pruned, "delta": float(difference.mean()), "delta_ci95": interval}
