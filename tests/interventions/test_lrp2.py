"""LRP2: the published code's numbers, scores by plain forwards, the search over layer pairs, and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_family import small_model
from tiny import ENCODER_DECODER, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, ByT5Tokenizer, PreTrainedModel

from mlprune.data.corpora import Bundled
from mlprune.errors import UserError
from mlprune.evaluation import shared
from mlprune.evaluation.causality import output_head
from mlprune.evaluation.marks import mark, marking, token_id, watched_marks
from mlprune.evaluation.tasks import CandidateTask, ClozeTask, MinimalPairs, PerplexityTask, Task
from mlprune.evaluation.tasks.scored import ScoredTask
from mlprune.interventions import LRP2, FeatureAblation, Intervention, UnitAblation, language_vectors, lrp2
from mlprune.interventions.pair_search import block_passes, search_pairs
from mlprune.models.blocks import find_blocks

REFERENCES = Path(__file__).parent.parent / "references"


def reviews(rows: str, languages: Sequence[str] = ("fr",), **options: Any) -> CandidateTask:
    return CandidateTask("reviews", list(languages), Bundled("reviews"), "marc", rows=rows, **options)


def nli(rows: str) -> CandidateTask:
    return CandidateTask("nli", ["en", "fr"], Bundled("nli"), "xnli", rows=rows)


def random_vectors(model: PreTrainedModel, seed: int) -> list[Tensor]:
    """A vector of each layer, large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [model.config.get_text_config().hidden_size] * len(find_blocks(model))
    sizes.append(output_head(model).weight.shape[1])
    return [torch.randn(size, generator=generator) for size in sizes]


