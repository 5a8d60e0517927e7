"""Applying schemes to networks of one's own: what is accepted, what is refused, and the outside check."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from learning_dynamics.runtime import generator
from learning_dynamics.scales.applying import gain, parametrize
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.parametrizations import SCHEMES, mup, scheme

WIDTHS = (6, 30, 8, 30, 2)


def plain(*, bias: bool = False, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for m, n in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
        layers += [nn.Linear(m, n, bias=bias), act()]
    return nn.Sequential(*layers[:-1]).double()


def train(model: nn.Module, groups, steps: int = 10) -> torch.Tensor:
    g = generator("data")
    x = torch.randn(12, WIDTHS[0], generator=g, dtype=torch.float64)
    y = torch.randn(12, WIDTHS[-1], generator=g, dtype=torch.float64)
    optimizer, losses = torch.optim.SGD(groups), []
    for _ in range(steps):
        loss = 0.5 * (model(x) - y).square().sum(-1).mean()
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.stack(losses)


@pytest.mark.parametrize("gauge", ["multipliers", "learning-rates"])
@pytest.mark.parametrize("name", list(SCHEMES))
def test_a_users_network_trains_exactly_as_ours(name, gauge):
    eta = 0.01 if name == "standard" else 0.1
    ours = MLP(scheme(name)(WIDTHS), generator=generator("w"), dtype=torch.float64)
    model = plain()
    applied = parametrize(model, name, generator=generator("w"), gauge=gauge)
    a = train(ours, ours.parameter_groups(eta))
    b = train(model, applied.parameter_groups(eta))
    assert torch.allclose(a, b, rtol=1e-10, atol=0)
    assert a[-1] < a[0]


def test_the_learning_rate_gauge_leaves_no_hooks():
    model = plain()
    parametrize(model, "dp(1/2)", generator=generator(0), gauge="learning-rates")
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_applying_again_replaces_the_first_time():
    model = plain()
    parametrize(model, "ntk", generator=generator(0))
    applied = parametrize(model, "dp(1/2)", generator=generator("w"))
    fresh = plain()
    once = parametrize(fresh, "dp(1/2)", generator=generator("w"))
    x = torch.ones(1, 6, dtype=torch.float64)
    assert torch.equal(model(x), fresh(x))
    assert applied.parametrization == once.parametrization
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))  # multipliers survive a copy


def test_gain_preserves_the_root_mean_square():
    assert gain(torch.relu) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert gain(torch.tanh) == pytest.approx(1.5925, rel=1e-3)
    with pytest.raises(ValueError, match="is zero"):
        gain(torch.zeros_like)


def test_nested_modules_flatten_and_other_activations():
    inner = nn.Sequential(linear(6, 20), nn.Tanh())
    model = nn.Sequential(nn.Flatten(), inner, linear(20, 10), nn.GELU(), linear(10, 2))
    applied = parametrize(model, "spectral", generator=generator(1))
    assert applied.parametrization.widths == (6, 20, 10, 2)
    assert [a.name for a in applied.activations] == ["Tanh", "GELU"]
    z = torch.linspace(-2, 2, 9)
    assert torch.allclose(applied.activations[0].derivative(z), 1 - torch.tanh(z) ** 2)
    assert model.training


def test_biases_on_request_start_at_zero_and_share_the_work():
    """At the stated rate a bias removes as much loss as its layer's weights (inputs of RMS 1)."""
    model = plain(bias=True)
    applied = parametrize(model, "dp(1/2)", generator=generator("w"), biases="zero")
    groups = applied.parameter_groups(0.1)
    assert len(groups) == 8
    x = torch.nn.functional.normalize(torch.randn(1, 6, generator=generator(3))) * 6**0.5
    seen = []
    hook = applied.linears[0].register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    model(x.double()).sum().backward()
    hook.remove()
    weight, bias = groups[0]["params"][0], groups[1]["params"][0]
    assert not bias.detach().any()
    by_weight = groups[0]["lr"] * weight.grad.square().sum()
    by_bias = groups[1]["lr"] * bias.grad.square().sum()
    assert torch.allclose(by_weight, by_bias)


class Residual(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4, bias=False)
        self.b = nn.Linear(4, 4, bias=False)
        self.relu, self.mode = nn.ReLU(), mode
        if mode == "own":
            self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        if self.mode == "twice":
            return self.b(self.a(self.a(x)))
        if self.mode == "residual":
            return self.b(self.a(x) + x)
        if self.mode == "functional":
            return self.b(torch.relu(self.a(x)))
        if self.mode == "after":
            return self.b(self.relu(self.a(x))).tanh()
        return self.b(self.a(x)) * self.scale


def linear(*sizes: int) -> nn.Linear:
    return nn.Linear(*sizes, bias=False)


