"""Every causal and encoder-decoder family that can be built tiny works throughout, or is refused in one line."""

from typing import Any

import pytest
import torch
from every_family import CLASSES, NOT_BUILT, small_model
from tiny import VOCABULARY, tiny_tokenizer
from transformers import PreTrainedModel

from mlprune.errors import UserError
from mlprune.evaluation import score_candidate_ids
from mlprune.evaluation.generation import generate
from mlprune.evaluation.tasks import TranslationTask
from mlprune.models.decoder_start import decoder_start_of
from mlprune.pruning import Unstructured, Wanda, prune_model

QUICK = (
    "BartForConditionalGeneration", "BigBirdPegasusForConditionalGeneration", "FSMTForConditionalGeneration",
    "JambaForCausalLM", "LEDForConditionalGeneration", "LongT5ForConditionalGeneration",
    "MBartForConditionalGeneration", "MambaForCausalLM", "MarianMTModel", "NllbMoeForConditionalGeneration",
    "PegasusForConditionalGeneration", "ProphetNetForConditionalGeneration", "RecurrentGemmaForCausalLM",
    "RwkvForCausalLM", "SwitchTransformersForConditionalGeneration", "T5ForConditionalGeneration",
    "T5GemmaForConditionalGeneration", "XLMWithLMHeadModel",
)  # fmt: skip
AHEAD = "lets tokens attend to later ones"
CHANCE = "its logits for the same text differ from run to run"
ORDER = "its blocks do not run one after the other"
ADDED = "positions for 31 tokens; what it adds would count as tokens"
NO_START = "its config has no decoder_start_token_id"
REFUSED_SCORES = {
    "CpmAntForCausalLM": AHEAD, "XLMWithLMHeadModel": AHEAD, "XLNetLMHeadModel": AHEAD,
    "ReformerModelWithLMHead": CHANCE,
    "MBartForConditionalGeneration": NO_START, "PLBartForConditionalGeneration": NO_START,
}  # fmt: skip
REFUSED_PRUNING = {
    "BigBirdForCausalLM": ADDED, "CpmAntForCausalLM": ADDED, "HrmTextForCausalLM": ORDER,
    "LEDForConditionalGeneration": ADDED, "PegasusXForConditionalGeneration": ADDED,
    "ReformerModelWithLMHead": ADDED, "XLMWithLMHeadModel": ORDER,
}  # fmt: skip

FAMILIES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CLASSES if name not in NOT_BUILT
]


def prompts(model: PreTrainedModel) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    sides = ("input_ids", "decoder_input_ids") if model.config.is_encoder_decoder else ("input_ids",)
    return [
        {side: torch.randint(3, VOCABULARY, (1, length), generator=generator) for side in sides}
        for length in (9, 14, 9)
    ]


def refuses_layer(name: str, model: PreTrainedModel) -> str:
    """The line that ``propagate="layer"`` is refused by: experts do not wait, some layers run twice in a block."""
    if any("experts" in path for path, _ in model.named_parameters()):
        return "propagate 'layer'"
    twice = "propagate 'layer': .* runs twice"
    return f"{REFUSED_PRUNING[name]}|{twice}" if name in REFUSED_PRUNING else twice if "ProphetNet" in name else ""


@pytest.mark.parametrize("name", FAMILIES)
def test_pruning(name: str) -> None:
    for propagate in ("pruned", "dense", "layer"):
        model = small_model(name)
        refusal = refuses_layer(name, model) if propagate == "layer" else REFUSED_PRUNING.get(name)
        if refusal:
            with pytest.raises(UserError, match=refusal):
                prune_model(model, prompts(model), propagate=propagate)
            continue
        masks = prune_model(model, prompts(model), Wanda(), Unstructured(0.5), propagate=propagate)
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        assert pruned / sum(mask.numel() for mask in masks.values()) > 0.2  # Gemma 3n has layers of no input


@torch.no_grad()
def plain_scores(model: PreTrainedModel, ids: list[list[int]], context: list[int]) -> list[float]:
    found = []
    for tokens in ids:
        if model.config.is_encoder_decoder:
            decoder = torch.tensor([[decoder_start_of(model), *tokens[:-1]]])
            masks = {"decoder_attention_mask": torch.ones_like(decoder)} if "T5Gemma" in type(model).__name__ else {}
            logits = model(
                input_ids=torch.tensor([context]), decoder_input_ids=decoder, use_cache=False, **masks
            ).logits[0]
        else:
            logits, tokens = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, :-1], tokens[1:]
        found.append(float(logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)].mean()))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_scores(name: str) -> None:
    model = small_model(name)
    context = [21, 22, 23]
    ids = [[11, 12, 13, 14], [11, 12, 15], [*range(30, 42)], [*range(30, 41), 60]]
    contexts = [context] if model.config.is_encoder_decoder else None
    if name in REFUSED_SCORES:
        with pytest.raises(UserError, match=REFUSED_SCORES[name]):
            score_candidate_ids(model, [ids], contexts)
        return
    found = score_candidate_ids(model, [ids], contexts)
    assert found[0].tolist() == pytest.approx(plain_scores(model, ids, context), abs=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_translation(name: str) -> None:
    model, tokenizer = small_model(name), tiny_tokenizer()
    if REFUSED_SCORES.get(name) in (NO_START, CHANCE):
        return
    task = TranslationTask(["fr"], shots=1, limit=2, max_new_tokens=4)
    task.prompts = lambda tokenizer, lang, sources: [source[:length] for source, length in zip(sources, (30, 11))]
    records = task.predict(model, tokenizer, "fr", task.examples("fr"))
    sources = [example.source[:length] for example, length in zip(task.examples("fr"), (30, 11), strict=True)]
    stop = ["\n", "French:", "English:"]
    alone = [generate(model, tokenizer, [source], 4, stop)[0].text for source in sources]
    assert [record["output"] for record in records] == alone


@pytest.mark.parametrize("name", ["Camembert", "Ernie", "BigBird", "MegatronBert", "RemBert", "RoFormer", "Roberta"])
def test_encoders_asked_as_decoders_are_refused(name: str) -> None:
    """Their effect on earlier tokens is small, as their weights are random and small."""
    model = small_model(f"{name}ForCausalLM", is_decoder=False)
    with pytest.raises(UserError, match=AHEAD):
        score_candidate_ids(model, [[[11, 12, 13, 14], [11, 12, 15]]])