def plain_scores(
    model: PreTrainedModel, task: ScoredTask, lang: str, toward: list[Tensor], pair: tuple[int, int]
) -> Tensor:
    """Mean log-probability of each candidate: a forward of each full text, with hooks at the two layers only."""
    with watched_marks(model):
        request = task.request(model, tiny_tokenizer(), lang, task.examples(lang))
    places = [*(block.module for block in find_blocks(model)), output_head(model)]
    rows = []
    for candidate in (candidate for example in request.ids for candidate in example):
        marked = torch.tensor([token < 0 for token in candidate])[None, :, None]
        ids = torch.tensor([[token_id(token) for token in candidate]])

        def add(layer: int, sign: int, marked: Tensor = marked) -> Any:
            def hook(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple:
                hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
                moved = (hidden.double() + sign * marked * toward[layer].double()).to(hidden)
                if "hidden_states" in kwargs:
                    return args, kwargs | {"hidden_states": moved}
                return (moved, *args[1:]), kwargs

            return places[layer].register_forward_pre_hook(hook, with_kwargs=True)

        handles = [add(pair[0], 1), add(pair[1], -1)]
        with torch.no_grad():
            log_probs = model(input_ids=ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
        for handle in handles:
            handle.remove()
        rows.append(log_probs[range(ids.shape[1] - 1), ids[0, 1:]].mean())
    return torch.stack(rows).view(len(request.ids), -1)


# -- against the published code -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> tuple[PreTrainedModel, dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(REFERENCES / "xglm").eval()
    return model, dict(np.load(REFERENCES / "lrp2" / "xglm.npz"))


def test_vectors_are_the_published(published: tuple[PreTrainedModel, dict[str, Any]]) -> None:
    model, reference = published
    prompts = np.load(REFERENCES / "xglm" / "calib.npz")
    for name, kind in (("src", "mt"), ("tgt", "code")):
        ids, masks = prompts[f"{kind}_pad_ids"][:8], prompts[f"{kind}_pad_mask"][:8].astype(bool)
        vectors = language_vectors(model, [row[mask].tolist() for row, mask in zip(ids, masks, strict=True)])
        np.testing.assert_allclose(torch.stack(vectors).numpy(), reference[f"{name}_vectors"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("pair", [(1, 3), (2, 4)])
def test_logits_are_the_published(published: tuple[PreTrainedModel, dict[str, Any]], pair: tuple[int, int]) -> None:
    model, reference = published
    pivot, target = (list(torch.from_numpy(reference[f"{name}_vectors"])) for name in ("src", "tgt"))
    ids, mask = (torch.from_numpy(reference[name].astype("int64")) for name in ("input_ids", "attention_mask"))
    with lrp2(model, pivot, target, pair), marking(model, torch.from_numpy(reference["flags"])), torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, 13::2]
    found, expected = logits[mask[:, 13::2].bool()], reference[f"logits_{pair[0]}_{pair[1]}"]
    np.testing.assert_allclose(found.numpy(), expected[reference["attention_mask"][:, 13::2]], atol=1e-4, rtol=0)


# -- marks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), ByT5Tokenizer()], ids=["offsets", "counted"])
def test_only_the_tasks_own_text_is_marked(tokenizer: Any) -> None:
    model = tiny_model("llama")
    with watched_marks(model):
        for task, lang, own, words in (
            (reviews("0-3"), "fr", "text", " It is positive"),
            (MinimalPairs(["hi"], rows="0-3"), "hi", "good", ""),
        ):
            rows = {row["id"]: row for row in task.corpus.rows(lang)}
            examples = task.examples(lang)
            for example, (*_, ids) in zip(examples, task.request(model, tokenizer, lang, examples).ids, strict=True):
                marked = tokenizer.decode([~token for token in ids if token < 0])
                rest = tokenizer.decode([token for token in ids if token >= 0], skip_special_tokens=True)
                if own == "text":
                    assert marked == " ".join(rows[example.id]["text"].split()[:128])
                    assert rest.strip() == words.strip()
                else:
                    assert marked == rows[example.id]["bad"]
                    assert rest == ""


def test_solved_examples_are_not_marked() -> None:
    model = tiny_model("llama")
    task = reviews("0-2", shots=1, fewshot=Bundled("reviews"))
    (example, *_) = task.examples("fr")
    with watched_marks(model):
        ids = task.request(model, tiny_tokenizer(), "fr", [example]).ids[0][0]
    first = next(i for i, token in enumerate(ids) if token < 0)
    assert tiny_tokenizer().decode(ids[:first]).endswith("\n\n")
    with_blanks = mark(
        tiny_tokenizer(), "a  b ", tiny_tokenizer()("a  b ", add_special_tokens=False)["input_ids"], [(1, 5)]
    )
    assert [token < 0 for token in with_blanks] == [False, False, False, True, False]


# -- exactness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["xglm", "gpt2", "bloom", "mistral", "gemma3", "opt", "mixtral"])
def test_scores_with_shared_prefixes_are_those_of_plain_forwards(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = tiny_model(family), nli("0-0")
    pivot, target = random_vectors(model, 0), random_vectors(model, 1)
    toward = [a - b for a, b in zip(pivot, target, strict=True)]
    monkeypatch.setattr(shared, "MIN_SAVED_TOKENS", 1)
    plain = torch.tensor([r["scores"] for r in task.predict(model, tiny_tokenizer(), "fr", task.examples("fr"))])
    for pair in ((0, 2), (1, 3)):
        with lrp2(model, pivot, target, pair):
            records = task.predict(model, tiny_tokenizer(), "fr", task.examples("fr"))
        found = torch.tensor([record["scores"] for record in records])
        torch.testing.assert_close(found, plain_scores(model, task, "fr", toward, pair).float(), atol=1e-4, rtol=0)
        assert (found - plain).abs().min() > 1e-3
    again = torch.tensor([r["scores"] for r in task.predict(model, tiny_tokenizer(), "fr", task.examples("fr"))])
    assert torch.equal(again, plain)


@pytest.mark.parametrize("family", ["xglm", "bloom", "gemma3", "mixtral"])
def test_the_search_tries_every_pair_as_an_evaluation_would(family: str) -> None:
    model, task = tiny_model(family), nli("0-5")
    pivot, target = random_vectors(model, 0), random_vectors(model, 1)
    toward = [a - b for a, b in zip(pivot, target, strict=True)]
    found = search_pairs(model, tiny_tokenizer(), find_blocks(model), task, "fr", toward)

    def accuracy() -> float:
        records = task.predict(model, tiny_tokenizer(), "fr", task.examples("fr"))
        return sum(record["prediction"] == record["label"] for record in records) / len(records)

    expected = {}
    for pair in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]:
        with lrp2(model, pivot, target, pair):
            expected[pair] = accuracy()
    assert found.values == expected
    assert found.plain == accuracy()
    assert expected[found.best] == max(expected.values())
    assert (found.n, found.forwards) == (6, block_passes(3) / 3)


def test_a_run_chooses_the_pair_of_each_language_and_leaves_the_pivot_alone() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    task, own = (reviews(rows, ["en", "fr", "sw"]) for rows in ("40-43", "0-3"))
    intervention = LRP2(validation=[own], num_sentences=4)
    intervention.prepare([task], tokenizer)
    plain = {lang: task.predict(model, tokenizer, lang, task.examples(lang)) for lang in task.languages}
    with intervention.applied(model):
        moved = {lang: task.predict(model, tokenizer, lang, task.examples(lang)) for lang in task.languages}
    sections = intervention.results()["reviews"]
    assert moved["en"] == plain["en"]
    assert set(sections) == {"fr", "sw"}
    for lang, section in sections.items():
        values = {(first, second): value for first, second, value in section["pairs"]}
        assert values[tuple(section["layers"])] == max(values.values())
        fixed = LRP2(layers=tuple(section["layers"]), num_sentences=4)
        fixed.prepare([task], tokenizer)
        with fixed.applied(model):
            assert task.predict(model, tokenizer, lang, task.examples(lang)) == moved[lang]
        assert moved[lang] != plain[lang]


def test_it_goes_with_another_intervention() -> None:
    model, tokenizer, task = tiny_model("xglm"), tiny_tokenizer(), reviews("40-43")
    intervention = LRP2(layers=(0, 2), num_sentences=4)
    intervention.prepare([task], tokenizer)
    scores = []
    for others in ([], [FeatureAblation({1: [0, 1, 2]})]):
        with torch.no_grad(), others[0].applied(model) if others else torch.no_grad(), intervention.applied(model):
            scores.append([r["scores"] for r in task.predict(model, tokenizer, "fr", task.examples("fr"))])
    assert scores[0] != scores[1]


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either layers or validation"),
        ({"layers": (1, 2), "validation": [reviews("0-3")]}, "give either layers or validation"),
        ({"layers": (2, 2)}, "layers 2, 2 are not allowed"),
        ({"layers": (-1, 2)}, "layers -1, 2 are not allowed"),
        ({"layers": (1, 2), "num_sentences": 0}, "num_sentences 0 is not allowed"),
        ({"layers": (1, 2), "pivot": "xx-nowhere"}, "xx-nowhere"),
        ({"validation": [reviews("0-3"), reviews("4-7", ["sw"])]}, "two tasks named 'reviews'"),
        ({"validation": [PerplexityTask(["fr"])]}, "validation task 'perplexity' has no candidates"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LRP2(**arguments)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (PerplexityTask(["fr"]), "task 'perplexity' has no candidates"),
        (reviews("0-9", chat_template=True), "task 'reviews' has chat_template"),
        (reviews("10-19"), "10 rows that are tested, too"),
        (reviews("30-39", ["fr", "sw"]), "no rows for task 'reviews' in 'sw'"),
        (ClozeTask("facts", ["fr"]), "no rows for task 'facts' in 'fr'"),
    ],
)
def test_tasks_are_checked_before_the_model_is_loaded(task: Task, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LRP2(validation=[reviews("0-19")]).prepare([task], tiny_tokenizer())


def test_structures_that_do_not_fit_are_refused_by_name() -> None:
    for model, message in (
        (tiny_model(ENCODER_DECODER[0]), "has an encoder"),
        (small_model("XLNetLMHeadModel"), "XLNetLMHeadModel has others"),
        (small_model("HYV4ForCausalLM"), "HYV4ForCausalLM has others"),  # several streams
    ):
        with pytest.raises(UserError, match=message), lrp2(model, [torch.ones(1)] * 2, [torch.ones(1)] * 2, (0, 1)):
            pass
    model, intervention = tiny_model("llama"), LRP2(layers=(1, 4), num_sentences=2)
    with pytest.raises(UserError, match="call prepare"), intervention.applied(model):
        pass
    intervention.prepare([reviews("0-3")], tiny_tokenizer())
    with pytest.raises(UserError, match="layer 4 is not there; give at most 3"), intervention.applied(model):
        pass
    with pytest.raises(UserError, match="num_sentences 9999"):
        LRP2(layers=(1, 2), num_sentences=9999).prepare([reviews("0-3")], tiny_tokenizer())


@pytest.mark.parametrize(
    ("family", "intervention", "message"),
    [
        ("llama", LRP2(layers=(1, 4)), "layer 4 is not there; give at most 3"),
        (ENCODER_DECODER[0], LRP2(layers=(0, 1)), "has an encoder"),
        ("llama", UnitAblation({3: [0]}), "block 3 is not there"),
        ("mixtral", UnitAblation({0: [0]}), "has experts, each with its own units"),
        ("llama", FeatureAblation({4: [0]}), "layer 4 is not there"),
    ],
)
def test_what_a_model_lacks_is_said_before_an_evaluation(family: str, intervention: Intervention, message: str) -> None:
    with pytest.raises(UserError, match=message):
        intervention.check(tiny_model(family))
