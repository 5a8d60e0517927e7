"""Layer-wise gradient descent: gradients, schedules, exact scaling, controls."""

import pytest
import torch

from learning_dynamics.activations import activation as find_activation
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import deep_nets as nets
from learning_dynamics.saddles.two_layer import Weights, gradient_descent

WIDTHS = (4, 5, 6, 5, 3)


def problem():
    spectra = {"input_spectrum": (2.0, 1.2, 0.8, 0.5), "target_spectrum": (2.0, 1.0, 0.5)}
    draw = generator("layerwise", 0)
    return linear_teacher(generator=draw, output_dim=3, samples=9, **spectra)


def start(widths=WIDTHS, scale=0.8, runs=3):
    return nets.initialise_deep(
        widths, scale, [generator("layerwise", "w", s) for s in range(runs)]
    )


THREE, TOTAL = (4, 5, 5, 3), 0.5 * float(problem().moments().yy.trace())


def deep_gradient(weights, p, activation="linear", loss="squared"):
    """dL/dW_1 ... dL/dW_L, all at the same point."""
    act, below, gradients = find_activation(activation), p.inputs, []
    for layer, w in enumerate(weights):
        g = nets.layer_gradient(weights, below, layer, p.targets, act, find_loss(loss))
        gradients.append(g)
        below = act(w @ below)
    return gradients


@pytest.mark.parametrize("name", ["linear", "relu", "tanh", "gelu"])
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_gradients_are_autograds(name, loss):
    p, w = problem(), tuple(v.requires_grad_() for v in start())
    value = find_loss(loss).value(nets.deep_forward(w, p.inputs, name), p.targets).sum()
    expected = torch.autograd.grad(value, w)
    got = deep_gradient(tuple(v.detach() for v in w), p, activation=name, loss=loss)
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-12 * float(b.abs().max())


def test_a_cyclic_sweep_uses_each_new_layer_at_once():
    p, w = problem(), start()
    run = nets.layerwise_descent(w, p, step_size=0.1, sweeps=1, activation="relu")
    now = list(w)
    for layer in range(len(now)):
        now[layer] = now[layer] - 0.1 * deep_gradient(tuple(now), p, activation="relu")[layer]
    for a, b in zip(run.final, now, strict=True):
        assert torch.equal(a, b)
    options = {"activation": "relu", "schedule": "simultaneous"}
    other = nets.layerwise_descent(w, p, step_size=0.1, sweeps=1, **options)
    assert not torch.allclose(other.final[1], run.final[1])


def test_two_layers_at_once_are_the_two_layer_kernel():
    p, w, options = problem(), start((4, 5, 3)), {"step_size": 0.05, "activation": "tanh"}
    deep = nets.layerwise_descent(w, p, sweeps=50, schedule="simultaneous", **options)
    two = gradient_descent(Weights(*w), p, steps=50, **options)
    torch.testing.assert_close(deep.final, tuple(two.final), rtol=0, atol=1e-13)
    assert torch.allclose(deep["loss"], two["loss"], atol=1e-13)


def test_runs_stop_at_their_own_sweep():
    p, scales = problem(), torch.tensor([0.3, 0.1], dtype=torch.float64)
    w = nets.initialise_deep(THREE, scales, [generator("s"), generator("s")])
    run = nets.layerwise_descent(w, p, step_size=0.1, sweeps=1500, stop_loss=0.8 * TOTAL)
    first, second = run.stopped_at.tolist()
    assert 0 < first < second < 1500
    alone = nets.layerwise_descent(w, p, step_size=0.1, sweeps=first)
    assert torch.equal(alone.final[0][0], run.final[0][0])  # frozen there
    assert float(run["loss"][0, -1]) <= 0.8 * TOTAL


def test_one_layer_alone_scales_exactly():
    # Training W_1 alone moves the product A W_1 with A = W_L ... W_2 fixed: steps ~ A A'.
    p, steps = problem(), []
    for scale in (0.4, 0.2):
        w = nets.initialise_deep(THREE, scale, [generator("alone", s) for s in range(2)])
        run = nets.layerwise_descent(
            w, p, step_size=0.2, sweeps=6000, layers=(0,), stop_loss=TOTAL / 2
        )
        assert torch.equal(run.final[1], w[1])
        steps.append(run.stopped_at.double())
    assert float((torch.log2(steps[1] / steps[0]) - 4).abs().max()) < 0.1


def test_layers_in_turn_converge_and_do_not_lower_the_rank():
    p, w = problem(), start(THREE, 0.7, 2)
    turn = nets.layers_in_turn(w, p, step_size=0.1, most_steps=20000, order=(0,), tolerance=1e-2)
    assert bool((turn.steps < 20000).all())
    left, before = (deep_gradient(at, p)[0].norm(dim=(1, 2)) for at in (turn.final, w))
    assert bool((left <= 0.011 * before).all())
    assert torch.equal(turn.rank_ratio[:, 0, 1], nets.rank_ratios(w)[:, 1])
