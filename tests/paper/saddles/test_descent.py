import torch

from learning_dynamics.problems import Moments
from learning_dynamics.saddles.theory import staircase
from paper.saddles.descent import constrained_phase as phases
from paper.saddles.descent import staircase_times as times
from paper.saddles.descent import window as descent
from paper.saddles.random_linear import moments_with_gaps


def test_the_printed_form_holds_for_any_direction_but_the_leading_one():
    found = descent.run(descent.Config(problems=8, starts=4, relative_step=0.6))
    assert found.printed.sum() > 0 and found.chosen.sum() == 0
    assert found.fixed.mean() > 0.8  # a fixed direction feels the forcing
    assert (found.prior >= found.bound).all() and (found.bound >= found.growth - 1e-9).all()


def test_modes_of_one_order_are_told_from_others():
    # Negative control: a weak correlation with the largest gain.
    s, gain = torch.tensor([2.4, 1.5]), torch.tensor([1.44, 4.5])
    other = Moments(torch.diag(s.square() / gain), torch.diag(s), torch.diag(gain))
    (same,) = moments_with_gaps(1, covariance="commuting")
    assert phases.in_order(same) == 1 and phases.in_order(other) == 0


def test_confined_map_is_the_optimum_when_the_span_is_right():
    (moments,) = moments_with_gaps(1)
    best = staircase.rank_k_map(moments, 2)
    u, s, vh = torch.linalg.svd(best, full_matrices=False)
    rows = torch.cat([vh[:2], u[:, :2].mT], dim=-1) * s[:2, None].sqrt()
    found = phases.confined_map(moments, torch.linalg.qr(rows.mT)[0], iterations=3000)
    torch.testing.assert_close(found, best, atol=1e-6, rtol=0)
    g = torch.Generator().manual_seed(1)
    wrong = torch.linalg.qr(torch.randn(10, 2, dtype=torch.float64, generator=g))[0]
    worse = phases.confined_map(moments, wrong)
    assert phases.map_loss(moments, worse) > phases.map_loss(moments, best)


def test_drop_times_close_in_on_the_prediction():
    found = times.run(times.Config(problems=3, scales=(1e-8, 1e-14, 1e-24)))
    worst = abs(found.error).max(["problem", "drop"])
    assert worst[1] < 0.05
    assert (worst.diff("scale") < 0).all()
    naive = abs(found.measured / found.naive - 1).isel(scale=-1).max()
    assert naive > 2 * worst[-1]
