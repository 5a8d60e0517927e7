"""Problems: the chosen spectra are exact, the three covariances are what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_dynamics.problems import Problem, linear_teacher, random_orthogonal
from learning_dynamics.runtime import generator

SPECTRUM, TARGETS = (2.5, 1.6, 1.2, 0.9, 0.6, 0.4), (3.0, 1.5, 0.6)


def problem(covariance, seed=0, **more):
    more |= {"input_spectrum": SPECTRUM, "target_spectrum": TARGETS, "covariance": covariance}
    return linear_teacher(generator=generator("problems", seed), **more)


def commutator(p):
    m = p.moments()
    a, b = m.xx, m.yx.mT @ m.yx
    return float((a @ b - b @ a).norm())


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_spectra_are_exact(seed):
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


def test_covariances_are_what_they_say():
    isotropic = problem("isotropic").moments().xx
    white = sum(SPECTRUM) / len(SPECTRUM) * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(isotropic, white, atol=1e-12, rtol=0)
    assert commutator(problem("commuting")) < 1e-10
    assert commutator(problem("generic")) > 0.1


def test_moments_are_means_over_samples():
    p = problem("generic", noise=0.5)
    m, n = p.moments(), p.inputs.shape[-1]
    products = (torch.outer(p.targets[:, j], p.inputs[:, j]) for j in range(n))
    torch.testing.assert_close(m.yx, sum(products) / n)
    torch.testing.assert_close(m.yy, m.yy.mT)


def test_noise_has_the_chosen_spread():
    p = problem("generic", noise=0.5, samples=4000)
    assert float((p.targets - p.teacher @ p.inputs).std()) == pytest.approx(0.5, rel=0.03)


def test_same_seed_same_problem():
    assert torch.equal(problem("generic", 3).targets, problem("generic", 3).targets)
    assert not torch.equal(problem("generic", 3).targets, problem("generic", 4).targets)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_random_orthogonal(seed, size):
    q = random_orthogonal(size, generator("orthogonal", seed))
    torch.testing.assert_close(q @ q.mT, torch.eye(size, dtype=torch.float64), atol=1e-13, rtol=0)


def test_random_orthogonal_has_no_preferred_sign():
    signs = [float(random_orthogonal(2, generator("sign", s))[0, 0] > 0) for s in range(400)]
    assert 0.4 < sum(signs) / 400 < 0.6  # 4 standard deviations


REFUSED = {
    "covariance = 'diagonal'.*commuting": {"covariance": "diagonal"},
    "noise = -1.0": {"noise": -1.0},
    "samples = 3: must be at least m0 = 6": {"samples": 3},
    "target_spectrum has 3 values": {"output_dim": 2},
    "input_spectrum": {"input_spectrum": (1.0, -1.0, 1.0)},
}


@pytest.mark.parametrize("words", REFUSED)
def test_impossible_problems_are_refused(as_users_run, words):
    with pytest.raises(ValueError, match=words):
        linear_teacher(generator=generator("bad"), **{"target_spectrum": TARGETS} | REFUSED[words])


NAN, INTEGERS = torch.full((2, 3), torch.nan), torch.ones(2, 3, dtype=torch.int64)
TWO, ONE = torch.ones(2, 3), torch.ones(1, 3)
BAD = [
    (TWO, torch.ones(1, 4), r"targets: shape \(1, 4\) has n = 4, inputs has 3"),
    (NAN, ONE, "inputs.*finite"),
    (TWO, torch.full((1, 3), torch.inf), "targets.*finite"),
    (INTEGERS, ONE, "inputs.*floating"),
    (torch.ones(5, 2, 3), torch.ones(4, 1, 3), r"has \*runs = \(4,\), inputs has \(5,\)"),
    (TWO[:, :0], ONE[:, :0], "inputs"),
]


@pytest.mark.parametrize(("inputs", "targets", "words"), BAD)
def test_bad_data_are_refused(as_users_run, inputs, targets, words):
    with pytest.raises(ValueError, match=words):
        Problem(inputs, targets)
