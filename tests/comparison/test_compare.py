"""Two runs compared from their predictions alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from scipy.stats import binomtest

from mlprune.comparison import Difference, TaskRecords, differences_of
from mlprune.comparison.headline import headline
from mlprune.errors import UserError
from mlprune.evaluation.compare import compare, main
from mlprune.metrics import Accuracy, Translation, expected_rankc
from mlprune.present import comparison_markdown

LABELS = ("entailment", "neutral", "contradiction")


def write(folder: Path, name: str, records: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def nli(right: list[bool]) -> list[dict[str, Any]]:
    """Records that are right or wrong as told."""
    records = []
    for i, is_right in enumerate(right):
        chosen = i % 3 if is_right else (i + 1) % 3
        scores = [-1.0 if k == chosen else -2.0 - k for k in range(3)]
        records.append({"id": str(i), "label": LABELS[i % 3], "scores": scores, "prediction": LABELS[chosen]})
    return records


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Swahili gets better on 12 of 40 examples and worse on 2, French changes twice, English not at all."""
    generator = np.random.default_rng(0)
    english = (generator.random(40) < 0.7).tolist()
    french, swahili = [True] * 20 + [False] * 20, [False] * 30 + [True] * 10
    folders = tmp_path / "a" / "predictions", tmp_path / "b" / "predictions"
    for folder, changes in zip(folders, ({}, {"fr": [0, 39], "sw": [*range(12), 38, 39]}), strict=True):
        for lang, right in (("en", english), ("fr", french), ("sw", swahili)):
            write(folder, f"xnli.{lang}", nli([value != (i in changes.get(lang, ())) for i, value in enumerate(right)]))
    references = ["the cat is on the mat today", "we walk home along the river", "it is very late now, my friend"] * 4
    for folder, wrong in zip(folders, (1, 7), strict=True):
        outputs = ["the dog ran away" if i < wrong else text for i, text in enumerate(references)]
        rows = [
            {"id": str(i), "source": "x", "reference": reference, "output": output, "target_lang": "en"}
            for i, (reference, output) in enumerate(zip(references, outputs, strict=True))
        ]
        write(folder, "translation.fr", rows)
        bits = [{"id": str(i), "log_prob": -10.0 * (1 + wrong / 10) - i, "chars": 10 + i} for i in range(20)]
        write(folder, "perplexity.fr", bits)
    return tmp_path / "a", tmp_path / "b"


def test_accuracies(runs: tuple[Path, Path]) -> None:
    rows = compare(*(run / "predictions" for run in runs))["tasks"]["xnli"]
    assert list(rows) == ["en", "fr", "sw"]
    swahili = rows["sw"]
    assert (swahili["dense"], swahili["pruned"], swahili["n"]) == (0.25, 0.5, 40)
    assert swahili["delta"] == pytest.approx(0.25)
    assert swahili["p"] == pytest.approx(binomtest(12, 14).pvalue)
    assert swahili["p_holm"] == pytest.approx(3 * binomtest(12, 14).pvalue)
    assert swahili["disagreement"] == 14 / 40
    assert 0 < swahili["delta_ci95"][0] < 0.25 < swahili["delta_ci95"][1]
    assert rows["en"] | {"delta_ci95": [0.0, 0.0], "p": 1.0, "p_holm": 1.0, "disagreement": 0.0} == rows["en"]


def rows_of(comparison: dict[str, Any], **chosen: str) -> list[dict[str, Any]]:
    return [row for row in comparison["differences"] if chosen.items() <= row.items()]


def test_every_figure_is_a_row(runs: tuple[Path, Path]) -> None:
    comparison = compare(*(run / "predictions" for run in runs), systems=("a", "b"))
    rows = rows_of(comparison, task="xnli", metric="accuracy")
    assert [row["language"] for row in rows] == ["en", "fr", "sw", "average", "average_all"]
    assert {(row["reference"], row["system"], row["unit"], row["higher_is_better"]) for row in rows} == {
        ("a", "b", "%", True)
    }
    swahili, average = rows[2], rows[3]
    entry = comparison["tasks"]["xnli"]["sw"]
    assert (swahili["before"], swahili["after"]) == (entry["dense"], entry["pruned"])
    assert ([swahili["low"], swahili["high"]], swahili["p"]) == (entry["delta_ci95"], entry["p"])
    assert (average["n"], average["clusters"]) == (80, 40)
    assert average["p"] == comparison["average"]["xnli"]["non_en"]["p"]
    assert 0 < average["p"] <= average["p_holm"] < 0.05
    (rankc,) = rows_of(comparison, task="xnli", metric="rankc", language="en-fr")
    assert rankc["by_chance"] == pytest.approx(expected_rankc(3))
    assert not rows_of(comparison, metric="rankc_expected")
    (bits,) = rows_of(comparison, task="perplexity", language="fr")
    assert not bits["higher_is_better"]


