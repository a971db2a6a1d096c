"""Candidate tasks: texts, labels, samples, shots, chats, encoders, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from plain_scores import plain_log_probs
from tiny import EOS, PAD, tiny_model, tiny_tokenizer
from tokenizers.processors import TemplateProcessing

from mlprune.data.corpora import Bundled, Corpus, LocalFiles
from mlprune.errors import UserError
from mlprune.evaluation.encoding import encode_candidates, with_start
from mlprune.evaluation.results import summarize
from mlprune.evaluation.tasks import CandidateTask, ClozeTask, PerplexityTask, Xcopa, XWinograd
from mlprune.evaluation.tasks.scored import pick
from mlprune.evaluation.tasks.selection import sample_groups

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


class Rows(Corpus):
    """Rows given in the test."""

    def __init__(self, rows: list[dict[str, Any]], name: str = "rows") -> None:
        self.given = [{"id": str(i)} | row for i, row in enumerate(rows)]
        self.name = name

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.name,)

    def check(self, lang: str) -> None:
        pass

    def rows(self, lang: str) -> list[dict[str, Any]]:
        return self.given


REVIEWS = Rows([{"text": f"Review number {i}.", "stars": str(1 + i % 5)} for i in range(20)])
OWN = {"template": "{text} So it is {label}", "verbalizer": {"bad": "poor", "good": "fine"}, "label_column": "mood"}
MOODS = Rows([{"text": "It broke.", "mood": "bad"}, {"text": "I like it.", "mood": "good"}])


def nli(**options: Any) -> CandidateTask:
    return CandidateTask("nli", ["en", "fr"], Bundled("nli"), "xnli", **options)


def test_a_task_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    row = {"premise": "It rains.", "claim": "It is wet.", "verdict": 1}
    (tmp_path / "en.jsonl").write_text(json.dumps(row) + "\n")
    task = CandidateTask(
        name="claims",
        languages=["en"],
        corpus=LocalFiles(f"{tmp_path}/{{lang}}.jsonl"),
        template="{premise} Does it follow that {claim} {label}",
        verbalizer={"no": "No", "yes": "Yes"},
        label_column="verdict",
        labels={"0": "no", "1": "yes"},
    )
    (example,) = task.examples("en")
    assert example.candidates == tuple(f"It rains. Does it follow that It is wet. {word}" for word in ("No", "Yes"))
    assert example.names[example.label] == "yes"


def test_template_and_verbalizer_by_language() -> None:
    task = CandidateTask(
        "moods",
        ["en", "fr"],
        MOODS,
        template={"en": "{text} It is {label}", "fr": "{text} C'est {label}"},
        verbalizer={"en": {"bad": "poor", "good": "fine"}, "fr": {"bad": "mauvais", "good": "bon"}},
        label_column="mood",
    )
    assert task.examples("fr")[0].candidates == ("It broke. C'est mauvais", "It broke. C'est bon")


def test_long_reviews_are_cut_to_128_words_or_characters() -> None:
    corpus = Rows([{"text": "word " * 200, "stars": "5"}])
    task = CandidateTask("marc", ["en", "zh"], corpus, "marc")
    assert task.examples("en")[0].candidates[0] == "word " * 128 + "It is negative"
    assert task.examples("zh")[0].candidates[0] == ("word " * 200)[:128] + " It is negative"


def test_neutral_reviews_are_dropped() -> None:
    examples = CandidateTask("marc", ["en"], REVIEWS, "marc").examples("en")
    assert len(examples) == 16
    assert [example.names[example.label] for example in examples[:4]] == ["negative"] * 2 + ["positive"] * 2


def test_a_task_without_rows_is_refused() -> None:
    neutral = Rows([{"text": "So so.", "stars": "3"}])
    with pytest.raises(UserError, match="task 'marc': no row of 'en' is left to evaluate"):
        CandidateTask("marc", ["en"], neutral, "marc").examples("en")


def test_limit_takes_whole_triplets_spread_over_the_file() -> None:
    chosen = [int(example.id) for example in nli(limit=9).examples("en")]
    assert len(chosen) == 9
    assert all(chosen[i] % 3 == 0 and chosen[i + 1 : i + 3] == [chosen[i] + 1, chosen[i] + 2] for i in (0, 3, 6))
    third = len(nli().examples("en")) // 3
    assert chosen[0] < third + 3 <= chosen[3] + 3 < 2 * third + 6 <= chosen[6] + 6  # one of each third
    assert chosen == [int(example.id) for example in nli(limit=9).examples("fr")]
    assert chosen != [int(example.id) for example in nli(limit=9, seed=1).examples("en")]


@pytest.mark.parametrize(("limit", "expected"), [(None, 30), (30, 30), (99, 30), (7, 6), (3, 3), (1, 1), (29, 27)])
def test_sizes_of_samples(limit: int | None, expected: int) -> None:
    assert len(sample_groups(list(map(str, range(30))), limit, 3, seed=0)) == expected


def test_predictions_are_the_likeliest_texts() -> None:
    model, tokenizer = tiny_model("xglm"), tiny_tokenizer()
    task = nli(limit=6)
    examples = task.examples("en")
    for example, record in zip(examples, task.predict(model, tokenizer, "en", examples), strict=True):
        values = [plain_log_probs(model, tokenizer(text)["input_ids"]) for text in example.candidates]
        means = [sum(value) / len(value) for value in values]
        assert record["scores"] == pytest.approx(means, abs=1e-4)
        assert record["prediction"] == example.names[means.index(max(means))]


def test_predictions_do_not_depend_on_the_batch() -> None:
    model, tokenizer, task = tiny_model("llama"), tiny_tokenizer(), nli(limit=6)
    examples = task.examples("en")
    together = task.predict(model, tokenizer, "en", examples)
    apart = [task.predict(model, tokenizer, "en", [example])[0] for example in examples]
    for one, other in zip(together, apart, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-4)
        assert one["prediction"] == other["prediction"]


def test_ties_favour_no_position() -> None:
    picked = [pick([1.0, 1.0, 1.0], seed=f"0:{i}") for i in range(300)]
    assert all(70 < picked.count(place) < 130 for place in range(3))
    assert pick([1.0, 1.0], "0:5") == pick([1.0, 1.0], "0:5")


def test_shots_come_first_and_are_not_asked_again() -> None:
    task = CandidateTask("moods", ["en"], REVIEWS, "marc", shots=2, fewshot=REVIEWS)
    examples = task.examples("en")
    (used,) = task.used_rows().values()
    assert len(used) == 2
    assert len(examples) == 14
    assert used.isdisjoint(example.id for example in examples)
    first, second, question = examples[0].candidates[0].split("\n\n")
    assert first.endswith(("negative", "positive"))
    assert second.endswith(("negative", "positive"))
    assert examples[0].given[0] == f"{first}\n\n{second}\n\n"
    assert question.startswith("Review number")


def test_shots_are_given_and_not_scored() -> None:
    model, tokenizer = tiny_model("llama", max_position_embeddings=1024), tiny_tokenizer()
    task = CandidateTask("moods", ["en"], MOODS, shots=1, fewshot=Rows(MOODS.given, "others"), **OWN)
    example = task.examples("en")[0]
    (record,) = task.predict(model, tokenizer, "en", [example])
    start = len(tokenizer(example.given[0].rstrip())["input_ids"])
    values = plain_log_probs(model, tokenizer(example.candidates[0])["input_ids"])[start - 1 :]
    assert record["scores"][0] == pytest.approx(sum(values) / len(values), abs=1e-4)


def beginning_with(token: str) -> Any:
    """A tokenizer that puts a token before every text, as XGLM's puts its end token, which is not its beginning one."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    special = [(token, tokenizer.convert_tokens_to_ids(token))]
    tokenizer._tokenizer.post_processor = TemplateProcessing(single=f"{token} $A", special_tokens=special)
    return tokenizer


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), beginning_with(EOS), beginning_with(PAD)])
def test_texts_of_which_nothing_is_given_begin_as_in_the_harness(tokenizer: Any) -> None:
    (row, *_), given, _ = encode_candidates(tokenizer, [[("Yes", ""), ("No", "")]], start_token=True)
    assert row == [[tokenizer.eos_token_id, *tiny_tokenizer()(text)["input_ids"]] for text in ("Yes", "No")]
    assert given == [[1, 1]]
    (row,), given, _ = encode_candidates(tokenizer, [[("It is so", "It is ")]], start_token=True)
    assert row == [tokenizer("It is so")["input_ids"]]
    assert given == [[len(tokenizer("It is")["input_ids"])]]


