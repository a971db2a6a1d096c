"""Few-shot translation: prompts, directions, records and figures."""

import copy
from pathlib import Path

import pytest
from tiny import tiny_model, tiny_tokenizer
from tokenizer_kinds import TRANSLATING

from mlprune.comparison import differences_of
from mlprune.comparison.headline import headline
from mlprune.comparison.schema1 import headline_tasks
from mlprune.data.corpora import Bundled, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.results import summarize, task_records
from mlprune.evaluation.tasks import PerplexityTask, TranslationTask
from mlprune.metrics import Translation
from mlprune.report.headline import headline as report_headline
from mlprune.runs.content import RunContent


def task(**options) -> TranslationTask:
    return TranslationTask(**({"languages": ["fr"], "shots": 2, "max_chars": 60, "limit": 3} | options))


def test_prompt() -> None:
    (prompt,) = task().prompts(tiny_tokenizer(), "fr", ["Bonjour."])
    lines = prompt.split("\n")
    assert [line.split(":")[0] for line in lines] == ["French", "English"] * 3
    assert lines[-2:] == ["French: Bonjour.", "English:"]
    assert all(len(line) < 60 + len("English: ") for line in lines)


def test_any_direction() -> None:
    other = task(languages=["en", "sw", "fr"], target_lang="fr")
    assert other.languages == ["en", "sw"]
    lines = other.prompts(tiny_tokenizer(), "sw", ["Habari."])[0].split("\n")
    assert [line.split(":")[0] for line in lines] == ["Swahili", "French"] * 3


def test_from_one_language_into_several() -> None:
    own = task(languages=["en", "sw", "zh"], source_lang="en", max_new_tokens=5)
    assert (own.name, own.languages) == ("translation-from-en", ["sw", "zh"])
    lines = own.prompts(tiny_tokenizer(), "sw", ["Hello."])[0].split("\n")
    assert [line.split(":")[0] for line in lines] == ["English", "Swahili"] * 3
    into, back = task(languages=["sw"]).examples("sw")[0], own.examples("sw")[0]
    assert (into.source, into.reference) == (back.reference, back.source)
    model = tiny_model("llama", max_position_embeddings=2048)
    records = {lang: own.predict(model, tiny_tokenizer(), lang, own.examples(lang)) for lang in own.languages}
    found = summarize([own], {(own.name, lang): rows for lang, rows in records.items()}, "dense")
    assert list(found["translation"]) == ["translation-from-en:en-sw", "translation-from-en:en-zh"]
    signatures = [entry["signatures"]["bleu"] for entry in found["translation"].values()]
    assert [signature.split("tok:")[1].split("|")[0] for signature in signatures] == ["13a", "zh"]
    measured = {(row["metric"], row["language"]) for row in found["figures"]}
    assert {("bleu", "zh"), ("chrf", "zh"), ("bleu", "average"), ("chrf", "average")} <= measured


def test_separator_of_the_paper() -> None:
    (prompt,) = task(separator="eos").prompts(tiny_tokenizer(), "fr", ["Bonjour."])
    assert prompt.endswith("</s>French: Bonjour.</s>English:")


def test_shots_are_not_tested() -> None:
    translation = task(fewshot=Bundled("parallel"), corpus=Bundled("parallel"), limit=None)
    shots = {source for source, _ in translation.shots_for("fr")}
    assert shots.isdisjoint(example.source for example in translation.examples("fr"))