def test_hypotheses_of_one_premise_count_once(runs: tuple[Path, Path]) -> None:
    alone = compare(*(run / "predictions" for run in runs))
    for run in runs:
        for file in (run / "predictions").glob("xnli.*.jsonl"):
            records = [json.loads(line) for line in file.read_text().splitlines()]
            lines = [json.dumps(record | {"group": str(int(record["id"]) // 3)}) for record in records]
            file.write_text("\n".join(lines) + "\n")
    grouped = compare(*(run / "predictions" for run in runs))
    (row,) = rows_of(grouped, task="xnli", metric="accuracy", language="sw")
    assert (row["n"], row["clusters"]) == (40, 14)
    # six premises changed, by +3 four times and -1 twice: as far as +10 where the four go together, whatever the two do
    assert row["p"] == 2 * 4 / 2**6
    assert row["p"] != alone["tasks"]["xnli"]["sw"]["p"]
    width, before = (np.diff(found["tasks"]["xnli"]["sw"]["delta_ci95"])[0] for found in (grouped, alone))
    assert width > 1.2 * before


def test_average_without_english_has_a_paired_interval(runs: tuple[Path, Path]) -> None:
    average = compare(*(run / "predictions" for run in runs))["average"]["xnli"]["non_en"]
    assert average["delta"] == pytest.approx((0.0 + 0.25) / 2)
    assert average["n"] == 80
    assert 0 < average["delta_ci95"][0] < average["delta"] < average["delta_ci95"][1] < 0.25


def test_consistency_is_paired_by_id(runs: tuple[Path, Path]) -> None:
    before = compare(*(run / "predictions" for run in runs))["rankc"]["xnli"]
    assert before["en-fr"]["expected"] == pytest.approx(expected_rankc(3))
    for run in runs:
        file = run / "predictions" / "xnli.fr.jsonl"
        file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n")
    after = compare(*(run / "predictions" for run in runs))["rankc"]["xnli"]
    assert after["en-fr"]["dense"] == pytest.approx(before["en-fr"]["dense"])
    assert after["en-fr"]["n"] == 40


def test_translation_is_sacrebleus(runs: tuple[Path, Path]) -> None:
    row = compare(*(run / "predictions" for run in runs))["translation"]["fr-en"]
    records = [json.loads(line) for line in (runs[1] / "predictions" / "translation.fr.jsonl").read_text().splitlines()]
    outputs, references = ([record[name] for record in records] for name in ("output", "reference"))
    assert row["pruned"] == BLEU().corpus_score(outputs, [references]).score
    assert row["chrf"]["pruned"] == CHRF(word_order=2).corpus_score(outputs, [references]).score
    assert row["p"] < 0.05
    assert row["n"] == 12


def test_perplexity(runs: tuple[Path, Path]) -> None:
    row = compare(*(run / "predictions" for run in runs))["perplexity"]["fr"]
    chars = sum(10 + i for i in range(20))
    assert row["dense"] == pytest.approx(sum(11 + i for i in range(20)) / np.log(2) / chars)
    assert row["delta"] == pytest.approx(20 * 6 / np.log(2) / chars)
    assert row["delta_ci95"][0] < row["delta"] < row["delta_ci95"][1]


def test_same_run_twice_changes_nothing(runs: tuple[Path, Path]) -> None:
    comparison = compare(runs[0] / "predictions", runs[0] / "predictions")
    assert comparison["headline"].startswith("Outside English, no prediction changed")
    assert comparison["headline"].endswith("xnli (n = 80 in 40 clusters).")
    assert comparison["translation"]["fr-en"]["p"] == 1.0


def test_markdown_says_n_and_claims_no_more_than_the_interval(runs: tuple[Path, Path]) -> None:
    text = comparison_markdown(compare(*(run / "predictions" for run in runs)))
    assert text.startswith("# Dense against pruned\n\nOutside English, pruning changed xnli accuracy by +12.5 points")
    by_language = "better in Swahili (+25.0), p (Holm) 0.039; no answer changed in English; no clear change in French."
    assert text.splitlines()[2].endswith(f": it helped; {by_language}")
    assert "| Swahili | 25.0 | 50.0 | +25.0 |" in text
    assert "| average without English | 37.5 | 50.0 | +12.5 |" in text
    assert "exchangeable" in text
    for title in ("xnli: accuracy, %", "xnli: RankC", "translation: BLEU", "perplexity: bits per character, lower is"):
        assert f"\n## {title}" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables if "Swahili" in line} == {11, 13}  # won and lost stand beside accuracy


def test_command_line(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(runs[0]), str(runs[1]), "--json", str(tmp_path / "c.json")]) == 0
    assert f"# {runs[0]} against {runs[1]}" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["tasks"]["xnli"]["sw"]["n"] == 40
    assert main([str(runs[0]), str(tmp_path / "none")]) == 1
    assert "holds no predictions" in capsys.readouterr().err


@pytest.mark.parametrize("systems", [2, 3])
@pytest.mark.parametrize(
    ("form", "start", "words"),
    [
        ("markdown", "# ", ["## xnli: accuracy, %", "| Swahili |"]),
        ("csv", "system,reference,task,language,metric,", [",xnli,sw,accuracy,"]),
        ("latex", "\\begin{table}", ["\\toprule", "\\caption{xnli: accuracy, \\%", "Swahili & "]),
        ("html", "<!doctype html>", ["<h1>", "Swahili</th>", "xnli: accuracy, %"]),
    ],
)
def test_formats(
    form: str, start: str, words: list[str], systems: int, runs: tuple[Path, Path], tmp_path: Path, capsys
) -> None:
    given = [str(run) for run in (*runs, runs[0])[:systems]]
    if systems == 3:
        given[2] = str(shutil.copytree(runs[0], tmp_path / "third & last"))
    file = tmp_path / "comparison"
    assert main([*given, "--format", form, "--output", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    text = file.read_text(encoding="utf-8")
    assert text.startswith(start)
    for word in words:
        assert word in text
    assert main([*given, "--format", form]) == 0
    assert capsys.readouterr().out == text


def test_what_is_in_one_run_only_is_told(runs: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    folders = [run / "predictions" for run in runs]
    (folders[1] / "xnli.fr.jsonl").unlink()
    (folders[0] / "xnli.sw.jsonl").rename(folders[0] / "nli.sw.jsonl")
    assert list(compare(*folders)["tasks"]["xnli"]) == ["en"]
    for words in ("nli: only in dense", "xnli.fr: only in dense", "xnli.sw: only in pruned"):
        assert words in caplog.text


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    for run, shift in (("a", 0), ("b", 40)):
        records = [record | {"id": str(i + shift)} for i, record in enumerate(nli([True] * 4))]
        write(tmp_path / run / "predictions", "xnli.fr", records)
    with pytest.raises(UserError, match="'dense' and 'pruned' have no example in common"):
        compare(tmp_path / "a" / "predictions", tmp_path / "b" / "predictions")


def test_damaged_predictions_are_named(runs: tuple[Path, Path]) -> None:
    (runs[1] / "predictions" / "xnli.fr.jsonl").write_text('{"id": "0"')
    with pytest.raises(UserError, match=r"xnli.fr.jsonl' cannot be read: Expecting ',' delimiter"):
        compare(*(run / "predictions" for run in runs))


def test_unicode_line_separators_stand_within_records(runs: tuple[Path, Path]) -> None:
    for run in runs:
        file = run / "predictions" / "xnli.fr.jsonl"
        records = [json.loads(line) | {"text": "One\u2028two"} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    assert compare(*(run / "predictions" for run in runs))["tasks"]["xnli"]["fr"]["n"] == 40


def test_different_bad_translations_of_one_score_prove_nothing() -> None:
    pairs = [({"output": f"x{i}", "reference": f"a b c d {i}"}, {"output": f"y{i}", "reference": ""}) for i in range(5)]
    sides = [
        TaskRecords("mt", {"fr": [{"id": str(i)} | pair[k] for i, pair in enumerate(pairs)]}, {"fr": [Translation()]})
        for k in (0, 1)
    ]
    row = differences_of(*sides, ("dense", "pruned"))[0]
    assert (row.before, row.after, row.p) == (0.0, 0.0, 1.0)


def test_different_data_is_refused(runs: tuple[Path, Path]) -> None:
    file = runs[1] / "predictions" / "xnli.fr.jsonl"
    file.write_text(file.read_text().replace('"label": "neutral"', '"label": "entailment"'))
    with pytest.raises(UserError, match=r"xnli.fr, example 1: the runs differ in its label"):
        compare(*(run / "predictions" for run in runs))


def test_examples_of_one_run_only_are_told(runs: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    file = runs[1] / "predictions" / "xnli.fr.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[5:]) + "\n")
    assert compare(*(run / "predictions" for run in runs))["tasks"]["xnli"]["fr"]["n"] == 35
    assert "xnli.fr: 40 and 35 examples, of which 35 are in both runs" in caplog.text


def test_what_could_have_been_found_stands_beside_too_few_to_tell() -> None:
    """An interval of 1.96 standard errors on each side; 2.80 of them are found in 80% of cases."""
    accuracy = Accuracy.measures[0]
    low, high = 0.02 - 1.96 * 0.02, 0.02 + 1.96 * 0.02
    row = Difference("pruned", "dense", "nli", "average", accuracy, 0.5, 0.52, 0.02, low, high, n=5000, clusters=5000)
    assert row.detectable == pytest.approx(2.80 * 0.02, rel=1e-3)
    assert row.needed == pytest.approx(5000 * 2.80**2, rel=2e-3)
    assert row.to_json()["needed"] == row.needed
    said = headline([row], ["nli"])
    assert "too few to tell (detectable at 80% power: 5.6 points; for 2.0 points n = 39,2" in said
    assert "detectable" not in headline([replace(row, low=0.01, high=0.03)], ["nli"])
    assert headline([replace(row, delta=0.0, low=None, high=None)], ["nli"]).endswith("too few to tell.")
