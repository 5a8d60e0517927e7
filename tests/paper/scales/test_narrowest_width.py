"""The narrowest width in training: the reduction, the law, and what does not set the scale."""

import math
from dataclasses import replace

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import Module, draw_cores, train_modules
from paper.scales.narrowest_width import (
    INPUTS,
    OUTPUTS,
    Config,
    largest,
    law,
    losses,
    run,
    stable,
    task,
)

CONFIG = replace(Config().quick(), steps=40)


def test_a_net_of_width_n_has_the_losses_of_the_integrated_one():
    """Wide layers of unequal neighbours: the weights that the drawn factors stand for, as a net."""
    n, narrow, raised = 90, (5, 7), torch.tensor([0.5], dtype=torch.float64)
    integrated = losses("linear", (n, 5, n, 7, n), raised, [3], CONFIG)
    factor = 2.0 ** (-0.5 / 6)
    cores = draw_cores(INPUTS, narrow, OUTPUTS, 3, wide=[n], init_std=[factor], seeds=[3])
    whole = []
    for j, (a, b) in enumerate(zip(cores[::2], cores[1::2], strict=True)):
        draw = torch.randn(n, a.shape[1], generator=generator("turn", j), dtype=torch.float64)
        turn = torch.linalg.qr(draw).Q  # orthonormal columns: the units of the wide layer
        whole += [(turn @ a).contiguous(), (b @ turn.mT).contiguous()]
    g = [INPUTS**-0.5, n**-0.5, 5**-0.5, n**-0.5, 7**-0.5, n**-0.5]
    problem, net, seen = task(INPUTS), [w[0].requires_grad_() for w in whole], []
    for _ in range(41):
        f = problem.inputs
        for a, w in zip(g, net, strict=True):
            f = a * w @ f
        seen.append(0.5 * (f - problem.targets).square().sum(0).mean())
        for w, d in zip(net, torch.autograd.grad(seen[-1], net), strict=True):
            w.data -= 0.3 * factor**2 * 2.0 * d
    direct = torch.stack(seen).detach()[None, [0, *range(20, 41)]]
    torch.testing.assert_close(integrated, direct, rtol=1e-9, atol=0)
    assert float(integrated[0, -1]) < 0.1 * float(integrated[0, 0])


@pytest.mark.parametrize("rates", [(2, 2), (2, 4)])
def test_the_law_is_the_edge_of_the_infinite_net(rates):
    """K = 2: V = 0, P = I, Q = I is the start when both widths are infinite; nothing is random.

    Rates r_1 and r_2 of the two factors scale P and Q by r_1 and r_2 at step size eta.
    """
    config = replace(Config(), octaves=(-2, 4), parts=64)

    def trial(raised, runs):
        eyes = [torch.eye(k, dtype=torch.float64).repeat(len(runs), 1, 1) for k in (6, 4)]
        course = train_modules(
            [Module(torch.zeros(len(runs), 4, 6, dtype=torch.float64), *eyes)],
            task(INPUTS).moments(),
            # U_i = sqrt(r_i) U_i' moves at rate 1 in U_i' where U_i moves at rate r_i; the start,
            # which the edge does not depend on, is I for both.
            multiplier=2.0**-raised * math.sqrt(rates[0] * rates[1] / INPUTS),
            step_size=config.step_size * 4.0**raised,
            steps=config.steps,
            stop=lambda f: f.flatten(1).norm(dim=1) > 1e3,
        )
        return stable(course.loss[:, [0, *range(100, 201)]])

    assert float(largest(trial, 1, config)[0]) == pytest.approx(law(rates, [1], config), abs=0.03)


def test_only_the_narrowest_width_and_its_number_count_in_the_law():
    config = Config()
    for k in (2, 3, 4):
        four, one = (law([2] * k, [m] * (k - 1), config) for m in (64, 16))
        assert four - one == pytest.approx(1.0)


def test_what_is_stable():
    fall = torch.logspace(0, -4, 30).double()
    runs = torch.stack([fall, fall, 0 * fall + 0.95, fall])
    runs[1, 20] = 0.1  # rises late
    runs[3, 5:] = torch.inf  # diverges
    runs[2, 0] = 1.0  # dead: stays
    assert stable(runs).tolist() == [True, False, False, False]


def test_an_edge_outside_of_the_octaves_is_refused():
    def edge(raised, _):
        return raised < 1.3

    found = largest(edge, 2, replace(CONFIG, octaves=(-1, 4), parts=16))
    torch.testing.assert_close(found, torch.full((2,), 1.28125, dtype=torch.float64))
    with pytest.raises(ValueError, match="octaves"):
        largest(edge, 2, replace(CONFIG, octaves=(2, 4)))


def test_the_record_holds_runs_of_this_code():
    """One edge of the record, computed again."""
    config, record = Config(), run(Config())
    trial_seeds = [0, 1]

    def trial(raised, runs):
        chosen = [trial_seeds[int(i)] for i in runs]
        return stable(losses("linear", (2**20, 16, 2**20), raised, chosen, config))

    again = largest(trial, 2, config)
    stored = record.by_bottleneck.sel(modules=2, bottleneck=16, seed=trial_seeds).values
    torch.testing.assert_close(again, torch.tensor(stored), rtol=0, atol=1 / 16)


def test_the_wide_layers_count_where_they_are_narrow():
    """Negative control: below n = 1/D^2 the edge is not that of the law, and n enters."""
    record = run(Config()).by_wide.sel(modules=2).mean("seed")
    narrow, wide = record.sel(wide=64), record.sel(wide=2**20)
    assert abs(float(narrow - wide)) > 0.1
    assert abs(float(record.sel(wide=2**14) - wide)) < 0.05
