"""Generated users: what they hand over, however odd, is answered rightly or refused in words.

Data are drawn with columns that are zero, constant, repeated, huge, tiny or whole numbers, one
sample or the same one many times, one class. For every public function that takes data: no NaN or
infinity without a word; other units, axes or orders of the data, and samples twice, change the
answer as they must; and tensors, arrays, lists, other strides or recorded gradients change nothing.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from learning_dynamics import Problem, generator, saddles, scales
from learning_dynamics.problems import random_orthogonal
from learning_dynamics.saddles import Settings, Weights

COLUMNS = ("plain", "zero", "constant", "repeated", "huge", "tiny", "whole")
ONE_SIZE = ("plain", "zero", "constant", "repeated", "whole")


@dataclass(frozen=True)
class User:
    """What a user has: data, the start of a two-layer net and of a deep one, a step size."""

    x: torch.Tensor
    y: torch.Tensor
    net: Weights
    deep: tuple[torch.Tensor, ...]
    starts: torch.Tensor
    eta: float
    deep_eta: float
    plain: bool
    form: Callable = torch.Tensor.clone

    @property
    def inputs(self):
        return self.form(self.x)

    @property
    def p(self):
        return Problem(self.form(self.x), self.form(self.y))

    @property
    def m(self):
        return self.p.moments()


def columns(kinds, n, g):
    rows = []
    for kind in kinds:
        row = torch.randn(n, generator=g, dtype=torch.float64)
        rows.append(
            {
                "plain": row,
                "zero": 0 * row,
                "constant": 0 * row + 0.7,
                "repeated": rows[0] if rows else row,
                "huge": 1e7 * row,
                "tiny": 1e-7 * row,
                "whole": (2 * row).round(),
            }[kind]
        )
    return torch.stack(rows)


#: What is drawn: a seed, kinds of inputs and outputs, samples, which of them, one class or not.
USERS = st.tuples(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4),
    st.lists(st.sampled_from(ONE_SIZE), min_size=1, max_size=3),
    st.sampled_from((1, 2, 3, 6)),
    st.sampled_from(("all", "same", "twice")),
    st.sampled_from((False, False, False, True)),
)


def made(seed, inputs, outputs, n, samples, one_class):
    """The user who is drawn."""
    g = generator("users", seed)
    x, y = columns(inputs, n, g), columns(outputs, n, g)
    if samples == "same":
        x, y = x[:, :1].repeat(1, n), y[:, :1].repeat(1, n)
    if samples == "twice":
        x, y = x.repeat(1, 2), y.repeat(1, 2)
    if one_class:  # as probabilities
        y = torch.zeros_like(y)
        y[0] = 1
    return user(x, y, g, set(inputs) <= set(ONE_SIZE))


def user(x, y, g, plain=True):
    sizes = [float(v.square().mean().sqrt()) or 1.0 for v in (x, y)]
    unit = 0.3 * (sizes[1] / sizes[0]) ** 0.5
    net = saddles.initialise((len(x), 4, len(y)), unit, [g])
    deep = saddles.initialise_deep((len(x), 4, 3, len(y)), (sizes[1] / sizes[0]) ** (1 / 3), [g])
    starts = torch.randn(6, len(x) + len(y), generator=g, dtype=torch.float64)
    top = float(torch.linalg.matrix_norm(x @ x.mT / x.shape[1], 2))
    rate = float(torch.linalg.matrix_norm(y @ x.mT / x.shape[1], 2)) + top * 9 * unit**2
    eta = 0.05 / rate if rate else 0.1
    return User(x, y, net, deep, starts, eta, eta / (sizes[1] / sizes[0]) ** (1 / 3), plain)


FEW, RELU = Settings(max_stages=1, max_steps=100), {"activation": "relu"}
BOTH = {"observables": ("loss", "product")} | RELU
SIZES = {"observables": ("loss", "mode_sizes"), "steps": 12}


def sgd(u):
    gone, whole = torch.full((1,), -1), u.x.shape[1]
    start = scales.training.State(tuple(w.clone() for w in u.deep), None, 0, gone)
    options = {"step_size": u.deep_eta, "steps": 3, "record": (0, 3), "batch_size": whole}
    return scales.sgd(u.p, start, (1.0,) * 3, seeds=[0], evaluate={"t": u.p}, **options)


def skip(u, activation):
    options = {"activation": activation, "starts": u.starts, "settings": FEW}
    found = saddles.skip_plateaus(u.p, width=4, **options)
    return {"status": found.status, "losses": torch.tensor(found.losses).double()}


def escape(u):
    found = saddles.escape(u.m.yx)
    way = {"way": found.direction[:, None] * found.direction} if found.gap < 0.999 else {}
    return {"rate": found.rate, "gap": found.gap} | way


def bound(u):
    update = saddles.theory.alignment.update_matrix(u.m.yx, u.eta)
    projector = saddles.theory.growth_bound.leading_projector(u.net.units[0])
    return saddles.growth_bound(update, projector)


def drops(u):
    run = descent(u)
    return dict(zip(("at", "rest"), saddles.find_drops(run["loss"][0], run.steps), strict=True))


def stages(u):
    run = descent(u)
    return saddles.find_stages(run["loss"], saddles.levels(u.m)[None], run.steps)


def plateau(u):
    units = u.net.units
    return saddles.plateau_steps(u.m, 1e-4 * units[0], u.eta, float(units.detach().norm()))


def first_step(u):
    p, weights = scales.scheme("ntk")((len(u.x), 4, 3, len(u.y))), [w[0] for w in u.deep]
    found = scales.first_step(weights, p, u.inputs, lambda f: (f - u.y) / f.shape[1])
    return {"contribution": found["contribution"]}


def network(u):
    p = scales.scheme("dp(1/2)")((len(u.x), 8, 2))
    return scales.MLP(p, generator=generator(0), dtype=u.x.dtype)(u.inputs.mT).mT.detach()


def probe(u):
    x, classes = u.form(u.x[None]), one_hot(u.y.argmax(0), len(u.y)).mT.to(u.x.dtype)
    return scales.linear_probe(x, classes, x, classes)


def descent(u, **options):
    return saddles.gradient_descent(u.net, u.p, step_size=u.eta, steps=40, **options)


def directions(u):
    options = {"starts": u.starts, "iterations": 300}
    return saddles.extremal_directions(u.inputs, u.y / u.y.shape[1], **options)


def modes(u):
    moments = saddles.stack_moments([u.m])
    return saddles.follow_modes(moments, u.net.units, step_size=u.eta, steps=20)


def turns(u):
    options = {"step_size": u.deep_eta, "most_steps": 20, "order": (0, 1, 2)}
    return saddles.layers_in_turn(u.deep, u.p, **options)


def certify(u):
    unit = Weights(u.net.w1[0], u.net.w2[0])
    return {"status": saddles.certify(u.p, unit, settings=FEW).status}


def layerwise(u):
    return saddles.layerwise_descent(u.deep, u.p, step_size=u.deep_eta, sweeps=10, **RELU)


#: Every public function that takes data, called.
CALLS = {
    "MLP": network,
    "arrival_rate": lambda u: saddles.arrival_rate(u.m, 1),
    "certify": certify,
    "deep_forward": lambda u: saddles.deep_forward(u.deep, u.inputs, "relu"),
    "effective_rank": lambda u: scales.effective_rank(u.form(u.x[None])),
    "escape": escape,
    "extremal_directions": directions,
    "find_drops": drops,
    "find_stages": stages,
    "first_step": first_step,
    "follow_modes": modes,
    "forward": lambda u: saddles.forward(u.net, u.inputs, "relu"),
    "gradient": lambda u: saddles.gradient(u.net, u.p, **RELU).gradients.w1,
    "gradient_descent": lambda u: descent(u, **BOTH),
    "growth_bound": bound,
    "hidden": lambda u: scales.hidden(u.deep, (1.0,) * 3, u.form(u.x[None]))[-1],
    "layers_in_turn": turns,
    "layerwise_descent": layerwise,
    "levels": lambda u: saddles.levels(u.m),
    "linear_descent": lambda u: saddles.linear_descent(u.net, u.p, step_size=u.eta, **SIZES),
    "linear_probe": probe,
    "plateau_steps": plateau,
    "predict_staircase": lambda u: saddles.predict_staircase(u.m, u.eta),
    "rank_k_map": lambda u: saddles.rank_k_map(u.m, 1),
    "rank_ratios": lambda u: saddles.rank_ratios(u.deep),
    "sgd": sgd,
    "skip_plateaus": lambda u: skip(u, "linear"),
    "skip_plateaus, relu": lambda u: skip(u, "relu"),
    "stack_moments": lambda u: saddles.stack_moments([u.m]).yx,
    "unit_gradient": lambda u: saddles.unit_gradient(u.net, u.p, **RELU),
    "unit_matrix": lambda u: saddles.unit_matrix(u.net, u.p, **RELU),
}
#: Of each answer, or of its parts by name: the axes (i inputs, o outputs, c both, s samples) and
#: the powers of the units of X and Y.
ANSWERS = """
MLP .s 1 0; arrival_rate - 1 1; deep_forward .os 0 1; effective_rank . 0 0; escape rate - 1 1;
escape gap - 0 0; escape way cc 0 0; extremal_directions rates . 1 1; find_drops at . 0 0;
find_drops rest . 0 0; find_stages misfit .. 0 0; first_step contribution . 0.66666666666667 3.33333333333333;
follow_modes losses .. 0 2; follow_modes modes ... -0.5 0.5; forward .os 0 1;
gradient ..i 0.5 1.5; gradient_descent loss .. 0 2; gradient_descent product ..oi -1 1;
growth_bound - 0 0; hidden .os 0 1; layers_in_turn losses .. 0 2; layerwise_descent loss .. 0 2;
layerwise_descent rank_ratio ... 0 0; levels . 0 2; linear_descent loss .. 0 2;
linear_descent mode_sizes ... -0.5 0.5; linear_probe . 0 0; plateau_steps - 0 0;
predict_staircase levels . 0 2; predict_staircase times . -1 -1;
predict_staircase sharpness . 1 1; rank_k_map oi -1 1; rank_ratios .. 0 0; sgd t_loss .. 0 2;
skip_plateaus losses . 0 2; stack_moments .oi 1 1; unit_gradient ..c 0.5 1.5; unit_matrix ..cc 1 1
"""
ANSWERS = [line.split() for line in ANSWERS.split(";")]


def called(name, u):
    """What a call gives, in parts: what is compared as it is, or (tensor, axes, powers)."""
    found, parts = CALLS[name](u), {}
    for own, *part, axes, a, b in ANSWERS:
        key = part[0] if part else "value"
        if own != name.split(",")[0] or (isinstance(found, dict) and key not in found):
            continue
        by_name = isinstance(found, dict) or hasattr(found, "observables")
        value = found if not part else found[key] if by_name else getattr(found, key)
        parts[key] = value, axes.strip("-"), float(a), float(b)
    return found | parts if isinstance(found, dict) and "status" in found else parts


CHANGES = ("units", "axes", "order", "twice")


def changed(u, change):
    """The same user in other units, axes or order; and how an axis of an answer changes."""
    g = generator("users", change)
    m0, m2, n = len(u.x), len(u.y), u.x.shape[1]
    p, q, pick = torch.eye(m0).double(), torch.eye(m2).double(), torch.arange(n)
    a = b = 1.0
    if change == "units":
        a, b = 2.0**-9, 2.0**6
    if change == "axes":
        p, q = random_orthogonal(m0, g), random_orthogonal(m2, g)
    if change == "order":
        pick = torch.randperm(n, generator=g)
    if change == "twice":
        pick = pick.repeat(2)
    two, three = (b / a) ** 0.5, (b / a) ** (1 / 3)
    w1, *inner, w3 = (three * w for w in u.deep)
    both = torch.block_diag(p, q)
    other = replace(
        u,
        x=a * (p @ u.x)[:, pick],
        y=b * (q @ u.y)[:, pick],
        net=Weights(two * u.net.w1 @ p.mT, two * q @ u.net.w2),
        deep=(w1 @ p.mT, *inner, q @ w3),
        starts=u.starts @ both.mT,
        eta=u.eta / (a * b),
        deep_eta=u.deep_eta * a ** (-2 / 3) * b ** (-4 / 3),
    )
    axis = {"i": p, "o": q, "c": both, "s": torch.eye(n).double()[pick]}
    return other, axis, (a, b)


#: Where a mode never escapes, a drop did not happen: documented.
INFINITE = {("predict_staircase", "times"), ("plateau_steps", "value"), ("find_stages", "misfit")}
#: Labels and fixed random weights have axes of their own.
NO_AXES = ("MLP", "linear_probe")


def answer(name, u):
    """What a call gives, or the ValueError that it raises; nothing that was handed over changes."""
    handed = (u.x, u.y, *u.net, *u.deep, u.starts)
    before = [t.detach().clone() for t in handed]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.set_warn_always(True)  # not only once a process
            found, error = called(name, u), None
    except ValueError as refusal:
        found, error = {}, str(refusal)
    finally:
        torch.set_warn_always(False)
    assert all(torch.equal(t, b) for t, b in zip(handed, before, strict=True))
    for key, value in found.items():
        if isinstance(value, tuple) and (name, key) not in INFINITE:
            assert torch.isfinite(value[0]).all(), key
    return found, error


def like(one, two, tolerance, axis=None, units=(1.0, 1.0), sizes=(1.0, 1.0)):
    """Compare two answers; `one` is first brought to the axes and units of `two`."""
    assert one.keys() == two.keys()
    for key, value in one.items():
        if not isinstance(value, tuple):
            assert value == two[key], key
            continue
        wanted, axes, *powers = value
        wanted = wanted.double()
        for k, letter in enumerate(axes):
            if axis is not None and letter in axis:
                turned = torch.tensordot(axis[letter], wanted, dims=([1], [k]))
                wanted = torch.movedim(turned, 0, k)
        unit, size = (a ** powers[0] * b ** powers[1] for a, b in (units, sizes))
        scale = max(size, float(value[0].nan_to_num(0, 0, 0).abs().max())) if wanted.numel() else 0
        torch.testing.assert_close(
            two[key][0].double(),
            wanted * unit,
            rtol=tolerance,
            atol=tolerance * scale * unit,
            equal_nan=True,
            msg=lambda m, key=key: f"{key}: {m}",
        )


def sizes_of(u):
    """Largest entries of X and Y, and whether they are correlated at all, or by rounding only."""
    sizes = tuple(float(v.abs().max()) or 1.0 for v in (u.x, u.y))
    share = float(u.m.yx.abs().max()) / (sizes[0] * sizes[1])
    return sizes, not 0 < share < 1e-9


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=10, derandomize=True, database=None)
@given(drawn=USERS, change=st.sampled_from(CHANGES))
def test_other_units_axes_orders_and_copies(name, drawn, change):
    u = made(*drawn)
    found, error = answer(name, u)
    sizes, clear = sizes_of(u)
    if not clear or (change == "axes" and (name in NO_AXES or not u.plain)):
        return  # other sums round otherwise; and a large column, turned, hides the small ones
    other, axis, units = changed(u, change)
    same, refused = answer(name, other)
    assert (error is None) == (refused is None), error or refused
    like(found, same, 1e-6, axis, units, sizes)


def strided(t):
    return t.mT.contiguous().mT


def every(u, change):
    """All tensors of the user changed."""
    data = {"x": u.x, "y": u.y, "starts": u.starts}
    nets = {"net": Weights(*map(change, u.net)), "deep": tuple(map(change, u.deep))}
    return replace(u, **{k: change(v) for k, v in data.items()}, **nets)


FORMS = {
    "strides": lambda u: every(u, strided),
    "gradients": lambda u: every(u, lambda t: t.clone().requires_grad_()),
    "float32": lambda u: every(u, torch.Tensor.float),
    "list": lambda u: replace(u, form=torch.Tensor.tolist),
    "array": lambda u: replace(u, form=torch.Tensor.numpy),
    "whole numbers": lambda u: replace(u, form=torch.Tensor.long),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_other_forms_of_the_data(as_users_run, name, form):
    if name == "MLP" and form != "gradients":
        pytest.skip("a module of torch.nn, which refuses in torch's words")
    g = generator("forms")
    x, y = (torch.randn(k, 6, generator=g, dtype=torch.float64) for k in (3, 2))
    u = user(torch.cat([x, x[:1]]), y, g)
    found, _ = answer(name, u)
    same, error = answer(name, FORMS[form](u))
    if error is None:
        like(found, same, 1e-3 if form == "float32" else 1e-9)
    else:
        words = {"list": "got list", "array": "got ndarray", "whole numbers": "torch.int64"}
        assert words.get(form, "requires_grad") in error


#: Public names that take no data: settings, starts, grids, rules for widths, files.
NO_DATA = [
    "Settings",
    "Stop",
    "Weights",
    "geometric_grid",
    "initialise",
    "initialise_deep",
    "PRINTED",
    "SCHEMES",
    "Scheme",
    "WidthFamily",
    "coordinate_check",
    "dynamic",
    "exponent_check",
    "gains",
    "load",
    "parametrize",
    "predict_exponents",
    "save",
    "scheme",
    "solve_requirements",
    "tangent_kernel_spread",
]


def test_every_public_function_that_takes_data_is_called():
    names = {name.split(",")[0] for name in CALLS}
    assert names | set(NO_DATA) == {*saddles.__all__, *scales.__all__}
