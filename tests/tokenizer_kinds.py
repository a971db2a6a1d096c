"""Small tokenizers of every kind that published models have, trained here on the bundled sentences.

Each says what a person who writes its model's input by hand puts before a text (``lead``), so that tests need not ask
the code that they test.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertGenerationTokenizer,
    ByT5Tokenizer,
    GPTSw3Tokenizer,
    M2M100Tokenizer,
    MBart50Tokenizer,
    NllbTokenizer,
    PerceiverTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from mlprune.data.corpora import Bundled

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "[CLS]", "[SEP]", "[gMASK]", "<sop>"]
GPT4_REGEX = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Kind:
    """A tokenizer and what stands before a text.

    Args:
        make: Makes it.
        lead: Special tokens in front.
        target_lead: What a decoder reads first, after its start token, of encoder-decoder models.
    """

    make: Callable[[], PreTrainedTokenizerBase]
    lead: tuple[str, ...] = ()
    target_lead: tuple[str, ...] = ()


@cache
def sentences() -> list[str]:
    corpus = Bundled("parallel", split="dev")
    return [row["text"] for lang in ("en", "fr", "zh", "sw") for row in corpus.sentences(lang)[:60]]


def _fast(core: Tokenizer, template: str | None = None) -> PreTrainedTokenizerFast:
    """Wrap a trained core; ``template`` is its post-processor's, such as ``<s> $A </s>``."""
    if template:
        tokens = [(token, core.token_to_id(token)) for token in SPECIAL if token in template]
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _trained(core: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    core.train_from_iterator(sentences(), trainer)
    return core


def byte_level(template: str | None = None, prefix_space: bool = False, regex: str | None = None, norm=None):
    core = Tokenizer(models.BPE())
    if norm is not None:
        core.normalizer = norm
    byte = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=regex is None)
    split = [pre_tokenizers.Split(Regex(regex), "isolated")] if regex else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*split, byte]) if split else byte
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return _fast(_trained(core, trainer), template)


def byte_fallback(template: str | None, normalizer=None, pre_tokenizer=None, decoder=None):
    """BPE on characters with ``<0x..>`` for what it does not know, as in Llama 2 and Gemma."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer is not None:
        core.normalizer = normalizer
    if pre_tokenizer is not None:
        core.pre_tokenizer = pre_tokenizer
    core.decoder = decoder or decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*SPECIAL, *fallback], limit_alphabet=80, max_token_length=12,
        show_progress=False,
    )  # fmt: skip
    return _fast(_trained(core, trainer), template)


def unigram(template: str | None, prepend: str = "always", normalizer=None):
    core = Tokenizer(models.Unigram())
    if normalizer is not None:
        core.normalizer = normalizer
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    core.decoder = decoders.Metaspace(prepend_scheme=prepend)
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    return _fast(_trained(core, trainer), template)


def word_ends(suffix: str):
    """BPE whose last token of a word has an ending, as in XLM and CLIP."""
    core = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix=suffix))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.BPEDecoder(suffix)
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, end_of_word_suffix=suffix, limit_alphabet=80, show_progress=False
    )
    return _fast(_trained(core, trainer))


def word_piece(template: str | None = "[CLS] $A [SEP]", lowercase: bool = True):
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=700, special_tokens=SPECIAL, show_progress=False)
    return _fast(_trained(core, trainer), template)


def word_level():
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return _fast(_trained(core, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)))


def characters():
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return _fast(_trained(core, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)), "<s> $A </s>")


def _train_sentencepiece(**options) -> Path:
    folder = Path(tempfile.mkdtemp())
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_prefix=str(folder / "spm"), hard_vocab_limit=False,
        character_coverage=0.98, minloglevel=2, num_threads=1, **options,
    )  # fmt: skip
    return folder


@cache
def _sentencepiece() -> Path:
    """Train a SentencePiece model and return its folder, with the vocabulary that M2M-100 wants beside it."""
    folder = _train_sentencepiece(vocab_size=500)
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(model.id_to_piece(i) for i in range(3, model.get_piece_size()))]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    return folder


def slow(cls: type, **options) -> PreTrainedTokenizerBase:
    """A tokenizer in Python whose ids are the pieces' numbers."""
    return cls(str(_train_sentencepiece(vocab_size=700, **options) / "spm.model"))


def unigram_with_bytes() -> PreTrainedTokenizerBase:
    """Unigram with ``<0x..>`` for what it does not know, as in mT5."""
    core = json.loads(unigram("$A </s>").backend_tokenizer.to_str())
    core["model"]["vocab"] += [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    core["model"]["byte_fallback"] = True
    core["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, core["decoder"]]}
    return _fast(Tokenizer.from_str(json.dumps(core)))


def words_whole() -> PreTrainedTokenizerBase:
    """Byte-level BPE that takes words that it has as they are, its special tokens behind the vocabulary, and a chat."""
    core = json.loads(byte_level(regex=GPT4_REGEX).backend_tokenizer.to_str())
    core["model"]["ignore_merges"] = True
    core["model"]["vocab"] |= {word: len(core["model"]["vocab"]) + i for i, word in enumerate(["Ġaujourd", "Ġasubuhi"])}
    tokenizer = _fast(Tokenizer.from_str(json.dumps(core)))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>"]})
    tokenizer.add_tokens(["chat bot"])
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
    return tokenizer


def m2m100() -> PreTrainedTokenizerBase:
    folder = _sentencepiece()
    return M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "spm.model"))