def chat_tokenizer() -> Any:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = CHAT
    return tokenizer


def test_chat() -> None:
    tokenizer, model = chat_tokenizer(), tiny_model("llama", max_position_embeddings=1024)
    task = CandidateTask("marc", ["en"], REVIEWS, "marc", shots=1, fewshot=REVIEWS, chat_template=True, limit=1)
    (example,) = task.examples("en")
    ((question, answer),) = task.shots_for("en")
    prompt = f"<user>{question}\n<assistant>{answer}\n<user>{example.question}\n<assistant>\n"
    (record,) = task.predict(model, tokenizer, "en", [example])
    given = len(tokenizer(prompt)["input_ids"])
    values = plain_log_probs(model, tokenizer(f"{prompt}negative")["input_ids"])[given - 1 :]
    assert record["scores"][0] == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_chat_needs_a_chat_template() -> None:
    task = CandidateTask("marc", ["en"], REVIEWS, "marc", chat_template=True, limit=1)
    with pytest.raises(UserError, match="needs a tokenizer with a chat template"):
        task.predict(tiny_model("llama"), tiny_tokenizer(), "en", task.examples("en"))


@pytest.mark.parametrize(
    ("task", "question"),
    [
        (CandidateTask("marc", ["en"], REVIEWS, "marc", limit=2), "It is"),
        (CandidateTask("nli", ["en"], Bundled("nli"), "xnli-native", limit=3, normalization="token"), ", right?"),
    ],
)
def test_encoder_decoder_reads_the_question_and_scores_the_answer(task: CandidateTask, question: str) -> None:
    model, tokenizer = tiny_model("mt5"), tiny_tokenizer()
    examples = task.examples("en")
    record = task.predict(model, tokenizer, "en", examples)[0]
    context = tokenizer(examples[0].question)["input_ids"]
    assert examples[0].question.endswith(question)
    values = plain_log_probs(model, tokenizer(examples[0].answers[1])["input_ids"], context)
    assert record["scores"][1] == pytest.approx(sum(values) / len(values), abs=1e-4)


