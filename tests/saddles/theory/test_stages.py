import pytest
import torch

from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory import stages, staircase
from learning_dynamics.saddles.two_layer import gradient_descent, initialise, uniform_grid


def stairs(t, at, heights):
    """A smooth staircase that falls by heights[k] around step at[k]."""
    return sum(h * torch.sigmoid(-(t - a) / 20.0) for a, h in zip(at, heights, strict=True))


def test_known_drops_and_plateaus_are_found():
    t = torch.arange(0, 2001, 4)
    curve = stairs(t.double(), (303.0, 905.0), (2.0, 1.0))
    found = stages.find_stages(curve[None], torch.tensor([[3.0, 1.0, 0.0]]).double(), t)
    torch.testing.assert_close(
        found.drop_steps, torch.tensor([[303.0, 905.0]]).double(), atol=0.1, rtol=0
    )
    assert 560 <= found.plateau_steps[0, 1] <= 640
    assert found.misfit.max() < 1e-3
    drops, rests = stages.find_drops(curve, t)
    assert t[drops].tolist() == pytest.approx([303, 905], abs=4)
    assert len(rests) == 3


def test_crossings_are_interpolated_and_first_records_are_not_invented():
    losses = torch.tensor([[0.5, 0.5, 0.25]]).double()
    marks = torch.tensor([[0.375, 0.1, 0.6]]).double()
    found = stages.crossing_steps(losses, marks, torch.tensor([0, 10, 20]))[0]
    assert found[0] == 15 and found[1].isnan() and found[2] == 0
    assert stages.first_record(losses < 0.4).tolist() == [2]
    with pytest.raises(ValueError, match="run .0. never does in 3 records"):
        stages.first_record(losses < 0.1)


def test_a_drop_that_never_comes_is_nan():
    t = torch.arange(0, 500, 4)
    curve = stairs(t.double(), (303.0,), (2.0,)) + 1
    found = stages.find_stages(curve[None], torch.tensor([[3.0, 1.0, 0.0]]).double(), t)
    assert found.drop_steps[0, 1].isnan() and found.plateau_steps[0, 2].isnan()
    assert not found.drop_steps[0, 0].isnan()


def test_gradient_descent_rests_at_the_reduced_rank_losses():
    p = linear_teacher(generator=generator("test-stages"))
    prediction = staircase.predict_staircase(p.moments(), 0.05)
    w = initialise((6, 10, 4), 1e-12, [generator("test-stages", "start")])
    run = gradient_descent(w, p, step_size=0.05, steps=1600, record_at=uniform_grid(1600, 4))
    found = stages.find_stages(run["loss"], prediction.levels[None], run.steps)
    assert found.misfit[0, [0, 1, 3]].max() < 1e-2
    error = found.drop_steps[0] / prediction.drop_steps(1e-12) - 1
    assert error.abs().max() < 0.12
    naive = (
        staircase.predict_staircase(p.moments()).times[-1] * 0
        + 1 / torch.linalg.svdvals(p.moments().yx)[-1]
    )  # the rate of Sigma_yx alone, without the recursion
    assert abs(naive / prediction.times[-1] - 1) > 0.01
