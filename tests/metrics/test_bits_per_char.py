"""Bits per character, by hand."""

import math

import pytest
import torch

from mlprune.metrics import BitsPerChar


def test_by_hand() -> None:
    metric = BitsPerChar()
    metric.update([{"log_prob": -bits * math.log(2), "chars": 4} for bits in (3, 5)])
    metric.update([{"log_prob": -8 * math.log(2), "chars": 8}])
    assert metric.compute() == {"bits_per_char": pytest.approx(1.0), "n": 3}


def test_order_changes_no_bit() -> None:
    values = -torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    found = set()
    for seed in range(5):
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))
        metric = BitsPerChar()
        for part in order.split(17 + seed):
            metric.update([{"log_prob": value, "chars": 1} for value in values[part].tolist()])
        found.add(metric.compute()["bits_per_char"])
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_text() -> None:
    assert BitsPerChar().compute() == {"n": 0}