def test_chat() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
    (prompt,) = task(chat_template=True).prompts(tokenizer, "fr", ["Bonjour."])
    assert prompt.count("<user>") == 3
    assert prompt.endswith("<user>French: Bonjour.\nEnglish:<assistant>")


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_records_and_figures(family: str) -> None:
    translation = task(max_new_tokens=5, languages=["fr", "sw"])
    model = tiny_model(family, **({"max_position_embeddings": 2048} if family == "llama" else {}))
    records = {
        lang: translation.predict(model, tiny_tokenizer(), lang, translation.examples(lang))
        for lang in translation.languages
    }
    assert [record["id"] for record in records["fr"]] == [example.id for example in translation.examples("fr")]
    assert {record["stopped"] for record in records["fr"]} <= {"length", "end", "\n", "French:", "English:"}
    found = summarize([translation], {(translation.name, lang): rows for lang, rows in records.items()}, "dense")[
        "translation"
    ]
    assert list(found) == ["fr-en", "sw-en", "all-en"]
    overall = Translation("en")
    for rows in records.values():
        overall.update(rows)
    assert found["all-en"] == overall.compute()
    assert found["all-en"]["n"] == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": -1}, "shots -1 is not allowed; give 0 or more"),
        ({"num_beams": 0}, "num_beams 0 is not allowed"),
        ({"languages": ["en"]}, r"languages \['en'\] has none to translate into 'en'"),
        ({"languages": ["en"], "source_lang": "en"}, r"languages \['en'\] has none to translate from 'en'"),
        ({"source_lang": "en", "target_lang": "en"}, "give source_lang or target_lang, not both"),
        ({"target_lang": "xx"}, "language 'xx' is not known"),
        ({"bleu_tokenizer": "words"}, "bleu_tokenizer 'words' is not allowed"),
    ],
)
def test_mistakes(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(**options)


def test_sentences_without_translations(tmp_path: Path) -> None:
    for lang in ("en", "fr"):
        (tmp_path / f"{lang}.tsv").write_text(f"key\ttext\n{lang}1\tOui.\n")
    corpus = LocalFiles(f"{tmp_path}/{{lang}}.tsv", id_column="key")
    with pytest.raises(UserError, match="no row of 'fr' has the id of one in 'en'"):
        task(corpus=corpus).examples("fr")


def test_too_long_prompts_are_told_by_task_and_language() -> None:
    translation = task(limit=1)
    with pytest.raises(
        UserError, match=r"task 'translation', language 'fr', row with id '\d+' .*: its prompt has \d+ tokens"
    ):
        translation.predict(tiny_model("gpt2"), tiny_tokenizer(), "fr", translation.examples("fr"))


def test_too_few_short_sentences() -> None:
    with pytest.raises(UserError, match="2 few-shot rows needed in 'fr', 0 are short enough"):
        task(max_chars=5).shots_for("fr")


def test_corpora_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    translation, read = task(), []
    rows = Bundled.rows
    monkeypatch.setattr(Bundled, "rows", lambda self, lang: read.append(lang) or rows(self, lang))
    examples = translation.examples("fr")
    translation.prompts(tiny_tokenizer(), "fr", ["Bonjour."])
    count = len(read)
    for example in examples:
        translation.prompts(tiny_tokenizer(), "fr", [example.source])
    translation.examples("fr")
    assert len(read) == count == 4  # two languages, in the task's corpus and in that of solved examples


def test_a_translation_model_needs_no_examples() -> None:
    task = TranslationTask(["fr"], shots=0, limit=2)
    sources = [example.source for example in task.examples("fr")]
    assert task.prompts(TRANSLATING["NLLB"].make(), "fr", sources) == sources  # its language codes say what to do
    assert task.prompts(tiny_tokenizer(), "fr", ["Oui."]) == ["French: Oui.\nEnglish:"]
    assert task.used_rows()[task.fewshot.identity] == {example.id for example in task.examples("fr")}


def test_headlines_name_chrf_beside_bleu(tmp_path: Path) -> None:
    """Where translation is all that was measured, in a comparison and in a report."""
    own, results = task(languages=["fr", "sw"]), {}
    words = ["a", "cat", "sat", "on", "a", "red", "mat"]
    for system, output in (("dense", words), ("pruned", [*words[:5], "blue", "hat"])):
        rows = [
            {"id": str(i), "output": " ".join(output), "reference": " ".join(words), "target_lang": "en"}
            for i in range(3)
        ]
        results[system] = (rows, summarize([own], {(own.name, lang): rows for lang in own.languages}, system))
    sides = [task_records(own, dict.fromkeys(own.languages, rows)) for rows, _ in results.values()]
    differences = differences_of(*sides, ("dense", "pruned"))
    text = headline(differences, [])
    assert text.startswith("On average over languages, pruning changed translation BLEU by -")
    assert "; translation chrF++ by -" in text
    assert text.endswith("; BLEU: worse in both languages: French (-38.5) and Swahili (-38.5).")
    run = RunContent(tmp_path, "v0", results={"dense": results["dense"][1]})
    assert report_headline(run) == "The dense model: translation BLEU 100.0 on average over languages (chrF++ 100.0)."


def test_a_translation_has_a_sentence_beside_other_tasks() -> None:
    others = PerplexityTask(["fr"], limit=1)
    records = {
        ("perplexity", "fr"): [{"id": "0", "log_prob": -9.0, "chars": 4}],
        ("translation", "fr"): [{"id": "0", "output": "a cat", "reference": "a cat", "target_lang": "en"}],
    }
    assert headline_tasks(summarize([others, task()], records, "dense")) == ["perplexity", "translation"]
