"""Evidence for the kernels: exact gradients, exact reductions, the float floor."""

import time
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import ACTIVATIONS, activation
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.linear import (
    compress,
    gaussian_narrow,
    linear_descent,
    narrow,
)
from learning_dynamics.saddles.theory.staircase import levels
from learning_dynamics.saddles.two_layer import (
    Weights,
    gradient,
    gradient_descent,
    initialise,
    uniform_grid,
)
from paper.claims import Evidence

__all__ = ["FloatFloor", "float_floor", "half_drops", "large_run", "measure_fast_forward"]
__all__ += ["measure_float_floor", "measure_gradients", "measure_moments", "measure_width"]

LOSSES = ("squared", "huber", "logistic", "cross_entropy")


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def measure_gradients(quick: bool = False) -> Evidence:
    """Largest relative difference between our gradients and autograd's, all models."""
    seeds = [0] if quick else [0, 1, 2]
    worst = []
    for seed in seeds:
        g = generator("gradients-exact", seed)
        x = torch.randn(6, 9, generator=g, dtype=torch.float64)
        y = torch.randn(3, 9, generator=g, dtype=torch.float64)
        omega = torch.rand(3, 9, generator=g, dtype=torch.float64)
        for name in sorted(ACTIVATIONS):
            for criterion in (*map(find_loss, LOSSES), squared(omega)):
                target = {"logistic": y.sign(), "cross_entropy": torch.softmax(y, 0)}.get(
                    criterion.name, y
                )
                w = initialise((6, 8, 3), 0.5, [g])
                ours = gradient(w, Problem(x, target), activation=name, loss=criterion)
                w1, w2 = (v.clone().requires_grad_() for v in w)
                outputs = w2 @ activation(name)(w1 @ x)
                loss = criterion.value(outputs, target).sum()
                grad1, grad2 = torch.autograd.grad(loss, (w1, w2))
                worst.append(_relative(ours.gradients.w1, grad1))
                worst.append(_relative(ours.gradients.w2, grad2))
    return Evidence(max(worst), 0.0, 1e-12, seeds, {"cases": float(len(worst) // 2)})


def measure_moments(quick: bool = False) -> Evidence:
    """Largest relative difference of a run on the compressed problem from one on all samples."""
    samples, seeds = (2000, [0]) if quick else (20000, [0, 1, 2])
    worst = []
    for seed in seeds:
        problem = linear_teacher(generator=generator("moments", seed), samples=samples, noise=0.3)
        weights = initialise((6, 12, 4), 1e-2, [generator("moments-start", seed)])
        full, small = (
            gradient_descent(weights, p, step_size=0.05, steps=300, observables=("loss", "w1"))
            for p in (problem, compress(problem))
        )
        worst += [_relative(small["w1"], full["w1"]), _relative(small["loss"], full["loss"])]
    return Evidence(max(worst), 0.0, 1e-12, seeds, {"samples": float(samples), "kept": 10.0})


def measure_width(quick: bool = False) -> Evidence:
    """Largest relative difference of the recovered units of a wide net from the wide run's."""
    width, seeds = (500, [0]) if quick else (5000, [0, 1, 2])
    worst = []
    for seed in seeds:
        problem = linear_teacher(generator=generator("width", seed))
        # units of the wide net are smaller, so that the two layers together start alike
        wide = initialise((6, width, 4), 0.1 / width**0.5, [generator("width-start", seed)])
        thin = narrow(wide)
        options: dict[str, Any] = {"step_size": 0.05, "steps": 400}
        full = gradient_descent(wide, problem, **options)
        small = gradient_descent(thin.weights, problem, **options)
        back = thin.widen(small.final)
        worst += [
            _relative(back.w1, full.final.w1),
            _relative(back.w2, full.final.w2),
            _relative(small["loss"], full["loss"]),
        ]
    return Evidence(max(worst), 0.0, 1e-12, seeds, {"width": float(width), "kept": 10.0})


def measure_fast_forward(quick: bool = False) -> Evidence:
    """Largest relative difference of losses and mode sizes with jumps from those by stepping."""
    seeds = [0] if quick else [0, 1, 2]
    scale, eta, steps = (1e-40, 0.1, 1500) if quick else (1e-40, 0.05, 4000)
    worst = []
    for seed in seeds:
        problem = linear_teacher(generator=generator("fast-forward", seed))
        weights = initialise((6, 10, 4), scale, [generator("fast-forward-start", seed)])
        stepped, jumped = (
            linear_descent(
                weights,
                problem,
                step_size=eta,
                steps=steps,
                tolerance=tolerance,
                record_at=uniform_grid(steps, steps // 20),
                observables=("product", "mode_sizes"),
            )
            for tolerance in (None, 1e-10)
        )
        modes = jumped["mode_sizes"] / stepped["mode_sizes"] - 1
        size, off = (
            torch.linalg.matrix_norm(w)
            for w in (stepped["product"], jumped["product"] - stepped["product"])
        )
        worst += [float(modes[..., :4].abs().max()), float((off / size).max())]
    return Evidence(max(worst), 0.0, 1e-9, seeds, {"init_scale_log10": float(np.log10(scale))})


# --- the float floor ------------------------------------------------------------------------


def half_drops(losses: np.ndarray, levels: np.ndarray) -> list[int]:
    """First step at which the loss is below the middle of each pair of successive levels.

    Raises ValueError if the run ends before the last of them.
    """
    middles = 0.5 * (levels[:-1] + levels[1:])
    if not (losses < middles[-1]).any():
        raise ValueError(f"{len(losses) - 1} steps end above the last half-drop, {middles[-1]:g}")
    return [int(np.argmax(losses < middle)) for middle in middles]


def precise_losses(
    weights: Weights, problem: Problem, step_size: float, steps: int, digits: int
) -> np.ndarray:
    """Losses of every step, by the same recursion in `digits`-digit arithmetic (mpmath)."""
    with mpmath.workdps(digits):

        def exact(t: Tensor) -> np.ndarray:
            return np.array([[mpmath.mpf(float(v)) for v in row] for row in t], dtype=object)

        w1, w2, x, y = map(exact, (weights.w1[0], weights.w2[0], problem.inputs, problem.targets))
        n, eta = x.shape[1], mpmath.mpf(step_size)
        xx, yx, yy = x @ x.T / n, y @ x.T / n, (y * y).sum() / n
        losses = []
        for _ in range(steps + 1):
            product = w2 @ w1
            c = product @ xx - yx
            losses.append(float((yy + (product * (c - yx)).sum()) / 2))
            w1, w2 = w1 - eta * (w2.T @ c), w2 - eta * (c @ w1.T)
        return np.array(losses)


@dataclass(frozen=True)
class FloatFloor:
    """Losses of one run at every step, three ways, and the steps of the half-drops."""

    precise: Float[np.ndarray, " steps"]
    rotated: Float[np.ndarray, " steps"]
    plain: Float[np.ndarray, " steps"]
    levels: Float[np.ndarray, " levels"]

    def half_drops(self) -> dict[str, list[int]]:
        """Half-drop steps of each of the three."""
        return {
            name: half_drops(getattr(self, name), self.levels)
            for name in ("precise", "rotated", "plain")
        }


def float_floor(
    *, init_scale: float = 1e-100, step_size: float = 0.2, steps: int = 2800, seed: int = 0
) -> FloatFloor:
    """A 3-3-3 linear net from `init_scale`: arbitrary precision, rotated and plain float64."""
    problem = linear_teacher(
        generator=generator("float-floor", seed),
        input_spectrum=(1.6, 1.0, 0.7),
        target_spectrum=(2.0, 1.3, 0.8),
        output_dim=3,
        samples=6,
    )
    weights = initialise((3, 3, 3), init_scale, [generator("float-floor-start", seed)])
    digits = int(-2.4 * np.log10(init_scale)) + 30
    precise = precise_losses(weights, problem, step_size, steps, digits)
    how: Any = {"step_size": step_size, "steps": steps, "record_at": torch.arange(steps + 1)}
    rotated, plain = (
        run(weights, problem, **how)["loss"][0].numpy()
        for run in (linear_descent, gradient_descent)
    )
    return FloatFloor(precise, rotated, plain, levels(problem.moments()).numpy())


def measure_float_floor(quick: bool = False) -> Evidence:
    """Half-drop steps at init scale 1e-100 with rotation, against arbitrary precision.

    The quick form uses 1e-30 and a larger step: shorter, still far below the floor.
    `plain_error` in hundreds of steps: without rotation the last mode starts from rounding, which
    is another multiple of 1e-16 on another processor (112 to 117 steps; a factor of ten is 18).
    """
    result = float_floor(init_scale=1e-30, steps=700) if quick else float_floor()
    drops = result.half_drops()
    late = abs(np.array(drops["plain"]) - np.array(drops["precise"]))
    return Evidence(
        [float(t) for t in drops["rotated"]],
        [float(t) for t in drops["precise"]],
        1.0,
        [0],
        {"plain_error": round(float(late.max()), -2)},
    )


def large_run(
    *, width: int = 10**6, samples: int = 10**6, init_scale: float = 1e-100, steps: int = 6000
) -> tuple[Float[Tensor, " records"], dict[str, float]]:
    """A run too large to step through: losses, and each part's seconds of processor time."""
    seconds, clock = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = time.process_time() - clock, time.process_time()

    g = generator("large-run")
    problem = linear_teacher(generator=g, samples=samples, noise=0.1)
    lap("drawing the samples")
    small = compress(problem)
    lap("samples to moments")
    weights = gaussian_narrow((6, width, 4), init_scale, g)
    lap("width to rank")
    run = linear_descent(
        weights, small, step_size=0.1, steps=steps, record_at=uniform_grid(steps, 100)
    )
    lap("the run")
    return run["loss"][0], seconds
