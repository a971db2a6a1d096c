"""Bits per character, by hand."""

import math

import pytest
import torch

from mlprune.metrics import BitsPerChar


def test_by_hand() -> None:
    metric = BitsPerChar()
    metric.update(torch.tensor([-3 * math.log(2), -5 * math.log(2)]).double(), torch.tensor([4, 4]))
    metric.update(torch.tensor([-8 * math.log(2)]).double(), torch.tensor([8]))
    assert metric.compute() == {"bits_per_char": pytest.approx(1.0), "n": 3}


def test_order_changes_no_bit() -> None:
    values = -torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    found = set()
    for seed in range(5):
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))
        metric = BitsPerChar()
        for part in order.split(17 + seed):
            metric.update(values[part], torch.ones(len(part), dtype=torch.int64))
        found.add(metric.compute()["bits_per_char"])
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_text() -> None:
    assert BitsPerChar().compute() == {"n": 0}
