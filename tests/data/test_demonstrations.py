"""Prompts: their text, the choice of rows, and that no row serves two purposes."""

import pytest
from tiny import tiny_tokenizer

from mlprune.data.corpora import Bundled, PythonFiles
from mlprune.data.demonstrations import CodeDemonstrations, MonolingualDemonstrations, TranslationDemonstrations
from mlprune.errors import UserError
from mlprune.evaluation.tasks import TranslationTask

TOKENIZER = tiny_tokenizer()


def texts(lang: str) -> dict[str, str]:
    return {row["id"]: row["text"] for row in Bundled("parallel").rows(lang)}


def test_translation_prompt_is_label_sentence_separator() -> None:
    prompts = TranslationDemonstrations("fr", "en", shots=2).prompts(TOKENIZER, 3, seed=0)
    french, english = texts("fr"), texts("en")
    for prompt in prompts:
        a, b = prompt.row_ids
        assert (
            prompt.text
            == f"French: {french[a]}</s>English: {english[a]}</s>French: {french[b]}</s>English: {english[b]}</s>"
        )
        assert prompt.sides == (
            f"French: {french[a]}</s>French: {french[b]}</s>",
            f"English: {english[a]}</s>English: {english[b]}</s>",
        )


def test_monolingual_prompt_has_as_many_sentences_as_shots() -> None:
    (prompt,) = MonolingualDemonstrations("sw", shots=3, separator="\n").prompts(TOKENIZER, 1, seed=0)
    swahili = texts("sw")
    assert prompt.text == "".join(f"Swahili: {swahili[row]}\n" for row in prompt.row_ids)
    assert len(prompt.row_ids) == 3


@pytest.mark.parametrize(("pairing", "moved"), [("right", 0), ("shuffled", 1), ("wrong", 2)])
def test_pairs_are_made_worse_of_the_same_sentences(pairing: str, moved: int) -> None:
    prompts = TranslationDemonstrations("fr", shots=2, pairing=pairing).prompts(TOKENIZER, 3, seed=0)
    french, english = texts("fr"), texts("en")
    order = [row for prompt in prompts for row in prompt.row_ids]
    beside = [order[(i + moved) % 6] if pairing != "shuffled" else order[i ^ 1] for i in range(6)]
    said = "".join(f"French: {french[a]}</s>English: {english[b]}</s>" for a, b in zip(order, beside, strict=True))
    assert "".join(prompt.text for prompt in prompts) == said


@pytest.mark.parametrize("own", [True, False])
def test_prompts_have_the_number_of_tokens_that_was_asked_for(own: bool) -> None:
    from tiny import tiny_model

    from mlprune.datamodule import PruningDataModule

    def data(num_tokens: int) -> PruningDataModule:
        groups = {
            "mt": TranslationDemonstrations("fr", shots=1, num_tokens=num_tokens if own else None),
            "fr": MonolingualDemonstrations("fr", shots=2, num_tokens=num_tokens if own else None),
        }
        return PruningDataModule(groups, num_prompts=9, max_tokens=90, num_tokens=None if own else num_tokens)

    few = data(256)
    few.choose_prompts(TOKENIZER)
    found = few.prompts(tiny_model("llama"), TOKENIZER)
    assert {group: list(map(len, ids)) for group, ids in found.items()} == {"mt": [90, 90, 76], "fr": [90, 90, 76]}
    with pytest.raises(UserError, match="group 'mt': num_tokens 900: its 9 prompts have 810; give at most so many"):
        data(900).choose_prompts(TOKENIZER)


@pytest.mark.parametrize("pair", [("fr", "en"), ("zh", "sw"), ("en", "hi")])
def test_any_pair_and_no_sentence_twice(pair: tuple[str, str]) -> None:
    prompts = TranslationDemonstrations(*pair, shots=4).prompts(TOKENIZER, 15, seed=1)
    rows = [row for prompt in prompts for row in prompt.row_ids]
    assert len(rows) == len(set(rows)) == 60


def test_the_seed_chooses() -> None:
    first, again, other = (TranslationDemonstrations("fr").prompts(TOKENIZER, 4, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_too_small_a_corpus_says_how_many_rows_are_needed() -> None:
    with pytest.raises(UserError, match=r"num_prompts 500: .* need 2000 unused rows, .* give at most \d+"):
        TranslationDemonstrations("fr").prompts(TOKENIZER, 500, seed=0)


def test_code_prompts_are_python_files_of_this_machine() -> None:
    prompts = CodeDemonstrations().prompts(TOKENIZER, 5, seed=0)
    assert len({prompt.row_ids for prompt in prompts}) == 5
    assert any("import " in prompt.text for prompt in prompts)
    for prompt in prompts:
        assert "site-packages" not in prompt.row_ids[0]


def test_code_prompts_come_from_a_folder_of_your_own(tmp_path) -> None:
    (tmp_path / "a.py").write_text("print(1)\n" * 200)
    (tmp_path / "short.py").write_text("x = 1\n")
    rows = PythonFiles(str(tmp_path)).rows("code")
    assert [row["id"] for row in rows] == ["a.py"]


def test_calibration_few_shot_and_test_rows_are_disjoint(tiny_folder) -> None:
    """By index, in the corpus that all three share."""
    from mlprune.datamodule import PruningDataModule

    task = TranslationTask(["fr", "sw"], corpus=Bundled("parallel"), fewshot=Bundled("parallel"), limit=8, shots=4)
    data = PruningDataModule({"mt": TranslationDemonstrations("fr", shots=2)}, [task], num_prompts=20)
    data.choose_prompts(TOKENIZER)
    calibration = {row for rows in data.calibration_rows["mt"] for row in rows}
    assert len(calibration) == 40
    for lang in ("fr", "sw"):
        tested = {example.id for example in task.examples(lang)}
        shown = {row_id for row_id, _, _ in task._solved_pairs(lang)}
        assert len(tested) == 8
        assert len(shown) == 4
        assert not calibration & tested
        assert not calibration & shown
        assert not tested & shown


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TranslationDemonstrations("frxx"), "'frxx' is not known; did you mean 'fr'"),
        (
            lambda: TranslationDemonstrations("frr").check(),
            "has no language 'frr'; it has en, es, fr, ",
        ),  # North Frisian
        (lambda: TranslationDemonstrations("en"), "are both 'en'"),
        (lambda: TranslationDemonstrations("fr", pairing="bad"), "pairing 'bad' is not allowed; give one of right, "),
        (lambda: TranslationDemonstrations("fr", pairing="shuffled", shots=1), "needs shots of at least 2"),
        (
            lambda: TranslationDemonstrations("fr", pairing="wrong").prompts(TOKENIZER, 1, 0),
            "num_prompts of at least 2",
        ),
        (lambda: MonolingualDemonstrations("fr", num_tokens=0), "num_tokens 0"),
        (lambda: TranslationDemonstrations("fr", shots=0), "shots 0 is not allowed; give at least 1"),
        (lambda: TranslationDemonstrations("de").check(), "has no language 'de'; it has en"),
        (lambda: MonolingualDemonstrations("fr", num_prompts=0), "num_prompts 0"),
    ],
)
def test_mistakes(make, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()
