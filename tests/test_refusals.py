"""What was once taken in silence and changed the result: a ValueError names argument and value."""

import math
from dataclasses import replace

import pytest
import torch

from learning_dynamics.kernels import mlp_torch as passes
from learning_dynamics.kernels import weights
from learning_dynamics.losses import squared
from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import deep_nets as layerwise
from learning_dynamics.saddles import two_layer
from learning_dynamics.saddles.linear_nets import linear
from learning_dynamics.scales import exponent_check, network, parametrizations, training
from learning_dynamics.scales import parametrizations as width_family
from learning_dynamics.scales import training as checkpoints

STREAMS = [generator("refusals")]
X, Y = torch.rand(4, 9, dtype=torch.float64), torch.rand(3, 9, dtype=torch.float64)
P, P32 = Problem(X, Y), Problem(X.float(), Y.float())
NET = weights.initialise((4, 5, 3), 0.1, STREAMS)
DEEP = layerwise.initialise_deep((4, 5, 5, 3), 0.1, STREAMS)
STATE = training.initialise((4, 6, 3), (1.0, 1.0), [0], dtype=torch.float64)
MOVING = training.initialise((4, 6, 3), (1.0, 1.0), [0], momentum=True, dtype=torch.float64)


def descend(net=NET, problem=P, **options):
    return two_layer.gradient_descent(net, problem, **{"step_size": 0.1, "steps": 4} | options)


def sgd(state=STATE, problem=P, multipliers=(1.0, 1.0), **options):
    usual = {"seeds": [0], "step_size": 0.1, "steps": 4, "batch_size": 3}
    return training.sgd(problem, state.clone(), multipliers, **usual | options)


def deep(net=DEEP, problem=P, **options):
    return layerwise.layerwise_descent(net, problem, **{"step_size": 0.1, "sweeps": 3} | options)


def with_middle(change):
    return tuple(change(w) if i == 1 else w for i, w in enumerate(DEEP))


