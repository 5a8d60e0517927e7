"""Full-batch descent on the squared loss with a rule for each layer's step: SGD, Adam or Muon."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import activation as find_activation
from learning_dynamics.kernels.mlp_torch import deltas, forward
from learning_dynamics.kernels.polar import newton_schulz, polar_factor
from learning_dynamics.problems import Problem

__all__ = ["Rule", "adam", "changes", "descend", "momentum", "muon", "plain_muon"]

#: Layer and its gradient -> the direction that is subtracted. A rule remembers its buffers, so
#: that each run needs a new one.
Rule = Callable[[int, Tensor], Tensor]


def momentum(decay: float = 0.9) -> Rule:
    """b <- decay b + gradient, and b is subtracted; 0 is plain gradient descent."""
    buffers: dict[int, Tensor] = {}

    def rule(layer: int, gradient: Tensor) -> Tensor:
        buffers[layer] = gradient + decay * buffers.get(layer, torch.zeros_like(gradient))
        return buffers[layer]

    return rule


def muon(decay: float = 0.9, orthogonalise: Callable[[Tensor], Tensor] = polar_factor) -> Rule:
    """The polar factor of the momentum buffer (not Nesterov's)."""
    buffer = momentum(decay)
    return lambda layer, gradient: orthogonalise(buffer(layer, gradient))


def plain_muon(iterations: int = 0, decay: float = 0.0) -> Rule:
    """Polar steps; with `iterations` of Newton and Schulz instead of the exact factor, if any."""
    if iterations:
        return muon(decay, partial(newton_schulz, steps=iterations))
    return muon(decay)


def adam(decay: float = 0.9, second: float = 0.999, floor: float = 1e-12) -> Rule:
    """Adam with bias correction {cite}`kingma2015`; floor : epsilon."""
    first: dict[int, Tensor] = {}
    squares: dict[int, Tensor] = {}
    taken: dict[int, int] = {}

    def rule(layer: int, gradient: Tensor) -> Tensor:
        zero = torch.zeros_like(gradient)
        first[layer] = decay * first.get(layer, zero) + (1 - decay) * gradient
        squares[layer] = second * squares.get(layer, zero) + (1 - second) * gradient.square()
        taken[layer] = t = taken.get(layer, 0) + 1
        size = (squares[layer] / (1 - second**t)).sqrt() + floor
        return first[layer] / (1 - decay**t) / size

    return rule


def changes(
    weights: Sequence[Float[Tensor, "runs _ _"]], start: Sequence[Float[Tensor, "runs _ _"]]
) -> Float[Tensor, "runs layers"]:
    """|W_l - W_l(0)|_2 / |W_l(0)|_2, every layer's own relative change in spectral norm."""
    norm = partial(torch.linalg.matrix_norm, ord=2)
    return torch.stack([norm(w - v) / norm(v) for w, v in zip(weights, start, strict=True)], -1)


def descend(
    weights: Sequence[Float[Tensor, "runs _ _"]],
    multipliers: Sequence[float],
    problem: Problem,
    rule: Rule,
    *,
    step_size: Float[Tensor, " runs"],
    steps: int,
    ratios: Sequence[float] | None = None,
    activation: str = "relu",
    decay: float = 0.0,
    observe: Callable[[int, list[Tensor], list[Tensor]], None] | None = None,
) -> tuple[Float[Tensor, "runs records"], list[Tensor]]:
    """W_l <- (1 - eta decay) W_l - eta ratio_l rule(l, dL/dW_l), `steps` times, all runs at once.

    Returns the loss before every step and after the last, in units of the loss of f = 0 (inf from
    the step on at which a run's loss exceeds 1000 of them or is not a number: it stays where it
    was), and the weights at the end. observe : is shown each step, its weights and gradients.
    """
    w = [v.clone() for v in weights]
    psi = find_activation(activation)
    x, y = problem.inputs.mT[None], problem.targets.mT[None]
    zero = y.square().sum((1, 2))
    ratios = [1.0] * len(w) if ratios is None else ratios
    eta = step_size.to(w[0].dtype)[:, None, None]
    gone = torch.zeros(len(w[0]), dtype=torch.bool)
    losses = []
    for step in range(steps + 1):
        h, z = forward(w, multipliers, x, psi)
        error = h[-1] - y
        loss = error.square().sum((1, 2)) / zero
        gone = gone | ~(loss <= 1e3)
        losses.append(loss.masked_fill(gone, torch.inf))
        if step == steps or bool(gone.all()):
            break
        top = error.masked_fill(gone[:, None, None], 0).mT / x.shape[1]
        slopes = [
            ((below > 0).to(below) if before is None else psi.derivative(before)).mT
            for below, before in zip(h[1:], z, strict=False)
        ]
        found, _ = deltas(w, slopes[: len(w) - 1], top, multipliers)
        gradients = [m * d @ below for m, d, below in zip(multipliers, found, h[:-1], strict=True)]
        if observe is not None:
            observe(step, w, gradients)
        for layer, gradient in enumerate(gradients):
            held = eta.masked_fill(gone[:, None, None], 0)
            move = ratios[layer] * rule(layer, gradient) + decay * w[layer]
            w[layer] = w[layer] - held * move
    losses += [losses[-1]] * (steps + 1 - len(losses))
    return torch.stack(losses, 1), w
