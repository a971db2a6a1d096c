"""How fast requests of lm-evaluation-harness are answered, against its own model class, and whether alike.

    python tests/benchmarks/bench_lm_eval.py [--documents 12] [--threads 2]

Gemma 3 270M (`demo`), float32. Questions with four options about passages of 150 words, like Belebele, made from the
bundled sentences: options as letters, for which the harness runs a context once, and as texts. Both models get every
piece of the documents in turn, in one process; memory is measured in a process each. Exits with an error if
log-likelihoods differ by more than 1e-4 from those of a float64 softmax.
"""

import argparse
import multiprocessing
import random
import statistics
import time
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from memory import peak_above

from mlprune.data.corpora import Bundled
from mlprune.evaluation.harness.model import HarnessModel
from mlprune.models.loading import ModelSource

CLOCK = time.perf_counter
PIECE = 4  # documents that the models take in turn
BATCH = 4  # of the harness' own model: the fastest of 1, 4 and 8
TOLERANCE = 1e-4
Documents = list[list[tuple[str, str]]]


def documents(count: int, letters: bool, words: int = 150) -> Documents:
    """Contexts and options of questions about passages."""
    generator = random.Random(0)
    sentences = [row["text"] for row in Bundled("parallel").rows("en")]
    found = []
    for _ in range(count):
        passage = " ".join(" ".join(generator.sample(sentences, 40)).split()[:words])
        options = [" ".join(text.split()[:8]) for text in generator.sample(sentences, 4)]
        listed = "\n".join(f"{letter}: {option}" for letter, option in zip("ABCD", options, strict=True))
        context = f"P: {passage}\nQ: What does the text say?\n" + (f"{listed}\nAnswer:" if letters else "Answer:")
        found.append([(context, f" {option}") for option in ("ABCD" if letters else options)])
    return found


def scores(model: Any, part: Documents) -> torch.Tensor:
    """Log-likelihoods of the options, (documents, 4)."""
    asked = [Instance("loglikelihood", {}, pair, i) for own in part for i, pair in enumerate(own)]
    return torch.tensor([value for value, _ in model.loglikelihood(asked, disable_tqdm=True)]).view(len(part), -1)


def make(name: str, model: Any, tokenizer: Any, **options: Any) -> Any:
    """Return one of the two models."""
    if name == "mlprune":
        return HarnessModel(model, tokenizer)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, **options)


def bench(kind: str, asked: Documents, model: Any, tokenizer: Any) -> None:
    """Time both and hold them against each other."""
    models = {name: make(name, model, tokenizer) for name in ("hf", "mlprune")}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in models}
    for own in models.values():
        scores(own, asked[:1])  # warm
    for start in range(0, len(asked), PIECE):
        for name, own in models.items():
            begun = CLOCK()
            found[name].append(scores(own, asked[start : start + PIECE]))
            seconds[name].append(CLOCK() - begun)
    each = statistics.median(a / b for a, b in zip(seconds["hf"], seconds["mlprune"], strict=True))
    total = {name: sum(values) for name, values in seconds.items()}
    print(
        f"{kind}: {len(asked)} documents; hf {total['hf']:.1f} s, mlprune {total['mlprune']:.1f} s: "
        f"{total['hf'] / total['mlprune']:.2f} times as fast (median of pieces {each:.2f})",
        flush=True,
    )
    exact = scores(make("hf", model, tokenizer, softmax_dtype="float64"), asked[:PIECE])
    ours, theirs = torch.cat(found["mlprune"]), torch.cat(found["hf"])
    largest = float((ours[:PIECE] - exact).abs().max())
    differ = int((ours.argmax(1) != theirs.argmax(1)).sum())
    print(f"  {differ} of {len(asked)} predictions differ; log-likelihoods by {largest:.1e} from a float64 softmax")
    if largest > TOLERANCE:
        raise SystemExit(f"{kind}: log-likelihoods differ by {largest:.1e}")


def memory_of(name: str, threads: int, asked: Documents, answer: Any) -> None:
    """Measure one model, in a process of its own."""
    torch.set_num_threads(threads)
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model(), source.load_tokenizer()
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # read from the file now, not later
    own = make(name, model, tokenizer)
    scores(own, [[("warm", " up")]])
    answer.put(peak_above(lambda: scores(own, asked)))


def print_memory(kind: str, threads: int, asked: Documents) -> None:
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for name in ("hf", "mlprune"):
        answer = context.Queue()
        process = context.Process(target=memory_of, args=(name, threads, asked, answer))
        process.start()
        peaks[name] = answer.get()
        process.join()
    share = peaks["mlprune"] / peaks["hf"]
    print(
        f"{kind}: peak above the model: hf {peaks['hf']:.2f} GiB, mlprune {peaks['mlprune']:.2f} GiB, {share:.2f} of it"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model(), source.load_tokenizer()
    for kind, letters in (("options as letters", True), ("options as texts", False)):
        asked = documents(arguments.documents, letters)
        bench(kind, asked, model, tokenizer)
        print_memory(kind, arguments.threads, asked[:PIECE])


if __name__ == "__main__":
    main()
