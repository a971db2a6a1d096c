"""What is measured beside accuracy where all examples have the same labels, against torchmetrics and by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, multiclass_recall

from mlprune.comparison import TaskRecords, differences_of, figures_of
from mlprune.comparison.rows import corrected
from mlprune.data.corpora import Bundled
from mlprune.evaluation.tasks import CandidateTask, ClozeTask, MinimalPairs, Xcopa, Xnli
from mlprune.metrics import Accuracy, Auroc, LabelShares, label_metrics

LABELS = ("no", "maybe", "yes")


def records(n: int, k: int, seed: int = 0, step: float | None = None) -> list[dict[str, Any]]:
    """Random answers among k labels, with ties where scores are multiples of a step."""
    generator = np.random.default_rng([seed, n, k])
    scores = generator.normal(size=(n, k))
    scores = scores if step is None else np.round(scores / step) * step
    gold = generator.integers(0, k, n)
    return [
        {"id": str(i), "label": LABELS[right], "scores": row.tolist(), "prediction": LABELS[int(row.argmax())]}
        for i, (row, right) in enumerate(zip(scores, gold, strict=True))
    ]


@pytest.mark.parametrize("k", [2, 3])
def test_balanced_accuracy_is_the_mean_recall_and_shares_add_up(k: int) -> None:
    own = records(60, k)
    metric = LabelShares(LABELS[:k])
    metric.update(own)
    found = metric.compute()
    gold, answered = (torch.tensor([LABELS.index(row[key]) for row in own]) for key in ("label", "prediction"))
    assert found["balanced_accuracy"] == pytest.approx(float(multiclass_recall(answered, gold, k, average="macro")))
    shares = [found[f"predicted_{label}"] for label in LABELS[:k]]
    assert shares == pytest.approx((torch.bincount(answered, minlength=k) / 60).tolist())
    assert sum(shares) == pytest.approx(1)


def test_a_label_that_no_example_has_is_not_averaged() -> None:
    metric = LabelShares(LABELS)
    metric.update([{"label": label, "prediction": "no"} for label in ("no", "yes")])
    assert metric.compute()["balanced_accuracy"] == 0.5


@pytest.mark.parametrize("step", [None, 0.5])
def test_auroc_is_torchmetrics(step: float | None) -> None:
    own = records(80, 2, step=step)
    metric = Auroc(LABELS[:2])
    metric.update(own[:30])
    metric.update(own[30:])
    scores = torch.tensor([row["scores"][1] - row["scores"][0] for row in own], dtype=torch.float64).sigmoid()
    expected = binary_auroc(scores, torch.tensor([int(row["label"] == "maybe") for row in own]))
    assert metric.compute()["auroc"] == pytest.approx(float(expected))


def test_auroc_of_one_label_is_undefined() -> None:
    metric = Auroc(LABELS[:2])
    metric.update([{"label": "no", "scores": [0.0, 1.0]}])
    assert np.isnan(metric.compute()["auroc"])


def test_weights_of_auroc_are_repeated_rows() -> None:
    metric = Auroc(LABELS[:2])
    rows = metric.statistics(records(20, 2, step=0.5))
    weights = np.random.default_rng(0).integers(0, 4, (5, 20)).astype(float)
    found = metric.weighted(rows, weights)["auroc"]
    for value, own in zip(found, weights.astype(int), strict=True):
        repeated = np.repeat(rows, own, axis=0)
        assert value == pytest.approx(metric.weighted(repeated, np.ones((1, len(repeated))))["auroc"][0])


@pytest.fixture(scope="module")
def sides() -> list[TaskRecords]:
    """Two systems that differ in a constant of the second label alone, in two languages."""
    own = {lang: records(40, 2, seed) for seed, lang in enumerate(("en", "fr"))}
    moved = {
        lang: [
            row
            | {"scores": [row["scores"][0], row["scores"][1] + 1.0]}
            | {"prediction": LABELS[int(row["scores"][1] + 1.0 > row["scores"][0])]}
            for row in rows
        ]
        for lang, rows in own.items()
    }
    metrics = {lang: [Accuracy(), *label_metrics(LABELS[:2])] for lang in own}
    return [TaskRecords("own", side, metrics, pivot="en") for side in (own, moved)]


def test_rows_beside_accuracy_have_intervals_and_p(sides: list[TaskRecords]) -> None:
    figures = {(row.measure.name, row.language): row for row in figures_of(sides[0], "dense")}
    for name in ("balanced_accuracy", "predicted_no", "recall_no", "recall_maybe", "auroc"):
        for language in ("en", "fr", "average", "average_all"):
            row = figures[name, language]
            assert row.low < row.value < row.high
            assert row.measure.detail
    rows = {(row.measure.name, row.language): row for row in differences_of(*sides, ("dense", "pruned"))}
    assert rows["auroc", "fr"].delta == 0.0
    assert rows["predicted_maybe", "fr"].delta == pytest.approx(-rows["predicted_no", "fr"].delta)
    assert rows["predicted_maybe", "fr"].low > 0
    assert rows["predicted_maybe", "fr"].p < 0.01


def test_won_and_lost_by_gold_label_add_up(sides: list[TaskRecords]) -> None:
    rows = {(row.measure.name, row.language): row for row in differences_of(*sides, ("dense", "pruned"))}
    for language in ("en", "fr", "average"):
        whole, no, maybe = (rows[name, language] for name in ("accuracy", "recall_no", "recall_maybe"))
        assert (whole.won, whole.lost) == (no.won + maybe.won, no.lost + maybe.lost)
        assert no.won == maybe.lost == 0  # a constant moves answers one way
        assert maybe.won > 0
        assert no.n + maybe.n == whole.n
        assert whole.delta == pytest.approx((whole.won - whole.lost) / whole.n)
    assert rows["auroc", "fr"].won is None


def test_details_do_not_weaken_what_a_task_is_judged_by(sides: list[TaskRecords]) -> None:
    whole = corrected(differences_of(*sides, ("dense", "pruned")))
    alone = corrected([row for row in whole if not row.measure.detail])
    assert [row.p_holm for row in whole if not row.measure.detail] == [row.p_holm for row in alone]


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (CandidateTask("nli", ["fr"], Bundled("nli"), "xnli"), ("entailment", "neutral", "contradiction")),
        (CandidateTask("reviews", ["fr"], Bundled("reviews"), "marc"), ("negative", "positive")),
        (Xnli(["fr"], template="xnli-native"), ("entailment", "neutral", "contradiction")),
        (Xcopa(["it"]), ()),
        (ClozeTask("facts", ["fr"]), ()),
        (MinimalPairs(["fr"], by=None), ()),
    ],
)
def test_only_tasks_whose_rows_share_labels_have_them(task: Any, labels: tuple[str, ...]) -> None:
    lang = task.languages[0]
    assert task.labels(lang) == labels
    kinds = [type(metric).__name__ for metric in task.metrics(lang)]
    assert kinds.count("Recall") == len(labels)
    assert ("Auroc" in kinds) == (len(labels) == 2)
    task.check_metrics()