NOUNS = Rows([{"sentence": "It fell as _ broke.", "option1": "the cup", "option2": "a bag", "answer": "1"}])


@pytest.mark.parametrize(
    "task",
    [
        CandidateTask("moods", ["en"], MOODS, **OWN),
        CandidateTask("moods", ["en"], MOODS, shots=1, fewshot=Rows(MOODS.given, "others"), **OWN),
        XWinograd(["en"], corpus=NOUNS),  # a question for each candidate, and the same answer to both
    ],
    ids=["none", "none after shots", "one a candidate"],
)
def test_encoder_decoder_needs_a_question(task: CandidateTask) -> None:
    with pytest.raises(UserError, match="it has no question for MT5ForConditionalGeneration's encoder"):
        task.predict(tiny_model("mt5"), tiny_tokenizer(), "en", task.examples("en"))


def test_a_candidate_in_the_question_is_no_chat() -> None:
    with pytest.raises(UserError, match="chat_template needs a question without"):
        XWinograd(["en"], corpus=NOUNS, chat_template=True)


def test_truncated_examples_are_counted() -> None:
    model, tokenizer = tiny_model("gpt2", n_positions=40), tiny_tokenizer()
    corpus = Rows([{"text": "Short.", "mood": "bad"}, {"text": "Very long. " * 9, "mood": "good"}])
    examples = CandidateTask("moods", ["en"], corpus, **OWN).examples("en")
    message = "row with id '1' of the corpus: 73 tokens too long for the model, which takes 40; .*truncate"
    with pytest.raises(UserError, match=message):
        CandidateTask("moods", ["en"], corpus, **OWN).predict(model, tokenizer, "en", examples)
    task = CandidateTask("moods", ["en"], corpus, too_long="truncate", **OWN)
    records = task.predict(model, tokenizer, "en", examples)
    assert ["tokens_cut" in record for record in records] == [False, True]
    metric = task.metric("en")
    metric.update(records)
    assert metric.compute()["truncated"] == 1


