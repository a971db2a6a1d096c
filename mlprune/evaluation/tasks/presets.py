"""Public evaluation sets: each is a hub id, official files and a template."""

import re
from abc import abstractmethod
from typing import Any

from mlprune.data.corpora import Corpus, HubDataset, LocalFiles
from mlprune.data.official import XnliFile
from mlprune.data.rows import Row
from mlprune.errors import UserError
from mlprune.evaluation.tasks.candidates import CandidateTask


class Preset(CandidateTask):
    """A public set with its template; only languages are required.

    Args:
        languages: Codes of the languages.
        path: Folder of the official files; the hub's copy if omitted.
        corpus: Another corpus with the same columns, instead.
        name: Name in results.
        template: Another template's name.
        options: Those of :class:`CandidateTask`.
    """

    task = ""
    files = ""  # under the folder of the official files
    columns_of_files: dict[str, str] | None = None

    def __init__(
        self,
        languages: list[str],
        path: str | None = None,
        corpus: Corpus | None = None,
        name: str | None = None,
        template: str | None = None,
        **options: Any,
    ) -> None:
        if path is not None and corpus is not None:
            raise UserError(f"task '{name or self.task}': give path or corpus, not both")
        super().__init__(
            name or self.task,
            languages,
            corpus or (self.hub() if path is None else self.local(path)),
            template or self.task,
            aligned=type(self).aligned,
            **options,
        )

    @abstractmethod
    def hub(self) -> Corpus:
        """Return the hub's copy."""

    def local(self, path: str) -> Corpus:
        """Return the official files in a folder."""
        return LocalFiles(f"{path}/{self.files}", columns=self.columns_of_files)


class Xnli(Preset):
    """Natural-language inference in 15 languages: ``facebook/xnli``, or ``xnli.test.tsv`` of XNLI 1.0.

    ``template``: ``xnli`` (English for every language, as in the paper), ``xnli-native`` (as in lm-evaluation-harness)
    or ``xnli-translated`` (the translated words of the paper's code). The hub's rows are those of its test split; the
    harness uses ``validation``: for its accuracy give ``corpus``, a ``HubDataset`` with that split.

    Source: Conneau et al. 2018, "XNLI: Evaluating Cross-lingual Sentence Representations".

    Example:
        >>> Xnli(["fr"], template="xnli-native").corpus.name
        'facebook/xnli'
    """

    task = "xnli"

    def hub(self) -> Corpus:
        return HubDataset("facebook/xnli", config="{lang}", split="test")

    def local(self, path: str) -> Corpus:
        return XnliFile(path)


class Marc(Preset):
    """Review sentiment, two classes: ``SetFit/amazon_reviews_multi_{lang}``, or ``dataset_{lang}_test.json`` files.

    Source: Keung et al. 2020, "The Multilingual Amazon Reviews Corpus"; two classes as in Kim et al. 2024.

    Example:
        >>> Marc(["fr", "de"], limit=1000).corpus.name
        'SetFit/amazon_reviews_multi_{lang}'
    """

    task = "marc"
    files = "dataset_{lang}_test.json"
    aligned = False
    columns_of_files = {"text": "review_body", "stars": "stars"}

    def hub(self) -> Corpus:
        return HubDataset("SetFit/amazon_reviews_multi_{lang}", columns={"text": "text", "stars": "label"})

    def label(self, row: Row, corpus: Corpus) -> str:
        stars = super().label(row, corpus)
        if not isinstance(corpus, HubDataset):
            return stars
        return str(int(stars) + 1) if stars.isdecimal() else stars  # the hub's labels are 0 to 4


class Xcopa(Preset):
    """Cause or effect in 11 languages: ``cambridgeltl/xcopa``, or ``<lang>/test.<lang>.jsonl`` files.

    Source: Ponti et al. 2020, "XCOPA: A Multilingual Dataset for Causal Commonsense Reasoning".

    Example:
        >>> Xcopa(["it"], path="xcopa/data").corpus.path
        'xcopa/data/{lang}/test.{lang}.jsonl'
    """

    task = "xcopa"
    files = "{lang}/test.{lang}.jsonl"

    def hub(self) -> Corpus:
        return HubDataset("cambridgeltl/xcopa", config="{lang}")

    def columns(self, row: Row, lang: str) -> Row:
        lowered = {name: row[name][:1].lower() + row[name][1:] for name in ("choice1", "choice2")}
        return row | lowered | {"premise": row["premise"].strip()[:-1]}  # without its period


