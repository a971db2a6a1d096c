"""A tokenizer that cannot write a run's texts is refused before work starts; those of every published kind are not."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from altered import edit_json
from tiny import save_tiny, tiny_tokenizer
from tiny_runs import write_config
from tokenizer_kinds import CAUSAL, TRANSLATING, Kind
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GPT2Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.models.language_tokens import language_code
from mlprune.models.loading import ModelSource
from mlprune.models.tokenizer import check_words

SENTENCES = {
    "ar": "ذهب الأولاد إلى السوق ليشتروا الخبز والفاكهة.",
    "th": "เด็ก ๆ ไปตลาดเพื่อซื้อขนมปังและผลไม้",
    "ru": "Дети пошли на рынок, чтобы купить хлеб и фрукты.",
    "ja": "子どもたちはパンと果物を買いに市場へ行きました。",
    "ko": "아이들은 빵과 과일을 사러 시장에 갔습니다.",
    "ta": "குழந்தைகள் ரொட்டியும் பழங்களும் வாங்க சந்தைக்குச் சென்றனர்.",
    "my": "ကလေးများသည် ပေါင်မုန့်နှင့် သစ်သီးဝယ်ရန် ဈေးသို့ သွားကြသည်။",
}


def texts(*langs: str) -> dict[str, list[str]]:
    corpus = Bundled("parallel", split="dev")
    own = {lang: [SENTENCES[lang]] for lang in langs if lang in SENTENCES}
    bundled = {lang: [row["text"] for row in corpus.sentences(lang)[:30]] for lang in langs if lang not in own}
    return {f"nli, {lang}": (own | bundled)[lang] for lang in langs}


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if (record.name, record.levelname) == ("mlprune", "WARNING")]


KINDS = CAUSAL | TRANSLATING


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_is_taken(kind: Kind, caplog) -> None:
    check_words(kind.make(), texts("en", "fr", "sw"))
    assert warned(caplog) == []


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_script_that_a_tokenizer_does_not_know_is_no_reason_to_refuse_it(kind: Kind) -> None:
    check_words(kind.make(), texts("en", "zh", "hi", "ar", "th"))


@pytest.mark.parametrize("name", ["GPT-2", "Llama 2", "Gemma", "ByT5, slow", "Qwen"])
def test_tokenizers_of_bytes_write_every_language(name: str, caplog) -> None:
    check_words(KINDS[name].make(), texts("en", "hi", "ar", "th", "ru", "ja", "ko", "ta", "my"))
    assert warned(caplog) == []


ODD = ["I ❤️ ⛰️ 🏔️ so much 🎉🎉!!", "“Quoted” — and… dashed – ½ ﬁne ﬂow", "ＦＵＬＬ ｗｉｄｔｈ text",
       "İstanbul'da ÇOK güzel",
       "x = {'a': [1, 2]}\n\treturn x", "\u200fعربي\u200e mixed", "e\u0301te\u0301 nai\u0308f"]  # fmt: skip


@pytest.mark.parametrize("kind", CAUSAL.values(), ids=CAUSAL)
def test_odd_signs_among_words(kind: Kind) -> None:
    check_words(kind.make(), {"en": [*texts("en")["nli, en"], *ODD]})


def test_an_unknown_script_is_one_warning_that_names_it(caplog) -> None:
    check_words(KINDS["WordPiece"].make(), texts("en", "hi", "th"))
    assert len(warned(caplog)) == 1
    assert "nli, hi; nli, th" in warned(caplog)[0]


# -- tokenizers that are broken ---------------------------------------------------------------------------------------


def fast(core: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", clean_up_tokenization_spaces=False)


def without_decoder() -> PreTrainedTokenizerBase:
    tokenizer = KINDS["GPT-2"].make()
    core = json.loads(tokenizer.backend_tokenizer.to_str()) | {"decoder": None}
    return fast(Tokenizer.from_str(json.dumps(core)))


def of_few_words() -> PreTrainedTokenizerBase:
    core = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "a": 2, ".": 3}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return fast(core)


def of_whole_texts() -> PreTrainedTokenizerBase:
    """A pre-tokenizer was lost: each text is one token."""
    vocabulary = {text: i for i, text in enumerate(texts("en")["nli, en"])}
    return fast(Tokenizer(models.WordLevel(vocabulary | {"<unk>": len(vocabulary)}, unk_token="<unk>")))


def that_drops_letters() -> PreTrainedTokenizerBase:
    core = Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    core.normalizer = normalizers.Replace(Regex("[b-df-hj-np-tv-z]"), "")
    return fast(core)


def that_writes_another_text() -> PreTrainedTokenizerBase:
    """The vocabulary and the decoder are of two models."""
    core = Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    core.decoder = decoders.Sequence([decoders.Replace(Regex("[a-m]"), "x"), decoders.Fuse()])
    return fast(core)


def without_letters() -> PreTrainedTokenizerBase:
    core = Tokenizer(models.BPE({"<unk>": 0, "Ġ": 1, ".": 2}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return fast(core)


BROKEN = [without_decoder, of_few_words, of_whole_texts, that_drops_letters, that_writes_another_text, without_letters]


@pytest.mark.parametrize("make", BROKEN)
def test_tokenizers_that_cannot_write_are_refused(make: Callable[[], PreTrainedTokenizerBase]) -> None:
    with pytest.raises(UserError, match=r"the tokenizer cannot encode the run's texts \(nli, en\)") as error:
        check_words(make(), texts("en", "fr"))
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_raises_is_named_with_the_text() -> None:
    class Raising(type(tiny_tokenizer())):
        def __call__(self, text, **options):
            raise RuntimeError("no such table\nin line 3")

    tokenizer = Raising(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    with pytest.raises(UserError, match=r"the tokenizer fails on nli, en, '.*': no such table in line 3"):
        check_words(tokenizer, texts("en"))


def test_texts_without_a_word_say_nothing() -> None:
    check_words(of_few_words(), {"nli, en": ["...", "", "?!"]})


# -- folders without a vocabulary -------------------------------------------------------------------------------------

EMPTY = {
    "XGLMTokenizer": r"tokenizer\.json",
    "LlamaTokenizer": r"tokenizer\.model",
    "GPT2Tokenizer": r"vocab\.json",
    "BertTokenizer": r"vocab\.txt",
    "T5Tokenizer": r"spiece\.model",
    "NllbTokenizer": r"sentencepiece\.bpe\.model",
    "PreTrainedTokenizerFast": "tokenizer",
    "M2M100Tokenizer": "tokenizer",
}


def empty(folder: Path, kind: str) -> Path:
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    return folder


@pytest.mark.parametrize("kind", EMPTY)
def test_a_tokenizer_without_its_vocabulary_is_refused(kind: str, tmp_path: Path) -> None:
    folder = empty(save_tiny(tmp_path / "model"), kind)
    with pytest.raises(UserError, match=EMPTY[kind]) as error:
        ModelSource(str(folder)).load_tokenizer()
    assert "\n" not in str(error.value)


def test_a_vocabulary_without_its_merges_is_refused(tmp_path: Path) -> None:
    """Every word would be written letter by letter."""
    folder = empty(save_tiny(tmp_path / "model"), "GPT2Tokenizer")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate([*letters, "th", "the"])}))
    with pytest.raises(UserError, match="merges"):
        ModelSource(str(folder)).load_tokenizer()
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    tokenizer = ModelSource(str(folder)).load_tokenizer()
    assert isinstance(tokenizer, GPT2Tokenizer)
    assert tokenizer.tokenize("the") == ["the"]


def test_a_tokenizer_of_bytes_needs_no_file(tmp_path: Path) -> None:
    folder = empty(save_tiny(tmp_path / "model"), "ByT5Tokenizer")
    check_words(ModelSource(str(folder)).load_tokenizer(), texts("en", "hi"))


@pytest.mark.parametrize(
    "command", [("test",), ("validate",), ("fit",), ("validate", "--pruning.streaming", "true")], ids=" ".join
)
def test_every_command_refuses_before_it_works(command: tuple[str, ...], mlprune, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    few = of_few_words()
    few.eos_token = "."
    few.save_pretrained(folder)
    config = write_config(tmp_path, folder)
    status, _, err = mlprune(command[0], "--config", config, *command[1:])
    assert status == 2
    assert err.splitlines()[-1].startswith("error: the tokenizer cannot encode the run's texts")
    assert not list(tmp_path.glob("lightning_logs/*/results*.json"))
    assert not list(tmp_path.glob("lightning_logs/*/masks*"))


@pytest.mark.parametrize("command", ["test", "validate", "fit"])
def test_every_command_refuses_an_empty_tokenizer(command: str, mlprune, tmp_path: Path) -> None:
    config = write_config(tmp_path, empty(save_tiny(tmp_path / "model"), "XGLMTokenizer"))
    status, _, err = mlprune(command, "--config", config)
    assert (status, r"tokenizer.json is missing" in err) == (2, True), err


def test_a_class_with_rules_of_its_own_is_said(tmp_path: Path, caplog) -> None:
    """BERT's class folds case unless told not to, whatever tokenizer.json says."""
    folder = save_tiny(tmp_path / "model")
    KINDS["WordPiece, cased, bare"].make().save_pretrained(folder)
    edit_json(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    check_words(ModelSource(str(folder)).load_tokenizer(), texts("en"))
    assert len(warned(caplog)) == 1
    assert re.search(r"BertTokenizer splits \d+ of 16 texts differently", warned(caplog)[0])
    caplog.clear()
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    check_words(ModelSource(str(folder)).load_tokenizer(), texts("en"))
    assert warned(caplog) == []


def test_other_rules_are_said_when_a_text_shows_them(tmp_path: Path, caplog) -> None:
    folder = save_tiny(tmp_path / "model")
    KINDS["WordPiece, cased, bare"].make().save_pretrained(folder)
    edit_json(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    tokenizer = ModelSource(str(folder)).load_tokenizer()
    check_words(tokenizer, {"lower case": ["it rains"]})
    assert warned(caplog) == []
    check_words(tokenizer, texts("en"))
    assert len(warned(caplog)) == 1


def test_a_file_with_the_same_rules_is_read_once(tmp_path: Path, caplog) -> None:
    folder = save_tiny(tmp_path / "model")
    tokenizer = ModelSource(str(folder)).load_tokenizer()
    check_words(tokenizer, texts("en"))
    (folder / "tokenizer.json").write_text("{")
    check_words(tokenizer, texts("fr"))
    assert warned(caplog) == []


@pytest.mark.parametrize("kind", [kind for name, kind in KINDS.items() if "slow" not in name])
def test_tokenizers_that_were_saved_and_loaded_split_as_before(kind: Kind, tmp_path: Path, caplog) -> None:
    folder = save_tiny(tmp_path / "model")
    before = kind.make()
    before.save_pretrained(folder)
    after = ModelSource(str(folder)).load_tokenizer()
    check_words(after, texts("en", "fr"))
    assert warned(caplog) == []
    for text in texts("en")["nli, en"]:
        assert after(text)["input_ids"] == before(text)["input_ids"]


def test_norwegian_is_one_language_to_a_tokenizer_that_has_one_code_for_it() -> None:
    assert language_code(KINDS["M2M-100, slow"].make(), "nb") == "no"
    assert language_code(KINDS["NLLB"].make(), "nb") == language_code(KINDS["NLLB"].make(), "no") == "nob_Latn"