def test_scores_that_are_not_finite_are_refused() -> None:
    model = copy.deepcopy(tiny_model("llama"))
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    task = CandidateTask("moods", ["en"], MOODS, **OWN)
    with pytest.raises(UserError, match="its logits are not finite"):
        task.predict(model, tiny_tokenizer(), "en", task.examples("en"))
    other = copy.deepcopy(tiny_model("llama"))
    task.predict(other, tiny_tokenizer(), "en", task.examples("en"))
    other.load_state_dict(model.state_dict())  # damaged after its first use
    with pytest.raises(UserError, match=r"task 'moods', language 'en', row with id '0' .* not finite"):
        task.predict(other, tiny_tokenizer(), "en", task.examples("en"))


def test_results_have_consistency_by_id_and_its_expectation() -> None:
    task = nli(limit=6, rankc_matrix=True)
    task.languages = ["en", "fr", "sw"]
    scores = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]
    records = {
        lang: [{"id": str(i), "scores": row, "prediction": "x", "label": "x"} for i, row in enumerate(scores)]
        for lang in task.languages
    }
    records["sw"] = records["sw"][::-1]
    by_key = {(task.name, lang): rows for lang, rows in records.items()}
    found = summarize([task], by_key, "dense")
    assert found["rankc"]["nli"] == pytest.approx({"en-fr": 1.0, "en-sw": 1.0, "fr-sw": 1.0})
    assert found["rankc_expected"]["nli"]["en-fr"] == pytest.approx(0.4750, abs=1e-4)
    task.rankc_matrix = False
    assert list(summarize([task], by_key, "dense")["rankc"]["nli"]) == ["en-fr", "en-sw"]


def test_hypotheses_of_one_premise_are_a_group() -> None:
    task = nli(limit=9)
    examples = task.examples("fr")
    groups = [example.group for example in examples]
    assert groups == [examples[i - i % 3].id for i in range(9)]
    (record, *_) = task.predict(tiny_model("llama"), tiny_tokenizer(), "fr", examples[:1])
    assert record["group"] == groups[0]
    assert CandidateTask("moods", ["en"], MOODS, **OWN).examples("en")[0].group is None
    assert [e.group for e in CandidateTask("moods", ["en"], MOODS, group_size=2, **OWN).examples("en")] == ["0", "0"]


def test_perplexity_is_bits_a_character() -> None:
    model, tokenizer = tiny_model("gpt2"), tiny_tokenizer()
    task = PerplexityTask(["en", "fr"], limit=3)
    examples = task.examples("fr")
    records = task.predict(model, tokenizer, "fr", examples)
    for example, record in zip(examples, records, strict=True):
        # the tokenizer adds nothing, so the end token comes first, or the first letter would cost nothing
        total = sum(plain_log_probs(model, [tokenizer.eos_token_id, *tokenizer(example.text)["input_ids"]]))
        assert record["log_prob"] == pytest.approx(total, abs=2e-3)
        assert record["chars"] == len(example.text)


def test_perplexity_begins_with_the_tokenizers_own_special_token() -> None:
    tokenizer = beginning_with(PAD)
    ((row,),), given, _ = with_start(tokenizer, ["Oui"])
    assert row == [tokenizer.pad_token_id, *tiny_tokenizer()("Oui")["input_ids"]]
    assert given == [[1]]


def test_perplexity_of_too_long_a_text() -> None:
    task = PerplexityTask(["en"], corpus=Rows([{"text": "Short."}, {"text": "Long. " * 9}]))
    with pytest.raises(
        UserError, match=r"task 'perplexity', language 'en', row with id '1' .*: 15 tokens too long for the model"
    ):
        task.predict(tiny_model("gpt2", n_positions=40), tiny_tokenizer(), "en", task.examples("en"))


def test_perplexity_needs_a_model_that_continues_text() -> None:
    task = PerplexityTask(["en"], limit=1)
    with pytest.raises(UserError, match="MT5ForConditionalGeneration has an encoder"):
        task.predict(tiny_model("mt5"), tiny_tokenizer(), "en", task.examples("en"))


