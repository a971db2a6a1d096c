"""Rows stay in place: what one language lacks is left out in every language, counted, and named once."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny import tiny_tokenizer
from tiny_runs import write_config

from mlprune.data.corpora import Corpus, FloresFolder, LocalFiles
from mlprune.data.demonstrations import MonolingualDemonstrations, TranslationDemonstrations
from mlprune.errors import UserError
from mlprune.evaluation.tasks import (
    CandidateTask,
    ClozeTask,
    Marc,
    PawsX,
    PerplexityTask,
    TranslationTask,
    Xcopa,
    Xnli,
)

FR = ["Un.", "", "Trois.", "Quatre."]
EN = ["One.", "Two.", "Three.", "Four."]
KINDS = ["csv", "tsv", "jsonl", "parquet", "flores"]
KEPT = [("Un.", "One."), ("Trois.", "Three."), ("Quatre.", "Four.")]


def write(folder: Path, kind: str, **languages: list[Any]) -> Corpus:
    for lang, texts in languages.items():
        file = folder / f"s.{lang}.{kind}"
        if kind == "flores":
            code = {"fr": "fra_Latn", "en": "eng_Latn", "sw": "swh_Latn"}[lang]
            (folder / f"{code}.dev").write_text("".join(f"{text}\n" for text in texts))
        elif kind == "jsonl":
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        elif kind == "parquet":
            pd.DataFrame({"text": texts}).to_parquet(file)
        else:
            file.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    return FloresFolder(str(folder)) if kind == "flores" else LocalFiles(f"{folder}/s.{{lang}}.{kind}")


def pairs(corpus: Corpus) -> list[tuple[str, str]]:
    return [(e.source, e.reference) for e in TranslationTask(["fr"], corpus=corpus).examples("fr")]


@pytest.mark.parametrize("blank", ["", "  ", "\u3000"])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_stay_in_step(kind: str, blank: str, tmp_path: Path) -> None:
    corpus = write(tmp_path, kind, fr=["Un.", blank, "Trois.", "Quatre."], en=EN)
    assert pairs(corpus) == KEPT
    assert [row["text"].strip() for row in corpus.rows("fr")] == FR


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_null_is_a_blank_cell(kind: str, tmp_path: Path) -> None:
    assert pairs(write(tmp_path, kind, fr=["Un.", None, "Trois.", "Quatre."], en=EN)) == KEPT


def test_an_empty_line_of_jsonl_is_a_row(tmp_path: Path) -> None:
    corpus = write(tmp_path, "jsonl", fr=FR, en=EN)
    lines = [json.dumps({"text": text}) if text else "" for text in FR]
    (tmp_path / "s.fr.jsonl").write_text("\n".join(lines) + "\n")
    assert pairs(corpus) == KEPT


@pytest.mark.parametrize("kind", KINDS)
def test_unequal_counts_are_refused(kind: str, tmp_path: Path) -> None:
    corpus = write(tmp_path, kind, fr=["Un.", "Trois.", "Quatre."], en=EN)
    name = {"flores": "fra_Latn.dev"}.get(kind, f"s.fr.{kind}")
    with pytest.raises(UserError, match=f"{name}.* 3 rows.* 4"):
        pairs(corpus)
    with pytest.raises(UserError, match=f"{name}.* 3 rows.* 4"):
        TranslationDemonstrations("fr", corpus=corpus, shots=1).prompts(tiny_tokenizer(), 2, 0)
    with pytest.raises(UserError, match=f"{name}.* 3 rows.* 4"):
        PerplexityTask(["fr", "en"], corpus=corpus).examples("en")


def test_counts_may_differ_with_an_id_column(tmp_path: Path) -> None:
    (tmp_path / "s.fr.tsv").write_text("key\ttext\nc\tTrois.\na\tUn.\n")
    (tmp_path / "s.en.tsv").write_text("key\ttext\na\tOne.\nb\tTwo.\nc\tThree.\n")
    corpus = LocalFiles(f"{tmp_path}/s.{{lang}}.tsv", id_column="key")
    assert pairs(corpus) == [("Trois.", "Three."), ("Un.", "One.")]


def test_calibration_leaves_the_row_out_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = write(tmp_path, "tsv", fr=FR, en=EN)
    prompts = TranslationDemonstrations("fr", corpus=corpus, shots=1, separator="\n").prompts(tiny_tokenizer(), 3, 0)
    assert sorted(p.text for p in prompts) == sorted(f"French: {fr}\nEnglish: {en}\n" for fr, en in KEPT)
    (message,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "row 2" in message
    assert "s.fr.tsv" in message


def test_calibration_in_one_language_uses_what_it_has(tmp_path: Path) -> None:
    corpus = write(tmp_path, "flores", en=["One.", " ", "Three."])
    prompts = MonolingualDemonstrations("en", corpus=corpus, shots=1, separator="\n").prompts(tiny_tokenizer(), 2, 0)
    assert sorted(p.text for p in prompts) == ["English: One.\n", "English: Three.\n"]


def test_shots_leave_the_row_out(tmp_path: Path) -> None:
    fewshot = write(tmp_path, "tsv", fr=["Un.", "Deux.", "", "Quatre."], en=EN)
    task = TranslationTask(["fr"], fewshot=fewshot, shots=2)
    assert task.shots_for("fr") == [("Deux.", "Two."), ("Quatre.", "Four.")]


def test_every_language_asks_the_same_rows(tmp_path: Path) -> None:
    corpus = write(tmp_path, "tsv", fr=FR, en=EN, sw=["Moja.", "Mbili.", "Tatu.", " "])
    languages = ["en", "fr", "sw"]
    texts = PerplexityTask(languages, corpus=corpus)
    assert [[e.id for e in texts.examples(lang)] for lang in languages] == [["0", "2"]] * 3
    translation = TranslationTask(["fr", "sw"], corpus=corpus)
    assert [[e.id for e in translation.examples(lang)] for lang in ("fr", "sw")] == [["0", "2"]] * 2


def labelled(folder: Path, **languages: list[tuple[Any, Any]]) -> LocalFiles:
    for lang, rows in languages.items():
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (folder / f"c.{lang}.jsonl").write_text("\n".join(lines) + "\n")
    return LocalFiles(f"{folder}/c.{{lang}}.jsonl")


OWN = {"template": "{text} {label}", "verbalizer": {"y": "oui", "n": "non"}, "label_column": "label"}


def test_candidates_leave_out_blank_texts_and_labels(tmp_path: Path) -> None:
    corpus = labelled(
        tmp_path,
        en=[("One.", "y"), ("Two.", "n"), ("Three.", None), ("Four.", "y")],
        fr=[("Un.", "y"), (" ", "n"), ("Trois.", "y"), ("Quatre.", "y")],
    )
    task = CandidateTask("custom", ["en", "fr"], corpus, **OWN)
    assert [[e.id for e in task.examples(lang)] for lang in ("en", "fr")] == [["0", "3"]] * 2


def test_blanks_in_every_column_that_is_asked(tmp_path: Path) -> None:
    choice = {"premise": "P.", "choice1": "x", "choice2": "y", "question": "cause", "label": 0}
    rows = [choice | {name: None} for name in choice] + [choice | {name: " "} for name in choice] + [choice]
    (tmp_path / "c.it.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [e.id for e in Xcopa(["it"], corpus=LocalFiles(f"{tmp_path}/c.{{lang}}.jsonl")).examples("it")] == ["10"]


def test_reviews_without_stars_are_left_out_and_neutral_ones_dropped(tmp_path: Path) -> None:
    rows = [("a", None), ("b", 3), (None, 3), ("c", 5), ("", 1)]
    lines = [json.dumps({"text": text, "stars": stars}) + "\n" for text, stars in rows]
    (tmp_path / "r.fr.jsonl").write_text("".join(lines))
    task = Marc(["fr"], corpus=LocalFiles(f"{tmp_path}/r.{{lang}}.jsonl"))
    assert [example.id for example in task.examples("fr")] == ["3"]
    assert task.left_out == {"fr": 2}


def test_limit_takes_its_number_from_what_is_left(tmp_path: Path) -> None:
    sentences = [f"Un {i}." if i % 3 else "" for i in range(30)]
    corpus = write(tmp_path, "tsv", fr=sentences, en=[f"One {i}." for i in range(30)])
    task = PerplexityTask(["en", "fr"], corpus=corpus, limit=10)
    chosen = [[int(e.id) for e in task.examples(lang)] for lang in ("en", "fr")]
    assert len(chosen[0]) == 10
    assert chosen[0] == chosen[1]
    assert all(i % 3 for i in chosen[0])
    assert task.left_out == {"en": 10, "fr": 10}


def test_triplets_stay_together_around_a_blank(tmp_path: Path) -> None:
    rows = [{"premise": f"P{i // 3}", "hypothesis": "" if i == 4 else f"H{i}", "label": i % 3} for i in range(30)]
    (tmp_path / "n.fr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Xnli(["fr"], corpus=LocalFiles(f"{tmp_path}/n.{{lang}}.jsonl"), limit=24)
    kept = [int(example.id) for example in task.examples("fr")]
    groups = [[i for i in kept if i // 3 == group] for group in range(10)]
    assert {len(group) for group in groups} <= {0, 2, 3}
    assert all(group == [3, 5] for group in groups if len(group) == 2)


def test_a_task_of_files_that_are_no_translations(tmp_path: Path) -> None:
    corpus = write(tmp_path, "tsv", fr=["Un.", "", "Trois."], en=EN)
    task = PerplexityTask(["fr", "en"], corpus=corpus, aligned=False)
    assert [[e.id for e in task.examples(lang)] for lang in ("fr", "en")] == [["0", "2"], ["0", "1", "2", "3"]]
    assert task.left_out == {"fr": 1}


def test_blank_lines_at_the_end_of_one_file_shift_nothing(tmp_path: Path) -> None:
    assert pairs(write(tmp_path, "tsv", fr=["Un.", "Deux.", "", ""], en=EN[:2])) == [("Un.", "One."), ("Deux.", "Two.")]


def test_rows_of_one_candidate_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "<mask> a.", "answer": "A", "candidates": ["A", "B"]},
        {"prompt": "<mask> b.", "answer": "A", "candidates": ["A"]},
        {"prompt": "<mask> c.", "answer": "A", "candidates": "A"},
        {"prompt": "<mask> d.", "answer": "A", "candidates": ["A", "A"]},
    ]
    (tmp_path / "f.fr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ClozeTask("facts", ["fr"], LocalFiles(f"{tmp_path}/f.{{lang}}.jsonl"))
    assert [example.id for example in task.examples("fr")] == ["0"]


def test_untranslated_rows_of_paws_x_are_left_out(tmp_path: Path) -> None:
    for lang, text in (("en", "A b ."), ("ko", "NS")):
        (tmp_path / lang).mkdir()
        lines = ["id\tsentence1\tsentence2\tlabel", "1\tA .\tB .\t1", f"2\t{text}\tB .\t0", "3\tC .\tD .\t0"]
        (tmp_path / lang / "test_2k.tsv").write_text("\n".join(lines) + "\n")
    task = PawsX(["en", "ko"], path=str(tmp_path))
    assert [[e.id for e in task.examples(lang)] for lang in ("en", "ko")] == [["0", "2"]] * 2


def test_results_count_what_was_left_out(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    write(tmp_path, "tsv", fr=FR, en=EN)
    corpus = {"class_path": "mlprune.data.corpora.LocalFiles", "init_args": {"path": "s.{lang}.tsv"}}
    options = {"corpus": corpus, "max_new_tokens": 2, "shots": 1, "max_chars": 60, "languages": ["fr"]}
    texts = {"corpus": corpus, "languages": ["en", "fr"]}
    tasks = [
        {"class_path": "mlprune.evaluation.tasks.PerplexityTask", "init_args": texts},
        {"class_path": "mlprune.evaluation.tasks.TranslationTask", "init_args": options},
    ]
    status, out, errors = mlprune("test", "--config", write_config(tmp_path, tiny_folder, data={"tasks": tasks}))
    assert status == 0, errors
    (file,) = tmp_path.rglob("results.json")
    results = json.loads(file.read_text())
    assert results["left_out"] == {"perplexity": {"en": 1, "fr": 1}, "translation": {"fr": 1}}
    assert results["perplexity"]["en"]["n"] == 3
    assert (out + errors).count("row 2") == 2  # once a task


def test_blank_rows_can_be_refused(tmp_path: Path) -> None:
    write(tmp_path, "tsv", fr=FR, en=EN)
    strict = LocalFiles(f"{tmp_path}/s.{{lang}}.tsv", blank="error")
    for make in (
        lambda: TranslationTask(["fr"], corpus=strict).examples("fr"),
        lambda: PerplexityTask(["fr", "en"], corpus=strict).examples("en"),
        lambda: TranslationDemonstrations("fr", corpus=strict, shots=1).prompts(tiny_tokenizer(), 1, 0),
        lambda: TranslationTask(["fr"], fewshot=strict, shots=1).shots_for("fr"),
    ):
        with pytest.raises(UserError, match=r"row 2 of .*s\.fr\.tsv.* text is blank"):
            make()
