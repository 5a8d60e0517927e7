"""Small against large initial scale."""

import numpy as np

from paper.fits import mean_interval
from paper.saddles.setup import Completion, Regression, complete, regress

FEW = {"seeds": 6}


def test_completion_from_a_small_start_has_low_rank_and_low_error():
    small, large = (complete(s, Completion(**FEW)) for s in (1e-8, 0.3))
    assert bool((small.effective_rank < 2.5).all())
    assert bool((large.effective_rank > 3).all())
    assert mean_interval(np.log(large.chosen_error / small.chosen_error))[1] > 0


def test_a_unique_minimiser_forgets_the_start():
    # Negative control: with more samples than inputs the end cannot depend on the start.
    # 1e-3 relative: the slowest mode has not quite settled at the last step.
    config = Regression(
        seeds=4, inputs=5, outputs=3, units=6, samples=15, step_size=0.05, steps=6000, every=1000
    )
    small, large = (regress(s, config) for s in (1e-3, 0.3))
    np.testing.assert_allclose(small.test_error[:, -1], large.test_error[:, -1], rtol=1e-3)