def test_cloze_answers_of_several_names() -> None:
    rows = [{"prompt": "<mask> is big.", "answer": "USA, United States", "candidates": "Peru, United States"}]
    (example,) = ClozeTask("facts", ["en"], Rows(rows)).examples("en")
    assert example.names[example.label] == "United States"
    assert example.candidates[example.label] == "United States is big."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "{text} {label}"}, "a custom template needs verbalizer .* and label_column"),
        ({"template": "xnly"}, "template 'xnly' does not exist; give one of .*did you mean 'xnli'"),
        (OWN | {"template": "{text} only"}, "its template has no {label}"),
        (OWN | {"template": "{text {label}"}, "template '{text {label}': unexpected '{' in field name"),
        (OWN | {"template": "{} It is {label}"}, r"slot \{\} is not allowed; give a column's name"),
        (OWN | {"template": "{text.word} {label}"}, r"slot \{text.word\} is not allowed; give a column's name"),
        (OWN | {"labels": {"0": "awful"}}, "labels: 'awful' is not one of bad, good"),
        (OWN | {"verbalizer": {False: "poor", True: "fine"}}, "label False is not text; quote it"),
        (OWN | {"verbalizer": {"bad": "poor", "good": "poor"}}, "labels share a word in 'en': poor, poor"),
        (OWN | {"verbalizer": {"bad": "poor"}}, "bad alone would always be right; give two or more"),
        (OWN | {"group_size": 0}, "group_size 0 is not allowed; give at least 1"),
        (OWN | {"shots": 2}, "shots 2 needs fewshot"),
        (OWN | {"chat_template": True}, "chat_template needs question and answer"),
        (OWN | {"limit": 0}, "limit 0 is not allowed; give at least 1"),
        (OWN | {"languages": ["en", "en"]}, "give each once"),
        ({"template": "xnli", "languages": ["english"]}, "language 'english' is not known; give an ISO 639-1 code"),
        (OWN | {"name": "a b"}, "task name 'a b' is not allowed"),
        (OWN | {"normalization": "mean"}, "normalization 'mean' is not allowed"),
        (OWN | {"too_long": "cut"}, "too_long 'cut' is not allowed"),
        (OWN | {"template": {"fr": "{text} {label}"}}, "no template for language 'en'; there is one for fr"),
    ],
)
def test_mistakes_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CandidateTask(**({"name": "moods", "languages": ["en"], "corpus": MOODS} | options))


def test_cells_of_labels_may_be_numbers() -> None:
    task = CandidateTask("moods", ["en"], Rows([{"text": "x", "mood": 1}]), **OWN, labels={0: "bad", 1: "good"})
    assert task.examples("en")[0].label == 1


def test_mistakes_in_the_data() -> None:
    bad = Rows([{"text": "x", "mood": "ugly"}])
    with pytest.raises(
        UserError,
        match=r"'moods', language 'en', row with id '0' of the corpus: mood 'ugly' is not a label; allowed are bad",
    ):
        CandidateTask("moods", ["en"], bad, **OWN).examples("en")
    with pytest.raises(UserError, match="the corpus has no column 'text'; it has id, body, mood"):
        CandidateTask("moods", ["en"], Rows([{"body": "x", "mood": "bad"}]), **OWN).examples("en")
    with pytest.raises(UserError, match=r"task 'moods', .*: the corpus has no column 'mood'; it has id, text"):
        CandidateTask("moods", ["en"], Rows([{"text": "x"}]), **OWN).examples("en")
    choices = OWN | {"verbalizer": None, "candidates": ["one", "two"], "template": "{text} {candidate}"}
    with pytest.raises(UserError, match="the corpus has no column 'two'; it has id, text, mood, one"):
        CandidateTask("moods", ["en"], Rows([{"text": "x", "mood": "one", "one": "y"}]), **choices).examples("en")
    why = Rows([{"premise": "x.", "choice1": "y", "choice2": "z", "question": "reason", "label": 0}])
    with pytest.raises(UserError, match="question 'reason' is not allowed; give one of cause, effect"):
        Xcopa(["it"], corpus=why).examples("it")
    with pytest.raises(UserError, match="needs one <mask> and its answer among the candidates"):
        ClozeTask("facts", ["en"], Rows([{"prompt": "x", "answer": "y", "candidates": ["y", "z"]}])).examples("en")
