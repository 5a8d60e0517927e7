"""Problems: the chosen spectra are exact, the three covariances are what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_dynamics.problems import (
    LINEAR_TRAITS,
    TRAITS,
    Moments,
    Problem,
    linear_teacher,
    random_linear,
    random_orthogonal,
    random_two_layer,
)
from learning_dynamics.runtime import generator

SPECTRUM, TARGETS = (2.5, 1.6, 1.2, 0.9, 0.6, 0.4), (3.0, 1.5, 0.6)


def problem(covariance, seed=0, **more):
    more |= {"input_spectrum": SPECTRUM, "target_spectrum": TARGETS, "covariance": covariance}
    return linear_teacher(generator=generator("problems", seed), **more)


def commutator(p):
    m = p.moments()
    a, b = m.xx, m.yx.mT @ m.yx
    return float((a @ b - b @ a).norm())


@given(seed=st.integers(0, 10**6), size=st.integers(1, 6))
@settings(max_examples=20)
def test_spectra_are_exact(seed, size):
    q = random_orthogonal(size, generator("orthogonal", seed))
    torch.testing.assert_close(q @ q.mT, torch.eye(size, dtype=torch.float64), atol=1e-13, rtol=0)
    for covariance in ("commuting", "generic"):
        p = problem(covariance, seed)
        wanted = torch.tensor(sorted(SPECTRUM), dtype=torch.float64)
        # eigenvalues of a sample moment of condition 6: rounding of a 6 x 40 product
        found = torch.linalg.eigvalsh(p.moments().xx)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        values = torch.linalg.svdvals(p.teacher)
        torch.testing.assert_close(values[:3], torch.tensor(TARGETS, dtype=torch.float64))
        assert float(values[3:].abs().max()) < 1e-12
        torch.testing.assert_close(p.targets, p.teacher @ p.inputs)


def test_covariances_and_noise_are_what_they_say():
    isotropic = problem("isotropic").moments().xx
    white = sum(SPECTRUM) / len(SPECTRUM) * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(isotropic, white, atol=1e-12, rtol=0)
    assert commutator(problem("commuting")) < 1e-10
    assert commutator(problem("generic")) > 0.1
    p = problem("generic", noise=0.5, samples=4000)
    assert float((p.targets - p.teacher @ p.inputs).std()) == pytest.approx(0.5, rel=0.03)
    mean = sum(map(torch.outer, p.targets.mT, p.inputs.mT)) / 4000  # moments are means over samples
    torch.testing.assert_close(p.moments().yx, mean)


def test_moments_that_no_data_have_are_refused():
    eye = torch.eye(2, dtype=torch.float64)
    large, small = (torch.diag(torch.tensor(d)).double() for d in ([1e12, 1.0], [0.0, 2.0]))
    skew = eye + torch.tensor([[0.0, 0.5], [0.0, 0.0]])
    all_three = "xx, yx, yy"  # a large input hides nothing
    wrong = [(-eye, 0 * eye, all_three), (eye, 5 * eye, all_three), (large, small, all_three)]
    for xx, yx, name in [*wrong, (skew, 0 * eye, "xx")]:
        with pytest.raises(ValueError, match=name):
            Moments(xx, yx, eye)
    for unit in (1e-80, 1e-7, 1.0, 1e7):  # all moments of data pass, in any unit
        given = linear_teacher(generator=generator("moments"), noise=0.0)
        Problem(unit * given.inputs, given.targets / unit).moments()
    Moments(0 * eye, 0 * eye, eye)


@pytest.mark.usefixtures("as_users_run")
def test_arrays_and_lists_become_tensors():
    x, y = np.ones((2, 3), dtype=np.float32), [[1.0, 2.0, 3.0]]
    problem = Problem(x, torch.tensor(y))
    assert problem.inputs.dtype == torch.float32 and problem.inputs.shape == (2, 3)
    x[0] = 5.0
    assert float(problem.inputs.max()) == 1.0  # a copy: changing the array changes no problem
    assert Problem([[1.0, 2.0]], [[3.0, 4.0]]).targets.dtype == torch.float64
    with pytest.raises(ValueError, match=r"inputs: an array of int64.*asarray"):
        Problem(np.ones((2, 3), dtype=int), torch.ones(1, 3))
    kept = torch.ones(2, 3, requires_grad=True)
    assert not Problem(kept, torch.ones(1, 3)).inputs.requires_grad


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_numbers_whose_squares_are_infinite_are_refused(name):
    for dtype in (torch.float32, torch.float64):
        largest = (torch.finfo(dtype).max / 3) ** 0.5
        good = {"inputs": torch.ones(2, 3, dtype=dtype), "targets": torch.ones(1, 3, dtype=dtype)}
        fits = Problem(**good | {name: -0.99 * largest * good[name]}).moments()
        assert all(torch.isfinite(m).all() for m in (fits.xx, fits.yx, fits.yy))
        with pytest.raises(ValueError, match=f"{name}: entries up to .* at most .* 3 samples"):
            Problem(**good | {name: -1.01 * largest * good[name]})


def holds(trait, x, y):
    """What a trait says of inputs and targets; True where it says nothing of them."""
    m0, n = x.shape
    said = {
        "zero feature": not x[0].any(),
        "zero targets": not y.any(),
        "fewer samples": n < m0 or m0 == 1,
        "one sample": n == 1,
        "commuting": n < m0 or torch.allclose(x @ x.mT, n * torch.eye(m0).double(), atol=1e-9),
        "integers": (x == x.round()).all() and (y == y.round()).all(),
        "duplicates": n == 1 or torch.equal(x[:, : n // 2], x[:, -(n // 2) :]),
    }
    return bool(said.get(trait, True))


def test_the_prior_covers_what_it_says():
    drawn = [random_two_layer(generator("prior", i)) for i in range(400)]
    again = random_two_layer(generator("prior", 0))
    torch.testing.assert_close(again.problem.inputs, drawn[0].problem.inputs, rtol=0, atol=0)
    unexplained = 0
    for task in drawn:
        x, y, m0 = task.problem.inputs, task.problem.targets, len(task.problem.inputs)
        assert 1 <= m0 <= 12 and 1 <= len(y) <= 12 and 1 <= x.shape[1] <= 60
        assert 1 <= task.width <= 3 * (m0 + len(y))
        assert bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())
        assert task.loss.name != "logistic" or bool((y.abs() == 1).all())
        rest = y - y @ torch.linalg.pinv(x) @ x
        unexplained += float(rest.norm()) > 1e-3 * float(y.norm())
        assert holds(task.trait, x, y), task.trait
    assert unexplained >= 200  # no linear map interpolates at least half of them
    assert {task.trait for task in drawn} == set(TRAITS)
    assert len({(task.activation.name, task.loss.name) for task in drawn}) == 12


def test_random_linear_problems_are_what_the_prior_says():
    drawn = [random_linear(generator("prior", i)) for i in range(400)]
    assert torch.equal(random_linear(generator("prior", 0)).problem.inputs, drawn[0].problem.inputs)
    sizes = np.array([(*one.problem.inputs.shape, len(one.problem.targets)) for one in drawn])
    m0, n, m2 = sizes.T
    assert m0.min() == m2.min() == 1 and m0.max() == m2.max() == 20
    assert n.max() > 350 and 0.05 < np.mean(n < m0) < 0.3
    width, share = (np.array([getattr(one, x) for one in drawn]) for x in ("width", "share"))
    assert width.min() == 2 and 55 < width.max() <= 60 and 0.05 <= share.min() < share.max() <= 0.95
    assert {one.trait for one in drawn} == set(LINEAR_TRAITS)
    for one in drawn:
        x, y, moments = one.problem.inputs, one.problem.targets, one.problem.moments()
        assert one.inputs == "generic" or commutator(one.problem) < 1e-9
        if one.inputs == "white":
            torch.testing.assert_close(moments.xx, torch.eye(len(x)).double(), atol=1e-10, rtol=0)
        if one.trait == "tied" and min(moments.yx.shape) > 1:
            s = torch.linalg.svdvals(moments.yx)
            assert float(s[1]) < 1e-10 or float(s[0] - s[1]) < 1e-10
        assert holds(one.trait, x, y), one.trait
