"""Schemes for networks of one's own: agreement with the rules, with muP, with torch, and refusals."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim._muon import _adjust_lr

from learning_dynamics.scales import SCHEMES, WidthFamily, parametrize, scheme
from paper.scales.how_to_use.architectures import ARCHITECTURES

NAMES = [*SCHEMES, "dp(1/4)"]


def chain(family: WidthFamily):
    return lambda n: nn.Sequential(*(nn.Linear(*pair, bias=False) for pair in pairwise(family(n))))


def of(network: str, size: int, name: str, optimizer: str):
    made = ARCHITECTURES[network]
    torch.manual_seed(0)
    return parametrize(made.build, size, 16, name, optimizer, embeddings=made.embeddings)


def named(scaled, groups) -> dict[str, dict[str, float]]:
    names = {id(w.value): w.names[0] for w in scaled.weights}
    return {names[id(p)]: group for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_mlp_gets_the_numbers_of_the_scheme(name):
    """Every layer's initial deviation and rate, over those at the base, for three width patterns."""
    for exponents in ((0, 1, "1/2", 1, 0), (0, 1, 1, 1, 0), (0, "1/2", 1, "1/2", 0)):
        family = WidthFamily(exponents, (5, 1, 3, 2, 3))
        scaled = parametrize(chain(family), 96, 24, name)
        now, then = (scheme(name)(family(n)).with_unit_multipliers() for n in (96, 24))
        groups = named(scaled, scaled.param_groups(1.0))
        for k, (weight, factor) in enumerate(zip(scaled.weights, scaled.factors, strict=True)):
            rate = now.learning_rates[k] / then.learning_rates[k]
            assert groups[weight.names[0]]["lr"] == pytest.approx(rate, rel=1e-12)
            assert factor["std"] == pytest.approx(now.init_stds[k] / then.init_stds[k], rel=1e-12)
            bases = 5 * 24 if k == 0 else 24  # entries that the base's mean square is taken over
            usual = (1 / 3 / family(24)[k]) ** 0.5  # torch's uniform initial values
            measured = float(weight.value.detach().square().mean().sqrt()) / factor["std"] / usual
            assert measured == pytest.approx(1, abs=4 / math.sqrt(8 * bases))


#: Table 3 of "Tensor programs V" (yang2022): powers of n of the initial deviation, rates of SGD, Adam.
TABLE = {"input": (0, 1, 0), "bias": (0, 1, 0), "hidden": (-0.5, 0, -1), "readout": (-1, -1, -1)}


@pytest.mark.parametrize("network", ["residual", "convolutional", "attention"])
def test_the_published_table_of_mup(network):
    for optimizer, column in (("sgd", 1), ("adam", 2), ("adamw", 2)):
        scaled = of(network, 64, "mup-package", optimizer)
        for weight, factor in zip(scaled.weights, scaled.factors, strict=True):
            kind = "bias" if weight.fan_in == 1 and weight.role == "input" else weight.role
            row = (0, 0, 0) if weight.fan_in == 1 and kind == "readout" else TABLE[kind]
            assert factor["std"] == pytest.approx(4.0 ** row[0])
            assert factor["rate"] == pytest.approx(4.0 ** row[column]), (weight.names, optimizer)


def with_readout_of_mup(n: int):
    mup_package = pytest.importorskip("mup", reason="in requirements-alone.lock, not for conda")
    model = ARCHITECTURES["residual"].build(n)
    model[-1] = mup_package.MuReadout(n, 4)
    return model


def test_the_rates_are_those_of_the_mup_package():
    """Outside check: what MuAdam and MuSGD do to every parameter of a residual network."""
    mup_package = pytest.importorskip("mup", reason="in requirements-alone.lock, not for conda")
    for optimizer, theirs in (("adam", mup_package.MuAdam), ("sgd", mup_package.MuSGD)):
        model = with_readout_of_mup(64)
        mup_package.set_base_shapes(model, with_readout_of_mup(16), delta=with_readout_of_mup(32))
        names = {id(p): name for name, p in model.named_parameters()}
        groups = theirs(model.parameters(), lr=1.0).param_groups
        rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
        rates["4.weight"] *= (1 / 4) if optimizer == "adam" else (1 / 4) ** 2  # its multiplier, 1/4
        scaled = of("residual", 64, "mup-package", optimizer)
        ours = {n: g["lr"] for n, g in named(scaled, scaled.param_groups(1.0)).items()}
        assert ours == pytest.approx(rates)


