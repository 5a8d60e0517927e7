"""Along the dial: the same networks from lazy to rich to saddle-to-saddle, and DP(r) placed on it.

Every run starts from the same Gaussian draw; only its size, and the step size that its place on
the dial asks for, differ.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import draw_modules, train_modules
from learning_dynamics.saddles.theory.stages import crossing_steps, first_record
from learning_dynamics.scales.parametrizations import dynamic, scheme
from paper.claims import Evidence
from paper.together.one_axis.dial import (
    largest_gap,
    losses_of,
    losses_of_part_one,
    position,
    same_run,
)

__all__ = ["LinearAxis", "LinearSweep", "identities", "linear_sweep", "measure", "step_for"]


@dataclass(frozen=True)
class LinearAxis:
    """A linear net on white inputs (6) with target singular values 3, 1.5, 0.75 (4 outputs).

    modules : wide layers. wide : n, their width; bottleneck : m, the width between them.
    laziness: Lambda. speed : step size on the lazy side, in units of the inverse initial speed.
    """

    modules: int = 3
    wide: int = 4096
    bottleneck: int = 16
    laziness: tuple[float, ...] = tuple(10 ** (k / 4) for k in range(2, -13, -1))
    seeds: int = 4
    speed: float = 0.04
    steps: int = 150


@dataclass(frozen=True)
class LinearSweep:
    """Leading dimensions (laziness, seeds).

    plateau   : first step at which 5 % of the initial loss are gone.
    second    : share of the second direction learned when the leading one is half learned; 1/2
                if all learn at one speed.
    """

    config: LinearAxis
    plateau: Float[Tensor, "laziness seeds"]
    second: Float[Tensor, "laziness seeds"]


def step_for(laziness: Float[Tensor, " runs"], modules: int) -> Float[Tensor, " runs"]:
    """How far the step size must stay below DP's, as a factor <= 1, at Lambda.

    On the lazy side the map moves as fast at the end as at the start. For Lambda < 1 a chain of
    K factors ends with a map 1/Lambda times its start, hence a curvature Lambda^(2/K - 2) times
    the first one. A single module counts as K = 2 (two layers).
    """
    return laziness.clamp_max(1.0) ** (2 - 2 / max(2, modules))


def linear_sweep(config: LinearAxis = LinearAxis()) -> LinearSweep:
    """Train the linear net at every place on the dial, from the same draws."""
    problem = linear_teacher(
        generator=generator("one-axis"),
        input_spectrum=(1.0,) * 6,
        target_spectrum=(3, 1.5, 0.75),
        covariance="isotropic",
    )
    moments = problem.moments()
    outputs, inputs = moments.yx.shape
    hidden_widths = [config.wide, *[config.bottleneck, config.wide] * (config.modules - 1)]
    widths = (inputs, *hidden_widths, outputs)
    ntk = scheme("dp(0)")(widths, 1.0)
    laziness = torch.tensor(config.laziness, dtype=torch.float64).repeat_interleave(config.seeds)
    rho = laziness / math.sqrt(min(hidden_widths))
    factor = rho ** (1 / ntk.depth)  # of all initial weights, which are those of NTK
    speed = config.speed * step_for(laziness, config.modules)
    modules = draw_modules(
        inputs,
        config.bottleneck,
        outputs,
        config.modules,
        wide=[config.wide] * len(rho),
        init_std=factor.tolist(),
        seeds=list(range(config.seeds)) * len(config.laziness),
    )
    course = train_modules(
        modules,
        moments,
        multiplier=torch.full_like(rho, math.prod(ntk.multipliers)),
        step_size=speed * inputs * factor**2 / (ntk.depth * rho**2),
        steps=config.steps,
    )
    u, s, v = torch.linalg.svd(moments.yx, full_matrices=False)
    learned = torch.einsum("ok,rtoi,ki->rtk", u, course.maps, v) / s  # white inputs
    learned = learned - learned[:, :1]  # the start's own map is no learning
    at = first_record(learned[..., 0] >= 0.5)
    shape = (len(config.laziness), config.seeds)
    return LinearSweep(
        config,
        crossing_steps(course.loss, 0.95 * course.loss[:, :1], course.steps)[:, 0].reshape(shape),
        learned[torch.arange(len(rho)), at, 1].reshape(shape),
    )


def identities(steps: int = 20) -> dict[str, float]:
    """Largest relative differences of loss curves that the re-gauge symmetry says are one.

    ReLU, float64, full batch. "dp(1/4)", "dp(1/2)": against NTK with its output multiplied by
    n_min^-r and step size n_min^2r; "spectral": Spectral with its initial weights times
    (n/m)^(1/4) n_L^(-1/4K) against DP(1/2); "part one": a two-layer DP(1/2) net against
    f = W2 sigma(W1 X) of Part I. Controls that must differ: "tanh" (Spectral with
    tanh), "unscaled" (Spectral as it is).
    """
    stream = generator("one-axis/identities", 0)
    problem = Problem(
        torch.randn(5, 12, generator=stream, dtype=torch.float64),
        torch.randn(2, 12, generator=stream, dtype=torch.float64),
    )
    widths = (5, 64, 8, 64, 8, 64, 2)
    losses = partial(losses_of, problem=problem, seed=0, steps=steps)
    ntk, rich, spectral = dynamic(0)(widths), dynamic("1/2")(widths), scheme("spectral")(widths)
    reference = losses(rich, step_size=0.1)
    found = {}
    for r in ("1/4", "1/2"):
        p = dynamic(r)(widths)
        place = position(p).output_scale
        along = losses(ntk, step_size=0.1 / place**2, output_factor=place)
        found[f"dp({r})"] = largest_gap(losses(p, step_size=0.1), along)
    change = same_run(rich, spectral)
    how: Any = {"step_size": 0.1 * change.step_size, "weight_factor": change.weights}
    jumped = partial(losses, spectral, **how)
    found["spectral"] = largest_gap(reference, jumped())
    two = dynamic("1/2")((5, 50, 2))
    found["part one"] = largest_gap(
        losses(two, step_size=0.1),
        losses_of_part_one(two, problem, step_size=0.1, seed=0, steps=steps),
    )
    tanh = losses(rich, step_size=0.1, activation="tanh")
    found["tanh"] = largest_gap(tanh, jumped(activation="tanh"))
    found["unscaled"] = largest_gap(reference, losses(spectral, step_size=0.1))
    return found


def measure(*, quick: bool = False) -> Evidence:
    """`together/one-axis`: exact places, and what changes along the dial.

    measured: the four identities' largest relative differences. controls: the two that must
    differ. second_two_layer, second_bottleneck: share of the second direction learned when
    the first is half learned, from Lambda = 10^(1/2) to 10^-3, mean over seeds.
    places: Lambda of DP(0), DP(1/4), DP(1/2) over n_min^(1/2 - r).
    """
    found = identities(steps=10 if quick else 20)
    names = ("dp(1/4)", "dp(1/2)", "spectral", "part one")
    places = (10**0.5, 1.0, 0.1, 0.01, 0.001)
    second = {
        name: linear_sweep(LinearAxis(k, laziness=places)).second.mean(1).tolist()
        for name, k in (("second_two_layer", 1), ("second_bottleneck", 3))
    }
    widths = (49, 256, 16, 256, 16, 256, 10)
    ratio = [
        position(dynamic(name)(widths)).laziness / 16 ** (0.5 - r)
        for name, r in (("0", 0.0), ("1/4", 0.25), ("1/2", 0.5))
    ]
    return Evidence(
        measured=[found[name] for name in names],
        predicted=0.0,
        tolerance=1e-10,
        seeds=list(range(LinearAxis().seeds)),
        details={"controls": [found["tanh"], found["unscaled"]], "places": ratio, **second},
    )
