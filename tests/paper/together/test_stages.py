"""Stages inside bottleneck nets: of rank one near the saddle, and a share that may be unknown."""

from dataclasses import replace

import pytest

from paper.together.stages import Stages, train_staged


@pytest.fixture(scope="module")
def runs():
    return {name: train_staged(name, Stages(seeds=1)) for name in ("dp(1/2)", "spectral")}


def test_the_share_beside_a_direction_that_is_never_half_learned_is_unknown(runs):
    rich = runs["dp(1/2)"]
    early = replace(rich, learned=rich.learned.clamp(max=0.4))
    assert early.next_share.isnan().all() and not rich.next_share.isnan().any()


def test_every_bottleneck_map_is_of_rank_one_during_spectral_s_first_drop(runs):
    run = runs["spectral"]
    at = int((run.learned[0, :, 0] >= 0.5).long().argmax())
    assert float(run.ranks[0, at].max()) < 1.3 < float(runs["dp(1/2)"].ranks[0, at].min())