class PawsX(Preset):
    """Paraphrases in 7 languages: ``google-research-datasets/paws-x``, or ``<lang>/test_2k.tsv`` files.

    Source: Yang et al. 2019, "PAWS-X: A Cross-lingual Adversarial Dataset for Paraphrase Identification".

    Example:
        >>> PawsX(["fr"], path="x-final").corpus.path
        'x-final/{lang}/test_2k.tsv'
    """

    task = "paws-x"
    files = "{lang}/test_2k.tsv"

    def hub(self) -> Corpus:
        return HubDataset("google-research-datasets/paws-x", config="{lang}")

    def fault(self, row: Row) -> str | None:
        for column in ("sentence1", "sentence2"):
            if row[column] == "NS":
                return f"{column} is NS, not translated"
        return "its label is -1, unknown" if str(row["label"]) == "-1" else None

    def columns(self, row: Row, lang: str) -> Row:
        if lang not in ("de", "en", "es", "fr"):  # as in the harness, the others are unchanged
            return row
        first, second = (detokenized(row[name]) for name in ("sentence1", "sentence2"))
        first = first[:-1] if first.endswith((".", ",", ";")) else first
        return row | {"sentence1": first, "sentence2": second[:1].lower() + second[1:]}


def detokenized(text: str) -> str:
    """Undo the tokenization of PAWS-X.

    Example:
        >>> detokenized("He did n't ( really ) go .")
        "He didn't (really) go."
    """
    for cut, joined in ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"')):
        text = text.replace(cut, joined)
    return re.sub(r" (['.,])", r"\1", text).strip()


class XStoryCloze(Preset):
    """The right end of a story in 11 languages: ``juletxara/xstory_cloze``, or its official tab-separated files.

    Source: Lin et al. 2022, "Few-shot Learning with Multilingual Generative Language Models".

    Example:
        >>> XStoryCloze(["sw"]).corpus.split
        'eval'
    """

    task = "xstorycloze"
    files = "spring2016.val.{lang}.tsv.split_20_80_eval.tsv"
    columns_of_files = {
        **{f"input_sentence_{i}": f"InputSentence{i}" for i in range(1, 5)},
        **{f"sentence_quiz{i}": f"RandomFifthSentenceQuiz{i}" for i in (1, 2)},
        "answer_right_ending": "AnswerRightEnding",
    }

    def hub(self) -> Corpus:
        return HubDataset("juletxara/xstory_cloze", config="{lang}", split="eval")


class XWinograd(Preset):
    """Winograd schemas in 6 languages: ``Muennighoff/xwinograd``, or its ``<lang>.jsonl`` files.

    Rows of two languages are not translations of each other.

    Source: Tikhonov and Ryabinin 2021, "It's All in the Heads"; Muennighoff et al. 2022 for the files.

    Example:
        >>> XWinograd(["ja"]).corpus.language_codes
        {'ja': 'jp'}
    """

    task = "xwinograd"
    files = "{lang}.jsonl"
    aligned = False

    def hub(self) -> Corpus:
        return HubDataset("Muennighoff/xwinograd", config="{lang}", language_codes={"ja": "jp"})

    def local(self, path: str) -> Corpus:
        return LocalFiles(f"{path}/{self.files}", language_codes={"ja": "jp"})

    def text_columns(self, lang: str) -> tuple[str, ...]:
        return ("sentence", "option1", "option2")

    def columns(self, row: Row, lang: str) -> Row:
        before, found, after = row["sentence"].partition("_")
        if not found:
            raise UserError(f"no _ in '{row['sentence']}'")
        return row | {"before": before, "after": after.strip()}
