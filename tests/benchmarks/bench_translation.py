"""How fast few-shot translation is, against plain ``generate`` on the full prompts, and whether it writes the same.

    python tests/benchmarks/bench_translation.py [--flores DIR] [--source sw]

Gemma 3 270M (`demo`), float32, 2 threads, 4 shots, greedy. Two programs in turn in one process on the same batches: the
package's, which runs what the prompts share once and ends a row at a stop text, and a plain one, which decodes padded
full prompts for all ``max_new_tokens``, as the published code does, and cuts afterwards. A third decodes the plain way
but stops at the same texts, so that what the cache saves is seen alone. Exits with an error if an output differs.
"""

import argparse
import time
from typing import Any

import torch
from transformers import StoppingCriteriaList

from mlprune.data.corpora import Bundled, FloresFolder
from mlprune.evaluation import generate
from mlprune.evaluation.stopping import StopTexts, cut_at
from mlprune.evaluation.tasks import TranslationTask
from mlprune.languages import language
from mlprune.models.loading import ModelSource


@torch.no_grad()
def plain(
    model: Any, tokenizer: Any, prompts: list[str], stop: list[str], early: bool, max_new_tokens: int
) -> list[str]:
    """Decode full prompts, padded on the left, in one batch."""
    tokenizer.padding_side = "left"
    encoded = tokenizer(prompts, return_tensors="pt", padding=True)
    start = encoded["input_ids"].shape[1]
    criteria = StoppingCriteriaList([StopTexts(tokenizer, stop, True, start)] if early else [])
    output = model.generate(
        **encoded,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        top_k=None,
        top_p=None,
        pad_token_id=tokenizer.pad_token_id,
        stopping_criteria=criteria,
    )
    return [cut_at(text, stop)[0] for text in tokenizer.batch_decode(output[:, start:], skip_special_tokens=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flores", help="folder of FLORES devtest files; the bundled sentences if omitted")
    parser.add_argument("--source", default="fr")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time, for a machine that others use too"
    )
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model(), source.load_tokenizer()
    corpus = FloresFolder(options.flores, "devtest") if options.flores else Bundled("parallel")
    task = TranslationTask([options.source], corpus=corpus, fewshot=corpus, shots=4, limit=options.rows)
    examples = task.examples(options.source)
    prompts = task.prompts(tokenizer, options.source, [example.source for example in examples])
    stop = ["\n", *(f"{language(code).name}:" for code in (options.source, "en"))]
    programs = {
        "plain": lambda part: plain(model, tokenizer, part, stop, False, options.max_new_tokens),
        "plain, stopping early": lambda part: plain(model, tokenizer, part, stop, True, options.max_new_tokens),
        "mlprune": lambda part: [one.text for one in generate(model, tokenizer, part, options.max_new_tokens, stop)],
    }
    generate(model, tokenizer, prompts[:1], 1)  # what is found out once a model
    seconds = dict.fromkeys(programs, 0.0)
    texts: dict[str, list[str]] = {name: [] for name in programs}
    for start in range(0, len(prompts), options.batch):
        for name, program in programs.items():
            begun = clock()
            texts[name] += program(prompts[start : start + options.batch])
            seconds[name] += clock() - begun
    sizes = [len(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    print(f"{len(prompts)} prompts of {min(sizes)} to {max(sizes)} tokens, batches of {options.batch}")
    for name in programs:
        ratio = seconds["plain"] / seconds[name]
        same = sum(a == b for a, b in zip(texts[name], texts["plain"], strict=True))
        print(f"  {name:22s} {seconds[name]:7.2f} s   {ratio:5.2f} times the plain; {same} outputs the same")
    if texts["mlprune"] != texts["plain"]:
        for mine, theirs in zip(texts["mlprune"], texts["plain"], strict=True):
            if mine != theirs:
                print(f"  mlprune: {mine!r}\n  plain:   {theirs!r}")
        raise SystemExit("outputs differ")


if __name__ == "__main__":
    main()
