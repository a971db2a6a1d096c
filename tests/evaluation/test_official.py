"""Every public set, read from small files in its official format and from a folder in its hub repository's layout."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
from tiny import tiny_model, tiny_tokenizer

from mlprune.comparison import figures_of
from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation.results import task_records
from mlprune.evaluation.tasks import (
    Belebele,
    Bmlama,
    CandidateTask,
    GlobalMmluLite,
    Include,
    Marc,
    PawsX,
    Sib200,
    Xcopa,
    Xnli,
    XStoryCloze,
    XWinograd,
)
from mlprune.evaluation.tasks.parallel_sets import FLORES_CODES, INCLUDE_NAMES

Row = dict[str, Any]


@dataclass
class Case:
    """A set: its class, its rows, how both places hold them, and what the first example must become."""

    task: type[CandidateTask]
    lang: str
    official: tuple[str, list[Row]]  # file name, rows
    hub: tuple[str, str, list[Row]]  # repository, file, rows
    candidates: tuple[str, ...]
    names: list[str]  # the right ones, in order


NLI = [
    ("Il pleut.", "Il fait mauvais.", "entailment", 0),
    ("Il pleut.", 'Il a dit "oui".', "neutral", 1),
    ("Il pleut.", "Il fait beau.", "contradiction", 2),
]
XNLI_EXTRA = {"sentence1_binary_parse": "", "promptID": "1", "pairID": "1", "genre": "fiction", "match": "True"}
REVIEWS = [("Très bien.", 5), ("Ni bon ni mauvais.", 3), ("Cassé en deux jours.", 1)]
STORY = {f"InputSentence{i}": f"Sentence {i}." for i in range(1, 5)}
STORY |= {"RandomFifthSentenceQuiz1": "A bad end.", "RandomFifthSentenceQuiz2": "A good end."}
PAWS = ("He did n't ( really ) go .", "Really , he did not go .")

BELEBELE = [
    {"link": "https://a.org", "question_number": number, "flores_passage": "A passage.", "question": " How? ",
     "mc_answer1": "One", "mc_answer2": "Two", "mc_answer3": "Three", "mc_answer4": "Four",
     "correct_answer_num": right, "dialect": "zho_Hant", "ds": "2023-01-01"}
    for number, right in ((1, "1"), (2, "4"))
]  # fmt: skip
SCHOOL = {"sample_id": "law/test/7", "subject": "law", "question": "Which? ", "option_a": "One", "option_b": "Two"}
SCHOOL |= {"option_c": "Three", "option_d": "Four"}
TOPICS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")

CASES = [
    Case(
        Xnli,
        "fr",
        (
            "xnli.test.tsv",
            [
                {"language": lang, "gold_label": label, "sentence1": a, "sentence2": b} | XNLI_EXTRA
                for lang in ("en", "fr")
                for a, b, label, _ in NLI
            ],
        ),
        (
            "facebook/xnli",
            "fr/test-00000-of-00001.parquet",
            [{"premise": a, "hypothesis": b, "label": label} for a, b, _, label in NLI],
        ),
        tuple(f"Il pleut. , right?  {word} , Il fait mauvais." for word in ("Yes", "Also", "No")),
        ["entailment", "neutral", "contradiction"],
    ),
    Case(
        Marc,
        "fr",
        (
            "dataset_fr_test.json",
            [
                {"review_id": f"fr_{i}", "stars": str(stars), "review_body": text, "language": "fr"}
                for i, (text, stars) in enumerate(REVIEWS)
            ],
        ),
        (
            "SetFit/amazon_reviews_multi_fr",
            "test.jsonl",
            [{"id": f"fr_{i}", "text": text, "label": stars - 1} for i, (text, stars) in enumerate(REVIEWS)],
        ),
        ("Très bien. It is negative", "Très bien. It is positive"),
        ["positive", "negative"],
    ),
    Case(
        Xcopa,
        "it",
        (
            "it/test.it.jsonl",
            [
                {"premise": "Ho acceso la luce.", "choice1": "Era buio.", "choice2": "Era giorno.", "question": "cause",
                 "label": 0, "idx": 1, "changed": False},
                {"premise": "Ha piovuto.", "choice1": "Ho fame.", "choice2": "Sono bagnato.", "question": "effect",
                 "label": 1, "idx": 2, "changed": True},
            ],
        ),
        ("cambridgeltl/xcopa", "it/test.jsonl", []),
        ("Ho acceso la luce perché era buio.", "Ho acceso la luce perché era giorno."),
        ["choice1", "choice2"],
    ),
    Case(
        PawsX,
        "en",
        (
            "en/test_2k.tsv",
            [
                {"id": "1", "sentence1": PAWS[0], "sentence2": PAWS[1], "label": "1"},
                {"id": "2", "sentence1": "A cat .", "sentence2": "A dog .", "label": "0"},
                {"id": "3", "sentence1": "", "sentence2": "A dog .", "label": "0"},
            ],
        ),
        (
            "google-research-datasets/paws-x",
            "en/test.parquet",
            [
                {"id": 1, "sentence1": PAWS[0], "sentence2": PAWS[1], "label": 1},
                {"id": 2, "sentence1": "A cat .", "sentence2": "A dog .", "label": 0},
                {"id": 3, "sentence1": "", "sentence2": "A dog .", "label": 0},
            ],
        ),
        tuple(f"He didn't (really) go, right? {word}, really, he did not go." for word in ("No", "Yes")),
        ["paraphrase", "different"],
    ),
    Case(
        XStoryCloze,
        "sw",
        (
            "spring2016.val.sw.tsv.split_20_80_eval.tsv",
            [{"InputStoryid": "a"} | STORY | {"AnswerRightEnding": "2"}],
        ),
        (
            "juletxara/xstory_cloze",
            "sw/eval.jsonl",
            [
                {"story_id": "a"}
                | {f"input_sentence_{i}": f"Sentence {i}." for i in range(1, 5)}
                | {"sentence_quiz1": "A bad end.", "sentence_quiz2": "A good end.", "answer_right_ending": 2}
            ],
        ),
        tuple(f"Sentence 1. Sentence 2. Sentence 3. Sentence 4. A {kind} end." for kind in ("bad", "good")),
        ["sentence_quiz2"],
    ),
    Case(
        XWinograd,
        "ja",
        (
            "jp.jsonl",
            [{"sentence": "The cup is in the bag because _ is small.", "option1": "the cup", "option2": "the bag",
              "answer": "1"}],
        ),
        ("Muennighoff/xwinograd", "jp/test.jsonl", []),
        tuple(f"The cup is in the bag because {noun} is small." for noun in ("the cup", "the bag")),
        ["option1"],
    ),
    Case(
        Belebele,
        "zh_Hant",
        ("zho_Hant.jsonl", BELEBELE),
        ("facebook/belebele", "zho_Hant/test.jsonl", []),
        tuple(f"P: A passage.\nQ: How?\nA: One\nB: Two\nC: Three\nD: Four\nAnswer: {letter}" for letter in "ABCD"),
        ["A", "D"],
    ),
    Case(
        GlobalMmluLite,
        "sw",
        ("sw/test-00000-of-00001.parquet", [SCHOOL | {"answer": "C"}]),
        ("CohereLabs/Global-MMLU-Lite", "sw/test-00000-of-00001.parquet", []),
        tuple(f"Which?\nA. One\nB. Two\nC. Three\nD. Four\nAnswer: {letter}" for letter in "ABCD"),
        ["C"],
    ),
    Case(
        Include,
        "el",
        ("Greek/test-00000-of-00001.parquet", [SCHOOL | {"answer": 3}]),
        ("CohereLabs/include-base-44", "Greek/test-00000-of-00001.parquet", []),
        tuple(f"Which?\nA. One\nB. Two\nC. Three\n D. Four\nAnswer: {letter}" for letter in "ABCD"),
        ["D"],
    ),
    Case(
        Sib200,
        "wo",
        ("wol_Latn/test.tsv", [{"index_id": "12", "category": "travel", "text": "Dem naa."}]),
        ("Davlan/sib200", "wol_Latn/test.tsv", []),
        tuple(f"Given the categories {', '.join(TOPICS[:-1])}, or geography; what category does the text: 'Dem naa.' "
              f"belong to: \n\n {topic}" for topic in TOPICS),
        ["travel"],
    ),
]  # fmt: skip


def write(file: Path, rows: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(file)
    elif file.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Case], None]:
    """Puts a case's rows where its hub id is found: a folder of that name, with the repository's card."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)

    def place(case: Case) -> None:
        name, file, rows = case.hub
        write(tmp_path / name / file, rows or case.official[1])
        if "/" in file:
            config, split = file.split("/")[0], file.split("/")[1].split(".")[0].split("-")[0]
            card = f"---\nconfigs:\n- config_name: {config}\n  data_files:\n  - split: {split}\n    path: {file}\n---\n"
            (tmp_path / name / "README.md").write_text(card)

    return place


