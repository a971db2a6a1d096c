"""The models and n-grams behind the study of architectures: one size, held-out text, smoothing worked by hand."""

import math
from pathlib import Path
from types import ModuleType

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_architectures

    return train_architectures


def test_texts_that_train_choose_and_judge_differ(training: ModuleType) -> None:
    train = set(training.training_texts())
    for lang in training.LANGUAGES:
        development, test = (set(training.sentences(lang, part)) for part in ("development", "test"))
        assert (len(development), len(test)) == (40, 61)
        assert train >= set(training.sentences(lang, "train"))
        assert not train & (development | test)
        assert not development & test


def test_models_have_one_size_and_are_ordinary_checkpoints(
    training: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "sentences", lambda lang, part: [f"{lang} {part} 人"])
    sizes = []
    for name in training.MODELS:
        training.train(name, steps=1, rate=1e-3, folder=tmp_path)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        sizes.append(sum(weight.numel() for weight in model.parameters()))
        ids = tokenizer("</s>en test 人", return_tensors="pt")
        bits = model(**ids, labels=ids["input_ids"]).loss.item() / math.log(2)
        assert f"en {bits:.3f}," in capsys.readouterr().out
    assert max(sizes) < 1.01 * min(sizes)


def test_ngram_by_hand(training: ModuleType) -> None:
    counted = training.counts(["aab"], ["ab"], 2)  # a 2, b 1 and the end 1; a after the start, a and b after a
    assert counted.tolist() == [[[2, 1], [4, 4], [3, 3]], [[1, 1], [1, 2], [1, 2]]]
    a, b = ((2 - 0.5) + (1 + 3 * 0.5) / 256) / 5, ((1 - 0.5) + (1 + 3 * 0.5) / 256) / 5
    after_start, after_a = ((1 - 0.25) + (3 + 0.25) * a) / 4, ((1 - 0.25) + (3 + 2 * 0.25) * b) / 5
    expected = -(math.log2(after_start) + math.log2(after_a)) / 2
    assert training.bits(counted, [(0.5, 1.0), (0.25, 3.0)]) == pytest.approx(expected)
    smoothing = training.fitted(counted)
    assert training.bits(counted, smoothing) <= expected
