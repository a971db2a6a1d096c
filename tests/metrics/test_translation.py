"""BLEU and chrF++ are sacrebleu's own, however the segments are cut."""

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from mlprune.errors import UserError
from mlprune.metrics import Translation

OUTPUTS = [
    "The cat sat on the mat.",
    "A dog, running quickly through the park!",
    "",
    "Nothing here is right at all",
    "It's 12.5% more expensive than before.",
    "He said: “no”.",
]
REFERENCES = [
    "The cat is sitting on the mat.",
    "The dog ran quickly through the old park.",
    "An empty translation.",
    "Everything there was wrong",
    "It is 12.5% more expensive than it was before.",
    "He said: “no”.",
]
CHINESE = ["我今天去学校。", "天气很好，我们去公园吧。"], ["我今天要去学校。", "天气很好，我们去公园散步吧。"]


@pytest.mark.parametrize("step", [1, 2, 6])
def test_is_sacrebleus(step: int) -> None:
    metric = Translation("en")
    for start in range(0, len(OUTPUTS), step):
        metric.update(OUTPUTS[start : start + step], REFERENCES[start : start + step])
    found = metric.compute()
    bleu, chrf = BLEU(), CHRF(word_order=2)
    assert found["bleu"] == bleu.corpus_score(OUTPUTS, [REFERENCES]).score
    assert found["chrf"] == chrf.corpus_score(OUTPUTS, [REFERENCES]).score
    assert found["signatures"] == {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    assert found["n"] == len(OUTPUTS)


def test_chinese_is_cut_by_its_own_tokenizer() -> None:
    metric = Translation("zh")
    metric.update(*CHINESE)
    found = metric.compute()
    assert found["bleu"] == BLEU(tokenize="zh").corpus_score(CHINESE[0], [CHINESE[1]]).score
    assert "tok:zh" in found["signatures"]["bleu"]


def test_another_tokenizer_on_request() -> None:
    metric = Translation("ja", bleu_tokenizer="char")
    metric.update(*CHINESE)
    assert "tok:char" in metric.compute()["signatures"]["bleu"]


def test_japanese_asks_for_its_tokenizer() -> None:
    try:
        import MeCab  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r'sacrebleu\[ja\]"'):
            Translation("ja")
    else:
        assert "ja-mecab" in str(Translation("ja").bleu_scorer.get_signature())


def test_unknown_tokenizer() -> None:
    with pytest.raises(UserError, match="bleu_tokenizer 'words' is not allowed"):
        Translation("en", "words")


def test_parts_of_two_processes_add_up() -> None:
    whole, parts = Translation("en"), [Translation("en"), Translation("en")]
    whole.update(OUTPUTS, REFERENCES)
    for part, metric in enumerate(parts):
        metric.update(OUTPUTS[part::2], REFERENCES[part::2])
    for name in ("bleu", "chrf", "n"):
        assert torch.equal(getattr(whole, name), sum(getattr(metric, name) for metric in parts))


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_segment() -> None:
    assert Translation("en").compute() == {"n": 0}