def _pieces() -> list[tuple[str, float]]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(_sentencepiece() / "spm.model"))
    return [(model.id_to_piece(i), model.get_score(i)) for i in range(3, model.get_piece_size())]


def mbart(cls: type) -> PreTrainedTokenizerBase:
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return cls(vocab=[*special, *_pieces()])


def nllb(legacy: bool = False) -> PreTrainedTokenizerBase:
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    _trained(core, trainers.BpeTrainer(vocab_size=500, special_tokens=special, limit_alphabet=80, show_progress=False))
    model = json.loads(core.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    return NllbTokenizer(vocab=model["vocab"], merges=merges, legacy_behaviour=legacy)


LLAMA_LEGACY = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
GEMMA = normalizers.Replace(" ", "▁")
NO_STRIP = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])

CAUSAL: dict[str, Kind] = {
    "GPT-2": Kind(byte_level),
    "byte-level with a prefix space": Kind(lambda: byte_level(prefix_space=True)),
    "RoBERTa-like": Kind(lambda: byte_level("<s> $A </s>", prefix_space=True), ("<s>",)),
    "Llama 3": Kind(lambda: byte_level("<s> $A", regex=GPT4_REGEX), ("<s>",)),
    "Qwen": Kind(lambda: byte_level(regex=GPT4_REGEX, norm=normalizers.NFC())),
    "BLOOM": Kind(lambda: byte_level(regex=r" ?[^(\s|[.,!?…。，、।۔،])]+")),
    "end token behind": Kind(lambda: byte_level("$A </s>")),
    "beginning and end token": Kind(lambda: byte_level("<s> $A </s>"), ("<s>",)),
    "GLM": Kind(lambda: byte_level("[gMASK] <sop> $A", regex=GPT4_REGEX), ("[gMASK]", "<sop>")),
    "GLM with an end token": Kind(lambda: byte_level("[gMASK] <sop> $A </s>"), ("[gMASK]", "<sop>")),
    "Llama 2": Kind(lambda: byte_fallback("<s> $A", pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first",
                                                                                          split=False)), ("<s>",)),
    "Llama 2, legacy": Kind(lambda: byte_fallback("<s> $A", LLAMA_LEGACY), ("<s>",)),
    "Llama 2 with add_eos_token": Kind(lambda: byte_fallback("<s> $A </s>", LLAMA_LEGACY), ("<s>",)),
    "Gemma": Kind(lambda: byte_fallback("<s> $A", GEMMA, decoder=NO_STRIP), ("<s>",)),
    "XGLM": Kind(lambda: unigram("</s> $A"), ("</s>",)),
    "T5": Kind(lambda: unigram("$A </s>")),
    "XLM-R-like": Kind(lambda: unigram("<s> $A </s>", normalizer=normalizers.NFKC()), ("<s>",)),
    "Unigram, prefix first": Kind(lambda: unigram(None, "first")),
    "Unigram, no prefix": Kind(lambda: unigram("<s> $A", "never"), ("<s>",)),
    "WordPiece": Kind(word_piece, ("[CLS]",)),
    "WordPiece, cased, bare": Kind(lambda: word_piece(None, lowercase=False)),
    "WordLevel": Kind(word_level),
    "characters": Kind(characters, ("<s>",)),
    "ByT5, slow": Kind(ByT5Tokenizer),
    "Perceiver, slow": Kind(PerceiverTokenizer, ("[CLS]",)),
}  # fmt: skip

# between French and Swahili
TRANSLATING: dict[str, Kind] = {
    "NLLB": Kind(nllb, ("fra_Latn",), ("swh_Latn",)),
    "NLLB, legacy": Kind(lambda: nllb(legacy=True), (), ("swh_Latn",)),
    "M2M-100, slow": Kind(m2m100, ("__fr__",), ("__sw__",)),
    "mBART-50": Kind(lambda: mbart(MBart50Tokenizer), ("fr_XX",), ("sw_KE",)),
}

# for what depends on how a tokenizer finds its tokens
FURTHER: dict[str, Kind] = {
    "mT5": Kind(unigram_with_bytes),
    "Llama 3, words whole": Kind(words_whole),
    "word ends": Kind(lambda: word_ends("</w>")),
    "SentencePiece, slow": Kind(lambda: slow(BertGenerationTokenizer)),
    "SentencePiece BPE with bytes, slow": Kind(lambda: slow(GPTSw3Tokenizer, model_type="bpe", byte_fallback=True)),
}