@pytest.mark.parametrize("network", ARCHITECTURES)
def test_the_state_fits_the_plain_network_and_gives_the_same_outputs(network):
    made, scaled = ARCHITECTURES[network], of(network, 32, "dp(1/2)", "adam")
    plain = made.build(32)
    plain.load_state_dict(scaled.model.state_dict())
    inputs = made.batch(4, 0)[0]
    a, b = (model.eval()(inputs) for model in (scaled.model, plain))
    assert torch.equal(a, b) == (not scaled.multipliers)
    assert list(scaled.multipliers) == (["head"] if network == "tied" else [])


def test_the_base_is_left_as_it_is_and_the_random_stream_too():
    scaled = of("residual", 16, "spectral", "sgd")
    left = torch.rand(1)
    torch.manual_seed(0)
    plain = ARCHITECTURES["residual"].build(16)
    assert torch.equal(left, torch.rand(1))
    for a, b in zip(scaled.model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    assert {group["lr"] for group in scaled.param_groups(0.1)} == {0.1}


@pytest.mark.parametrize("factor", ["original", "match_rms_adamw"])
def test_muon_moves_every_matrix_by_its_budget_whatever_factor_torch_applies(factor):
    build, moved = ARCHITECTURES["autoencoder"].build, {}
    plain = parametrize(build, 256, 16, "dp(1/2)", "sgd")
    for n in (16, 256):
        scaled = parametrize(build, n, 16, "dp(1/2)", "muon", muon_factor=factor)
        rates = named(scaled, scaled.param_groups(1.0, 0.0))
        moved[n] = [
            _adjust_lr(rates[w.names[0]]["lr"], factor, w.value.shape)
            for w in scaled.weights
            if w.matrix
        ]
    pairs = zip(plain.weights, plain.factors, strict=True)
    budgets = [f["rate"] ** 0.5 for weight, f in pairs if weight.matrix]
    assert [b / a for a, b in zip(*moved.values(), strict=True)] == pytest.approx(budgets)
    ours, rest = (
        {id(p) for g in scaled.param_groups(1.0, 0.0, rest=rest) for p in g["params"]}
        for rest in (False, True)
    )
    assert ours | rest == {id(p) for p in scaled.model.parameters()} and len(rest) == 4
    torch.optim.Muon(scaled.param_groups(0.1, 0.0), adjust_lr_fn=factor)


def test_weight_decay_keeps_what_the_steady_state_depends_on():
    """Decoupled: rate times decay. A penalty in the gradient: the same loss for every optimizer."""
    decay = {}
    for optimizer in ("adamw", "muon", "sgd", "adam"):
        scaled = of("autoencoder", 128, "dp(1/2)", optimizer)
        groups = named(scaled, scaled.param_groups(0.1, 0.3))
        decay[optimizer] = {name: group["weight_decay"] for name, group in groups.items()}
        if optimizer != "adam":
            for group in groups.values():
                assert group["lr"] * group["weight_decay"] == pytest.approx(0.03)
    assert decay["sgd"] == pytest.approx(decay["adam"])


def test_a_tied_readout_moves_like_one_of_its_own():
    """Multiplier^2 times the rate is the readout's rate of SGD, multiplier times rate that of Adam."""
    for optimizer, power in (("sgd", 2), ("adam", 1)):
        tied, own = (of(network, 64, "dp(1/2)", optimizer) for network in ("tied", "attention"))
        shared, head = (
            next(f for w, f in zip(at.weights, at.factors, strict=True) if "head.weight" in w.names)
            for at in (tied, own)
        )
        g = tied.multipliers["head"]
        assert shared["rate"] * g**power == pytest.approx(head["rate"])
        assert shared["std"] * g == pytest.approx(head["std"])


class Own(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def raw(*shape):
    table = nn.ParameterDict({"w": torch.randn(*shape)})
    return nn.ModuleList([table, nn.Linear(shape[-1], 2)])


def layers(*sizes):
    """A chain whose sizes may be functions of n."""

    def build(n):
        found = [s(n) if callable(s) else s for s in sizes]
        return nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(found)))

    return build


