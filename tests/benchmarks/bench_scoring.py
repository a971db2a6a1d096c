"""How fast candidate scoring is, against scoring every text in full, and whether it says the same.

    python tests/benchmarks/bench_scoring.py [--nli DIR] [--facts DIR]

Gemma 3 270M (`demo`), float32, 2 threads. Two programs in turn in one process: the package's, and a plain one with a
padded batch for each candidate, full logits and log_softmax. ``--nli`` is a folder of <lang>.jsonl with premise,
hypothesis and label, ``--facts`` one of BMLAMA's <lang>.tsv; the bundled inference rows if omitted, and no facts. Where
lm_eval is installed, the same texts go through it. Exits with an error if a prediction differs beyond rounding.
"""

import argparse
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from memory import peak_above
from torch import Tensor, nn

from mlprune.data.corpora import Bundled, LocalFiles
from mlprune.evaluation import score_candidate_ids, score_candidates
from mlprune.evaluation.encoding import encode_candidates
from mlprune.evaluation.tasks import Bmlama, CandidateTask
from mlprune.evaluation.tasks.scored import ScoredTask
from mlprune.models.loading import ModelSource

CLOCK = time.perf_counter
BATCH = 8  # texts of a plain batch
ROUNDING = 2e-4  # scores nearer to each other than this are ties
Texts = list[list[str]]


@torch.no_grad()
def plain(model: Any, tokenizer: Any, texts: Texts) -> Tensor:
    """Score every text in full, a padded batch a candidate."""
    scores = torch.full((len(texts), max(map(len, texts))), float("nan"))
    tokenizer.padding_side = "right"
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        for j in range(max(map(len, part))):
            rows = [i for i, example in enumerate(part) if j < len(example)]
            encoded = tokenizer([part[i][j] for i in rows], return_tensors="pt", padding=True)
            log_probs = model(**encoded).logits.float().log_softmax(-1)[:, :-1]
            mask = encoded["attention_mask"][:, 1:]
            picked = log_probs.gather(-1, encoded["input_ids"][:, 1:, None])[..., 0] * mask
            scores[torch.tensor(rows) + start, j] = picked.sum(-1) / mask.sum(-1)
    return scores


def tokens_saved(tokenizer: Any, texts: Texts) -> float:
    """How many times as many tokens all texts have as their prefix trees, an example at a time."""
    full = shared = 0
    for example in texts:
        ids = [tuple(tokenizer(text)["input_ids"][:-1]) for text in example]
        full += sum(map(len, ids))
        shared += len({one[: t + 1] for one in ids for t in range(len(one))})
    return full / shared


def check(name: str, found: Tensor, expected: Tensor, labels: Sequence[int]) -> None:
    """Demand the same predictions; where two candidates tie within rounding either may be first."""
    gap = expected.nan_to_num(-1e9).max(1).values - expected.gather(1, found.nan_to_num(-1e9).argmax(1)[:, None])[:, 0]
    differ = int((found.nan_to_num(-1e9).argmax(1) != expected.nan_to_num(-1e9).argmax(1)).sum())
    right = torch.tensor(labels) == found.nan_to_num(-1e9).argmax(1)
    print(f"{name}: accuracy {right.float().mean():.3f}, {differ} of {len(found)} predictions differ", flush=True)
    if float(gap.max()) > ROUNDING:
        raise SystemExit(f"{name}: predictions differ by more than rounding ({float(gap.max()):.2e})")


