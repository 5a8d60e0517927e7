"""Stages inside bottleneck nets: sharp only near the saddle, bounded by the narrowest layer."""

from dataclasses import replace

import pytest

from paper.together.stages import CEILING, train_staged


@pytest.fixture(scope="module")
def runs():
    return {name: train_staged(name) for name in ("dp(0)", "dp(1/2)", "spectral")}


def test_only_spectral_learns_one_direction_at_a_time(runs):
    share = {name: float(run.next_share[:, 0].mean()) for name, run in runs.items()}
    assert share["dp(0)"] > 0.4 and share["dp(1/2)"] > 0.25
    assert share["spectral"] < 0.05


def test_the_share_beside_a_direction_that_is_never_half_learned_is_unknown(runs):
    lazy = runs["dp(0)"]
    early = replace(lazy, learned=lazy.learned.clamp(max=0.4))
    assert early.next_share.isnan().all()


def test_every_bottleneck_map_is_of_rank_one_during_spectral_s_first_drop(runs):
    run = runs["spectral"]
    at = int((run.learned[0, :, 0] >= 0.5).long().argmax())
    assert float(run.ranks[0, at].max()) < 1.3 < float(runs["dp(1/2)"].ranks[0, at].min())


@pytest.mark.parametrize("name", ["dp(0)", "dp(1/2)", "spectral"])
def test_the_narrowest_layer_is_a_ceiling_for_the_rank(name):
    run = train_staged(name, replace(CEILING, bottleneck=2, seeds=2))
    level = float(run.levels[2])
    assert float((run.loss[:, -1] - level).abs().max()) < 0.01 * level


def test_one_unit_more_lifts_the_ceiling():
    run = train_staged("dp(1/2)", replace(CEILING, bottleneck=3, seeds=2))
    assert float(run.loss[:, -1].max()) < 0.01 * float(run.levels[2])
