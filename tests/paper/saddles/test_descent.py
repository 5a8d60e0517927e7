import pytest
import torch

from learning_dynamics.problems import Moments
from learning_dynamics.saddles.theory import staircase
from paper.saddles.descent import constrained_phase as phases
from paper.saddles.descent import staircase_times as times
from paper.saddles.descent import window as descent
from paper.saddles.random_linear import problems_with_gaps


def test_the_true_bound_holds_and_is_tight():
    found = descent.run(descent.Config(problems=2, starts=2))
    assert found.violations.sum() == 0
    assert found.slack.max() < 0.1 and found.slack.min() > -1e-9


def test_a_fixed_direction_feels_the_forcing():
    found = descent.run(descent.Config(problems=3, starts=2))
    assert found.fixed.mean() > 0.8


def test_the_printed_form_holds_for_any_direction_but_the_leading_one():
    found = descent.run(descent.Config(problems=8, starts=4, relative_step=0.6))
    assert found.printed.sum() > 0 and found.chosen.sum() == 0
    assert (found.prior >= found.bound).all() and (found.prior / found.growth).median() > 1.2
    assert (found.printed == (found.excess > 1e-9)).all()


def test_the_phases_end_at_rank_k_optima_and_not_at_the_printed_problem():
    generic = phases.run(phases.Config(problems=2, phases=(1, 2), scale=1e-60))
    assert abs(generic.reached).max() < 0.01
    assert generic.confined.min() > 0.01
    assert abs(generic.chosen).max() < 0.01
    isotropic = phases.run(
        phases.Config(problems=1, phases=(1,), covariance="isotropic", scale=1e-20)
    )
    assert abs(isotropic.confined).max() < 1e-6


def test_commuting_inputs_of_one_order_keep_the_printed_space():
    config = phases.Config(problems=1, phases=(1, 2), covariance="commuting", scale=1e-20)
    found = phases.run(config)
    assert abs(found.confined).max() < 1e-6 and found.angle_confined.max() < 1e-3
    same = problems_with_gaps(1, covariance="commuting")[0].moments()
    assert phases.in_order(same) == 1
    # Negative control: a weak correlation with the largest gain.
    s, gain = torch.tensor([2.4, 1.5]), torch.tensor([1.44, 4.5])
    other = Moments(torch.diag(s.square() / gain), torch.diag(s), torch.diag(gain))
    assert phases.in_order(other) == 0


def test_confined_map_is_the_optimum_when_the_span_is_right():
    moments = problems_with_gaps(1)[0].moments()
    best = staircase.rank_k_map(moments, 2)
    u, s, vh = torch.linalg.svd(best, full_matrices=False)
    rows = torch.cat([vh[:2], u[:, :2].mT], dim=-1) * s[:2, None].sqrt()
    basis = torch.linalg.qr(rows.mT)[0]
    found = phases.confined_map(moments, basis, iterations=3000)
    torch.testing.assert_close(found, best, atol=1e-6, rtol=0)
    worse = phases.confined_map(
        moments,
        torch.linalg.qr(
            torch.randn(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        )[0],
    )
    assert phases.map_loss(moments, worse) > phases.map_loss(moments, best)


def test_largest_angle_knows_a_rotation():
    w = torch.zeros(2, 3, dtype=torch.float64)
    w[0, 0] = 1.0
    turned = torch.zeros_like(w)
    turned[0, 0], turned[0, 1] = 3**0.5 / 2, 0.5
    assert float(phases.largest_angle(w, turned, 1)) == pytest.approx(30.0)


def test_drop_times_close_in_on_the_prediction():
    found = times.run(times.Config(problems=3, scales=(1e-8, 1e-14, 1e-24)))
    worst = abs(found.error).max(["problem", "drop"])
    assert worst[1] < 0.05
    assert (worst.diff("scale") < 0).all()
    naive = abs(found.measured / found.naive - 1).isel(scale=-1).max()
    assert naive > 2 * worst[-1]
