"""Two runs compared from their predictions alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from scipy.stats import binomtest

from mlprune.errors import UserError
from mlprune.evaluation.compare import compare, main
from mlprune.evaluation.comparison_text import markdown
from mlprune.evaluation.paired import translation_row
from mlprune.metrics import expected_rankc

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
    assert comparison["headline"].endswith("(95% CI +0.0 to +0.0, n = 80): too few to tell.")
    assert comparison["translation"]["fr-en"]["p"] == 1.0


def test_markdown_says_n_and_claims_no_more_than_the_interval(runs: tuple[Path, Path]) -> None:
    text = markdown(compare(*(run / "predictions" for run in runs)))
    assert text.startswith("# Dense against pruned\n\nOutside English, pruning changed xnli accuracy by +12.5 points")
    assert "it helped." in text
    assert "| sw | 25.0 | 50.0 | +25.0 |" in text
    assert "| average without en | 37.5 | 50.0 | +12.5 |" in text
    for title in ("## xnli: consistency with English (RankC)", "## Translation", "## Language modelling"):
        assert title in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables if "McNemar" in line} == {10}


def test_command_line(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(runs[0]), str(runs[1]), "--json", str(tmp_path / "c.json")]) == 0
    assert f"# {runs[0]} against {runs[1]}" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["tasks"]["xnli"]["sw"]["n"] == 40
    assert main([str(runs[0]), str(tmp_path / "none")]) == 1
    assert "holds no predictions" in capsys.readouterr().err


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
    row = translation_row(pairs)
    assert (row["dense"], row["pruned"], row["p"]) == (0.0, 0.0, 1.0)


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
