"""Pairs of digits follow their singular values."""

from paper.records import read_record
from paper.saddles.nonlinear.digits import DigitPairs, run


def test_both_drops_follow_the_singular_values():
    runs = run(DigitPairs(((0, 1), (1, 8)), steps=900))
    assert abs(runs.slopes / runs.predicted - 1).max() < 0.01
    # Negative control: with the pairs' singular values exchanged the second drop is missed.
    swapped = runs.predicted.values[::-1]
    assert abs(runs.slopes / swapped - 1)[:, 1].min() > 0.2
    assert runs.test_error.max() < 0.1


def test_the_record_holds_all_pairs_within_the_tolerance():
    for source, pairs in (("sklearn", 45), ("mnist", 9)):
        record = read_record(f"digits_{source}")
        assert record.sizes["pair"] == pairs
        assert abs(record["slopes"] / record["predicted"] - 1).max() < 0.03