@pytest.mark.parametrize("place", ["official", "hub"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task.__name__)
def test_official_files(case: Case, place: str, tmp_path: Path, hub: Callable[[Case], None]) -> None:
    if place == "hub":
        hub(case)
        task = case.task([case.lang])
    else:
        write(tmp_path / "files" / case.official[0], case.official[1])
        task = case.task([case.lang], path=str(tmp_path / "files"))
    task.check()
    examples = task.examples(case.lang)
    assert examples[0].candidates == case.candidates
    assert [example.names[example.label] for example in examples] == case.names
    records = task.predict(tiny_model("llama"), tiny_tokenizer(), case.lang, examples)
    assert [record["label"] for record in records] == case.names
    for example in examples:
        for text, given, answer in zip(example.candidates, example.given, example.answers, strict=bool(example.given)):
            assert text == given + answer


def test_belebele_pairs_questions_by_passage_and_number(tmp_path: Path) -> None:
    """Whatever the order of the files; RankC is over questions, and those of one passage are one cluster."""
    other = BELEBELE[0] | {"link": "https://b.org", "flores_passage": "Another.", "correct_answer_num": "3"}
    write(tmp_path / "eng_Latn.jsonl", [*BELEBELE, other])
    write(tmp_path / "hin_Latn.jsonl", [other, *BELEBELE[::-1]])
    task = Belebele(["en", "hi_Latn"], path=str(tmp_path))
    english, hindi = ({example.id: example for example in task.examples(lang)} for lang in task.languages)
    assert {key: e.label for key, e in english.items()} == {key: e.label for key, e in hindi.items()}
    groups = [example.group for example in english.values()]
    assert groups[0] == groups[1] != groups[2]
    records = {
        lang: task.predict(tiny_model("llama"), tiny_tokenizer(), lang, task.examples(lang)) for lang in task.languages
    }
    rows = [row for row in figures_of(task_records(task, records), "dense") if row.measure.name == "rankc"]
    assert next((row.language, row.value, row.n, row.clusters) for row in rows) == ("en-hi_Latn", 1.0, 3, 2)


def test_every_configuration_has_a_language() -> None:
    """By the harness' lists of them."""
    tasks = Path(pytest.importorskip("lm_eval").__file__).parent / "tasks"
    belebele = {file.stem.removeprefix("belebele_") for file in tasks.glob("belebele/belebele_*_*.yaml")}
    assert len(belebele) == 122
    assert belebele <= set(FLORES_CODES.values())
    include = {folder.name for folder in tasks.glob("include/default/*") if "_" not in folder.name}
    assert len(include) == 44
    assert include <= set(INCLUDE_NAMES.values())


def test_the_papers_template_is_one_for_all_languages(tmp_path: Path) -> None:
    write(tmp_path / "xnli.test.tsv", CASES[0].official[1])
    task = Xnli(["en", "fr"], path=str(tmp_path))
    assert task.examples("en") == task.examples("fr")


def test_a_row_that_one_language_lacks_changes_no_other(tmp_path: Path) -> None:
    for lang, empty in (("en", ()), ("fr", (3, 40, 71))):
        rows = [
            {"id": str(i), "sentence1": f"S{i}.", "sentence2": "" if i in empty else "T.", "label": "1"}
            for i in range(90)
        ]
        write(tmp_path / lang / "test_2k.tsv", rows)
    task = PawsX(["en", "fr"], path=str(tmp_path), limit=30)
    english, french = ({example.id for example in task.examples(lang)} for lang in ("en", "fr"))
    assert len(english) == 30
    assert french == english - {"3", "40", "71"}


def test_native_and_translated_words_of_xnli(tmp_path: Path) -> None:
    write(tmp_path / "xnli.test.tsv", CASES[0].official[1])
    native = Xnli(["fr"], path=str(tmp_path), template="xnli-native")
    assert native.examples("fr")[0].candidates[1] == " Il pleut., correct? Aussi, Il fait mauvais."
    assert (native.scoring.normalization, native.start_token) == ("sum", True)
    translated = Xnli(["fr"], path=str(tmp_path), template="xnli-translated")
    assert translated.examples("fr")[0].candidates[1] == "Il pleut. , non?  De plus , Il fait mauvais."
    with pytest.raises(UserError, match="no template for language 'sw'; there is one for en, fr"):
        Xnli(["sw"], path=str(tmp_path), template="xnli-translated")


BMLAMA = """Paris is the capital of <mask>.\tFrance\tItaly, Spain, France\tParis
It is in <mask>.\tRome, Roma\tOslo, Roma\tIt
"""


def test_bmlama_with_a_broken_header(tmp_path: Path) -> None:
    (tmp_path / "en.tsv").write_text("Prompt\tAns\tCandidate Ans\tSubject\n" + BMLAMA, encoding="utf-8")
    (tmp_path / "zh.tsv").write_text("Prompt\tAnsCandidate Ans\n" + BMLAMA, encoding="utf-8")
    task = Bmlama(["en", "zh"], path=str(tmp_path))
    first, second = task.examples("en")
    assert task.examples("zh") == [first, second]
    assert sorted(first.names) == ["France", "Italy", "Spain"]
    assert first.names[first.label] == "France"
    assert first.candidates[first.label] == "Paris is the capital of France."
    assert second.names[second.label] == "Roma"


def test_bmlamas_quoted_cells(tmp_path: Path) -> None:
    """As csv writers quote cells that hold a quotation mark: every Hebrew file has some."""
    head = "Prompt\tAns\tCandidate Ans\tSubject\n"
    rows = 'היא ב- <mask>.\tיפן\t"כדור הארץ, או""ם, יפן"\tהיא\n"הוא ""רב"" של <mask>."\t"או""ם"\t"או""ם, יפן"\tהוא\n'
    (tmp_path / "he.tsv").write_text(head + rows, encoding="utf-8")
    first, second = Bmlama(["he"], path=str(tmp_path)).examples("he")
    assert sorted(first.names) == sorted(["כדור הארץ", 'או"ם', "יפן"])
    assert second.candidates[second.label] == 'הוא "רב" של או"ם.'


BMLAMA53 = """af ar az be bg bn ca ceb cs cy da de el en es et eu fa fi fr ga gl he hi hr hu hy id it ja ka ko la lt lv
ms nl pl pt ro ru sk sl sq sr sv ta th tr uk ur vi zh"""


def test_every_language_of_bmlama_is_known(tmp_path: Path) -> None:
    assert Bmlama(BMLAMA53.split(), path=str(tmp_path)).languages == BMLAMA53.split()


def test_bmlamas_right_answers_are_not_all_last(tmp_path: Path) -> None:
    row = "Paris is in <mask>.\tFrance\tItaly, Spain, Peru, France\tParis\n"
    (tmp_path / "en.tsv").write_text("Prompt\tAns\tCandidate Ans\tSubject\n" + row * 200, encoding="utf-8")
    labels = [example.label for example in Bmlama(["en"], path=str(tmp_path)).examples("en")]
    assert all(30 < labels.count(place) < 70 for place in range(4))
    assert labels == [example.label for example in Bmlama(["en"], path=str(tmp_path)).examples("en")]
    assert labels != [example.label for example in Bmlama(["en"], path=str(tmp_path), seed=1).examples("en")]


def test_bmlama_from_the_hub(tmp_path: Path, hub: Callable[[Case], None]) -> None:
    row = {"prompt": "Paris is in <mask>.", "answer": "France", "candidates": ["Italy", "France"]}
    case = Case(Bmlama, "en", ("", []), ("someone/bmlama", "en/test.jsonl", [row]), (), [])
    hub(case)
    (example,) = Bmlama(["en"], hub="someone/bmlama").examples("en")
    assert example.names[example.label] == "France"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: Bmlama(["en"]), r"give path, .* or hub"),
        (lambda path: Bmlama(["en"], path=f"{path}/none"), "BMLAMA folder '.*none' does not exist"),
        (lambda path: Xnli(["en"], path=f"{path}/none"), "XNLI file '.*none' does not exist"),
        (lambda path: Xnli(["fr"], path=str(path)).examples("fr"), r"no column gold_label, .*is it a file of XNLI 1.0"),
        (lambda path: Marc(["en"], path=str(path)).check(), r"dataset_en_test.json' for language 'en' does not exist"),
        (
            lambda path: Marc(["fr"], corpus=Bundled("nli")).examples("fr"),
            "task 'marc', .*: the corpus has no column 'stars'",
        ),
        (lambda path: Xcopa(["it"], path="a", corpus=object()), "give path or corpus, not both"),
    ],
)
def test_mistakes(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "xnli.test.tsv", [{"language": "fr", "sentence1": "a"}])
    with pytest.raises(UserError, match=message):
        make(tmp_path)
