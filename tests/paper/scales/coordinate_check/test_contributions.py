"""Thesis figures 3.2 and 3.3: the trial against autograd, the record against the published numbers."""

from dataclasses import replace

import pytest
import torch

from learning_dynamics.runtime import generator
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
    gaps = []
    for name in contributions.PUBLISHED:
        slopes, intervals = result.slopes(name)
        gaps += [
            abs(a - b) for a, b in zip(slopes, contributions.SETTINGS[name].published, strict=True)
        ]
        growth = 2 * (contributions.SETTINGS[name].growth - 1) if "Spectral" in name else 0.0
        for ours, half in zip(slopes, intervals, strict=True):
            assert abs(ours - growth) <= half + 0.03, name
        ratio = result.levels(name) / result.predicted_levels(name)
        assert float(ratio.min()) >= 0.75 and float(ratio.max()) <= 1.25
    assert max(gaps) <= 0.07 and sum(gap <= 0.06 for gap in gaps) >= 20  # of 24
    literal = result.slopes("Spectral to the letter, m = 150 n^(1/5)")[0]
    assert max(literal) - min(literal) > 0.2  # n_0 > n bends the letter's curves


def test_some_of_the_record_is_reproduced():
    result = contributions.read(contributions.RECORD)
    rows, _ = contributions.trial(replace(contributions.FULL), 1000, 0)
    for k, name in enumerate(contributions.SETTINGS):
        assert result.values[name][0, 0].tolist() == pytest.approx(rows[k], rel=1e-2)


def test_half_width_with_images_by_resampling():
    """Trials resampled, each times the |x|^2 of an image of its own; 2000 samples: 3 % error."""
    found, name, spread = contributions.read(contributions.RECORD), contributions.PUBLISHED[0], 0.5
    values = found.values[name]
    logs = torch.tensor(contributions.FULL.sizes, dtype=torch.float64).log()
    logs -= logs.mean()
    g = generator("images of their own")
    slopes = []
    for _ in range(2000):
        pick = torch.randint(values.shape[1], values.shape[:2], generator=g)
        drawn = torch.take_along_dim(values, pick[..., None], dim=1)
        normal = torch.randn(values.shape[:2], generator=g, dtype=values.dtype)
        norms = (normal * torch.tensor(1 + spread**2).log().sqrt()).exp()  # relative SD: spread
        means = (drawn * norms[..., None]).mean(1).log()
        slopes.append((logs[:, None] * means).sum(0) / logs.square().sum())
    resampled = 1.96 * torch.stack(slopes).std(0).mean()
    assert found.half_width(name, spread) == pytest.approx(float(resampled), rel=0.1)
    assert found.half_width(name, 0.0) == pytest.approx(
        sum(h * h for h in found.slopes(name)[1]) ** 0.5 / 6**0.5
    )


def test_more_trials_come_nearer_to_the_published_slopes():
    """The first thirty trials are those of the other record; all 120 lie within 0.06."""
    (name,) = contributions.MORE.settings
    few, more = (
        contributions.read(contributions.RECORD),
        contributions.read(contributions.MORE_RECORD),
    )
    assert more.config == contributions.MORE
    assert torch.equal(more.values[name][:, : contributions.FULL.trials], few.values[name])
    slopes, half = more.slopes(name)
    assert max(half) < min(few.slopes(name)[1])
    assert all(
        abs(a - b) <= 0.06
        for a, b in zip(slopes, contributions.SETTINGS[name].published, strict=True)
    )
    assert all(abs(a) <= h for a, h in zip(slopes, half, strict=True))


def test_one_setting_alone_gives_the_same_numbers():
    """The draws do not depend on the settings that are computed."""
    name = "Spectral, m = n/5"
    alone = contributions.run(replace(TINY, settings=(name,)))
    assert torch.equal(alone.values[name], contributions.run(TINY).values[name])
