"""Pairs of digits follow their singular values."""

import torch

from paper.records import read_record
from paper.saddles.nonlinear.digits import DigitPairs, pair_problems, run


def test_both_drops_follow_the_singular_values():
    runs = run(DigitPairs(((0, 1), (1, 8)), steps=900))
    assert float((runs.slopes / runs.predicted - 1).abs().max()) < 0.01
    # Negative control: with the pairs' singular values exchanged the second drop is missed.
    swapped = runs.predicted.flip(0)
    assert float((runs.slopes / swapped - 1).abs()[:, 1].min()) > 0.2
    gap = runs.drops[:, -1, 1] - runs.drops[:, -1, 0]
    assert float(gap[1]) > 1.8 * float(gap[0])
    assert float(runs.test_error.max()) < 0.1


def test_mnist_is_turned_into_its_own_span_without_loss():
    train, _ = pair_problems(DigitPairs(((0, 1),), source="mnist", per_class=20))
    assert train.inputs.shape == (1, 40, 40)
    assert torch.equal(train.targets.sum(1), torch.ones(1, 40, dtype=torch.float64))


def test_the_record_holds_all_pairs_within_the_tolerance():
    for source, pairs in (("sklearn", 45), ("mnist", 9)):
        record = read_record(f"digits_{source}")
        assert record.sizes["pair"] == pairs
        assert float(abs(record["slopes"] / record["predicted"] - 1).max()) < 0.03