def in_turn(programs: dict[str, Callable[[Texts], Tensor]], texts: Texts, piece: int) -> tuple[dict, dict]:
    """Give every piece of the texts to each program in turn; return seconds a piece and all scores."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    scores: dict[str, list[Tensor]] = {name: [] for name in programs}
    for start in range(0, len(texts), piece):
        for name, program in programs.items():
            begun = CLOCK()
            scores[name].append(program(texts[start : start + piece]))
            seconds[name].append(CLOCK() - begun)
    width = max(map(len, texts))
    whole = {
        name: torch.cat([nn.functional.pad(part, (0, width - part.shape[1]), value=float("nan")) for part in parts])
        for name, parts in scores.items()
    }
    return seconds, whole


def bench(name: str, model: Any, tokenizer: Any, texts: Texts, labels: Sequence[int], piece: int) -> None:
    """Time the three programs on one set and check them."""
    programs = {
        "plain": lambda part: plain(model, tokenizer, part),
        "mlprune": lambda part: score_candidates(model, tokenizer, part),
        "mlprune, ranking only": lambda part: score_candidates(model, tokenizer, part, ranking_only=True),
    }
    seconds, scores = in_turn(programs, texts, piece)
    total = {program: sum(values) for program, values in seconds.items()}
    ratios = {
        program: statistics.median(a / b for a, b in zip(seconds["plain"], values, strict=True))
        for program, values in seconds.items()
    }
    saved = tokens_saved(tokenizer, texts)
    print(f"{name}: {len(texts)} examples, {len(texts[0])} candidates; shared prefixes save {saved:.2f} times")
    for program in programs:
        ratio = total["plain"] / total[program]
        print(
            f"  {program:22s} {total[program]:7.2f} s   {ratio:5.2f} times the plain (median {ratios[program]:.2f}), "
            f"{ratio / saved:.2f} of what prefixes save"
        )
    worst = float((scores["plain"] - scores["mlprune"]).nan_to_num(0).abs().max())
    print(f"  largest difference of a score: {worst:.1e}")
    check(f"  {name}", scores["mlprune"], scores["plain"], labels)
    same_lengths = [len({len(tokenizer(text)["input_ids"]) for text in example}) == 1 for example in texts]
    rows = torch.tensor(same_lengths)
    check(f"  {name}, ranking only", scores["mlprune, ranking only"], scores["mlprune"], labels)
    print(f"  {int(rows.sum())} of {len(rows)} examples have candidates of equal length")


def texts_of(task: ScoredTask, lang: str, rows: int) -> tuple[Texts, list[int]]:
    """Texts and labels of a task."""
    task.limit_to(rows)
    examples = task.examples(lang)
    return [list(example.candidates) for example in examples], [example.label for example in examples]


def nli(folder: str | None) -> CandidateTask:
    corpus = LocalFiles(f"{folder}/{{lang}}.jsonl") if folder else Bundled("nli")
    return CandidateTask("xnli", ["en"], corpus, "xnli")


def long_reviews(rows: int, words: int = 128) -> tuple[Texts, list[int]]:
    """Reviews of a given number of words, joined from the bundled ones, in the template of MARC-2."""
    generator = random.Random(0)
    reviews = [row["text"] for row in Bundled("reviews").rows("en")]
    texts = []
    for _ in range(rows):
        joined = " ".join(generator.sample(reviews, len(reviews))).split()[:words]
        texts.append([f"{' '.join(joined)} It is {label}" for label in ("negative", "positive")])
    return texts, [0] * rows


def bench_lm_eval(model: Any, tokenizer: Any, texts: Texts) -> None:
    """The same texts through lm-evaluation-harness: its log-likelihoods, its predictions, its time.

    Its float32 log_softmax over 262,144 tokens is itself wrong by up to 2e-3 a text, always upwards; with its option
    ``softmax_dtype: float64`` it is exact, and that is what the log-likelihoods are held against.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH)
    theirs, ours, seconds = [], [], {"lm_eval": 0.0, "mlprune": 0.0}
    for start in range(0, len(texts), 24):
        part = [[" " + text for text in example] for example in texts[start : start + 24]]  # its target delimiter
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=("", text), idx=j)
            for example in part
            for j, text in enumerate(example)
        ]
        begun = CLOCK()
        found = harness.loglikelihood(requests, disable_tqdm=True)
        seconds["lm_eval"] += CLOCK() - begun
        theirs.append(torch.tensor([value for value, _ in found]).view(len(part), -1))
        begun = CLOCK()
        ids, given, _ = encode_candidates(
            tokenizer, [[(text, "") for text in example] for example in part], start_token=True
        )
        ours.append(score_candidate_ids(model, ids, normalization="sum", given=given))
        seconds["mlprune"] += CLOCK() - begun
    a, b = torch.cat(theirs), torch.cat(ours)
    differ = int((a.argmax(1) != b.argmax(1)).sum())
    exact = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, softmax_dtype="float64")
    few = [" " + text for example in texts[:8] for text in example]
    requests = [Instance(request_type="loglikelihood", doc={}, arguments=("", text), idx=0) for text in few]
    found = torch.tensor([value for value, _ in exact.loglikelihood(requests, disable_tqdm=True)]).view(-1, a.shape[1])
    error = float((found - b[: len(found)]).abs().max())
    ratio = seconds["lm_eval"] / seconds["mlprune"]
    print(
        f"lm_eval: {seconds['lm_eval']:.2f} s, mlprune {seconds['mlprune']:.2f} s ({ratio:.2f} times); "
        f"largest difference of a log-likelihood {float((a - b).abs().max()):.1e}, {error:.1e} where its softmax is "
        f"float64; {differ} of {len(a)} predictions differ",
        flush=True,
    )
    if differ or error > 1e-3:
        raise SystemExit("lm_eval disagrees")


