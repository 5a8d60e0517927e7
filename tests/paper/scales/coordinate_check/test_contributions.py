"""Thesis figures 3.2 and 3.3: the trial against autograd, the record against the published numbers."""

from dataclasses import replace

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.parametrizations import scheme
from paper.scales.coordinate_check import contributions

TINY = replace(contributions.QUICK, sizes=(560, 700), trials=2, inputs=20)


def test_trial_by_autograd():
    """One trial again with autograd, real weights and a real step."""
    n, name = 560, "DP(1/2), m = 150 n^(1/5)"
    s = contributions.SETTINGS[name]
    rows, _ = contributions.trial(TINY, n, 1)
    m, widest = s.bottleneck(n), max(t.bottleneck(n) for t in contributions.SETTINGS.values())
    g = generator(TINY.seed, n, 1)
    widths = (20, n, widest, n, widest, n, 2)
    draw = [torch.randn(b, a, generator=g) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    x = torch.rand(20, 1, generator=g)
    x = (x * (0.31 * 20) ** 0.5 / x.norm()).double()
    cut = (20, n, m, n, m, n, 2)
    p = s.parametrization(cut)
    weights = [
        (std * z[:b, :a]).double().requires_grad_()
        for z, a, b, std in zip(draw, cut[:-1], cut[1:], p.weight_stds, strict=True)
    ]

    def pass_through(ws):
        h, found = x, []
        for g_l, w in zip(p.multipliers, ws, strict=True):
            found.append(g_l * w @ h)
            h = found[-1].relu()
        return found

    before = pass_through(weights)
    loss = 0.5 * (before[-1] - torch.tensor([[0.0], [1.0]])).square().sum()
    found = torch.autograd.grad(loss, [*weights, *before])
    after = pass_through([w - 0.1 * d for w, d in zip(weights, found[:6], strict=True)])
    expected = [
        float((d * (b - a)).sum().abs().detach())
        for d, a, b in zip(found[6:], before, after, strict=True)
    ]
    assert rows[list(contributions.SETTINGS).index(name)] == pytest.approx(expected, rel=1e-3)


def test_record_round_trip(tmp_path):
    result = contributions.run(TINY)
    contributions.write(result, tmp_path / "r.json")
    again = contributions.read(tmp_path / "r.json")
    assert again.config == result.config
    for name in contributions.SETTINGS:
        assert torch.allclose(again.values[name], result.values[name], rtol=1e-4)


def test_record_meets_published_slopes_and_levels():
    """The committed run with the thesis's ten widths and thirty trials."""
    result = contributions.read(contributions.RECORD)
    assert result.config == contributions.FULL
    for name in contributions.PUBLISHED:
        slopes, intervals = result.slopes(name)
        growth = 2 * (contributions.SETTINGS[name].growth - 1) if "Spectral" in name else 0.0
        for ours, half in zip(slopes, intervals, strict=True):
            assert abs(ours - growth) <= half + 0.03, name
        ratio = result.levels(name) / result.predicted_levels(name)
        assert float(ratio.min()) >= 0.75 and float(ratio.max()) <= 1.25
    literal = result.slopes("Spectral to the letter, m = 150 n^(1/5)")[0]
    assert max(literal) - min(literal) > 0.2  # n_0 > n bends the letter's curves


def test_some_of_the_record_is_reproduced():
    result = contributions.read(contributions.RECORD)
    rows, _ = contributions.trial(replace(contributions.FULL), 1000, 0)
    for k, name in enumerate(contributions.SETTINGS):
        assert result.values[name][0, 0].tolist() == pytest.approx(rows[k], rel=1e-2)


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
    config = replace(contributions.Chance(), sizes=(600, 900, 1350), draws=600, trials=6)
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


def test_one_setting_alone_gives_the_same_numbers():
    """The draws do not depend on the settings that are computed."""
    name = "Spectral, m = n/5"
    alone = contributions.run(replace(TINY, settings=(name,)))
    assert torch.equal(alone.values[name], contributions.run(TINY).values[name])
