"""The exponent check: it agrees where theory and numbers match, and says so where they do not."""

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.exponent_check import WidthFamily, exponent_check, fit_slope
from learning_dynamics.scales.parametrizations import SCHEMES, Scheme, scheme

THESIS = WidthFamily((0, 1, "1/5", 1, "1/5", 1, 0), (8, 1, 8, 1, 8, 1, 4))


def test_every_scheme_meets_its_prediction_in_every_layer():
    check = exponent_check(list(SCHEMES), THESIS, (512, 2048, 8192), runs=24)
    assert check.agrees, check.table()
    assert len(check.lines) == len(SCHEMES) * (13 * 6 - 2)  # two quantities lack one layer each
    assert all(line.interval < 0.25 for line in check.lines)


def test_a_scheme_whose_numbers_contradict_its_exponents_is_found_out():
    """Negative control: numbers of DP(0), exponents of DP(1/2)."""
    wrong = Scheme(
        "wrong", "wrong", lambda n: scheme("ntk" if isinstance(n[0], float) else "dp(1/2)").rule(n)
    )
    family = WidthFamily((0, 1, 1, 0), (8, 1, 1, 1))
    check = exponent_check([wrong], family, (64, 256, 1024), runs=4)
    assert not check.agrees
    (line,) = check.select(quantity="change_rms", layer=2)
    assert line.verdict == "differs" and line.predicted == 0
    assert line.slope == pytest.approx(-0.5, abs=0.1)
    assert "!" in check.table(quantity="change_rms")


def test_runs_have_streams_of_their_own():
    family = WidthFamily((0, 1, 1, 0), (4, 1, 1, 1))
    options = {"quantities": ("change_norm",), "seed": "streams"}
    few = exponent_check(["ntk"], family, (32, 1500), runs=2, **options)
    more = exponent_check(["ntk"], family, (32, 1500), runs=3, **options)
    a, b = few.values["ntk"]["change_norm"], more.values["ntk"]["change_norm"][:, :2]
    assert torch.allclose(a, b, rtol=1e-5)
    assert not torch.allclose(a[:, 0], a[:, 1], rtol=1e-3)


def test_real_steps_and_batches():
    """A small real step scales as the derivative does, for a batch as for one input."""
    family = WidthFamily((0, 1, "1/2", 1, 0), (8, 1, 4, 1, 2))
    check = exponent_check(
        ["dp(1/2)", "spectral"],
        family,
        (256, 1024, 4096),
        runs=8,
        samples=4,
        step_size=0.01,
        tolerance=0.1,  # sqrt(m/n) is 1/4 at the smallest size
    )
    assert check.agrees, check.table()


def test_slope_of_an_exact_power_law():
    sizes = (10, 20, 40)
    values = torch.tensor([[3.0 * n**-0.7] * 4 for n in sizes])
    slope, interval = fit_slope(sizes, values)
    assert slope == pytest.approx(-0.7, abs=1e-6) and interval < 1e-6


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu():
    options = {"family": THESIS, "sizes": (64, 128), "runs": 2, "dtype": torch.float64}
    here, there = (exponent_check(["dp(1/2)"], device=at, **options) for at in ("cpu", "cuda"))
    for name, value in here.values["dp(1/2)"].items():
        other = there.values["dp(1/2)"][name]
        torch.testing.assert_close(other.cpu(), value, rtol=1e-9, atol=0, equal_nan=True)


@pytest.mark.usefixtures("as_users_run")
def test_impossible_families_and_fits():
    with pytest.raises(ValueError, match="3 and 2 given"):
        WidthFamily((0, 1, 0), (1, 1))
    with pytest.raises(ValueError, match="prefactors"):
        WidthFamily((0, 1, 0), (1, -1, 1))
    with pytest.raises(ValueError, match="at least two of each"):
        fit_slope((1,), torch.ones(1, 4))
    with pytest.raises(ValueError, match="must be positive"):
        fit_slope((1, 2), torch.zeros(2, 4))
