"""What was once taken in silence and changed the result: a ValueError names argument and value."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from learning_dynamics import digits_pair, saddles, scales
from learning_dynamics.data.digits import digits
from learning_dynamics.data.published import diagonal_pair
from learning_dynamics.kernels import mlp_torch as passes
from learning_dynamics.kernels import weights
from learning_dynamics.kernels.weights import initialise
from learning_dynamics.losses import squared
from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import theory, two_layer
from learning_dynamics.saddles.deep_nets import initialise_deep, layerwise_descent
from learning_dynamics.saddles.linear_nets import bottleneck as bottlenecks
from learning_dynamics.saddles.linear_nets.linear import linear_descent
from learning_dynamics.scales import exponent_check, network, parametrizations, training
from learning_dynamics.scales.parametrizations import Parametrization, dynamic
from learning_dynamics.scales.requirements import Requirement

STREAMS = [generator("refusals")]
X, Y = torch.rand(4, 9, dtype=torch.float64), torch.rand(3, 9, dtype=torch.float64)
RUNS5, PAIR = torch.ones(5, 2, 3), diagonal_pair().moments()
P, P32 = Problem(X, Y), Problem(X.float(), Y.float())
NET = initialise((4, 5, 3), 0.1, STREAMS)
DEEP = initialise_deep((4, 5, 5, 3), 0.1, STREAMS)
STATE = training.initialise((4, 6, 3), (1.0, 1.0), [0], dtype=torch.float64)
MOVING = training.initialise((4, 6, 3), (1.0, 1.0), [0], momentum=True, dtype=torch.float64)


def descend(net=NET, problem=P, **options):
    return two_layer.gradient_descent(net, problem, **{"step_size": 0.1, "steps": 4} | options)


def sgd(state=STATE, problem=P, multipliers=(1.0, 1.0), **options):
    usual = {"seeds": [0], "step_size": 0.1, "steps": 4, "batch_size": 3}
    return training.sgd(problem, state.clone(), multipliers, **usual | options)


def deep(net=DEEP, problem=P, **options):
    return layerwise_descent(net, problem, **{"step_size": 0.1, "sweeps": 3} | options)


def with_middle(change):
    return tuple(change(w) if i == 1 else w for i, w in enumerate(DEEP))


NET32, NAN = weights.Weights(NET.w1.float(), NET.w2.float()), math.nan
THREE, SMALL = torch.tensor([0.1, 0.2, 0.3]), {"dtype": torch.float32}
ONE_STEP = {"step_size": 0.1, "steps": 2}
ZERO = replace(parametrizations.scheme("spectral")((4, 8, 3)), init_stds=(1e-60, 1.0))
FAMILY = parametrizations.WidthFamily((0, 1, 0), (8, 1, 2))
F32, F64 = "torch.float32", "torch.float64"

M, UNITS, ONE = P.moments(), NET.units[0], weights.Weights(NET.w1[0], NET.w2[0])
NONE = weights.Weights(0 * ONE.w1, ONE.w2)
TWO = weights.Weights(*(torch.cat([w, w]) for w in NET))
SIGNS, LOSS = torch.where(Y[:1] > 0.5, 1.0, -1.0).double(), {"t_loss": torch.zeros(1)}


def probe(labels, **options):
    return scales.linear_probe(X[None], labels, X[None], labels, **options)


def skip(problem=P, **options):
    return saddles.skip_plateaus(problem, width=2, **options)


def follow(moments=None, units=NET.units, **options):
    stacked = moments or saddles.stack_moments([M])
    return saddles.follow_modes(stacked, units, **{"step_size": 0.1, "steps": 2} | options)


def modules(bottleneck=4, wide=(40,)):
    drawn = {"wide": list(wide), "init_std": [0.5], "seeds": [0]}
    return bottlenecks.draw_modules(4, bottleneck, 3, 2, **drawn)


def train(**options):
    usual = {"steps": 60, "step_size": 0.1, "multiplier": torch.ones(1).double()}
    return bottlenecks.train_modules(modules(), M, **usual | options)


def teacher(**options):
    spectrum = {"target_spectrum": (3.0, 1.5, 0.6)}
    return linear_teacher(generator=STREAMS[0], **spectrum | options)


def turns(**options):
    usual = {"step_size": 0.1, "most_steps": 3, "order": (0,)}
    return saddles.layers_in_turn(DEEP, P, **usual | options)


def check(**options):
    usual = {"schemes": ["spectral"], "family": FAMILY, "sizes": [8, 16], "runs": 2}
    return scales.exponent_check(**usual | options)


def coordinates(kind=torch.optim.SGD, first=lambda n: n, **options):
    def net(n):
        return torch.nn.Sequential(torch.nn.Linear(3, first(n)), torch.nn.Linear(n, 2))

    usual = {"batch": torch.ones(4, 3), "sizes": (8, 16, 32)}
    usual["optimizer_factory"] = lambda net: kind(net.parameters(), 0.1)
    usual["loss"] = lambda model, x: model[0](x).square().mean() + model[1].weight.square().sum()
    return scales.coordinate_check(net, "ntk", **usual | options)


def scaled(**options):
    def net(n):
        return torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in ((4, n), (n, n), (n, 2))))

    return scales.parametrize(net, 8, 4, "spectral", "sgd", **options)


def first(x, weights=STATE.weights, **options):
    p = scales.scheme("ntk")((4, 6, 3))
    return scales.first_step([w[0] for w in weights], p, x, lambda f: f - Y, **options)


#: (what the message says, the call): each was once taken in silence.
CASES = [
    ("observables", lambda: descend(observables=("loss", "w1", "loss"))),
    ("observables", lambda: linear_descent(NET, P, observables=("loss", "loss"), **ONE_STEP)),
    ("schemes", lambda: exponent_check(("spectral", "spectral"), FAMILY, sizes=(8, 16))),
    (r"record = \(0, 99\).*0\.\.4", lambda: sgd(record=(0, 99))),
    ("record = 0", lambda: sgd(replace(STATE, step=2), record=(0,))),
    ("record = 2.7", lambda: sgd(record=(2.7,))),
    (r"record = \(0, 0\)", lambda: sgd(record=(0, 0))),
    ("step_ratios has 3", lambda: sgd(step_ratios=(1.0,) * 3)),
    ("step_ratios = .*nan", lambda: sgd(step_ratios=(1.0, NAN))),
    ("momentum = 2.0", lambda: sgd(MOVING, momentum=2.0)),
    ("step_size: shape", lambda: sgd(step_size=torch.rand(2))),
    (f"'t'..inputs: {F32}", lambda: sgd(evaluate={"t": P32})),
    (f"init_scale = 1e-60: in {F32}", lambda: initialise((4, 5, 3), 1e-60, STREAMS, **SMALL)),
    ("weight_stds", lambda: network.initial_weights(ZERO, STREAMS[0], **SMALL)),
    ("step_size", lambda: descend(NET32, P32, step_size=1e-60)),
    ("init_scale: shape .3,.*1 runs", lambda: initialise((4, 5, 3), THREE, STREAMS)),
    (f"w2: {F32}", lambda: descend(weights.Weights(NET.w1, NET.w2.float()))),
    (f"targets: {F32}", lambda: Problem(X, Y.float())),
    (f"yy: {F32}", lambda: Moments(*(a @ a.mT for a in (X, X, X.float())))),
    (f"W_2: {F32}", lambda: deep(with_middle(torch.Tensor.float))),
    (f"inputs: {F32}", lambda: weights.gradient(NET, P32)),
    (f"inputs: {F32}", lambda: passes.hidden(STATE.weights, (1.0, 1.0), X.float()[None])),
    ("W_2: shape", lambda: deep(with_middle(lambda w: w[..., :-1]))),
    (f"loss weighted squared: .*{F64}", lambda: descend(NET32, P32, loss=squared(Y.double()))),
    (r"seed = 'a\\x00b'", lambda: generator("a\0b")),
    # What labels mean.
    ("test_targets: must name", lambda: probe(SIGNS.clamp(0))),
    ("loss logistic allows", lambda: skip(Problem(X, SIGNS.clamp(0)), loss="logistic")),
    ("cross_entropy allows", lambda: saddles.certify(P, ONE, loss="cross_entropy")),
    # Data and records that say nothing.
    ("steps = .*increase", lambda: saddles.find_drops(X[0], torch.arange(9).flip(0))),
    ("steps = .*increase", lambda: saddles.find_stages(X[:1], X[:1, :2], torch.zeros(9).long())),
    ("levels = .*fall", lambda: saddles.find_stages(X[:1], X[:1, :1], torch.arange(9))),
    ("projector: ", lambda: saddles.growth_bound(torch.eye(3), 2 * torch.eye(3))),
    ("starts: a row is zero", lambda: skip(activation="relu", starts=torch.zeros(3, 7).double())),
    ("sigma.0. is not 0", lambda: saddles.unit_matrix(NONE, P, activation="sigmoid")),
    # Ranges.
    ("units: .*below threshold", lambda: saddles.plateau_steps(M, 10 * UNITS, 0.1)),
    ("init_scale = 10.0", lambda: skip().saddles[0].plateau_steps(10.0, 0.1)),
    ("tolerance = 10.0", lambda: linear_descent(NET, P, tolerance=10.0, **ONE_STEP)),
    ("multiply to less", lambda: deep(tuple(1e-200 * w for w in DEEP))),
    ("ridge = 1e-300", lambda: probe(Y, ridge=1e-300)),
    ("targets: .*smaller unit", lambda: Problem(X, 1e-170 * Y).moments()),
    ("layer 1 .*another unit", lambda: first(1e-100 * X)),
    # Words of the library that others do not know.
    ("weights: must be a Weights", lambda: descend(tuple(NET))),
    ("problem: must be a Problem", lambda: weights.gradient(NET, (X, Y))),
    ("settings: must be a Settings", lambda: skip(settings={})),
    ("stop: must be a Stop", lambda: descend(stop=0.5)),
    ("residual: .*ndarray.*as_tensor", lambda: saddles.escape(X.numpy())),
    ("inputs: .*int64.*double", lambda: saddles.forward(ONE, torch.ones(4, 9).long())),
    ("dtype = 'float32'", lambda: initialise((4, 5, 3), 0.1, STREAMS, dtype="float32")),
    ("generators: must be a Generator", lambda: initialise((4, 5, 3), 0.1, [0])),
    ("generators = ", lambda: initialise((4, 5, 3), 0.1, generator(0))),
    ("masked", lambda: Problem(np.ma.array(X.numpy(), mask=X > 0.5), Y)),
    ("inputs: no array", lambda: Problem([[1.0, 2.0], [3.0]], Y)),
    ("16|32 or 64", lambda: Problem(X.half(), Y.half())),
    # Arguments without effect, or with another than they say.
    ("record_at = 2.7", lambda: descend(record_at=[0, 2.7])),
    (r"record_at = \[0, 3\]", lambda: linear_descent(NET, P, record_at=[[0, 3]], **ONE_STEP)),
    ("batch: the problems differ", lambda: saddles.stack_moments([M, P32.moments()])),
    ("batch: pass a list", lambda: saddles.stack_moments(M)),
    ("moments: 2 problems for 1", lambda: follow(saddles.stack_moments([M, M]))),
    ("step_size: shape", lambda: saddles.levels(M, X[0])),
    ("leading dimensions", lambda: saddles.forward(TWO, torch.stack([X, X, X]))),
    ("yx: shape", lambda: saddles.arrival_rate(saddles.stack_moments([M]), 1)),
    ("'t'.: must be a Problem", lambda: sgd(evaluate={"t": (X, Y)})),
    ("weighted squared", lambda: sgd(loss=squared(Y), batch_size=9)),  # which samples are they of?
    ("sizes = .*each once", lambda: check(sizes=[8, 8, 16])),
    ("nothing to check", lambda: check(schemes=[])),
    ("dtype = torch.float16", lambda: check(dtype=torch.float16)),
    ("muon_factor = .*no effect", lambda: scaled(muon_factor="match_rms_adamw")),
    ("eps = 1e-08", lambda: scaled().param_groups(0.1, eps=1e-8)),
    ("activation = .*relu", lambda: sgd(activation=["relu"])),
    ("parametrization: must be", lambda: scales.MLP((4, 5, 3), generator=STREAMS[0])),
    ("classes = True", lambda: digits_pair(True, 3)),
    ("observe: 't_loss'", lambda: sgd(evaluate={"t": P}, record=(0,), observe=lambda s: LOSS)),
    # Counts, shapes and names of each module.
    ("step_size = None", lambda: skip(settings=saddles.Settings(phase="gradient_descent"))),
    ("starts = None, generator = None", lambda: skip(activation="relu")),
    (r"starts: shape \(3, 4\)", lambda: skip(activation="relu", starts=torch.ones(3, 4).double())),
    ("activation", lambda: theory.extremal_directions.dormant_activation("sigmoid")),
    ("k = 8", lambda: theory.growth_bound.leading_projector(UNITS, 8)),
    ("k = 4", lambda: saddles.rank_k_map(M, 4)),
    ("step_size = None", lambda: saddles.predict_staircase(M).drop_steps(1e-8)),
    ("step_size = 50", lambda: saddles.arrival_rate(M, 1, 50.0)),
    ("scale = 2", lambda: theory.stages.log_excess(M, saddles.predict_staircase(M, 0.1), 1, 2)),
    ("diverged at step .* step_size = 90", lambda: follow(step_size=90.0, steps=50)),
    ("keep", lambda: follow(keep=("weights",))),
    ("layers", lambda: deep(layers=(7,))),
    ("W_1", lambda: deep(DEEP[1:])),
    ("diverged at step", lambda: deep(tuple(30 * w for w in DEEP), step_size=5.0, sweeps=50)),
    ("widths", lambda: initialise_deep((3, 2), 1.0, STREAMS)),
    ("W_3", lambda: deep(problem=Problem(X, Y[:2]))),
    ("wide = 5", lambda: modules(wide=[5])),
    ("bottleneck", lambda: modules((4, 4))),
    ("step_size = 50", lambda: train(step_size=50.0)),
    ("polar", lambda: train(polar=torch.ones(1, 4), time_power=0.1)),
    (r"weights\[1\]: shape", lambda: first(X, (STATE.weights[0],) * 2)),
    ("inputs: shape", lambda: first(X[:2])),
    ("activation: 3 given", lambda: first(X, activation=[None] * 3)),
    ("hidden widths must grow", lambda: scales.solve_requirements((0, 1, 0, 1, 0))),
    ("relation = '<'", lambda: Requirement("x", "<", lambda found, widths: [])),
    ("at least two different sizes", lambda: check(sizes=[8, 8])),
    ("runs = 1: must be an integer >= 2", lambda: check(runs=1)),
    ("quantities = 'mood'", lambda: check(quantities=("mood",))),
    ("seeds has 2", lambda: sgd(seeds=[0, 1])),
    ("momentum = 0.9: state must hold velocities", lambda: sgd(momentum=0.9)),
    ("multipliers has 3", lambda: sgd(multipliers=(1.0,) * 3)),
    ("init_stds has 1", lambda: training.initialise((3, 4, 5), (1.0,), [0])),
    (r"r = 0\.75: must lie in \[0, 1/2\]", lambda: dynamic(0.75)),
    ("factors: 1 values", lambda: scales.scheme("ntk")((3, 4, 5)).rescaled([1.0])),
    ("gains: 1 values", lambda: Parametrization("x", (3, 4, 5), *[(1.0, 1.0)] * 3, (1.0,))),
    ("multipliers = -1", lambda: Parametrization("x", (3, 4, 5), (1, -1.0), *[(1.0, 1.0)] * 3)),
    ("samples = 3: must be at least m0 = 6", lambda: teacher(samples=3)),
    ("target_spectrum has 3 values", lambda: teacher(output_dim=2)),
    (r"targets: shape \(1, 4\) has n = 4, inputs has 3", lambda: Problem(X[:, :3], Y[:1, :4])),
    (r"has \*runs = \(4,\), inputs has \(5,\)", lambda: Problem(RUNS5, RUNS5[:4])),
    (
        "2 problems for 1 runs",
        lambda: descend(problem=Problem(torch.stack([X, X]), torch.stack([Y, Y]))),
    ),
    ("signed", lambda: digits((1, 2, 3), targets="signed")),
    ("test_fraction", lambda: digits((1, 2), test_fraction=1.0)),
    (r"readouts = \['0'\]", lambda: coordinates(readouts=["0"])),
    ("a RMSprop; known are SGD", lambda: coordinates(torch.optim.RMSprop)),
    ("other widths grow between", lambda: coordinates(first=lambda n: max(n, 16))),
]


@pytest.mark.parametrize(("message", "call"), CASES)
def test_it_is_refused(as_users_run, message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_like_it_and_right_is_taken(as_users_run):
    assert dynamic(0.75, any_r=True).name == "dp(3/4)"
    assert descend(observables=("loss", "w1"))["loss"].shape == (1, 5)
    assert linear_descent(NET, P, observables=(), **ONE_STEP).observables == {}
    assert sgd(record=range(0, 5, 2), evaluate={"t": P}).steps.tolist() == [0, 2, 4]
    sgd(MOVING, momentum=0.9, step_ratios=(1.0, 0.5))
    scales = torch.tensor([0.1, 0.2])
    two = initialise((4, 5, 3), scales, [generator("r"), generator("r")])
    torch.testing.assert_close(2 * two.w1[0], two.w1[1], rtol=1e-6, atol=0)
    streams = [generator(*s).initial_seed() for s in ((1,), ("a", 1), ("a1",), ("01",), ("a", "b"))]
    assert len(set(streams)) == len(streams)


def test_a_checkpoint_holds_what_fits(as_users_run, tmp_path):
    changes = {
        "velocities.*as many": {"velocities": MOVING.velocities[:1]},
        "diverged_at": {"diverged_at": torch.zeros(2, dtype=torch.int64)},
        r"weights\[1\].*nan": {"weights": (STATE.weights[0], STATE.weights[1] * math.nan)},
        "step = -1": {"step": -1},
    }
    for message, change in changes.items():
        training.save(replace(STATE, **change), tmp_path / "run.npz")
        with pytest.raises(ValueError, match=message):
            training.load(tmp_path / "run.npz")
    lost = {"weights": (STATE.weights[0], STATE.weights[1] * NAN)}
    gone = replace(STATE, diverged_at=torch.tensor([3]), **lost)
    training.save(gone, tmp_path / "run.npz")
    assert training.load(tmp_path / "run.npz").diverged_at.tolist() == [3]


def test_right_where_it_was_wrong_or_refused(as_users_run):
    steps = descend(steps=np.int64(4))["loss"]
    torch.testing.assert_close(descend(record_at=[0, 4])["loss"], steps[:, [0, 4]])
    torch.testing.assert_close(descend(step_size=Fraction(1, 10))["loss"], steps)
    assert generator(np.int64(3)).initial_seed() == generator(3).initial_seed()
    # One row of labels -1 and 1: a probe that always answers -1 is right as often as -1 is.
    assert 0 < float(probe(-SIGNS.abs().index_fill(1, torch.tensor([0]), -1))) <= 1
    flat = scales.linear_probe(0 * X[None], SIGNS, 0 * X[None], SIGNS)
    assert float(flat) == max(float((s == SIGNS).double().mean()) for s in (-1, 1))
    # A net whose outputs are all equal is right nowhere, whatever the order of the classes.
    for k in range(3):
        one = Problem(0 * X, torch.eye(3).double()[:, [k] * 9])
        assert float(sgd(problem=one, evaluate={"t": one}, record=(0,))["t_accuracy"]) == 0
    # Scales of any size; nothing there is no rank, no gap and no curvature.
    for size in (1e-170, 1e170):
        torch.testing.assert_close(
            scales.effective_rank(size * X[None]), scales.effective_rank(X[None])
        )
    assert float(scales.effective_rank(torch.full((1, 3, 7), 1 / 3).double())) == 0
    assert saddles.rank_ratios((0 * X[None],)).tolist() == [[0.0]]
    assert float(saddles.escape(0 * X).gap) == 1
    assert saddles.predict_staircase(Problem(X, 0 * Y).moments(), 0.1).sharpness.tolist() == [0] * 4
    # Beyond eta s = 1 the mode that shrinks changes its sign: |1 - eta s|.
    square = Problem(X[:3], Y).moments()
    rate = saddles.theory.staircase.finite_step_rate(torch.tensor([-3.0]), 1.0)
    assert float(rate) == pytest.approx(math.log(2))
    assert torch.isfinite(saddles.predict_staircase(square, 50.0).exponents).all()
    # Products of moments with no room in the numbers.
    far = Problem(1e-140 * X, 1e-130 * Y).moments()
    torch.testing.assert_close(1e260 * saddles.levels(far), saddles.levels(M))
