"""How often a study claims something of recipes that do nothing, and how often it finds what was planted.

    PYTHONPATH=tests python tests/benchmarks/bench_claims.py [--studies 2000] [--seed 0]

Simulated answers (tests/simulated_studies.py), no model: 20 recipes, 3 languages, 100 rows that choose and 100 that
judge, the best three judged once. Noise is correlated (0.8) over the languages of a row and over recipes. Planted
effects get a fifth of the studies. Exits with an error if the one-sided 99% upper limit (Clopper and Pearson) of the
share of null studies with any claim exceeds 6.5%.
"""

import argparse
import sys
import time
from collections import Counter

import numpy as np
from scipy.stats import beta
from simulated_studies import LANGUAGES, Plan, draw, study, verdicts

LIMIT = 0.065
PLANS = {
    "nothing": Plan(),
    "one recipe helps a little": Plan(skill=0.25),
    "one recipe helps": Plan(skill=0.5),
    "one recipe helps much": Plan(skill=1.0),
    "dense is biased, no recipe is": Plan(bias=1.5),
}


def upper_limit(count: int, total: int, level: float = 0.99) -> float:
    """Return the one-sided upper limit of a share."""
    return float(beta.ppf(level, count + 1, total - count)) if count < total else 1.0


def planted(plan: Plan, seed: int) -> float:
    """Return by how much recipe 7 is more accurate than dense, in points, on many rows."""
    answers = draw(np.random.default_rng(seed), Plan(plan.skill, plan.bias, rows=100_000))
    hits = [((scores > 0) == answers.right).mean() for scores in (answers.recipes[7], answers.dense)]
    return 100 * float(hits[0] - hits[1])


def main() -> int:
    """Run all plans and print what studies claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"20 recipes, {len(LANGUAGES)} languages, seed {options.seed}")
    limits = {}
    for name, plan in PLANS.items():
        start, total = time.perf_counter(), options.studies if name == "nothing" else max(options.studies // 5, 1)
        claimed = [verdicts(study(options.seed, number, plan)) for number in range(total)]
        any_claim, counts = sum(map(bool, claimed)), Counter(verdict for own in claimed for verdict in own)
        limits[name] = upper_limit(any_claim, total)
        shares = ", ".join(f"{verdict} {100 * count / total:.1f}%" for verdict, count in sorted(counts.items()))
        print(
            f"{name} ({planted(plan, options.seed):+.1f} points): {total} studies, any claim {any_claim} = "
            f"{100 * any_claim / total:.2f}% (99% upper limit {100 * limits[name]:.2f}%); {shares or 'none'}; "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return int(limits["nothing"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
