import pytest
import torch

from paper.saddles.plateau import alignment
from paper.saddles.plateau import controls
from paper.saddles.random_linear import gaps, problems_with_gaps


@pytest.fixture(scope="module")
def found():
    return alignment.run(
        alignment.Config(
            problems=3, scales=(1e-8, 1e-11, 1e-14), relative_steps=(0.3,), every=(2,)
        )
    )


def test_exponents_are_the_predicted_ones_at_three_escapes(found):
    assert (found.measured - found.predicted).abs().max() < 0.015


def test_gradient_flow_mispredicts_the_first_escape_at_a_large_step(found):
    assert ((found.measured[0, :, 0] - found.flow[:, 0]).abs() > 0.015).all()


def test_length_of_the_first_plateau(found):
    ratio = found.length_slope / found.length_predicted
    assert (ratio - 1).abs().max() < 0.002


def test_tied_rates_do_not_align():
    assert abs(controls.tied_slope()) < 0.01


def test_an_invariant_subspace_is_never_left():
    loss, floor = controls.invariant_loss(steps=600)
    assert loss == pytest.approx(floor, rel=1e-6)


def test_a_fixed_direction_has_a_best_moment_and_then_stalls():
    config = controls.Config(problems=4)
    generic = controls.fixed_direction(config)
    clear = generic.law > 0.5
    best, _ = generic.slope("best")
    assert (best - generic.window)[clear].abs().max() < 0.01
    assert (best - generic.law)[clear].abs().min() > 0.1
    late = generic.end[clear]
    assert (late[:, -1] / late[:, 0] > 0.5).all()  # fourteen decades of epsilon gain nothing


def test_commuting_inputs_do_not_turn():
    config = controls.Config(problems=3, covariance="commuting", scales=(1e-6, 1e-8, 1e-10))
    found = controls.fixed_direction(config)
    end, _ = found.slope("end")
    assert (end - found.law).abs().max() < 0.03


def test_alignment_improves_with_scale_and_only_a_little_with_step_size():
    moments = problems_with_gaps(3)[2].moments()
    delta = controls.alignment_grid(moments, (1e-3, 1e-6, 1e-9), (0.05, 0.01))
    assert (delta[:, 1:] < delta[:, :-1]).all() and (delta[1] < delta[0]).all()
    assert delta[1, 0] > 0.3 * delta[0, 0]


def test_problems_have_the_gap_they_promise():
    problems = problems_with_gaps(6, least_gap=0.2)
    assert all(float(gaps(p.moments())) >= 0.2 for p in problems)
    again = problems_with_gaps(2, least_gap=0.2)
    assert torch.equal(problems[1].inputs, again[1].inputs)