def bench_bfloat16(tokenizer: Any, texts: Texts, expected: Tensor) -> None:
    """How often bfloat16 weights, with log-sum-exp in float32, choose another candidate."""
    model = ModelSource("demo", "bfloat16").load_model()
    begun = CLOCK()
    scores = score_candidates(model, tokenizer, texts)
    differ = float((scores.argmax(1) != expected.argmax(1)).float().mean())
    print(f"bfloat16: {CLOCK() - begun:.2f} s, {100 * differ:.1f}% of predictions differ from float32's")


def memory_of(program: str, threads: int, texts: Texts, answer: Any) -> None:
    """In a process of its own: how far the peak of memory rises above what the model takes."""
    torch.set_num_threads(threads)
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model(), source.load_tokenizer()
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # read from the file now, not later
    run = plain if program == "plain" else score_candidates
    run(model, tokenizer, [["warm", "up"]])
    answer.put(peak_above(lambda: run(model, tokenizer, texts)))


def print_memory(threads: int, texts: Texts) -> None:
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for program in ("plain", "mlprune"):
        answer = context.Queue()
        process = context.Process(target=memory_of, args=(program, threads, texts, answer))
        process.start()
        peaks[program] = answer.get()
        process.join()
        print(f"memory of {program}: peak {peaks[program]:.2f} GiB above the model", flush=True)
    print(f"  {peaks['mlprune'] / peaks['plain']:.2f} of the plain program's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nli", help="folder of <lang>.jsonl with premise, hypothesis and label")
    parser.add_argument("--facts", help="folder of BMLAMA's <lang>.tsv")
    parser.add_argument("--languages", default="en", help="languages of the facts")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", default="nli,reviews,facts,memory,bfloat16,lm_eval")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time, for a machine that others use too"
    )
    options = parser.parse_args()
    if options.cpu_time:
        global CLOCK
        CLOCK, options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    parts = options.parts.split(",")
    source = ModelSource("demo", "float32")
    model, tokenizer = source.load_model(), source.load_tokenizer()
    texts, labels = texts_of(nli(options.nli), "en", options.rows)
    score_candidates(model, tokenizer, texts[:2])  # what is found out once a model
    if "nli" in parts:
        bench("XNLI", model, tokenizer, texts, labels, 24)
    if "reviews" in parts:
        bench("MARC-2, 128 words", model, tokenizer, *long_reviews(options.rows // 4), 12)
    if "facts" in parts and options.facts:
        for lang in options.languages.split(","):
            task = Bmlama(options.languages.split(","), path=options.facts)
            bench(f"BMLAMA {lang}", model, tokenizer, *texts_of(task, lang, options.rows), 24)
    if "bfloat16" in parts:
        bench_bfloat16(tokenizer, texts, score_candidates(model, tokenizer, texts))
    if "lm_eval" in parts:
        try:
            import lm_eval  # noqa: F401
        except ImportError:
            print("lm_eval is not installed: not compared with")
        else:
            bench_lm_eval(model, tokenizer, texts)
    if "memory" in parts:
        del model
        print_memory(options.threads, texts[:24])


if __name__ == "__main__":
    main()
