"""Public sets in a hundred languages and more, most of them translations of one another: questions with few answers."""

from mlprune.data.corpora import Corpus, HubDataset, LocalFiles
from mlprune.data.official import Keyed
from mlprune.data.rows import Row
from mlprune.evaluation.tasks.presets import Preset
from mlprune.languages import LISTED, language

FLORES_CODES = {code: language(code).flores for code in LISTED}
INCLUDE_NAMES = {code: language(code).name for code in LISTED} | {"mk": "North Macedonian"}


class _Questions(Preset):
    """A set whose questions are written without space around them, as the harness does."""

    def columns(self, row: Row, lang: str) -> Row:
        return row | {"question": row["question"].strip()}


class Belebele(_Questions):
    """Reading comprehension in 122 languages and scripts: ``facebook/belebele``, or ``<FLORES code>.jsonl`` files.

    The same 900 questions in every language, found by their passage's link and their number, so that RankC is over all
    of them; one or two questions share a passage. Scripts are written ``hi_Latn``, ``zh_Hant``.

    Source: Bandarkar et al. 2024, "The Belebele Benchmark: a Parallel Reading Comprehension Dataset in 122 Language
    Variants".

    Example:
        >>> Belebele(["sw", "zh_Hant"], path="Belebele").corpus.corpus.path
        'Belebele/{lang}.jsonl'
    """

    task = "belebele"
    files = "{lang}.jsonl"
    key = ("link", "question_number")

    def hub(self) -> Corpus:
        return Keyed(HubDataset("facebook/belebele", config="{lang}", language_codes=FLORES_CODES), self.key)

    def local(self, path: str) -> Corpus:
        return Keyed(LocalFiles(f"{path}/{self.files}", language_codes=FLORES_CODES), self.key)


class GlobalMmluLite(_Questions):
    """School and university questions in some 20 languages: ``CohereLabs/Global-MMLU-Lite``, or a copy of it.

    400 questions, the same in every language; ``by: subject_category`` or ``by: cultural_sensitivity_label`` reports
    parts of them. ``corpus``, a ``HubDataset`` of ``CohereLabs/Global-MMLU``, asks all 14,000 in 42 languages.

    Source: Singh et al. 2024, "Global MMLU: Understanding and Addressing Cultural and Linguistic Biases in Multilingual
    Evaluation".

    Example:
        >>> GlobalMmluLite(["en", "sw"], by="subject_category").corpus.name
        'CohereLabs/Global-MMLU-Lite'
    """

    task = "global-mmlu-lite"
    files = "{lang}/test-00000-of-00001.parquet"

    def hub(self) -> Corpus:
        return HubDataset("CohereLabs/Global-MMLU-Lite", config="{lang}", id_column="sample_id")

    def local(self, path: str) -> Corpus:
        return LocalFiles(f"{path}/{self.files}", id_column="sample_id")


class Include(_Questions):
    """Questions of local exams in 44 languages: ``CohereLabs/include-base-44``, or a copy of it.

    Questions are not translations of each other; ``by: domain`` or ``by: regional_feature`` reports parts of them.

    Source: Romanou et al. 2024, "INCLUDE: Evaluating Multilingual Language Understanding with Regional Knowledge".

    Example:
        >>> Include(["el", "mk"], path="include").corpus.language_codes["mk"]
        'North Macedonian'
    """

    task = "include"
    files = "{lang}/test-00000-of-00001.parquet"
    aligned = False

    def hub(self) -> Corpus:
        return HubDataset("CohereLabs/include-base-44", config="{lang}", language_codes=INCLUDE_NAMES)

    def local(self, path: str) -> Corpus:
        return LocalFiles(f"{path}/{self.files}", language_codes=INCLUDE_NAMES)


class Sib200(Preset):
    """The topic of a sentence, one of seven, in 205 languages and scripts: ``Davlan/sib200``, or its TSV files.

    The same 204 sentences (of FLORES) in every language. Calibration on FLORES' dev split may have seen some of them.

    Source: Adelani et al. 2024, "SIB-200: A Simple, Inclusive, and Big Evaluation Dataset for Topic Classification in
    200+ Languages and Dialects".

    Example:
        >>> Sib200(["wo"], path="sib-200/data/annotated").corpus.path
        'sib-200/data/annotated/{lang}/test.tsv'
    """

    task = "sib200"
    files = "{lang}/test.tsv"

    def hub(self) -> Corpus:
        return HubDataset("Davlan/sib200", config="{lang}", id_column="index_id", language_codes=FLORES_CODES)

    def local(self, path: str) -> Corpus:
        return LocalFiles(f"{path}/{self.files}", id_column="index_id", language_codes=FLORES_CODES)
