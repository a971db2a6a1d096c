"""Calibration mixes: how many prompts each language has, which groups they are, and what is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from mlprune.data.demonstrations import MonolingualDemonstrations, TranslationDemonstrations
from mlprune.data.mixes import PRESETS, LanguageMix, shares_of
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.languages import language

BUNDLED = ["en", "fr", "es", "zh", "hi", "sw"]


def test_multilingual_brain_surgeon_is_its_table() -> None:
    counts = LanguageMix("mbs").counts
    assert (sum(counts.values()), len(counts)) == (256, 20)
    assert counts == PRESETS["mbs"]
    assert {lang: count for lang, count in counts.items() if count > 10} == {
        "en": 87, "zh": 47, "fr": 37, "es": 31, "pt": 14, "ar": 13,
    }  # fmt: skip


@pytest.mark.parametrize(("preset", "whole", "number"), [("bloom", 87.0, 45), ("xglm", 1.0, 30)])
def test_proportions_of_training_data_are_whole(preset: str, whole: float, number: int) -> None:
    weights = PRESETS[preset]
    assert sum(weights.values()) == pytest.approx(whole, rel=0.02)  # published rounded
    assert len(weights) == number
    assert len({language(lang).flores for lang in weights}) == number
    assert sum(LanguageMix(preset, num_prompts=500).counts.values()) == 500


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.integers(0, 300))
def test_shares_are_whole_and_in_proportion(weights: list[float], more: int) -> None:
    total = len(weights) + more
    shares = shares_of({str(i): weight for i, weight in enumerate(weights)}, total)
    assert sum(shares.values()) == total
    assert min(shares.values()) >= 1
    ranked = sorted(range(len(weights)), key=lambda i: weights[i])
    assert all(shares[str(a)] <= shares[str(b)] for a, b in itertools.pairwise(ranked) if weights[a] < weights[b])
    quotas = [total * weight / sum(weights) for weight in weights]
    if min(quotas) >= 1:  # nobody had to be given one
        assert all(abs(shares[str(i)] - quota) < 1 for i, quota in enumerate(quotas))


def test_each_language_is_a_group() -> None:
    mix = LanguageMix({"fr": 2, "en": 1, "sw": 1}, num_prompts=8, target_lang="en", shots=2, seed=3)
    data = PruningDataModule({"mix": mix, "code": MonolingualDemonstrations("hi", num_prompts=3)})
    kinds = {name: (type(own), own.num_prompts) for name, own in data.demonstrations.items()}
    assert kinds == {
        "fr": (TranslationDemonstrations, 4),
        "en": (MonolingualDemonstrations, 2),
        "sw": (TranslationDemonstrations, 2),
        "code": (MonolingualDemonstrations, 3),
    }
    data.choose_prompts(tiny_tokenizer())
    assert {name: len(own) for name, own in data.chosen.items()} == {"fr": 4, "en": 2, "sw": 2, "code": 3}
    assert data.chosen["fr"][0].text.startswith("French: ")
    assert data.chosen["sw"][0].text.count("English: ") == 2
    names = PruningDataModule({"mix": LanguageMix("mbs", BUNDLED[:2], 4)}, language_names={"fr": "Français"})
    names.choose_prompts(tiny_tokenizer())
    assert names.chosen["fr"][0].text.startswith("Français: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"proportions": "mgpt"},
            "proportions 'mgpt' does not exist; give a dict of language to weight, or one of mbs",
        ),
        ({"proportions": {}}, "there is no language"),
        ({"proportions": {"fr": 0.0}}, "proportions 0.0 of 'fr' is not allowed; give more than 0"),
        ({"proportions": {"fr": float("nan")}}, "proportions nan of 'fr'"),
        ({"proportions": {"xx-no": 1.0}}, "xx-no"),
        ({"proportions": "mbs", "languages": ["fr", "de"]}, "proportions have no 'de'; they have en, zh"),
        ({"proportions": "mbs", "languages": []}, "there is no language"),
        ({"proportions": "mbs", "num_prompts": 19}, "num_prompts 19 is less than one for each of 20 languages"),
        ({"proportions": "mbs", "num_prompts": 0}, "num_prompts 0 is less than one"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LanguageMix(**arguments)


def test_groups_of_one_name_and_languages_that_a_corpus_lacks_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.demonstrations: 'fr' and another entry both have the group 'fr'"):
        PruningDataModule({"mix": LanguageMix("mbs", ["fr"], 2), "fr": MonolingualDemonstrations("fr")})
    with pytest.raises(UserError, match="'vi'"):
        PruningDataModule({"mix": LanguageMix("mbs", ["en", "vi"], 2)})
    with pytest.raises(UserError, match="shots 0"):
        PruningDataModule({"mix": LanguageMix("mbs", ["en"], 2, shots=0)})
