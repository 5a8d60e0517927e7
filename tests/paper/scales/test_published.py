"""Published loss curves: choice of rates, ratios and their intervals, what the record holds."""

from dataclasses import replace
from math import inf, log

import numpy as np
import pytest
import torch
import xarray as xr

from learning_dynamics.data.images import Images
from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.losses import squared
from paper.scales.simulations import published
from paper.scales.simulations.published import MARGIN, THESIS, Config, epochs_to, log_ratio, run

TINY = replace(
    Config().quick(),
    n=20,
    m=6,
    epochs=1,
    records=4,
    digits=None,
    octaves=(("dp(1/2)", (0, 1)), ("spectral", (0, 1))),
    seeds=(5, 6),
)


def test_a_run_that_never_arrives_counts_with_the_last_epoch():
    loss = xr.DataArray(
        [[1.0, 0.5, 0.001], [1.0, 0.5, 0.2], [1.0, inf, inf]],
        dims=("seed", "epoch"),
        coords={"epoch": [0.0, 0.5, 2.0]},
    )
    assert epochs_to(0.01, loss).values.tolist() == [2.0, 2.0, 2.0]
    assert epochs_to(0.6, loss).values.tolist() == [0.5, 0.5, 2.0]


def planted(ratio: float, noise: float) -> xr.DataArray:
    """DP is `ratio` times Spectral with the same seeds, 20 of them."""
    own = np.random.default_rng(0).standard_normal((2, 20))
    spectral = np.exp(own[0])  # seeds differ much; the ratio is that of the same seed
    values = np.stack([ratio * spectral * np.exp(noise * own[1]), spectral])
    coords = {"pair": ["3/8"], "scheme": ["dp(1/2)", "spectral"]}
    return xr.DataArray(values[None], dims=("pair", "scheme", "seed"), coords=coords)


def test_equality_within_the_margin_is_told_from_ignorance():
    def equal(values):
        _, (low,), (high,) = log_ratio(values, coverage=0.9)
        return -log(MARGIN) < low and high < log(MARGIN)

    assert equal(planted(1.02, 0.05)) and not equal(planted(1.15, 0.05))
    assert not equal(planted(1.0, 0.6))  # no difference is seen, and none is excluded
    (mean,), (low,), (high,) = log_ratio(planted(0.8, 0.1))
    assert low < log(0.8) < high < 0 and mean == pytest.approx(log(0.8), abs=0.06)


def test_the_rate_is_chosen_on_other_seeds():
    found = published.measure(TINY)
    assert not set(TINY.seeds) & set(TINY.grid_seeds)
    for s in TINY.schemes:
        means = found.grid_loss.sel(scheme=s).isel(pair=0).mean("grid_seed")
        assert float(found.rate.sel(scheme=s)[0]) == 0.1 * 2.0 ** int(
            means.octave[np.argmin(means.data)]
        )
    assert np.isfinite(found.train_loss).all() and np.isnan(found.wide_train_loss).all()
    record = run(Config())  # where rates were tried that make runs diverge
    ends = record.grid_loss.mean("grid_seed")
    assert np.isinf(ends).any()
    best = 0.1 * 2.0 ** record.octave[ends.fillna(np.inf).argmin("octave")]
    assert (best == record.rate).where(record.rate.notnull(), True).all()


def test_what_is_not_begun_in_time_stays_open():
    saved = []
    found = published.measure(TINY, save=lambda d: saved.append(d.copy(deep=True)), limit=0.0)
    assert np.isfinite(found.train_loss.sel(scheme="dp(1/2)")).all() and len(saved) == 1
    assert np.isnan(found.train_loss.sel(scheme="spectral")).all()
    kept = found.train_loss.sel(scheme="dp(1/2)").copy(deep=True)
    said = []
    whole = published.measure(TINY, say=said.append, found=found)
    assert len(said) == 1 and np.isfinite(whole.train_loss).all()
    assert whole.train_loss.sel(scheme="dp(1/2)").equals(kept)


def test_bottlenecks_are_seen_when_the_loss_is_reached():
    images, nets = Images(source="sklearn", classes=(3, 8), pool=1), published.Nets(TINY)
    levels, seen = published.Levels(images, (inf, 0.3), 2), []

    def see(multipliers, train):
        look = levels.see(multipliers, train)

        def observe(now):
            f = hidden(now.weights, multipliers, train.inputs[None])[-1]
            seen.append(squared().value(f, train.targets.expand_as(f)).numpy().copy())
            return look(now)

        return observe

    record = list(range(0, 41, 2))
    nets.train(images, "dp(1/2)", [(0.2, 5), (0.1, 6)], 40, record, see=see)
    losses = np.stack(seen)
    first = (losses <= 0.3).argmax(0)
    assert (first > 0).all()
    assert levels.found["step"][:, 1].tolist() == [record[k] for k in first]
    assert levels.found["loss"][:, 1] == pytest.approx([losses[k, i] for i, k in enumerate(first)])
    assert levels.found["rank"].shape == (2, 2, 2) and np.isfinite(levels.found["probe"]).all()


def test_the_thesis_setting_is_kept():
    assert (THESIS.n, THESIS.m, THESIS.epochs, len(THESIS.seeds)) == (10_000, 500, 200, 100)
    assert all(i.level is None and i.source == "cifar10" for i in THESIS.pairs)
    config = Config()
    assert (config.batch_size, config.momentum, config.recorded()[-1]) == (64, 0.9, 6200)
    for s in config.schemes:
        assert published.RATE in config.rates(s)


def test_the_record_holds_runs_of_this_code():
    """The first steps of one run of the record, computed again in double precision."""
    config, record = replace(Config(), dtype="float64", seeds=(5,), grid_seeds=()), run(Config())
    steps = config.recorded()[:6]
    again = published.Nets(config).train(config.pairs[1], "spectral", [(0.1, 5)], steps[-1], steps)
    stored = record.train_loss.sel(kind="thesis", scheme="spectral", seed=5).isel(pair=1)
    assert stored.values[:6] == pytest.approx(again["train_loss"][0].numpy(), rel=1e-3)
    assert list(record.pair.values) == ["/".join(map(str, p.classes)) for p in config.pairs]
    torch.testing.assert_close(stored.epoch.values[-1], 200.0)