def same(n):
    return n


#: Its second width begins to grow above n = 16 only.
late = layers(8, same, lambda n: max(4, n // 4), 2)
narrow, plain = layers(3, same, 2, same, 3), ARCHITECTURES["plain"].build


def groups(optimizer, *arguments, **options):
    return of("autoencoder", 32, "dp(1/2)", optimizer).param_groups(0.1, *arguments, **options)


REFUSED = [
    (lambda n: nn.Sequential(Own(3, n), nn.Linear(n, 2)), {}, "forward.. of its own"),
    (lambda n: nn.ModuleList([nn.Linear(n, 2), nn.Linear(n, 3)]), {}, "readouts"),
    (layers(3, same), {}, r"self.head.weight = self.tok.weight"),
    (lambda n: nn.Sequential(nn.MultiheadAttention(n, 2), nn.Linear(n, 2)), {}, "heads grow"),
    (lambda n: raw(n, n), {}, "use nn.Linear"),
    (lambda n: raw(7, n), {}, r"embeddings=\['0.w'\]"),
    (lambda n: nn.Sequential(nn.LazyLinear(n), nn.Linear(n, 2)), {}, "is lazy"),
    (layers(3, 2), {}, "no dimension grows"),
    (lambda n: nn.Sequential(*[nn.Linear(n, n)] * n), {}, "only widths may grow"),
    (narrow, {}, r"\['1', '3'\].* a bottleneck of fixed width is not a readout"),
    # one name, not read letter by letter
    (narrow, {"readouts": "3"}, r"\['1.weight'\]: this hidden width does not grow"),
    (narrow, {"readouts": "3", "embeddings": "0.w"}, r"embeddings = \['0.w'\]"),
    (late, {"size": 64}, "not the same widths grow from 4 to 8 as from 4 to 64"),
    (plain, {"optimizer": "rmsprop"}, "optimizer = 'rmsprop'"),
    (plain, {"readouts": ["0"]}, "readouts = .'0'."),
]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("build", "options", "message"), REFUSED)
def test_what_it_cannot_know_is_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        parametrize(build, **{"size": 8, "base_size": 4, "scheme": "dp(1/2)"} | options)
    assert parametrize(late, 64, 16, "mup-package", "adam").weights[2].role == "hidden"


@pytest.mark.usefixtures("as_users_run")
def test_the_decay_and_the_rest_must_suit_the_optimizer():
    with pytest.raises(ValueError, match="rest = True"):
        groups("adam", rest=True)
    for optimizer, rest in (("adamw", False), ("muon", False), ("muon", True)):
        with pytest.raises(ValueError, match="give the decay to param_groups"):
            groups(optimizer, rest=rest)
        assert {g["weight_decay"] for g in groups(optimizer, 0.0, rest=rest)} == {0.0}


def fixed(n):
    """A scalar, a norm and a layer of the inputs, PReLU, and gains of heads of fixed width."""
    parts = [nn.ParameterList([torch.ones(())]), nn.LayerNorm(6), nn.Linear(6, 6), nn.PReLU()]
    return nn.ModuleList([*parts, nn.Linear(6, n), nn.LayerNorm(4), nn.Linear(n, 3)])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_growing_side_stay_as_they_are(name, optimizer):
    scaled = parametrize(fixed, 64, 16, name, optimizer)
    pairs = zip(scaled.weights, scaled.factors, strict=True)
    same = [f for w, f in pairs if 64 not in w.value.shape]
    assert len(same) == 8 + 1  # the ninth: the readout's bias, which keeps the scheme's ratio
    assert all(set(f.values()) == {1.0} for f in same[:-1]), same


@pytest.mark.parametrize("network", ["residual", "convolutional", "attention"])
def test_where_one_width_grows_dp_is_mup(network):
    """The scales of DP(1/2) and of the package mup part only where widths grow at unlike rates."""
    ours, theirs = (
        [f["rate"] for f in of(network, 64, scheme, "adam").factors]
        for scheme in ("dp(1/2)", "mup-package")
    )
    assert ours == pytest.approx(theirs)
