"""Clusters, rows of all kinds, degenerate inputs, and files of schema 1."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, BinaryF1Score

from mlprune.comparison import TaskRecords, differences_of, figures_of, read_differences, read_figures
from mlprune.comparison.clusters import cluster_records, strata
from mlprune.comparison.compare import compare
from mlprune.comparison.reading import read_results
from mlprune.comparison.schema1 import comparison_sections, read_sweep, result_sections
from mlprune.errors import UserError
from mlprune.metrics import Accuracy, BitsPerChar, ExpectedRankC, Measure, RankC, Translation, wilson_interval
from mlprune.metrics.description import describe_metric, make_metric
from mlprune.metrics.states import as_additive


def answers(right: list[bool], group: int | None = None) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "label": "a", "prediction": "a" if own else "b", "scores": [float(own), 0.5]}
        | ({"group": str(i // group)} if group else {})
        for i, own in enumerate(right)
    ]


def task(records: dict[str, list[dict[str, Any]]], metric: Metric | None = None, **options: Any) -> TaskRecords:
    return TaskRecords("own", records, {lang: [metric or Accuracy()] for lang in records}, **options)


# -- clusters -----------------------------------------------------------------------------------------------------


def test_ids_join_languages_and_groups_join_rows() -> None:
    rows = {
        "en": [{"id": "0", "group": "a"}, {"id": "1", "group": "a"}, {"id": "2", "group": "b"}],
        "fr": [{"id": "2", "group": "x"}, {"id": "3", "group": "x"}, {"id": "4"}],
    }
    joined = cluster_records(rows, aligned=True)
    assert (joined["en"].tolist(), joined["fr"].tolist()) == ([0, 0, 1], [1, 1, 2])
    apart = cluster_records(rows, aligned=False)
    assert (apart["en"].tolist(), apart["fr"].tolist()) == ([0, 0, 1], [2, 2, 3])
    assert strata(joined.values(), 3).tolist() == [0, 0, 0]
    assert strata(apart.values(), 4).tolist() == [0, 0, 1, 1]


def test_a_long_chain_is_one_cluster() -> None:
    rows = [{"id": str(i), "group": str(i // 2)} for i in range(2000)]
    shifted = [{"id": str(i), "group": str((i + 1) // 2)} for i in range(2000)]
    assert set(cluster_records({"en": rows, "fr": shifted}, aligned=True)["fr"]) == {0}
    assert cluster_records({}, aligned=True) == {}


# -- figures ------------------------------------------------------------------------------------------------------


def test_one_language_of_independent_rows_has_wilsons_interval() -> None:
    (row, average) = figures_of(task({"fr": answers([True] * 8 + [False] * 2)}), "dense")
    assert (row.low, row.high) == wilson_interval(8, 10)
    assert (row.n, row.clusters, average.language) == (10, 10, "average")


def test_rows_that_share_a_premise_have_a_wider_one() -> None:
    right = [True, True, True, False, False, False] * 20
    (alone, _), (grouped, _) = (figures_of(task({"fr": answers(right, size)}), "dense") for size in (None, 3))
    assert (grouped.n, grouped.clusters) == (120, 40)
    assert grouped.high - grouped.low == pytest.approx(math.sqrt(3) * (alone.high - alone.low), rel=0.15)


@pytest.mark.parametrize("right", [True, False])
def test_certain_answers_of_few_premises_are_not_certain(right: bool) -> None:
    (row, _) = figures_of(task({"fr": answers([right] * 12, 3)}), "dense")
    assert (row.low, row.high) == wilson_interval(4 * right, 4)


def test_the_pivot_is_in_one_average_only() -> None:
    records = {"en": answers([True] * 4), "fr": answers([False] * 4), "sw": answers([True, False] * 2)}
    rows = {row.language: row for row in figures_of(task(records, pivot="en"), "dense")}
    assert (rows["average"].value, rows["average"].n) == (0.25, 8)
    assert (rows["average_all"].value, rows["average_all"].n) == (0.5, 12)
    assert rows["average"].clusters == rows["average_all"].clusters == 4
    assert [row.language for row in figures_of(task({"en": answers([True])}, pivot="en"), "dense")] == ["en"]


def test_pairs_are_of_rows_that_can_be_compared() -> None:
    records = {"en": answers([True] * 4), "fr": answers([True] * 3)}
    records["fr"][0]["scores"] = [1.0, 0.5, 0.2]
    own = task(records, pair_metrics=[RankC(), ExpectedRankC()], pairs=[("en", "fr"), ("en", "sw")])
    rows = {(row.measure.name, row.language): row for row in figures_of(own, "dense")}
    assert rows["rankc", "en-fr"].n == 2
    assert rows["rankc_expected", "en-fr"].value == pytest.approx(0.634, abs=1e-3)
    assert ("rankc", "en-sw") not in rows


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("metric", "record"),
    [
        (Accuracy(), {"label": "a", "prediction": "a"}),
        (BitsPerChar(), {"log_prob": -3.0, "chars": 4}),
        (BitsPerChar(), {"log_prob": 0.0, "chars": 0}),
        (Translation(), {"output": "yes", "reference": "no"}),
        (Translation(), {"output": "", "reference": ""}),
    ],
)
@pytest.mark.parametrize("n", [0, 1, 2, 25])
def test_degenerate_inputs_have_defined_answers(metric: Metric, record: dict[str, Any], n: int) -> None:
    own = task({lang: [{"id": str(i)} | record for i in range(n)] for lang in ("en", "fr")}, metric, pivot="en")
    nothing = n == 0 or record.get("chars") == 0
    for row in figures_of(own, "dense"):
        assert (row.value is None) == nothing
        assert row.low is None or row.low <= row.value <= row.high
        json.dumps(row.to_json(), allow_nan=False)
    for row in differences_of(own, own, ("a", "b")):
        assert row.delta is None if nothing else (row.delta, row.p) == (0.0, 1.0)
        assert (row.low, row.high) in ((None, None), (0.0, 0.0))
        assert row.low is None or not row.clear
        json.dumps(row.to_json(), allow_nan=False)


# -- metrics of others --------------------------------------------------------------------------------------------


class OfLabels(Metric):
    """A torchmetrics class over records."""

    measures = (Measure("own"),)

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric

    def update(self, records: list[dict[str, Any]]) -> None:
        import torch

        scores = torch.tensor([record["scores"][0] for record in records])
        self.metric.update(scores, torch.tensor([int(record["id"]) % 2 for record in records]))

    def compute(self) -> Any:
        return self.metric.compute()

    def reset(self) -> None:
        super().reset()
        self.metric.reset()


@pytest.mark.parametrize(("inner", "additive"), [(BinaryF1Score, True), (BinaryAUROC, False)])
def test_any_torchmetrics_class_has_intervals_and_p(inner: type[Metric], additive: bool) -> None:
    metric = OfLabels(inner())
    assert (as_additive(metric) is not None) == additive
    generator = np.random.default_rng(0)
    sides = [
        task({"fr": [{"id": str(i), "scores": [float(x)]} for i, x in enumerate(generator.random(30))]}, metric)
        for _ in "ab"
    ]
    row = differences_of(*sides, ("a", "b"))[0]
    for value, own in ((row.before, sides[0]), (row.after, sides[1])):
        whole = OfLabels(inner())
        whole.update(own.records["fr"])
        assert value == pytest.approx(float(whole.compute()))
    assert row.low < row.delta < row.high
    assert 0 < row.p <= 1
    assert metric.metric._update_count == 0  # what was given is as it was


class Keeps:
    """Not JSON."""


class Forgetful(Metric):
    """A metric that does not keep its argument."""

    def __init__(self, depth: int) -> None:
        super().__init__()

    def update(self, records: list[Any]) -> None: ...

    def compute(self) -> None: ...


def test_metrics_are_described_and_made_again() -> None:
    metric = Translation("zh", "char")
    again = make_metric(json.loads(json.dumps(describe_metric(metric))))
    assert (again.target_lang, again.bleu_tokenizer) == ("zh", "char")
    with pytest.raises(UserError, match=r"argument 'depth' is not kept as an attribute; set self.depth in __init__"):
        describe_metric(Forgetful(3))
    forgetful = Forgetful(3)
    forgetful.depth = Keeps()
    with pytest.raises(UserError, match="argument 'depth' is a Keeps"):
        describe_metric(forgetful)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ({"class_path": "gone.Metric"}, "No module named 'gone'"),
        ({"class_path": "mlprune.metrics.Gone"}, "has no attribute 'Gone'"),
        ({"class_path": "os.system"}, "it is not a torchmetrics Metric"),
        ({"class_path": "Accuracy"}, "Empty module name"),
        ({"class_path": "mlprune.metrics.RankC", "init_args": {"depth": 1}}, "nexpected keyword argument"),
    ],
)
def test_what_is_no_metric_is_refused(description: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=rf"metric '{description['class_path']}' cannot be made: .*{reason}"):
        make_metric(description)


# -- schema 1 -----------------------------------------------------------------------------------------------------


@pytest.fixture
def everything() -> list[TaskRecords]:
    """Tasks that schema 1 knows, in two languages."""
    bits = [{"id": str(i), "log_prob": -9.0 - i, "chars": 5} for i in range(3)]
    segments = [{"id": str(i), "output": "a b c d e", "reference": "a b c d f"} for i in range(3)]
    nli = {"en": answers([True, False, True]), "fr": answers([True, True, False])}
    scored = TaskRecords(
        "nli", nli, {lang: [Accuracy()] for lang in nli}, [RankC(), ExpectedRankC()], [("en", "fr")], "en"
    )
    return [
        scored,
        TaskRecords("translation", {"fr": segments, "sw": segments}, {lang: [Translation()] for lang in ("fr", "sw")}),
        TaskRecords("news", {"fr": segments}, {"fr": [Translation()]}),
        TaskRecords("perplexity", {"fr": bits}, {"fr": [BitsPerChar()]}),
    ]


def test_sections_are_read_as_the_rows_they_were_made_of(everything: list[TaskRecords]) -> None:
    figures = [row for own in everything for row in figures_of(own, "dense")]
    sections = result_sections(everything, figures)
    assert list(sections["translation"]) == ["fr-en", "sw-en", "all-en", "news:fr-en"]
    found = {
        (row.task, row.language, row.measure): (row.value, row.low, row.high)
        for row in read_figures({"stage": "dense"} | sections)
        if row.language != "all"
    }
    rows = {(row.task, row.language, row.measure): (row.value, row.low, row.high) for row in figures}
    assert found.keys() <= rows.keys()
    assert {key[:2] for key in rows.keys() - found.keys()} >= {("nli", "average_all"), ("translation", "average")}
    for key, (value, low, _) in found.items():
        assert value == rows[key][0]
        assert low in (None, rows[key][1])


def test_a_comparison_of_schema_1_is_read_as_rows(everything: list[TaskRecords]) -> None:
    rows = [row for own in everything for row in differences_of(own, own, ("dense", "pruned"))]
    found = read_differences(comparison_sections(everything, rows))
    keys = [(row.task, row.language, row.measure) for row in found]
    assert len(keys) == len(set(keys)) == 11
    by_key = {(row.task, row.language, row.measure): row for row in rows}
    for row in found:
        other = by_key[row.task, row.language, row.measure]
        assert (row.before, row.after, row.p, row.n) == (other.before, other.after, other.p, other.n)


def test_a_sweep_of_schema_1_is_read() -> None:
    old = "sparsity,task,language,metric,dense,pruned,delta,low,high,p,n"
    cells = ["0.3,nli,non_en,accuracy,0.5,0.4,-0.1,-0.2,-0.05,,40", "0.3,translation,fr-en,bleu,20,10,-10,,,,5"]
    rows = read_sweep([dict(zip(old.split(","), line.split(","), strict=True)) for line in cells])
    assert [(x, row.task, row.language, row.before, row.clear) for x, row in rows if row.language == "average"] == [
        (0.3, "nli", "average", 0.5, True),
        (0.3, "translation", "average", 20, False),
    ]


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "own.fr.jsonl").write_text('{"id": "0", "label": "a", "prediction": "a"}\n')
    (tmp_path / "results.json").write_text('{"schema_version": 3}')
    with pytest.raises(UserError, match=r"results.json' has schema_version 3; .* reads up to 2; update it"):
        compare(tmp_path / "predictions", tmp_path / "predictions")
    (tmp_path / "results.dense.json").write_text('{"schema_version": 1, "seed": 5}')
    assert read_results(tmp_path / "predictions.dense")["seed"] == 5
    assert read_results(tmp_path / "elsewhere" / "predictions") == {}
