"""Evidence on exponents: the printed claim fails where it must, the ends of r are ends, the CLI."""

import pytest
import torch

from learning_dynamics.runtime import generator
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.parametrizations import dynamic
from paper.scales.coordinate_check.exponents import initial_outputs, main, richness_ends
from paper.scales.order_analysis import mean_square_output


def test_only_inside_its_range_is_early_training_stable():
    ends = richness_ends(("0", "1/2", "1"), (64, 512), runs=2, steps=8)
    assert float(ends.peak[:2].max()) <= 1.2  # the loss never rises much
    assert float(ends.peak[2, 1].median()) > 1.5  # r = 1 at n = 512: it does


def test_outputs_drawn_by_their_law_are_those_of_networks():
    """E f^2 is known exactly; its quartiles are those of drawn networks."""
    p = dynamic("1/4")((5, 12, 6, 1))
    draws = initial_outputs(p, 40000, generator("law"))
    assert float(draws.square().mean()) == pytest.approx(mean_square_output(p, 1.0), rel=0.05)
    x = torch.ones(1, 5, dtype=torch.float64)
    real = torch.stack(
        [
            MLP(p, generator=generator("real", k), dtype=torch.float64)(x).detach().abs().squeeze()
            for k in range(1500)
        ]
    )
    for share in (0.25, 0.5, 0.75):
        assert float(draws.quantile(share)) == pytest.approx(float(real.quantile(share)), rel=0.12)


def test_command_line(capsys):
    code = main(["dp(1/2)", "--sizes", "512", "4096", "--runs", "16", "--quantities", "change_rms"])
    printed = capsys.readouterr().out
    assert code == 0 and "all agree" in printed and "change_rms" in printed
