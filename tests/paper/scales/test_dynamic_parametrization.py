"""DP(r) and the NTK parametrization: one run under two names."""

from dataclasses import replace

import pytest
import torch

from paper.scales.dynamic_parametrization import (
    ACTIVATIONS,
    OPTIMIZERS,
    Config,
    Network,
    draw,
    losses,
)

CONFIG = Config(steps=10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_names_for_one_run(activation, optimizer):
    for seed, output_bias in enumerate(("none", "inside", "outside")):
        drawn = replace(draw(seed), activation=activation, optimizer=optimizer)
        drawn = replace(drawn, output_bias=output_bias, biases=True, norm=seed == 1)
        one, two = (losses(drawn, as_dp, seed, CONFIG, False) for as_dp in (True, False))
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0)
        assert abs(float(two[-1] - two[0])) > 1e-3 * float(two[0])
        dp, ntk = (Network(drawn, as_dp, seed).weights[0].detach() for as_dp in (True, False))
        torch.testing.assert_close(dp, drawn.scale * ntk)  # not one net under two names


def test_biases_at_the_rate_of_matrices_make_another_run():
    drawn = replace(draw(0), biases=True, r=0.5, optimizer="sgd")
    one, two = (losses(drawn, True, 0, CONFIG, equal) for equal in (True, False))
    assert float((one - two).abs().max()) > 1e-3 * float(two[0])
