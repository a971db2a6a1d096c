"""Whether outputs are in the right language: by script, by an identifier, by line and by word."""

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from torchmetrics.functional.classification import multiclass_calibration_error

from mlprune.comparison import figures_of
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import Continuation, MinimalPairs, PerplexityTask, TranslationTask
from mlprune.languages import LISTED
from mlprune.metrics import AnswerCalibration, BitsPerByte, Fertility, LanguageFidelity
from mlprune.metrics.fidelity import SCRIPTS, script_of

BUNDLED = ("en", "fr", "es", "zh", "hi", "sw")


def rates(metric: LanguageFidelity, outputs: list[str], lang: str) -> list[float]:
    metric.update([{"output": output, "target_lang": lang} for output in outputs])
    return [metric.compute()[measure.name] for measure in metric.measures]


def test_every_language_of_the_table_has_a_script() -> None:
    assert {script_of(code) for code in LISTED} <= SCRIPTS.keys()


@pytest.mark.parametrize("lang", BUNDLED)
def test_sentences_of_a_language_are_in_its_script(lang: str) -> None:
    texts = [row["text"] for row in Bundled("parallel").rows(lang)]
    right, lines, words = rates(LanguageFidelity(), texts, lang)
    assert (right, lines) == (1.0, 1.0)
    assert np.isnan(words) if script_of(lang) == "Latn" else words > 0.9


@pytest.mark.parametrize("lang", ["zh", "hi"])
def test_english_is_not(lang: str) -> None:
    texts = [row["text"] for row in Bundled("parallel").rows("en")]
    right, lines, _ = rates(LanguageFidelity(), texts, lang)
    assert right == 0.0
    assert lines < 0.1  # but for what is too short to judge


def test_lines_and_words_by_hand() -> None:
    outputs = [
        "आज बारिश हो रही है।\nयह एक अच्छा दिन है।",  # passes both
        "आज बारिश हो रही है और कल भी होगी।\nIt is raining here again.",  # a wrong line
        "आज बारिश हो रही है।\nToday, rain.",  # a short line is not judged, but its words are
        "",  # in no language
    ]
    assert rates(LanguageFidelity(), outputs, "hi") == [0.75, 0.5, 0.5]


@pytest.mark.parametrize("lang", BUNDLED)
def test_an_identifier_tells_languages_of_one_script_apart(lang: str) -> None:
    pytest.importorskip("lingua", reason='needs the extra "langid": pip install "mlprune[langid]"')
    texts = [row["text"] for row in Bundled("parallel", "test").rows(lang)][:20]
    right, lines, _ = rates(LanguageFidelity("lingua"), texts, lang)
    assert right >= 0.95
    assert lines >= 0.95
    assert rates(LanguageFidelity("lingua"), texts, "de")[0] == 0.0
    assert np.isnan(rates(LanguageFidelity("lingua"), texts, "wo")[0])  # which it does not know


def test_a_missing_identifier_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from mlprune.metrics.fidelity import lingua_detector

    lingua_detector.cache_clear()
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(UserError, match=r'pip install "mlprune\[langid\]", or give identifier: script'):
        Continuation(["fr"], identifier="lingua")
    with pytest.raises(UserError, match="identifier 'cld' is not allowed; give script or lingua"):
        LanguageFidelity("cld")  # type: ignore[arg-type]


def test_a_script_without_a_name_here_has_no_value() -> None:
    assert all(map(np.isnan, rates(LanguageFidelity(), ["ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"], "chr")))


def test_continuations_and_translations_have_rows_with_intervals() -> None:
    model, tokenizer = tiny_model("llama", max_position_embeddings=2048), tiny_tokenizer()
    open_ended = Continuation(["en", "hi"], limit=4, max_new_tokens=4)
    translated = TranslationTask(
        ["hi"], source_lang="en", limit=4, shots=1, max_new_tokens=4, metrics=[LanguageFidelity()]
    )
    for task in (open_ended, translated):
        records = {lang: task.predict(model, tokenizer, lang, task.examples(lang)) for lang in task.languages}
        assert {record["target_lang"] for record in records["hi"]} == {"hi"}
        rows = figures_of(task_records(task, records), "dense")
        (row,) = [row for row in rows if row.measure.name == "right_language" and row.language == "hi"]
        assert row.value is not None
        assert row.low is not None
        assert row.n == 4


def test_continuations_begin_as_held_out_sentences_do() -> None:
    task = Continuation(["fr"], words=3)
    sentences = {row["id"]: row["text"] for row in Bundled("parallel", "test").rows("fr")}
    assert all(sentences[example.id].startswith(example.text) for example in task.examples("fr"))
    assert task.used_rows() == {("bundled", "parallel"): set(sentences)}
    with pytest.raises(UserError, match="words 0 is not allowed; give at least 1"):
        Continuation(["fr"], words=0)


def test_bytes_and_words_beside_characters() -> None:
    task = PerplexityTask(["fr", "zh"], limit=3, metrics=[BitsPerByte(), Fertility()])
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    records = {lang: task.predict(model, tokenizer, lang, task.examples(lang)) for lang in task.languages}
    found = {(row.measure.name, row.language): row.value for row in figures_of(task_records(task, records), "dense")}
    for lang in task.languages:
        texts = [example.text for example in task.examples(lang)]
        chars, size = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
        assert found["bits_per_byte", lang] == pytest.approx(found["bits_per_char", lang] * chars / size)
    words = sum(len(example.text.split()) for example in task.examples("fr"))
    size = sum(len(example.text.encode()) for example in task.examples("fr"))
    assert found["fertility", "fr"] == pytest.approx(size / words)  # a byte is a token
    assert found["fertility", "zh"] is None


def test_calibration_is_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (200,), generator=generator)
    metric = AnswerCalibration()
    metric.update(
        [
            {"scores": own.tolist(), "prediction": str(int(own.argmax())), "label": str(int(label))}
            for own, label in zip(scores, labels, strict=True)
        ]
    )
    expected = multiclass_calibration_error(scores.softmax(-1), labels, num_classes=4, n_bins=15, norm="l1")
    top = scores.topk(2).values
    assert metric.compute()["calibration_error"] == pytest.approx(float(expected), abs=1e-6)
    assert metric.compute()["margin"] == pytest.approx(float((top[:, 0] - top[:, 1]).mean()))


def test_calibration_of_a_task() -> None:
    task = MinimalPairs(["en", "fr"], limit=6, by=None, metrics=[AnswerCalibration()])
    task.check_metrics()
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    records = {lang: task.predict(model, tokenizer, lang, task.examples(lang)) for lang in task.languages}
    rows = {(row.measure.name, row.language) for row in figures_of(task_records(task, records), "dense")}
    assert {("calibration_error", "en"), ("margin", "average")} <= rows
