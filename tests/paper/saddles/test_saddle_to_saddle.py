"""The staircase rests on the reduced-rank levels, and where theory says it cannot, it does not."""

import numpy as np

from paper.saddles.saddle_to_saddle import assumptions
from paper.saddles.saddle_to_saddle.rank_k_saddles import STRONG, RankKSaddles, run


def test_the_weakest_plateau_is_not_rested_on():
    # Negative control: the rule must exclude something, and what it excludes most must fail.
    rests = run(RankKSaddles())
    weakest = rests.isel(rests.expected.argmax(...))
    assert weakest.expected > STRONG and weakest.excess > 0.01


def test_prediction_follows_measurement_over_decades():
    # Law: the logarithms agree to a factor ten (constants of order one are left out) plus a tenth.
    rests = run(RankKSaddles())
    seen = rests.excess.values > 1e-11  # away from rounding
    measured, predicted = (np.log(x.values[seen]) for x in (rests.excess, rests.expected))
    assert (abs(measured - predicted) < 2.3 + 0.3 * abs(predicted)).all()
    assert np.corrcoef(measured, predicted)[0, 1] > 0.9


def test_a_large_start_has_no_plateaus():
    rests = run(RankKSaddles(seeds=3, init_scale=0.1, steps=1500))
    assert not (rests.excess < 0.01).all()


def test_earlier_predictions_need_their_assumptions():
    found = abs(assumptions.run(problems=2)).max(["problem", "drop"])
    with_all = found.sel(setting="all assumptions")
    assert with_all.alone < 0.06 and found.ours.max() < 0.12
    for missing in ("finite step", "none of them"):
        assert found.alone.sel(setting=missing) > 2 * with_all.alone
    assert found.greedy.min() > 0.2
