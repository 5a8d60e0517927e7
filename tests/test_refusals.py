"""What was once taken in silence and changed the result: a ValueError names argument and value."""

import math
from dataclasses import replace

import pytest
import torch

from learning_dynamics.kernels import mlp_torch as passes
from learning_dynamics.kernels import weights
from learning_dynamics.kernels.weights import initialise
from learning_dynamics.losses import squared
from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import two_layer
from learning_dynamics.saddles.deep_nets import deep_forward, initialise_deep, layerwise_descent
from learning_dynamics.saddles.linear_nets.linear import linear_descent
from learning_dynamics.scales import exponent_check, network, parametrizations, training

STREAMS = [generator("refusals")]
X, Y = torch.rand(4, 9, dtype=torch.float64), torch.rand(3, 9, dtype=torch.float64)
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

#: (what the message says, the call): each was once taken in silence.
CASES = [
    ("observables", lambda: descend(observables=("loss", "w1", "loss"))),
    ("observables", lambda: linear_descent(NET, P, observables=("loss", "loss"), **ONE_STEP)),
    ("schemes", lambda: exponent_check(("spectral", "spectral"), FAMILY, sizes=(8, 16))),
    (r"record = \(0, 99\).*0\.\.4", lambda: sgd(record=(0, 99))),
    ("record = 0", lambda: sgd(replace(STATE, step=2), record=(0,))),
    ("record = 2.7", lambda: sgd(record=(2.7,))),
    ("record = '03'", lambda: sgd(record=("03",))),
    (r"record = \(0, 0\)", lambda: sgd(record=(0, 0))),
    ("step_ratios has 3", lambda: sgd(step_ratios=(1.0,) * 3)),
    ("step_ratios has 0", lambda: sgd(step_ratios=())),
    ("step_ratios = .*nan", lambda: sgd(step_ratios=(1.0, NAN))),
    ("multipliers = .*nan", lambda: sgd(multipliers=(1.0, NAN))),
    ("multipliers = ", lambda: sgd(multipliers=("1", "1"))),
    ("momentum = 2.0", lambda: sgd(MOVING, momentum=2.0)),
    ("momentum = -0.5", lambda: sgd(MOVING, momentum=-0.5)),
    ("momentum = nan", lambda: sgd(MOVING, momentum=NAN)),
    ("step_size: shape", lambda: sgd(step_size=torch.rand(2))),
    (f"'t'..inputs: {F32}", lambda: sgd(evaluate={"t": P32})),
    (f"init_scale = 1e-60: in {F32}", lambda: initialise((4, 5, 3), 1e-60, STREAMS, **SMALL)),
    ("init_scale = 1e-60", lambda: initialise_deep((4, 5, 3), 1e-60, STREAMS, **SMALL)),
    ("init_stds", lambda: training.initialise((4, 3), (1e-60,), [0])),
    ("weight_stds", lambda: network.initial_weights(ZERO, STREAMS[0], **SMALL)),
    ("step_size", lambda: descend(NET32, P32, step_size=1e-60)),
    ("init_scale: shape .3,.*1 runs", lambda: initialise((4, 5, 3), THREE, STREAMS)),
    ("init_scale: shape .3,", lambda: initialise_deep((4, 5, 3), THREE, STREAMS)),
    (f"w2: {F32}", lambda: descend(weights.Weights(NET.w1, NET.w2.float()))),
    (f"problem.inputs: {F32}", lambda: descend(problem=P32)),
    (f"targets: {F32}", lambda: Problem(X, Y.float())),
    (f"yy: {F32}", lambda: Moments(*(a @ a.mT for a in (X, X, X.float())))),
    (f"W_2: {F32}", lambda: deep(with_middle(torch.Tensor.float))),
    (f"inputs: {F32}", lambda: deep(problem=P32)),
    (f"inputs: {F32}", lambda: deep_forward(DEEP, X.float())),
    (f"inputs: {F32}", lambda: weights.gradient(NET, P32)),
    (f"inputs: {F32}", lambda: passes.hidden(STATE.weights, (1.0, 1.0), X.float()[None])),
    ("W_2: shape", lambda: deep(with_middle(lambda w: w[..., :-1]))),
    (f"loss weighted squared: .*{F64}", lambda: descend(NET32, P32, loss=squared(Y.double()))),
    ("loss weighted squared: ", lambda: deep(loss=squared(Y[:, :8]))),
    (r"seed = 'a\\x00b'", lambda: generator("a\0b")),
    ("seed = '-1'", lambda: generator("runs", "-1")),
]


@pytest.mark.parametrize(("message", "call"), CASES)
def test_it_is_refused(as_users_run, message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_like_it_and_right_is_taken(as_users_run):
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
