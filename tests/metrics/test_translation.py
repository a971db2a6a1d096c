"""BLEU and chrF++ are sacrebleu's own, however the segments are cut."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers import tokenizer_spm

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.languages import LISTED, language
from mlprune.metrics import SpBleu, Translation
from mlprune.metrics.translation import bleu_tokenizer

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


def segments(outputs: list[str], references: list[str]) -> list[dict[str, str]]:
    return [{"output": a, "reference": b} for a, b in zip(outputs, references, strict=True)]


@pytest.mark.parametrize("step", [1, 2, 6])
def test_is_sacrebleus(step: int) -> None:
    metric = Translation("en")
    for start in range(0, len(OUTPUTS), step):
        metric.update(segments(OUTPUTS[start : start + step], REFERENCES[start : start + step]))
    found = metric.compute()
    bleu, chrf = BLEU(), CHRF(word_order=2)
    assert found["bleu"] == bleu.corpus_score(OUTPUTS, [REFERENCES]).score
    assert found["chrf"] == chrf.corpus_score(OUTPUTS, [REFERENCES]).score
    assert found["signatures"] == {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    assert found["n"] == len(OUTPUTS)


def test_chinese_is_cut_by_its_own_tokenizer() -> None:
    metric = Translation("zh")
    metric.update(segments(*CHINESE))
    found = metric.compute()
    assert found["bleu"] == BLEU(tokenize="zh").corpus_score(CHINESE[0], [CHINESE[1]]).score
    assert "tok:zh" in found["signatures"]["bleu"]


def test_another_tokenizer_on_request() -> None:
    metric = Translation("ja", bleu_tokenizer="char")
    metric.update(segments(*CHINESE))
    assert "tok:char" in metric.compute()["signatures"]["bleu"]


def test_japanese_asks_for_its_tokenizer() -> None:
    try:
        import MeCab  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r'sacrebleu\[ja\]"'):
            Translation("ja")
    else:
        assert "ja-mecab" in str(Translation("ja").bleu_scorer.get_signature())


@pytest.mark.parametrize("name", sorted(name for name in BLEU.TOKENIZERS if name.startswith(("flores", "spBLEU"))))
def test_a_tokenizer_that_cannot_be_downloaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(f"{tokenizer_spm.__name__}.SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(UserError, match=rf"BLEU tokenizer '{name}' cannot be downloaded: .*Name or service not known"):
        Translation("fr", name)


def test_unknown_tokenizer() -> None:
    with pytest.raises(UserError, match="bleu_tokenizer 'words' is not allowed"):
        Translation("en", "words")


def test_parts_of_two_processes_add_up() -> None:
    whole, parts = Translation("en"), [Translation("en"), Translation("en")]
    whole.update(segments(OUTPUTS, REFERENCES))
    for part, metric in enumerate(parts):
        metric.update(segments(OUTPUTS[part::2], REFERENCES[part::2]))
    assert np.array_equal(whole.sums(), sum(metric.sums() for metric in parts))


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_segment() -> None:
    assert Translation("en").compute() == {"n": 0}


SPACELESS = {  # a sentence, and the same with one word changed
    "km": ("ខ្ញុំទៅសាលារៀននៅថ្ងៃនេះ", "ខ្ញុំទៅផ្សារនៅថ្ងៃនេះ"),
    "lo": ("ມື້ນີ້ຂ້ອຍໄປໂຮງຮຽນ", "ມື້ນີ້ຂ້ອຍໄປຕະຫຼາດ"),
    "my": ("ကျွန်တော်ဒီနေ့ကျောင်းသွားတယ်", "ကျွန်တော်ဒီနေ့ဈေးသွားတယ်"),
    "th": ("วันนี้ฉันไปโรงเรียน", "วันนี้ฉันไปตลาด"),
    "zh": ("我今天早上去学校上课。", "我今天早上去市场上课。"),
}


@pytest.mark.parametrize("lang", SPACELESS)
def test_one_changed_word_is_not_the_whole_sentence(lang: str) -> None:
    output, reference = SPACELESS[lang]
    metric = Translation(lang)
    metric.update(segments([output], [reference]))
    assert 40 < metric.compute()["bleu"] < 95


def test_every_language_of_the_table_has_words_or_is_cut_into_characters() -> None:
    """Scripts by whether they put spaces between words; a new one must be put on one side."""
    spaced = {"Arab", "Armn", "Beng", "Cyrl", "Deva", "Ethi", "Geor", "Grek", "Gujr", "Guru", "Hebr", "Knda", "Latn",
              "Mlym", "Nkoo", "Olck", "Orya", "Sinh", "Taml", "Telu", "Tfng"}  # fmt: skip
    for code in LISTED:
        assert (bleu_tokenizer(code) == "13a") == (language(code).script in spaced), code


def test_many_sums_at_once_are_sacrebleus_too() -> None:
    metric, generator = Translation("en"), np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "in", "the", "rain"]
    texts = [[" ".join(generator.choice(words, generator.integers(0, 9))) for _ in range(2)] for _ in range(600)]
    rows = metric.statistics(segments([a for a, _ in texts], [b for _, b in texts]))
    sums = np.stack([rows[start : start + 3].sum(0) for start in range(0, len(rows), 3)])
    many = metric.values(sums)
    for i, own in enumerate(sums):
        assert {name: float(value) for name, value in metric.values(own).items()} == pytest.approx(
            {name: values[i] for name, values in many.items()}, abs=1e-12
        )
    assert (many["bleu"] == 0).sum() > 5  # the edges are among them


@pytest.fixture
def sacrebleus_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of sacrebleu's models, without a network."""

    def offline(url: str, target: str) -> None:
        raise OSError(f"no route to {url}")

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizer_spm, "download_file", offline)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_spbleu_is_sacrebleus(sacrebleus_folder: Path) -> None:
    """With a small model in the place of the published one."""
    spm = pytest.importorskip("sentencepiece")
    sentences = [row["text"] for lang in ("en", "zh", "sw") for row in Bundled("parallel", "dev").rows(lang)]
    text = sacrebleus_folder / "text"
    text.write_text("\n".join(sentences), encoding="utf-8")
    spm.SentencePieceTrainer.train(input=str(text), model_prefix=str(sacrebleus_folder / "tiny"), vocab_size=2000)
    (sacrebleus_folder / "tiny.model").rename(sacrebleus_folder / "flores200sacrebleuspm")
    outputs, references = sentences[:40], sentences[1:41]
    outputs = [output + " " + reference for output, reference in zip(outputs, references, strict=True)]
    metric = SpBleu()
    metric.update([{"output": a, "reference": b} for a, b in zip(outputs, references, strict=True)])
    expected = BLEU(tokenize="flores200").corpus_score(outputs, [references]).score
    assert 20 < expected < 80
    assert metric.compute() == pytest.approx({"spbleu": expected, "n": 40})


def test_spbleu_without_its_model_is_one_line(sacrebleus_folder: Path) -> None:
    with pytest.raises(UserError, match=r"models/flores200sacrebleuspm'.* no route to .*; put it there, or leave"):
        SpBleu()
    with pytest.raises(UserError, match="tokenizer 'char' is not allowed; give flores200 or flores101"):
        SpBleu("char")
