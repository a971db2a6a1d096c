"""Models that accelerate or transformers spread over devices are refused; on one device they are as any other."""

from collections.abc import Callable
from typing import Any

import pytest
from tiny import tiny_batches, tiny_model, tiny_tokenizer

from mlprune.analysis.magnitudes import Magnitudes
from mlprune.errors import UserError
from mlprune.evaluation import score_candidates
from mlprune.evaluation.generation import generate
from mlprune.pruning import prune_model

accelerate = pytest.importorskip("accelerate")
REFUSAL = r"LlamaForCausalLM was spread over devices .*prune_streaming"
USES: dict[str, Callable[[Any], Any]] = {
    "pruning": lambda model: prune_model(model, tiny_batches("llama", [5])),
    "scoring": lambda model: score_candidates(model, tiny_tokenizer(), [["a b", "a c"]]),
    "generation": lambda model: generate(model, tiny_tokenizer(), ["a b"], max_new_tokens=2),
    "analysis": lambda model: Magnitudes(model).add(tiny_batches("llama", [5])[0]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_offloaded_weights_are_refused(use: Callable[[Any], Any]) -> None:
    model = accelerate.cpu_offload(tiny_model("llama"), execution_device="cpu")
    with pytest.raises(UserError, match=REFUSAL):
        use(model)


def test_tensor_parallelism_of_transformers_is_refused() -> None:
    model = tiny_model("llama")
    model._tp_size = 2  # what from_pretrained(tp_plan="auto") leaves on two processes
    with pytest.raises(UserError, match=REFUSAL):
        prune_model(model, tiny_batches("llama", [5]))


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_on_one_device_it_is_a_plain_model(use: Callable[[Any], Any]) -> None:
    use(accelerate.dispatch_model(tiny_model("llama"), {"": "cpu"}))
