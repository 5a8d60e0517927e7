"""Exact statements of Part II, measured: layer balance, feature speed, one-step optimal rate."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial.polynomial import Polynomial, polyfit
from torch import Tensor

from learning_dynamics.activations import activation as find_activation
from learning_dynamics.runtime import generator
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.network import MLP, initial_weights
from learning_dynamics.scales.parametrizations import SCHEMES, Parametrization, dynamic, scheme
from paper.claims import Evidence

__all__ = [
    "BALANCED",
    "RICHNESS",
    "Alignment",
    "Balance",
    "alignment",
    "feature_speed",
    "layer_balance",
    "layer_balance_evidence",
    "one_step_optimal_rate",
    "optimal_rate",
]

#: Values of r at which the best first step is measured.
RICHNESS = ("0", "1/10", "1/4", "1/2")
BALANCED = ("standard", "dp(1/4)", "dp(1/2)", "mup-fan-in", "spectral")


@dataclass(frozen=True)
class Balance:
    """E|df/dW_l|^2 measured and from E[f^2]/(gamma_l sigma_l)^2, each (layer,), with its error."""

    measured: list[float]
    predicted: list[float]
    error: list[float]


def mean_square_output(p: Parametrization, input_square: float) -> float:
    """E[f^2] = |x|^2/n_0 prod_l g_l^2 (gamma_l sigma_l)^2 n_{l-1} / 2^(L-1), one output, ReLU.

    A ReLU halves the mean square of a symmetric pre-activation; nothing else is used, so this is
    exact at every width.
    """
    value = input_square
    for k in range(p.depth):
        value *= p.multipliers[k] ** 2 * p.weight_stds[k] ** 2 * p.widths[k]
    return value / 2 ** (p.depth - 1)


def layer_balance(
    name: str, widths: tuple[int, ...] = (16, 128, 32, 128, 32, 128, 1), draws: int = 6000
) -> Balance:
    """Both sides of the layer-balance identity over independent draws of the weights (float32)."""
    p = scheme(name)(widths)
    x = torch.ones(widths[0], 1)
    zero = [torch.zeros(())] * p.depth
    squares = []
    for first in range(0, draws, 250):
        g = generator("layer balance", name, first)
        draw = [
            torch.randn(min(250, draws - first), b, a, generator=g)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        ]
        step = first_step(draw, p, x, torch.ones_like, drawn=True, norms=zero)
        squares.append(step["gradient_norm"].double().square())
    table = torch.cat(squares)
    total = mean_square_output(p, 1.0)
    return Balance(
        table.mean(0).tolist(),
        [total / s**2 for s in p.weight_stds],
        (table.std(0) / math.sqrt(len(table))).tolist(),
    )


def layer_balance_evidence(*, quick: bool) -> Evidence:
    """Ratio measured/predicted for five schemes and six layers; tolerance 4 standard errors."""
    draws = 1000 if quick else 6000
    results = [layer_balance(name, draws=draws) for name in BALANCED]
    return Evidence(
        measured=[m / p for b in results for m, p in zip(b.measured, b.predicted, strict=True)],
        predicted=[1.0] * (6 * len(results)),
        tolerance=[4 * e / p for b in results for e, p in zip(b.error, b.predicted, strict=True)],
        seeds=list(range(0, draws, 250)),
    )


@dataclass(frozen=True)
class Alignment:
    """C_l/(2 loss) of one run, layers 1..L: at the start, and at the step where the sum is largest.

    C_l = |dloss/dW_l|^2, so C_l/(2 loss) is the share of the residual that layer l removes per
    unit time.
    """

    start: list[float]
    peak: list[float]


def alignment(name: str, n: int, steps: int) -> Alignment:
    """Contributions of all layers over a run: widths n, 4 n^(1/5) in turn, ReLU, four inputs.

    Full-batch gradient descent with step size 0.2 from the scheme's start until the loss is a
    hundredth.
    """
    m = round(4 * n**0.2)
    g = generator("alignment data")
    x = torch.nn.functional.normalize(torch.randn(4, 16, generator=g)) * 4.0
    y = x @ torch.randn(16, 1, generator=g) / 4.0
    model = MLP(scheme(name)((16, n, m, n, m, n, 1)), generator=generator("alignment", n))
    optimizer, found, first = torch.optim.SGD(model.parameter_groups(0.2)), [], None
    for _ in range(steps):
        loss = 0.5 * (model(x) - y).square().mean()
        first = first or float(loss.detach())
        if float(loss.detach()) < first / 100:
            break
        optimizer.zero_grad()
        loss.backward()
        gradients = [w.grad for w in model.parameters() if w.grad is not None]
        squares = torch.stack([gradient.square().sum() for gradient in gradients])
        found.append(squares / (2 * loss.detach()))
        optimizer.step()
    table = torch.stack(found)
    return Alignment(table[0].tolist(), table[int(table.sum(1).argmax())].tolist())


def _preactivations(
    weights: tuple[Tensor, ...], p: Parametrization, x: Tensor, act: str
) -> tuple[Tensor, ...]:
    h, found = x, []
    for k, w in enumerate(weights):
        found.append(p.multipliers[k] * w @ h)
        h = find_activation(act)(found[-1])
    return tuple(found)


def feature_speed(*, quick: bool) -> Evidence:
    """Largest relative deviation from the feature-speed identity, by forward and reverse autodiff.

    sum over the batch of <delta_l, d h~_l/d eta> = - sum_{k <= l} eta_k |dL/dW_k|^2, in float64.
    """
    widths = (6, 50, 12, 40, 10, 2)
    g = generator("feature speed")
    x = torch.randn(widths[0], 7, generator=g, dtype=torch.float64)
    y = torch.randn(widths[-1], 7, generator=g, dtype=torch.float64)
    worst = []
    for name in SCHEMES:
        for act in ("relu", "tanh", "gelu"):
            p = scheme(name)(widths)
            w = tuple(initial_weights(p, generator("speed", name)))
            leaves = [v.clone().requires_grad_() for v in w]
            z = _preactivations(tuple(leaves), p, x, act)
            loss = 0.5 * (z[-1] - y).square().sum(-2).mean()
            gradients = torch.autograd.grad(loss, [*leaves, *z])
            grads, deltas = gradients[: p.depth], gradients[p.depth :]
            direction = tuple(-e * v for e, v in zip(p.learning_rates, grads, strict=True))
            speed = torch.func.jvp(
                lambda *v, p=p, act=act: _preactivations(v, p, x, act), w, direction
            )[1]
            lost = torch.zeros(())
            rates = zip(p.learning_rates, grads, strict=True)
            for k, own in enumerate(e * v.square().sum() for e, v in rates):
                lost = lost + own
                got = (deltas[k] * speed[k]).sum()
                worst.append(float((got + lost).abs() / lost))
    return Evidence(
        measured=max(worst),
        predicted=0.0,
        tolerance=1e-8,
        details={"identities": float(len(worst))},
    )


def optimal_rate(
    n: int, seed: int, *, richness: str = "1/2", samples: int = 4, inputs: int = 24
) -> tuple[float, float]:
    """The learning rate that minimises the loss after one step of linear DP, and its closed form.

    Four layers of widths n_0, n, 8 sqrt(n), n, 1. Along one step f is a polynomial of degree 4 in
    eta, found exactly from five values; closed form (P/L) e'Ke/|Ke|^2 with e = y - f at the start
    and K = X'X/n_0.
    """
    p = dynamic(richness)((inputs, n, round(8 * n**0.5), n, 1), 1.0)
    g = generator("optimal rate data")  # one problem for all sizes and seeds
    x = torch.randn(inputs, samples, generator=g, dtype=torch.float64)
    y = torch.randn(1, samples, generator=g, dtype=torch.float64)
    drawn = initial_weights(p, generator("optimal rate", n, seed), dtype=torch.float32)
    w = [v.double() for v in drawn]  # single-precision draws are quick to make; the rest is exact
    h = [x]
    for k in range(4):
        h.append(p.multipliers[k] * w[k] @ h[k])
    delta = [(h[-1] - y) / samples]
    for k in range(3, 0, -1):
        delta.insert(0, p.multipliers[k] * w[k].mT @ delta[0])
    kernel = x.mT @ x / inputs
    error = (y - h[-1]).squeeze(0)
    moved = kernel @ error
    closed = samples / p.depth * float(error @ moved / moved.square().sum())
    nodes = closed * np.linspace(0.0, 2.0, p.depth + 1)
    columns = []
    for eta in nodes:
        moved = x
        for k in range(4):  # the update acts through inner products
            change = eta * p.multipliers[k] ** 2 * delta[k] @ (h[k].mT @ moved)
            moved = p.multipliers[k] * w[k] @ moved - change
        columns.append(moved.squeeze(0).numpy())
    polynomials = polyfit(nodes / closed, np.array(columns), p.depth)
    errors = [Polynomial(c) - t for c, t in zip(polynomials.T, y.squeeze(0).tolist(), strict=True)]
    roots = sum(error**2 for error in errors).deriv().roots()
    real = roots[(np.abs(roots.imag) < 1e-7) & (roots.real > 0)].real
    return float(real.min()) * closed, closed  # the first minimum on the way downhill


def one_step_optimal_rate(*, quick: bool) -> Evidence:
    """Mean ratio of the measured optimum to the closed form at n = 4096 (quick: 1024), by r.

    details : error, its standard error; small, the same ratio at n = 64.
    """

    def ratio(n: int, r: str, count: int) -> tuple[float, float]:
        found = [np.divide(*optimal_rate(n, k, richness=r)) for k in range(count)]
        return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(count))

    sizes = ((1024, 24), (64, 100)) if quick else ((4096, 40), (64, 400))
    large, small = ([ratio(n, r, count) for r in RICHNESS] for n, count in sizes)
    return Evidence(
        measured=[mean for mean, _ in large],
        predicted=[1.0] * len(RICHNESS),
        tolerance=[0.05] * len(RICHNESS),
        seeds=list(range(sizes[1][1])),
        details={"error": [error for _, error in large], "small": [mean for mean, _ in small]},
    )
