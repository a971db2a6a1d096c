"""English-only against multilingual calibration of experts, on a tiny mixture trained here on the bundled sentences.

    python tests/benchmarks/bench_experts.py
    python tests/benchmarks/bench_experts.py --steps 1200 --shares 0.25 0.5

A byte-level Qwen3-MoE (2 blocks of 8 experts, 2 a byte) learns six languages; then a share of the experts goes by REAP.
Prints bits per character of held-out sentences in each language. It shows the machinery, and nothing about real models.
"""

import argparse
import copy
import random
import time
from typing import Any

import torch
from tiny import EXPERTS, tiny_tokenizer
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from mlprune.data.corpora import Bundled
from mlprune.pruning import prune_experts

LANGUAGES = ("en", "fr", "es", "zh", "hi", "sw")
BATCH, BYTES = 12, 96


def sentences(lang: str, split: str) -> list[str]:
    return [row["text"] for row in Bundled("parallel", split=split).rows(lang)]


def tokens(texts: list[str]) -> list[list[int]]:
    return [ids[:BYTES] for ids in tiny_tokenizer()(texts)["input_ids"]]


def trained(steps: int) -> Any:
    """A mixture that saw the dev sentences of all languages."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "vocab_size": 258}
    experts = EXPERTS | {"num_experts": 8, "moe_intermediate_size": 64, "output_router_logits": True}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**(sizes | experts | {"router_aux_loss_coef": 0.01})))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    texts, choose = [ids for lang in LANGUAGES for ids in tokens(sentences(lang, "dev"))], random.Random(0)
    for _ in range(steps):
        rows = choose.sample(texts, BATCH)
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        labels = ids.masked_fill(ids == 0, -100)
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss.backward()
        optimizer.step()
    model.config.output_router_logits = False
    return model.eval()


@torch.no_grad()
def bits(model: Any, lang: str) -> float:
    """Bits per character of held-out sentences."""
    total = characters = 0.0
    for text, ids in zip(texts := sentences(lang, "test"), tokens(texts), strict=True):
        own = torch.tensor([ids])
        total += float(model(own, labels=own).loss) * (len(ids) - 1) / torch.log(torch.tensor(2.0)).item()
        characters += len(bytes(text, "utf-8")[:BYTES].decode("utf-8", "ignore"))
    return total / characters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    dense = trained(options.steps)
    batches = [
        {"input_ids": torch.tensor([ids]), "group": lang}
        for lang in LANGUAGES
        for ids in tokens(sentences(lang, "dev")[:20])
    ]
    print(f"trained in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{'':24}" + "".join(f"{lang:>8}" for lang in LANGUAGES), flush=True)
    for share, groups in [(0.0, None), *((share, own) for share in options.shares for own in (["en"], None))]:
        model = copy.deepcopy(dense)
        if share:
            prune_experts(model, batches, share, groups)
        name = f"{share:.0%}, {'English' if groups else 'all languages'}" if share else "all experts"
        print(f"{name:24}" + "".join(f"{bits(model, lang):8.3f}" for lang in LANGUAGES), flush=True)


if __name__ == "__main__":
    main()
