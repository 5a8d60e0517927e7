"""The exponent check: it agrees where theory and numbers match, and says so where they do not."""

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.exponent_check import WidthFamily, exponent_check, fit_slope
from learning_dynamics.scales.parametrizations import Scheme, scheme

THESIS = WidthFamily((0, 1, "1/5", 1, "1/5", 1, 0), (8, 1, 8, 1, 8, 1, 4))


def test_a_scheme_whose_numbers_contradict_its_exponents_is_found_out():
    """Negative control: numbers of DP(0), exponents of DP(1/2)."""

    def rule(n):
        return scheme("ntk" if isinstance(n[0], float) else "dp(1/2)").rule(n)

    family, wrong = WidthFamily((0, 1, 1, 0), (8, 1, 1, 1)), Scheme("wrong", "wrong", rule)
    check = exponent_check([wrong], family, (64, 256, 1024), runs=4)
    assert not check.agrees
    (line,) = check.select(quantity="change_rms", layer=2)
    assert line.verdict == "differs" and line.predicted == 0
    assert line.slope == pytest.approx(-0.5, abs=0.1)
    assert "!" in check.table(quantity="change_rms")


def test_runs_have_streams_of_their_own():
    family = WidthFamily((0, 1, 1, 0), (4, 1, 1, 1))
    options = {"quantities": ("change_norm",), "seed": "streams"}
    a, b = (
        exponent_check(["ntk"], family, (32, 1500), runs=n, **options).values["ntk"]["change_norm"]
        for n in (2, 3)
    )
    assert torch.allclose(a, b[:, :2], rtol=1e-5)
    assert not torch.allclose(a[:, 0], a[:, 1], rtol=1e-3)


def test_real_steps_and_batches():
    """A small real step scales as the derivative does, for a batch as for one input."""
    family = WidthFamily((0, 1, "1/2", 1, 0), (8, 1, 4, 1, 2))
    options = {"runs": 8, "samples": 4, "step_size": 0.01}
    options["tolerance"] = 0.1  # sqrt(m/n) is 1/4 at the smallest size
    check = exponent_check(["dp(1/2)", "spectral"], family, (256, 1024, 4096), **options)
    assert check.agrees, check.table()


def test_intervals_cover_the_truth_as_often_as_they_say():
    g = generator("coverage")
    sizes, hits = (16, 32, 64, 128), 0
    for _ in range(400):
        noise = torch.exp(0.3 * torch.randn(4, 10, generator=g, dtype=torch.float64))
        slope, interval = fit_slope(sizes, torch.tensor(sizes)[:, None] ** 0.5 * noise)
        hits += abs(slope - 0.5) <= interval
    assert 0.91 <= hits / 400 <= 0.99  # binomial: 0.95 +- 3.7 standard errors


def test_dataset_and_table():
    family = WidthFamily((0, 1, 1, 0), (4, 1, 1, 1))
    check = exponent_check(["ntk", "spectral"], family, (16, 32), runs=2)
    data = check.to_dataset()
    assert data["change_norm"].dims == ("scheme", "size", "run", "layer")
    assert data.sizes == {"scheme": 2, "size": 2, "run": 2, "layer": 3}
    assert check.table(scheme="none") == "no lines selected"
    assert check.table(quantity="cosine").count("\n") == 2


@pytest.mark.usefixtures("as_users_run")
def test_impossible_families_and_fits():
    for call, message in (
        (lambda: WidthFamily((0, 1, 0), (1, 1)), "3 and 2 given"),
        (lambda: WidthFamily((0, 1, 0), (1, -1, 1)), "prefactors"),
        (lambda: fit_slope((1,), torch.ones(1, 4)), "at least two of each"),
        (lambda: fit_slope((1, 2), torch.zeros(2, 4)), "must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
