"""The first step against autograd, against a real step of the network, and the exact identities."""

from functools import partial

import pytest
import torch

from learning_dynamics.losses import squared
from learning_dynamics.runtime import generator
from learning_dynamics.scales.first_step import first_step, spectral_norm
from learning_dynamics.scales.network import MLP, initial_weights, standard_normal_weights
from learning_dynamics.scales.parametrizations import SCHEMES, scheme

WIDTHS = (7, 40, 9, 30, 12, 3)


def problem() -> tuple[torch.Tensor, ...]:
    g = generator("first step")
    return tuple(torch.randn(WIDTHS[k], 5, generator=g, dtype=torch.float64) for k in (0, -1))


def probe(name: str, activation: str = "relu", **options):
    (x, y), p = problem(), scheme(name)(WIDTHS)
    w, options = initial_weights(p, generator("weights")), options | {"activation": activation}
    return p, w, first_step(w, p, x, lambda f: squared().gradient(f, y), **options)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("name", list(SCHEMES))
def test_feature_speed_identity(name, activation):
    _, _, step = probe(name, activation)
    own, total = step["own_contribution"], step["contribution"]
    assert torch.allclose(total, own.cumsum(-1), rtol=1e-8, atol=0)


def test_feature_speed_is_an_identity_of_the_derivative_only():
    _, _, step = probe("dp(1/2)", step_size=0.5)
    assert not torch.allclose(step["contribution"], step["own_contribution"].cumsum(-1), rtol=1e-3)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", ["spectral", "mup-package", "dp(1/2)"])
def test_a_real_step_of_the_network_changes_what_first_step_says(name, activation):
    """Against autograd: gradients of the module, an actual SGD update, forward hooks."""
    eta = 0.05
    x, y = problem()
    p, w, step = probe(name, activation, step_size=eta)
    model = MLP(p, activation, generator=generator("weights"), dtype=torch.float64)
    seen: list[torch.Tensor] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    loss = 0.5 * (model(x.mT) - y.mT).square().sum(-1).mean()
    before = list(seen)
    deltas = torch.autograd.grad(loss, before, retain_graph=True)
    loss.backward()
    gradients = [v.grad.clone() for v in model.weights]
    torch.optim.SGD(model.parameter_groups(eta)).step()
    seen.clear()
    model(x.mT)
    changes = [(b - a).detach() for a, b in zip(before, seen, strict=True)]
    updates = [
        g * r * v for g, r, v in zip(p.multipliers, p.learning_rates, gradients, strict=True)
    ]
    # own part: the new input through the new weights minus the old ones
    h_new = model.activation(seen[1]).detach()
    own = p.multipliers[2] * h_new @ (model.weights[2].detach() - w[2]).mT
    for name, wanted in {
        "backward_norm": [d.norm() for d in deltas],
        "gradient_norm": [g.norm() for g in gradients],
        "change_norm": [c.norm() for c in changes],
        "contribution": [(d * c).sum().abs() for d, c in zip(deltas, changes, strict=True)],
        "update_norm": [eta * torch.linalg.matrix_norm(u, 2) for u in updates],
    }.items():
        torch.testing.assert_close(step[name], torch.stack(wanted), rtol=1e-10, atol=1e-8)
    for name, part in {"own_change_norm": own, "upstream_change_norm": changes[2] - own}.items():
        assert torch.allclose(step[name][2], part.norm(), rtol=1e-10)


def test_derivative_is_the_limit_of_small_steps():
    eta = 1e-6
    _, _, slope = probe("dp(1/2)", "tanh")
    _, _, step = probe("dp(1/2)", "tanh", step_size=eta)
    for name in ("own_change_norm", "change_norm", "contribution"):
        assert torch.allclose(step[name] / eta, slope[name], rtol=1e-4)


def test_backward_update_ratio():
    p, w, step = probe("mup-fan-in")
    h, y = problem()
    for k in range(4):
        h = torch.relu(p.multipliers[k] * w[k] @ h)
    last, g = p.depth - 1, p.multipliers[-1]
    delta = (g * w[last] @ h - y) / y.shape[1]
    old, update = g * w[last].mT @ delta, -p.learning_rates[last] * g * delta @ h.mT
    new = g * update.mT @ delta
    assert torch.allclose(step["backward_update_ratio"][last - 1], new.norm() / old.norm())
    assert torch.isnan(step["backward_update_ratio"][last])
    assert torch.isnan(step["upstream_change_norm"][0])


def test_shared_draws_and_leading_runs_change_nothing():
    x, y = problem()
    p, gradient = scheme("spectral")(WIDTHS), partial(torch.sub, other=y)
    one = [first_step(initial_weights(p, generator("run", k)), p, x, gradient) for k in range(3)]
    draws = [standard_normal_weights(WIDTHS, generator("run", k)) for k in range(3)]
    many = first_step([*map(torch.stack, zip(*draws, strict=True))], p, x, gradient, drawn=True)
    for name, values in many.quantities.items():
        expected = torch.stack([s[name] for s in one])
        assert torch.allclose(values, expected, rtol=1e-9, equal_nan=True), name


@pytest.mark.parametrize("shape", [(300, 300), (1000, 40), (40, 1000), (3, 5), (1, 6)])
def test_spectral_norm_of_gaussian_matrices(shape):
    a = torch.randn(*shape, generator=generator("norm", *shape), dtype=torch.float64)
    exact = torch.linalg.matrix_norm(a, 2)
    assert 0.975 * exact <= spectral_norm(a) <= exact * (1 + 1e-12)
