"""What a user would write today: the same gradient descent, four ways.

Each builder returns a function of no arguments that runs `steps` steps for all runs from the
same start and gives the final (W1, W2); the tests check that all agree.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from learning_dynamics.problems import Problem
from learning_dynamics.saddles.two_layer import Weights

Run = Callable[[], tuple[Tensor, Tensor]]


def module_loop(w: Weights, p: Problem, act: str, eta: float, steps: int) -> Run:
    """(a) One torch.nn module a run, autograd, torch.optim.SGD; the first run only."""

    def run() -> tuple[Tensor, Tensor]:
        m1, m0 = w.w1.shape[-2:]
        layers = [torch.nn.Linear(m0, m1, bias=False, dtype=w.w1.dtype)]
        layers += [torch.nn.ReLU()] if act == "relu" else []
        layers += [torch.nn.Linear(m1, w.w2.shape[-2], bias=False, dtype=w.w1.dtype)]
        net = torch.nn.Sequential(*layers)
        with torch.no_grad():
            layers[0].weight.copy_(w.w1[0])
            layers[-1].weight.copy_(w.w2[0])
        optimiser = torch.optim.SGD(net.parameters(), lr=eta)
        x, y, n = p.inputs.mT.contiguous(), p.targets.mT.contiguous(), p.inputs.shape[-1]
        for _ in range(steps):
            optimiser.zero_grad()
            (0.5 * (net(x) - y).square().sum() / n).backward()
            optimiser.step()
        return layers[0].weight.detach()[None], layers[-1].weight.detach()[None]

    return run


def batched_autograd(w: Weights, p: Problem, act: str, eta: float, steps: int) -> Run:
    """(b) One autograd graph for all runs."""

    def run() -> tuple[Tensor, Tensor]:
        w1, w2 = w.w1.clone().requires_grad_(), w.w2.clone().requires_grad_()
        n = p.inputs.shape[-1]
        for _ in range(steps):
            h = w1 @ p.inputs
            h = torch.relu(h) if act == "relu" else h
            loss = 0.5 * (w2 @ h - p.targets).square().sum() / n
            g1, g2 = torch.autograd.grad(loss, (w1, w2))
            with torch.no_grad():
                w1 -= eta * g1
                w2 -= eta * g2
        return w1.detach(), w2.detach()

    return run


def functional_vmap(w: Weights, p: Problem, act: str, eta: float, steps: int) -> Run:
    """(b') torch.func: vmap of grad over runs."""

    def loss(parameters: tuple[Tensor, Tensor]) -> Tensor:
        h = parameters[0] @ p.inputs
        h = torch.relu(h) if act == "relu" else h
        return 0.5 * (parameters[1] @ h - p.targets).square().sum() / p.inputs.shape[-1]

    gradients = torch.func.vmap(torch.func.grad(loss))

    def run() -> tuple[Tensor, Tensor]:
        w1, w2 = w
        for _ in range(steps):
            g1, g2 = gradients((w1, w2))
            w1, w2 = w1 - eta * g1, w2 - eta * g2
        return w1, w2

    return run


def jax_scan(w: Weights, p: Problem, act: str, eta: float, steps: int) -> Run:
    """(c) JAX: jit of vmap of a scan over steps; compiled before the clock starts."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", w.w1.dtype == torch.float64)
    x, y = jnp.asarray(p.inputs.numpy()), jnp.asarray(p.targets.numpy())

    def loss(parameters):
        h = parameters[0] @ x
        h = {"relu": jax.nn.relu, "tanh": jnp.tanh}.get(act, lambda z: z)(h)
        return 0.5 * jnp.square(parameters[1] @ h - y).sum() / x.shape[-1]

    def one(parameters):
        def step(q, _):
            g = jax.grad(loss)(q)
            return jax.tree.map(lambda a, b: a - eta * b, q, g), None

        return jax.lax.scan(step, parameters, None, length=steps)[0]

    start = (jnp.asarray(w.w1.numpy()), jnp.asarray(w.w2.numpy()))
    compiled = jax.jit(jax.vmap(one)).lower(start).compile()

    def run() -> tuple[Tensor, Tensor]:
        out = jax.block_until_ready(compiled(start))
        return tuple(torch.from_numpy(np.array(v)) for v in out)

    return run


def numpy_loop(w: Weights, p: Problem, act: str, eta: float, steps: int) -> Run:
    """(d) NumPy with gradients by hand, all runs in one array."""
    x, y = p.inputs.numpy(), p.targets.numpy()

    def run() -> tuple[Tensor, Tensor]:
        w1, w2, c = w.w1.numpy().copy(), w.w2.numpy().copy(), eta / x.shape[-1]
        for _ in range(steps):
            z = w1 @ x
            h = np.maximum(z, 0) if act == "relu" else z
            g = c * (w2 @ h - y)
            back = w2.swapaxes(-1, -2) @ g
            back = back * (z > 0) if act == "relu" else back
            w2 -= g @ h.swapaxes(-1, -2)
            w1 -= back @ x.T
        return torch.from_numpy(w1), torch.from_numpy(w2)

    return run


BASELINES = {
    "torch.nn loop": module_loop,
    "batched autograd": batched_autograd,
    "torch.func.vmap": functional_vmap,
    "JAX scan": jax_scan,
    "NumPy": numpy_loop,
}
