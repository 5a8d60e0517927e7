"""Effective rank, probe and alignment on cases with known answers."""

import pytest
import torch

from learning_dynamics.problems import Problem, random_orthogonal
from learning_dynamics.runtime import generator
from learning_dynamics.scales.representations import (
    effective_rank,
    linear_alignment,
    linear_probe,
    summarise,
)
from learning_dynamics.scales.training import initialise


def features(rank: int, samples: int = 60) -> torch.Tensor:
    """Features (1, 12, samples) with `rank` equal directions, exactly centred."""
    g = generator("features", rank)
    z = torch.randn(samples, rank + 1, generator=g, dtype=torch.float64)
    z[:, 0] = 1
    q = torch.linalg.qr(z).Q[:, 1:]
    return (random_orthogonal(12, g)[:, :rank] @ q.mT)[None]


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_effective_rank_counts_equal_directions(rank):
    x = features(rank)
    assert float(effective_rank(x)) == pytest.approx(rank, rel=1e-9)
    assert float(effective_rank(100 * x + 7)) == pytest.approx(rank, rel=1e-9)


def test_effective_rank_of_dead_features_is_zero():
    assert float(effective_rank(torch.zeros(1, 4, 10))) == 0
    uneven = features(2) * 1.0
    uneven[:, :, :30] *= 5
    assert 1 <= float(effective_rank(uneven)) <= 12


def test_alignment():
    x = features(3)
    q = random_orthogonal(12, generator("rotation"))
    assert float(linear_alignment(x, 3 * q @ x)) == pytest.approx(1, rel=1e-9)
    assert float(linear_alignment(x, features(4))) < 0.5


def test_probe_reads_what_is_there_and_not_what_is_not():
    g = generator("probe")
    x = torch.randn(1, 5, 400, generator=g, dtype=torch.float64)
    seen = torch.nn.functional.one_hot((x[0, 0] > 0).long(), 2).double().mT
    hidden = torch.nn.functional.one_hot(torch.randint(2, (400,), generator=g), 2).double().mT
    half = slice(0, 200), slice(200, 400)
    good = linear_probe(x[..., half[0]], seen[:, half[0]], x[..., half[1]], seen[:, half[1]])
    none = linear_probe(x[..., half[0]], hidden[:, half[0]], x[..., half[1]], hidden[:, half[1]])
    assert float(good) > 0.93 and 0.38 < float(none) < 0.62


def test_summary_has_one_row_a_run():
    g = generator("summary")
    x = torch.rand(9, 300, generator=g)
    y = torch.nn.functional.one_hot(torch.randint(3, (300,), generator=g), 3).float().mT
    p = Problem(x, y.contiguous())
    state = initialise((9, 20, 6, 20, 6, 20, 3), (0.4,) * 6, [0, 1])
    found = summarise(state.weights, (1.0,) * 6, p, p)
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        "rank": (2, 2),
        "probe": (2, 2),
        "alignment": (2, 3),
    }
    assert not torch.equal(found["rank"][0], found["rank"][1])
