"""The coordinate check runs the user's steps: it passes sound networks and says what is wrong."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler as schedule

from learning_dynamics.scales import coordinate_check, parametrize
from learning_dynamics.scales.coordinate_check import TOLERANCES, _verdict
from paper.scales.how_to_use.architectures import ARCHITECTURES

SIZES = (16, 32, 64)


def checked(network="plain", scheme="mup-package", optimizer="adam", *, wrap=None, **options):
    made = ARCHITECTURES[network]
    kind, rate = (optim.SGD, 0.05) if optimizer == "sgd" else (optim.Adam, 0.003)

    def build(n):
        scaled = parametrize(made.build, n, 16, scheme, optimizer, embeddings=made.embeddings)
        return wrap(scaled) if wrap else scaled

    usual = {
        "optimizer_factory": lambda scaled: kind(scaled.param_groups(rate)),
        "loss": made.loss,
        "batch": made.batch(16, 0),
        "sizes": SIZES,
        "runs": 3,
        "embeddings": made.embeddings,
    }
    return coordinate_check(build, scheme, **usual | options)


def verdicts(rows, **which):
    for name, value in which.items():
        rows = rows[rows[name] == value]
    return set(rows.verdict)


@pytest.mark.parametrize("network", ["autoencoder", "tied"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_sound_networks_pass(network, optimizer):
    rows = checked(network, "dp(1/2)", optimizer)
    assert verdicts(rows) <= {"agrees", "unclear", "no rule", "still"}, rows.to_string()
    assert verdicts(rows, quantity="initial") == verdicts(rows, quantity="schedule") == {"agrees"}
    assert verdicts(rows, quantity="rate") == ({"agrees"} if optimizer == "sgd" else set())


def test_what_passes_and_what_does_not():
    """Batch norm takes away the bias of a convolution, which rounding alone moves: allowed."""
    rows = checked("convolutional", "dp(1/2)", runs=4)
    assert "still" in verdicts(rows) and rows.attrs["passed"], rows.to_string()

    def frozen_rate(scaled):
        groups = scaled.param_groups(0.003)
        return optim.Adam([groups[0] | {"lr": 0.0}, *groups[1:]])

    for change in (
        {"optimizer_factory": lambda s: optim.Adam(s.model.parameters(), 0.003)},
        {"optimizer_factory": frozen_rate},
        {"loss": lambda model, batch: ARCHITECTURES["plain"].loss(model, batch) / 0},
        {"runs": 2, "sizes": (16, 20)},  # nothing can be told from these
    ):
        assert checked(**{"runs": 4} | change).attrs["passed"] is False


class Mine(optim.AdamW):
    """An optimizer of one's own is taken for what it is derived from, AdamW not for Adam."""


def stepped(optimizer, kind, decay=0.0, **options):
    def factory(scaled):
        return kind(scaled.param_groups(0.003, decay), **options)

    return checked(optimizer=optimizer, optimizer_factory=factory)


def cosine(optimizer, floor):
    parts = [schedule.LinearLR(optimizer, 0.1)]
    parts.append(schedule.CosineAnnealingLR(optimizer, 9, eta_min=floor))
    return schedule.SequentialLR(optimizer, parts, milestones=[2])


