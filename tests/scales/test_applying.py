"""Schemes for networks of one's own: agreement with the rules, with muP, with torch, and refusals."""

import math

import pytest
import torch
from torch import nn
from torch.optim._muon import _adjust_lr

from learning_dynamics.scales import SCHEMES, WidthFamily, parametrize, scheme
from paper.scales.how_to_use.architectures import ARCHITECTURES

NAMES = [*SCHEMES, "dp(1/4)"]


def chain(family: WidthFamily, *, bias: bool = False):
    def build(n: int) -> nn.Sequential:
        widths = family(n)
        layers = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return build


def of(network: str, size: int, name: str, optimizer: str, base: int = 16, *, double: bool = False):
    made = ARCHITECTURES[network]
    torch.manual_seed(0)
    build = (lambda n: made.build(n).double()) if double else made.build
    return parametrize(build, size, base, name, optimizer, embeddings=made.embeddings)


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


@pytest.mark.parametrize("network", ["autoencoder", "residual", "convolutional", "attention"])
def test_dp_is_ntk_with_a_smaller_output_and_a_larger_rate(network):
    """For any module: output times s^-r, rate times s^(2 r), s the growth of n_min; SGD, exactly.

    The readout's bias stands outside of the output factor, and keeps its rate.
    """
    made, losses = ARCHITECTURES[network], []
    for name in ("dp(1/4)", "ntk"):
        scaled = of(network, 64, name, "sgd", double=True)
        model = scaled.model
        inputs, target = made.batch(8, 0)
        inputs = inputs if network == "attention" else inputs.double()
        s = (scaled.weights[0].narrow / of(network, 16, name, "sgd").weights[0].narrow) ** 0.25
        factor, rate = (1 / s, s**2) if name == "ntk" else (1.0, 1.0)
        ends = [p for n, p in model.named_parameters() if p.shape == (target.shape[-1],)]
        groups = [{"params": ends, "lr": 0.02}] if ends else []
        for weight, f in zip(scaled.weights, scaled.factors, strict=True):
            if all(weight.value is not p for p in ends):
                groups.append({"params": [weight.value], "lr": 0.02 * rate * f["rate"]})
        optimizer = torch.optim.SGD(groups, momentum=0.9)
        for _ in range(5):
            outside = ends[0] if ends else 0.0
            output = (model(inputs) - outside) * factor + outside
            if network == "attention":
                loss = nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())
            else:
                loss = (output - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    assert torch.allclose(torch.stack(losses[:5]), torch.stack(losses[5:]), rtol=1e-9, atol=0)
    assert losses[4] < losses[0]


@pytest.mark.parametrize("factor", ["original", "match_rms_adamw"])
def test_muon_moves_every_matrix_by_its_budget_whatever_factor_torch_applies(factor):
    build = ARCHITECTURES["autoencoder"].build
    scaled, base = (
        parametrize(build, n, 16, "dp(1/2)", "muon", muon_factor=factor) for n in (256, 16)
    )
    moved = [
        {
            w.names[0]: _adjust_lr(groups[w.names[0]]["lr"], factor, w.value.shape)
            for w in at.weights
            if w.matrix
        }
        for at, groups in ((at, named(at, at.param_groups(1.0, 0.0))) for at in (scaled, base))
    ]
    plain = parametrize(build, 256, 16, "dp(1/2)", "sgd")
    for weight, f in zip(plain.weights, plain.factors, strict=True):
        if weight.matrix:
            name = weight.names[0]
            assert moved[0][name] / moved[1][name] == pytest.approx(f["rate"] ** 0.5)
    rest = {n for g in scaled.param_groups(1.0, 0.0, rest=True) for n in map(id, g["params"])}
    both = rest | {id(p) for g in scaled.param_groups(1.0, 0.0) for p in g["params"]}
    assert both == {id(p) for p in scaled.model.parameters()} and len(rest) == 4
    torch.optim.Muon(scaled.param_groups(0.1, 0.0), adjust_lr_fn=factor)


def test_weight_decay_keeps_what_the_steady_state_depends_on():
    """Decoupled: rate times decay. A penalty in the gradient: the same loss for every optimizer."""
    for optimizer in ("adamw", "muon", "sgd"):
        scaled = of("autoencoder", 128, "dp(1/2)", optimizer)
        for group in scaled.param_groups(0.1, 0.3):
            assert group["lr"] * group["weight_decay"] == pytest.approx(0.03)
    penalties = []
    for optimizer in ("sgd", "adam"):
        scaled = of("autoencoder", 128, "dp(1/2)", optimizer)
        groups = named(scaled, scaled.param_groups(0.1, 0.3))
        penalties.append({name: group["weight_decay"] for name, group in groups.items()})
    assert penalties[0] == pytest.approx(penalties[1])


def test_a_tied_readout_moves_like_one_of_its_own():
    """Multiplier^2 times the rate is the readout's rate of SGD, multiplier times rate that of Adam."""
    for optimizer, power in (("sgd", 2), ("adam", 1)):
        tied, own = (of(network, 64, "dp(1/2)", optimizer) for network in ("tied", "attention"))
        shared = next(f for w, f in zip(tied.weights, tied.factors, strict=True) if w.readouts)
        head = next(
            f for w, f in zip(own.weights, own.factors, strict=True) if w.names[0] == "head.weight"
        )
        g = tied.multipliers["head"]
        assert shared["rate"] * g**power == pytest.approx(head["rate"])
        assert shared["std"] * g == pytest.approx(head["std"])


class Own(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def heads(n):
    return nn.Sequential(nn.MultiheadAttention(n, 2), nn.Linear(n, 2))


class Raw(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.w, self.out = nn.Parameter(torch.randn(*shape)), nn.Linear(shape[-1], 2)


def late(n):
    """Its second width begins to grow above n = 16 only."""
    m = max(4, n // 4)
    return nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, m), nn.ReLU(), nn.Linear(m, 2))


REFUSED = {
    "a layer of its own": (
        lambda n: nn.Sequential(Own(3, n), nn.Linear(n, 2)),
        "forward.. of its own",
    ),
    "two readouts": (lambda n: nn.ModuleList([nn.Linear(n, 2), nn.Linear(n, 3)]), "readouts"),
    "no readout": (lambda n: nn.Linear(3, n), r"self.head.weight = self.tok.weight"),
    "growing heads": (heads, "heads grow"),
    "a raw matrix": (lambda n: Raw(n, n), "use nn.Linear"),
    "a raw table": (lambda n: Raw(7, n), r"embeddings=\['w'\]"),
    "lazy": (lambda n: nn.Sequential(nn.LazyLinear(n), nn.Linear(n, 2)), "is lazy"),
    "nothing grows": (lambda n: nn.Linear(3, 2), "no dimension grows"),
    "depth grows": (lambda n: nn.Sequential(*[nn.Linear(n, n)] * n), "only widths may grow"),
    "a bottleneck beside the readout": (
        lambda n: nn.Sequential(nn.Linear(3, n), nn.Linear(n, 2), nn.Linear(2, n), nn.Linear(n, 3)),
        r"\['1', '3'\].* a bottleneck of fixed width is not a readout",
    ),
}


@pytest.mark.usefixtures("as_users_run")
def test_a_width_that_begins_to_grow_later_is_refused():
    with pytest.raises(ValueError, match="not the same widths grow from 4 to 8 as from 4 to 64"):
        parametrize(late, 64, 4, "mup-package", "adam")
    assert parametrize(late, 64, 16, "mup-package", "adam").weights[2].role == "hidden"


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_know_is_refused(case):
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        parametrize(build, 8, 4, "dp(1/2)")


class Fixed(nn.Module):
    """A scalar, a norm and a layer of the inputs, PReLU, and gains of heads of fixed width."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.PReLU())
        self.up, self.norm, self.out = nn.Linear(6, n), nn.LayerNorm(4), nn.Linear(n, 3)
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x):
        heads = self.up(self.before(x)).tanh().unflatten(-1, (-1, 4))
        return self.factor * self.out(self.norm(heads).flatten(-2))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_growing_side_stay_as_they_are(name, optimizer):
    scaled = parametrize(Fixed, 64, 16, name, optimizer)
    fixed = [
        f for w, f in zip(scaled.weights, scaled.factors, strict=True) if 64 not in w.value.shape
    ]
    assert len(fixed) == 8 + 1  # the ninth: the readout's bias, which keeps the scheme's ratio
    assert all(set(f.values()) == {1.0} for f in fixed[:-1]), fixed


@pytest.mark.usefixtures("as_users_run")
def test_a_fixed_width_between_growing_ones_is_refused():
    def build(n):
        return nn.Sequential(nn.Linear(3, n), nn.Linear(n, 2), nn.Linear(2, n), nn.Linear(n, 3))

    with pytest.raises(ValueError, match=r"\['1.weight'\]: this hidden width does not grow"):
        parametrize(build, 8, 4, "dp(1/2)", readouts="3")  # one name, not read letter by letter
    with pytest.raises(ValueError, match=r"embeddings = \['0.w'\]"):
        parametrize(build, 8, 4, "dp(1/2)", readouts="3", embeddings="0.w")


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_decay_left_to_the_optimizer_is_refused(optimizer):
    scaled = of("autoencoder", 32, "dp(1/2)", optimizer)
    for rest in (False, True)[: 1 + (optimizer == "muon")]:
        with pytest.raises(ValueError, match="give the decay to param_groups"):
            scaled.param_groups(0.1, rest=rest)
        groups = scaled.param_groups(0.1, 0.0, rest=rest)
        assert {g["weight_decay"] for g in groups} == {0.0}


@pytest.mark.usefixtures("as_users_run")
def test_a_scheme_for_another_optimizer_is_refused():
    build = ARCHITECTURES["plain"].build
    with pytest.raises(ValueError, match="optimizer = 'rmsprop'"):
        parametrize(build, 8, 4, "dp(1/2)", "rmsprop")
    with pytest.raises(ValueError, match="rest = True"):
        parametrize(build, 8, 4, "dp(1/2)", "adam").param_groups(0.1, rest=True)
    with pytest.raises(ValueError, match="readouts = .'0'."):
        parametrize(build, 8, 4, "dp(1/2)", readouts=["0"])


@pytest.mark.parametrize("network", ["residual", "convolutional", "attention"])
def test_where_one_width_grows_dp_is_mup(network):
    """The scales of DP(1/2) and of the package mup part only where widths grow at unlike rates."""
    ours, theirs = (
        of(network, 64, scheme, "adam").factors for scheme in ("dp(1/2)", "mup-package")
    )
    assert [f["rate"] for f in ours] == pytest.approx([f["rate"] for f in theirs])
