"""The bundled minimal pairs: enough of them, two sentences that differ in one place, neither known by its looks."""

import re
from collections import Counter
from typing import Any

import pytest

from mlprune.data.corpora import Bundled

LANGUAGES = ("en", "fr", "es", "zh", "hi", "sw")
COMMON = {"negation", "word_order"}
OWN = {
    "en": {"agreement", "case", "reflexive", "verb_form"},
    "fr": {"agreement", "gender", "case", "verb_form"},
    "es": {"agreement", "gender", "case", "verb_form"},
    "zh": {"classifier", "aspect", "voice", "function_word"},
    "hi": {"agreement", "gender", "case", "verb_form"},
    "sw": {"agreement", "noun_class", "case", "verb_form"},
}


def rows(lang: str) -> list[dict[str, Any]]:
    return Bundled("pairs").rows(lang)


def shared(first: list[str], second: list[str]) -> int:
    """How many parts two lists begin with in common."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(map(len, (first, second)))
    )


def places(row: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is left of both sentences, in words or characters, without what they begin and end with in common."""
    spaced = " " in row["good"]
    good, bad = (row[side].split() if spaced else list(row[side]) for side in ("good", "bad"))
    start = shared(good, bad)
    good, bad = good[start:], bad[start:]
    end = shared(good[::-1], bad[::-1])
    return good[: len(good) - end], bad[: len(bad) - end]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_there_are_enough_of_each_phenomenon(lang: str) -> None:
    found = Counter(row["phenomenon"] for row in rows(lang))
    assert found.total() >= 120
    assert set(found) == COMMON | OWN[lang]
    assert min(found.values()) >= 15
    assert all(set(row) == {"id", "phenomenon", "good", "bad"} for row in rows(lang))


def test_ids_are_unique_over_languages() -> None:
    """Else rows of two languages would be taken for translations of each other."""
    ids = [row["id"] for lang in LANGUAGES for row in rows(lang)]
    assert len(set(ids)) == len(ids)
    assert all(row["id"].startswith(f"{lang}-") for lang in LANGUAGES for row in rows(lang))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_sentence_stands_twice(lang: str) -> None:
    sentences = [row[side] for row in rows(lang) for side in ("good", "bad")]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sentences_differ_in_one_place(lang: str) -> None:
    for row in rows(lang):
        good, bad = places(row)
        assert good or bad
        assert max(len(good), len(bad)) <= (6 if lang == "zh" else 5), row
        if row["phenomenon"] == "word_order":  # the same words, but for a capital at the beginning
            words = [sorted(re.findall(r"[\w’]+", row[side].lower())) for side in ("good", "bad")]
            letters = [sorted(re.sub(r"\W", "", row[side].lower())) for side in ("good", "bad")]
            assert words[0] == words[1] or letters[0] == letters[1], row


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sentences_look_alike(lang: str) -> None:
    """Both are tidy, end alike, and are equally long on average, so that length does not give away which is good."""
    data = rows(lang)
    for row in data:
        good, bad = row["good"], row["bad"]
        assert good[-1] == bad[-1]
        assert good[-1] in {"zh": "。？！", "hi": "।?"}.get(lang, ".?!")
        for text in (good, bad):
            assert text == text.strip()
            assert "  " not in text
            assert not text[0].islower()
            assert not re.search(r"[\[\]|]", text)
        assert abs(len(good) - len(bad)) <= 6, row
    lengths = [sum(len(row[side]) for row in data) / len(data) for side in ("good", "bad")]
    assert abs(lengths[0] / lengths[1] - 1) < 0.02
    longer = sum(len(row["good"]) > len(row["bad"]) for row in data)
    shorter = sum(len(row["good"]) < len(row["bad"]) for row in data)
    assert max(longer, shorter) < 0.45 * len(data)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_is_swapped_varies(lang: str) -> None:
    """No single exchange of words makes up much of a language."""
    swaps = Counter((" ".join(good).lower(), " ".join(bad).lower()) for good, bad in map(places, rows(lang)))
    assert max(swaps.values()) <= 10
    assert len(swaps) >= 100
