"""The coordinate check: it agrees where theory and numbers match, and says so where they do not."""

from fractions import Fraction as F

import pytest
import torch
from torch import nn

from learning_dynamics.runtime import generator
from learning_dynamics.scales.coordinate_check import (
    WidthFamily,
    coordinate_check,
    coordinate_check_of,
    fit_slope,
)
from learning_dynamics.scales.parametrizations import Scheme, scheme

THESIS = WidthFamily((0, 1, "1/5", 1, "1/5", 1, 0), (8, 1, 8, 1, 8, 1, 4))


def test_a_scheme_whose_numbers_contradict_its_exponents_is_found_out():
    """Negative control: numbers of DP(0), exponents of DP(1/2)."""

    def rule(n):
        return scheme("ntk" if isinstance(n[0], float) else "dp(1/2)").rule(n)

    wrong = Scheme("wrong", "wrong", rule)
    family = WidthFamily((0, 1, 1, 0), (8, 1, 1, 1))
    check = coordinate_check([wrong], family, (64, 256, 1024), runs=4)
    assert not check.agrees
    (line,) = check.select(quantity="change_rms", layer=2)
    assert line.verdict == "differs" and line.predicted == 0
    assert line.slope == pytest.approx(-0.5, abs=0.1)
    assert "!" in check.table(quantity="change_rms")


def test_runs_have_streams_of_their_own():
    family = WidthFamily((0, 1, 1, 0), (4, 1, 1, 1))
    options = {"quantities": ("change_norm",), "seed": "streams"}
    few = coordinate_check(["ntk"], family, (32, 1500), runs=2, **options)
    more = coordinate_check(["ntk"], family, (32, 1500), runs=3, **options)
    a, b = few.values["ntk"]["change_norm"], more.values["ntk"]["change_norm"][:, :2]
    assert torch.allclose(a, b, rtol=1e-5)
    assert not torch.allclose(a[:, 0], a[:, 1], rtol=1e-3)


def test_real_steps_and_batches():
    """A small real step scales as the derivative does, for a batch as for one input."""
    family = WidthFamily((0, 1, "1/2", 1, 0), (8, 1, 4, 1, 2))
    # sqrt(m/n) is 1/4 at the smallest size
    options = {"runs": 8, "samples": 4, "step_size": 0.01, "tolerance": 0.1}
    check = coordinate_check(["dp(1/2)", "spectral"], family, (256, 1024, 4096), **options)
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


def bottleneck(n: int) -> nn.Module:
    m = round(4 * n**0.5)
    widths, layers = (8, n, m, n, 8), []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_a_network_of_ones_own():
    check = coordinate_check_of(bottleneck, "dp(1/2)", (256, 1024, 4096), runs=8)
    assert check.agrees, check.table()
    assert {line.scheme for line in check.lines} == {"dp(1/2)"}
    (line,) = check.select(quantity="cosine", layer=3)
    assert line.predicted == F(-1, 4)  # sqrt(m/n), read off the built widths


def test_dataset_and_table():
    family = WidthFamily((0, 1, 1, 0), (4, 1, 1, 1))
    check = coordinate_check(["ntk", "spectral"], family, (16, 32), runs=2)
    data = check.to_dataset()
    assert data["change_norm"].dims == ("scheme", "size", "run", "layer")
    assert data.sizes == {"scheme": 2, "size": 2, "run": 2, "layer": 3}
    assert check.table(scheme="none") == "no lines selected"
    assert check.table(quantity="cosine").count("\n") == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu():
    here, there = (
        coordinate_check(["dp(1/2)"], THESIS, (64, 256), runs=3, dtype=torch.float64, device=d)
        for d in ("cpu", "cuda")
    )
    for name, values in here.values["dp(1/2)"].items():
        there_too = there.values["dp(1/2)"][name].cpu()
        torch.testing.assert_close(there_too, values, rtol=1e-9, atol=0, equal_nan=True)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (64, 64)}, "at least two different sizes"),
        ({"runs": 1}, "runs = 1: must be an integer >= 2"),
        ({"quantities": ("mood",)}, "quantities = 'mood'"),
        ({"schemes": ["sp"]}, "scheme = 'sp'"),
        ({"step_size": -0.1}, "step_size = -0.1"),
    ],
)
def test_refusals(change, message):
    family = WidthFamily((0, 1, 1, 0), (4, 1, 1, 1))
    options = {"schemes": ["ntk"], "family": family, "sizes": (8, 16), "runs": 2} | change
    with pytest.raises(ValueError, match=message):
        coordinate_check(**options)


@pytest.mark.usefixtures("as_users_run")
def test_the_gauge_of_a_users_check_is_that_of_multipliers():
    def build(n):
        return nn.Sequential(nn.Linear(4, n, bias=False), nn.ReLU(), nn.Linear(n, 2, bias=False))

    with pytest.raises(ValueError, match="gauge = 'learning-rates'"):
        coordinate_check_of(build, "dp(1/2)", (8, 16), runs=2, gauge="learning-rates")
    coordinate_check_of(build, "dp(1/2)", (8, 16), runs=2, gauge="multipliers")


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
