"""The network of Part II against the package of muP."""

import pytest
import torch
from torch import nn

from learning_dynamics.runtime import generator
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.parametrizations import mup


def test_the_mup_package_gives_the_same_run_on_equal_hidden_widths():
    """Outside check: Microsoft's package and our muP, weights copied, 20 steps of SGD, 1e-12."""
    mup_package = pytest.importorskip("mup", reason="in requirements-alone.lock, not for conda")
    MuReadout, MuSGD = mup_package.MuReadout, mup_package.MuSGD
    set_base_shapes = mup_package.set_base_shapes

    width, base, inputs, steps, eta = 64, 16, 6, 20, 0.1

    class Net(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.hidden = nn.ModuleList([nn.Linear(a, n, bias=False) for a in (inputs, n, n)])
            self.out = MuReadout(n, 1, bias=False)

        def forward(self, x):
            for layer in self.hidden:
                x = torch.relu(layer(x))
            return self.out(x)

    theirs = Net(width).double()
    set_base_shapes(theirs, Net(base).double(), delta=Net(2 * base).double())
    p = mup("package")((inputs, width, width, width, 1))
    ours = MLP(p, generator=generator("mup"), dtype=torch.float64)
    with torch.no_grad():  # copy effective weights: their readout divides by width/base
        for theirs_layer, w in zip(theirs.hidden, ours.weights[:-1], strict=True):
            theirs_layer.weight.copy_(w)
        theirs.out.weight.copy_(ours.weights[-1] * p.multipliers[-1] * (width / base))
    x = torch.randn(8, inputs, generator=generator("x"), dtype=torch.float64)
    y = torch.randn(8, 1, generator=generator("y"), dtype=torch.float64)
    # MuSGD multiplies vector-like rates by width/base; ours are n_1/n_0 and n_{L-1}: constants.
    mine = torch.optim.SGD(ours.parameter_groups(eta))
    hidden = list(theirs.hidden.parameters())
    its = MuSGD(
        [
            {"params": hidden[:1], "lr": eta * base / inputs},
            {"params": hidden[1:], "lr": eta},
            {"params": list(theirs.out.parameters()), "lr": eta / base},
        ],
        lr=eta,
    )
    for _ in range(steps):
        losses = []
        for model, optimizer in ((theirs, its), (ours, mine)):
            loss = 0.5 * (model(x) - y).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        assert torch.allclose(*losses, rtol=1e-12, atol=0)
    assert losses[0] < 0.5 * y.square().mean()
