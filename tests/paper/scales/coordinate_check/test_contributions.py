"""Thesis figures 3.2 and 3.3: the law of a step against its matrices, levels, the chance of slopes."""

from dataclasses import replace

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.parametrizations import scheme
from paper.scales.coordinate_check import contributions


def test_the_law_without_matrices_is_that_of_the_matrices():
    """Means, spreads and correlations of layers, at a large step: 1500 nets each way."""
    widths, draws, kappa, eta = (12, 40, 26, 40, 26, 40, 2), 1500, 0.31, 0.8
    for name in ("dp(1/2)", "spectral"):
        p = scheme(name)(widths)
        g = generator("with matrices", name)
        x = torch.full((widths[0], 1), kappa**0.5)
        weights = [
            torch.randn(draws, b, a, generator=g)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        ]
        target = torch.tensor([[1.0], [0.0]])
        step = first_step(weights, p, x, lambda f: f - target, step_size=eta, drawn=True)
        whole = (step["contribution"] / eta).double().log()
        law = contributions.drawn_step(
            p, draws, generator("without", name), kappa=kappa, step_size=eta
        ).log()
        noise = whole.std(0) / draws**0.5
        assert ((whole.mean(0) - law.mean(0)).abs() < 5 * noise).all()
        torch.testing.assert_close(law.std(0), whole.std(0), rtol=0.12, atol=0)
        both = [torch.corrcoef(v.mT) for v in (whole, law)]
        torch.testing.assert_close(both[1], both[0], rtol=0, atol=0.08)


def test_chance_is_the_spread_of_slopes():
    """Slopes of experiments drawn anew, each trial with an image of its own."""
    config = replace(contributions.Config(), sizes=(600, 900, 1350), draws=600, trials=6)
    name, g = contributions.PUBLISHED[0], generator("images of their own")
    found = contributions.slopes(name, config)
    logs = torch.tensor(config.sizes).double().log()
    logs -= logs.mean()
    values = []
    for n in config.sizes:
        m = contributions.SETTINGS[name].bottleneck(n)
        p = contributions.SETTINGS[name].parametrization((3072, n, m, n, m, n, 2))
        drawn = contributions.drawn_step(p, 600, g, kappa=0.31, step_size=0.1)
        normal = torch.randn(600, 1, generator=g, dtype=torch.float64)
        sigma2 = torch.tensor(1 + config.images**2).log()  # log |x|^2: relative SD as said
        drawn *= (normal * sigma2.sqrt() - sigma2 / 2).exp()
        values.append(drawn.reshape(100, 6, -1).mean(1).log())  # (experiment, layer)
    slopes = (logs[:, None, None] * torch.stack(values)).sum(0) / logs.square().sum()
    assert slopes.std(0).numpy() == pytest.approx(found.chance.values, rel=0.25)
    alone = contributions.slopes(name, replace(config, images=0.0))
    assert (alone.chance < 0.8 * found.chance).all() and (alone.slope == found.slope).all()


def test_only_the_letter_of_sigma_1_moves_the_expected_slope():
    found = contributions.by_change(contributions.Config().quick())
    moved = abs(found.slope).max("layer") > 0.05
    assert found.change.values[moved].tolist() == ["sigma_1 to the letter"]
    alone, each = (found.chance.sel(change=list(contributions.CHANGES)[k]).mean() for k in (1, 0))
    assert float(each) > 1.5 * float(alone)