@pytest.mark.usefixtures("as_users_run")
def test_optimizers_decays_and_schedulers_that_the_groups_are_not_for_are_refused():
    decay, other = "weight_decay = 0.2 has no effect", "{}, but the rates are for"
    for call, message in (
        (partial(stepped, "sgd", optim.AdamW), other.format("AdamW")),
        (partial(stepped, "adam", Mine), other.format("AdamW")),
        (partial(stepped, "adam", optim.SGD), other.format("SGD")),
        (partial(stepped, "adam", optim.Adam, weight_decay=0.2), decay),
        (partial(stepped, "adamw", optim.AdamW, weight_decay=0.2), decay + ".* param_groups.lr, w"),
        (partial(checked, scheduler_factory=partial(cosine, floor=1e-5)), "eta_min = 1e-05 of Cos"),
        (partial(checked, scheduler_factory=schedule.ReduceLROnPlateau), "steps by a measured l"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_optimizers_decays_and_schedulers_that_suit_the_groups_pass():
    for kind in (optim.AdamW, Mine):
        assert "differs" not in verdicts(stepped("adamw", kind, 0.1))
    # One rate for all layers: a floor is right.
    for scheme, floor in (("mup-package", 0.0), ("standard", 1e-5)):
        rows = checked(scheme=scheme, scheduler_factory=partial(cosine, floor=floor))
        assert verdicts(rows, quantity="schedule") == {"agrees"}


def test_a_layer_that_no_optimizer_has_is_found_and_a_frozen_one_is_left_alone():
    def forgetful(scaled):
        groups = [p for name, p in scaled.model.named_parameters() if name != "2.weight"]
        return optim.Adam(groups, 1e-3)

    def frozen(scaled):
        scaled.model[2].weight.requires_grad_(False)
        return scaled

    rows = checked(optimizer_factory=forgetful)
    assert rows.attrs["passed"] is False
    assert verdicts(rows, parameter="2.weight", quantity="change") == {"untrained"}
    assert list(rows[rows.verdict == "untrained"].parameter.unique()) == ["2.weight"]
    assert "untrained" not in verdicts(checked(wrap=frozen, optimizer_factory=forgetful))


def test_a_table_of_positions_that_starts_wrong_is_found():
    def small(scaled):
        scaled.model.positions.data *= len(scaled.model.positions[0]) ** -0.5
        return scaled

    rows = checked("attention", wrap=small)
    assert verdicts(rows, parameter="positions", quantity="initial") == {"differs"}


def test_it_says_which_schemes_it_can_tell_apart():
    """Equal widths: muP, Spectral and DP(1/2) are one. A bottleneck of order n^(1/2): they differ."""
    assert checked().attrs["not rejected"] == ("spectral", "dp(1/2)")
    apart = checked("autoencoder", "dp(1/2)", sizes=(16, 64, 256)).attrs["not rejected"]
    assert apart == ("dp(1/4)",)  # an eighth of the exponent apart: below the tolerance


def test_a_scheme_of_equal_exponents_is_not_excluded_by_an_unclear_row():
    """One width grows: mup-package is DP(1/2), also where two runs leave rows unclear."""
    for seed in range(6):
        rows = checked("residual", "dp(1/2)", "sgd", runs=2, seed=seed)
        assert {"mup-package", "spectral"} <= set(rows.attrs["not rejected"])


def test_networks_of_the_mup_package_pass():
    """Outside check: MuReadout's multiplier and MuAdam's groups, read by the same predictions."""
    mup = pytest.importorskip("mup", reason="in requirements-alone.lock, not for conda")

    def net(size):
        model = ARCHITECTURES["plain"].build(size)
        model[-1] = mup.MuReadout(size, 4)
        return model

    def build(n):
        model = net(n)
        mup.set_base_shapes(model, net(16), delta=net(32))
        for p in (p for p in model.parameters() if p.ndim == 2):
            mup.init.uniform_(p, -0.3, 0.3)
        return model

    made = ARCHITECTURES["plain"]
    data = made.loss, made.batch(16, 0), SIZES
    for kind in (mup.MuAdam, mup.MuSGD):

        def optimizer(model, kind=kind):
            return kind(model.parameters(), lr=0.003)

        rows = coordinate_check(build, "mup-package", optimizer, *data, runs=3)
        assert verdicts(rows, quantity="initial") == {"agrees"}
        assert "differs" not in verdicts(rows), rows.to_string()


def test_compiled_networks_and_bfloat16_pass():
    def compiled(scaled):
        scaled.model.compile(backend="eager")
        return scaled

    def rounded(scaled):
        scaled.model.bfloat16()
        return scaled

    batch = tuple(part.bfloat16() for part in ARCHITECTURES["plain"].batch(16, 0))
    assert "differs" not in verdicts(checked(wrap=compiled, sizes=(16, 32), runs=2))
    assert "differs" not in verdicts(checked(wrap=rounded, batch=batch))
    assert TOLERANCES[torch.bfloat16] > TOLERANCES[torch.float32]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu():
    here, there = (
        checked(
            wrap=lambda s, to=to: (s.model.to(to, torch.float64), s)[1],
            batch=tuple(p.to(to, torch.float64) for p in ARCHITECTURES["plain"].batch(16, 0)),
        )
        for to in ("cpu", "cuda")
    )
    assert list(there.verdict) == list(here.verdict)
    np.testing.assert_allclose(there.exponent, here.exponent, rtol=1e-6, atol=1e-9)


def test_what_shrinks_with_size_is_told_from_what_stays():
    sizes = np.array([16, 64, 256])
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=(3, 3)))
    wanted = sizes**-0.5
    small = (wanted * (1 + 20 / sizes))[:, None] * noise
    n = _verdict(sizes, small, wanted, 0.15, 50)["enough"]
    assert (
        20 / n / (1 + 20 / n) <= 0.15 and n <= 1024
    )  # the law's own slope is within the tolerance
    for values, verdict in (
        (small, "sizes too small"),
        ((sizes**-0.1)[:, None] * noise, "differs"),
        (wanted[:, None] * noise, "agrees"),
        (0 * small, "still"),
        (np.inf * small, "diverged"),
    ):
        assert _verdict(sizes, values, wanted, 0.15, 50)["verdict"] == verdict


def test_chance_alone_raises_an_alarm_in_one_check_of_twenty():
    """Intervals of 95 % for one row, and for all rows of a check together: 60 checks of 40 rows."""
    draws, sizes = np.random.default_rng(0), np.array([32, 64, 128])
    noise = np.exp(0.2 * draws.normal(size=(2400, 3, 4)))
    found = [_verdict(sizes, values, np.ones(3), 1e-9, 40) for values in noise]
    inside = np.mean([abs(line["exponent"]) <= line["interval"] for line in found])
    # binomial, 4 standard errors of 0.0044; Welch's are a little wide
    assert 0.93 <= inside <= 0.98
    alarms = np.array([line["verdict"] in ("differs", "sizes too small") for line in found])
    assert alarms.reshape(60, 40).any(1).mean() <= 0.15  # 0.05 + 3.5 standard errors


def test_the_network_and_the_random_stream_are_not_disturbed():
    made, states = ARCHITECTURES["convolutional"], []

    def remember(model, batch):
        states.append((model[3].running_mean.clone(), model.training))
        return made.loss(model, batch)

    torch.manual_seed(5)
    checked("convolutional", loss=remember, steps=1, runs=2, sizes=(16, 32))
    a = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(a, torch.rand(1))
    looked, stepped = states[0], states[1]  # before the observation, and before the first step
    assert torch.equal(looked[0], stepped[0]) and stepped[1]