CASES = {
    "an observable twice": (lambda: descend(observables=("loss", "w1", "loss")), "observables"),
    "the same of a linear net": (
        lambda: linear.linear_descent(NET, P, step_size=0.1, steps=2, observables=("loss", "loss")),
        "observables",
    ),
    "the same scheme twice": (
        lambda: exponent_check(
            ("spectral", "spectral"), width_family.WidthFamily((0, 1, 0), (8, 1, 2)), sizes=(8, 16)
        ),
        "schemes",
    ),
    "a record beyond the end": (lambda: sgd(record=(0, 99)), r"record = \(0, 99\).*0\.\.4"),
    "a record before the start": (lambda: sgd(replace(STATE, step=2), record=(0,)), "record = 0"),
    "a broken record": (lambda: sgd(record=(2.7,)), "record = 2.7"),
    "a record in letters": (lambda: sgd(record=("03",)), "record = '03'"),
    "a record twice": (lambda: sgd(record=(0, 0)), r"record = \(0, 0\)"),
    "too many ratios": (lambda: sgd(step_ratios=(1.0,) * 3), "step_ratios has 3"),
    "no ratios": (lambda: sgd(step_ratios=()), "step_ratios has 0"),
    "a ratio that is none": (lambda: sgd(step_ratios=(1.0, math.nan)), "step_ratios = .*nan"),
    "a multiplier that is none": (lambda: sgd(multipliers=(1.0, math.nan)), "multipliers = .*nan"),
    "a multiplier in letters": (lambda: sgd(multipliers=("1", "1")), "multipliers = "),
    "momentum 2": (lambda: sgd(MOVING, momentum=2.0), "momentum = 2.0"),
    "momentum -1/2": (lambda: sgd(MOVING, momentum=-0.5), "momentum = -0.5"),
    "momentum nan": (lambda: sgd(MOVING, momentum=math.nan), "momentum = nan"),
    "step sizes for two runs of one": (lambda: sgd(step_size=torch.rand(2)), "step_size: shape"),
    "evaluation in float32": (lambda: sgd(evaluate={"t": P32}), "'t'..inputs: torch.float32"),
    "a start that is zero": (
        lambda: weights.initialise((4, 5, 3), 1e-60, STREAMS, dtype=torch.float32),
        "init_scale = 1e-60: in torch.float32",
    ),
    "a deep start that is zero": (
        lambda: layerwise.initialise_deep((4, 5, 3), 1e-60, STREAMS, dtype=torch.float32),
        "init_scale = 1e-60",
    ),
    "an SGD start that is zero": (lambda: training.initialise((4, 3), (1e-60,), [0]), "init_stds"),
    "a network that is zero": (
        lambda: network.initial_weights(
            replace(parametrizations.scheme("spectral")((4, 8, 3)), init_stds=(1e-60, 1.0)),
            STREAMS[0],
            dtype=torch.float32,
        ),
        "weight_stds",
    ),
    "a step that is zero": (
        lambda: descend(weights.Weights(NET.w1.float(), NET.w2.float()), P32, step_size=1e-60),
        "step_size",
    ),
    "three scales, one generator": (
        lambda: weights.initialise((4, 5, 3), torch.tensor([0.1, 0.2, 0.3]), STREAMS),
        "init_scale: shape .3,.*1 runs",
    ),
    "three scales, one deep generator": (
        lambda: layerwise.initialise_deep((4, 5, 3), torch.tensor([0.1, 0.2, 0.3]), STREAMS),
        "init_scale: shape .3,",
    ),
    "two dtypes": (lambda: descend(weights.Weights(NET.w1, NET.w2.float())), "w2: torch.float32"),
    "weights and data": (lambda: descend(problem=P32), "problem.inputs: torch.float32"),
    "two dtypes of a problem": (lambda: Problem(X, Y.float()), "targets: torch.float32"),
    "two dtypes of moments": (
        lambda: Moments(*(a @ a.mT for a in (X, X, X.float()))),
        "yy: torch.float32",
    ),
    "two dtypes of layers": (lambda: deep(with_middle(torch.Tensor.float)), "W_2: torch.float32"),
    "layers and data": (lambda: deep(problem=P32), "inputs: torch.float32"),
    "a forward pass": (lambda: layerwise.deep_forward(DEEP, X.float()), "inputs: torch.float32"),
    "a gradient": (lambda: weights.gradient(NET, P32), "inputs: torch.float32"),
    "a forward pass of Part II": (
        lambda: passes.hidden(STATE.weights, (1.0, 1.0), X.float()[None]),
        "inputs: torch.float32",
    ),
    "a middle layer too narrow": (lambda: deep(with_middle(lambda w: w[..., :-1])), "W_2: shape"),
    "weights of a loss in float64": (
        lambda: descend(
            weights.Weights(NET.w1.float(), NET.w2.float()),
            P32,
            loss=squared(torch.rand(3, 9).double()),
        ),
        "loss weighted squared: .*float64",
    ),
    "weights of a loss of another shape": (
        lambda: deep(loss=squared(torch.rand(3, 8).double())),
        "loss weighted squared: ",
    ),
    "a zero byte": (lambda: generator("a\0b"), r"seed = 'a\\x00b'"),
    "a number in letters": (lambda: generator("runs", "-1"), "seed = '-1'"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(as_users_run, name):
    call, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_like_it_and_right_is_taken(as_users_run):
    assert descend(observables=("loss", "w1"))["loss"].shape == (1, 5)
    assert linear.linear_descent(NET, P, step_size=0.1, steps=2, observables=()).observables == {}
    assert sgd(record=range(0, 5, 2), evaluate={"t": P}).steps.tolist() == [0, 2, 4]
    sgd(MOVING, momentum=0.9, step_ratios=(1.0, 0.5))
    scales = torch.tensor([0.1, 0.2])
    two = weights.initialise((4, 5, 3), scales, [generator("r"), generator("r")])
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
        checkpoints.save(replace(STATE, **change), tmp_path / "run.npz")
        with pytest.raises(ValueError, match=message):
            checkpoints.load(tmp_path / "run.npz")
    gone = replace(
        STATE,
        weights=(STATE.weights[0], STATE.weights[1] * math.nan),
        diverged_at=torch.tensor([3]),
    )
    checkpoints.save(gone, tmp_path / "run.npz")
    assert checkpoints.load(tmp_path / "run.npz").diverged_at.tolist() == [3]