def chain(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules, linear(4, 2))


class InPlace(nn.Module):
    """Steps that leave no trace but their effect."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(4, 4), linear(4, 4), linear(4, 2)
        self.relu, self.mode = nn.ReLU(), mode

    def forward(self, x):
        h = self.relu(self.a(x))
        k = self.b(h)
        if self.mode == "relu":
            k.relu_()
        elif self.mode == "residual":
            k += h
        elif self.mode == "factor":
            k.mul_(3)
        return self.c(k)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old function is deprecated, not gone
        first = nn.utils.weight_norm(linear(4, 4))
    return nn.Sequential(first, nn.ReLU(), linear(4, 2))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (InPlace("relu"), "in-place code"),
        (InPlace("residual"), "in-place code"),
        (InPlace("factor"), "in-place code"),
        (normed(), "weight_norm"),
        (chain(nn.utils.parametrizations.weight_norm(linear(4, 4)), nn.ReLU()), "weight_norm"),
        (chain(Doubled(4, 4, bias=False), nn.ReLU()), "forward.. of its own"),
        (chain(nn.LazyLinear(4, bias=False), nn.ReLU()), "is lazy"),
        (linear, "must be a torch.nn.Module"),
    ],
)
def test_silent_traps_are_refused_before_anything_changes(model, message):
    with pytest.raises(ValueError, match=message):
        parametrize(model, "dp(1/2)", generator=generator(0))
    if isinstance(model, InPlace):
        assert not any(m._forward_pre_hooks for m in model.modules())


def test_the_same_network_without_traps_is_taken():
    assert parametrize(InPlace("none"), "dp(1/2)", generator=generator(0)).module is not None


@pytest.mark.parametrize(
    "modules",
    [
        lambda inplace: [nn.ELU(2.0, inplace=inplace)],
        lambda inplace: [nn.Tanh(), nn.LeakyReLU(0.3, inplace=inplace), nn.Sigmoid()],
        lambda inplace: [nn.ReLU(inplace=inplace), nn.Softplus()],
    ],
)
def test_in_place_activations_keep_their_constants_and_their_order(modules):
    models = (nn.Sequential(linear(4, 8), *modules(flag), linear(8, 2)) for flag in (True, False))
    applied = [parametrize(model, "dp(1/2)", generator=generator(0)) for model in models]
    z = torch.linspace(-2, 2, 9)
    expected = nn.Sequential(*modules(False))(z)
    for a in applied:
        assert torch.equal(a.activations[0].function(z), expected)
    assert applied[0].parametrization.gains == applied[1].parametrization.gains


def tied() -> nn.Module:
    a, b = linear(4, 4), linear(4, 4)
    b.weight = a.weight
    return nn.Sequential(a, nn.ReLU(), b)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), linear(4, 2)), "is a convolution"),
        (chain(linear(4, 4), nn.LayerNorm(4)), "is a LayerNorm"),
        (chain(linear(4, 4), nn.Dropout(0.1)), "is a Dropout"),
        (tied(), "share one weight"),
        (chain(nn.Linear(4, 4), nn.ReLU()), "has a bias"),
        (nn.Sequential(linear(4, 4)), "at least two"),
        (nn.Sequential(linear(4, 4), nn.ReLU(), linear(5, 2)), "do not fit into one chain"),
        (nn.Sequential(nn.ReLU(), linear(4, 4), linear(4, 2)), "acts on the raw input"),
        (nn.Sequential(linear(4, 4), linear(4, 2), nn.Sigmoid()), "acts on the output"),
        (Residual("twice"), "uses a layer twice"),
        (Residual("residual"), "something of its own before"),
        (Residual("functional"), "something of its own before"),
        (Residual("after"), "after the last module"),
        (Residual("own"), "owns parameters besides"),
    ],
)
def test_refuses_what_it_does_not_understand(model, message):
    with pytest.raises(ValueError, match=message):
        parametrize(model, "dp(1/2)", generator=generator(0))


def test_the_mup_package_gives_the_same_run_on_equal_hidden_widths():
    """Outside check: Microsoft's package and our muP, weights copied, 20 steps of SGD, 1e-12."""
    mup_package = pytest.importorskip("mup", reason="in requirements-alone.lock, not for conda")
    MuReadout, MuSGD = mup_package.MuReadout, mup_package.MuSGD
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
    mup_package.set_base_shapes(theirs, Net(base).double(), delta=Net(2 * base).double())
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
    rates = eta * base / inputs, eta, eta / base
    groups = zip((hidden[:1], hidden[1:], list(theirs.out.parameters())), rates, strict=True)
    its = MuSGD([{"params": layers, "lr": rate} for layers, rate in groups], lr=eta)
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
