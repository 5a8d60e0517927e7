"""Does the law of alignment depend on how the weights are drawn, or on which saddle is left?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from paper.claims import Evidence
from paper.fits import fit_slope
from paper.saddles.random_linear import problems_with_gaps
from learning_dynamics.problems import Moments
from learning_dynamics.runtime import check_choice, generator
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.alignment import modes_at_escape

__all__ = ["STARTS", "AnyStart", "Config", "evidence", "near_saddle", "run"]


def _normal(g: torch.Generator, size: tuple[int, int]) -> Tensor:
    return torch.randn(*size, generator=g, dtype=torch.float64)


def _layers(first: float, second: float) -> Callable[[torch.Generator, tuple[int, int]], Tensor]:
    def draw(g: torch.Generator, size: tuple[int, int]) -> Tensor:
        s = _normal(g, size)
        s[:, :6] *= first
        s[:, 6:] *= second
        return s

    return draw


def _uniform(g: torch.Generator, size: tuple[int, int]) -> Tensor:
    return 2 * torch.rand(*size, generator=g, dtype=torch.float64) - 1


def _sparse(g: torch.Generator, size: tuple[int, int]) -> Tensor:
    kept = torch.rand(*size, generator=g, dtype=torch.float64) < 0.25
    return _normal(g, size) * kept


def _cauchy(g: torch.Generator, size: tuple[int, int]) -> Tensor:
    return _normal(g, size) / _normal(g, size)


#: Laws of the start S (m1, m0 + m2), here with m0 = 6; each is multiplied by epsilon.
STARTS: dict[str, Callable[[torch.Generator, tuple[int, int]], Tensor]] = {
    "Gaussian": _normal,
    "first layer 100 times larger": _layers(100.0, 1.0),
    "second layer 100 times larger": _layers(1.0, 100.0),
    "second layer zero": _layers(1.0, 0.0),
    "uniform": _uniform,
    "one sign": lambda g, size: _normal(g, size).abs(),
    "sparse (1 in 4)": _sparse,
    "Cauchy": _cauchy,
}


def near_saddle(
    moments: Moments, k: int, noise: Float[Tensor, "m1 coordinate"], ratio: float = 1.0
) -> Float[Tensor, "m1 coordinate"]:
    """`noise` added to a point of the rank-k saddle: k awake units, the others asleep.

    ratio : how much larger than in a balanced factorisation the first layer is.
    """
    u, s, vh = torch.linalg.svd(staircase.rank_k_map(moments, k), full_matrices=False)
    root = s[:k, None].sqrt()
    units = noise.clone()
    units[:k] += torch.cat([ratio * root * vh[:k], root * u[:, :k].mT / ratio], dim=-1)
    return units


@dataclass(frozen=True)
class Config:
    """problems, scales, eta s_1 and hidden width; `saddles`: ranks of non-zero saddles left."""

    problems: int = 4
    scales: tuple[float, ...] = (1e-12, 1e-16, 1e-20)
    relative_step: float = 0.3
    width: int = 10
    saddles: tuple[int, ...] = (1, 2)
    ratio: float = 2.0
    threshold: float = 0.1


@dataclass(frozen=True)
class AnyStart:
    """Exponents by kind of start; tensors (problem, escape); the entries of a start near a
    rank-k saddle hold one escape, the next one."""

    measured: dict[str, Tensor]
    interval: dict[str, Tensor]
    predicted: dict[str, Tensor]

    def worst(self, name: str) -> float:
        """Largest |measured - predicted| for the start called `name`."""
        check_choice("name", name, self.measured)
        return float((self.measured[name] - self.predicted[name]).abs().max())


def run(config: Config | None = None) -> AnyStart:
    """Fit the exponents at escapes 1 to 3 for each law, and at the next escape from saddles."""
    config = config or Config()
    batch = [p.moments() for p in problems_with_gaps(config.problems)]
    each, count = stack_moments(batch), len(config.scales)
    scales = torch.tensor(config.scales, dtype=torch.float64)
    eta = config.relative_step / staircase.predict(each).escape_rates[:, 0]
    theory = staircase.predict(each, eta)
    last = float(theory.drop_steps(min(config.scales))[:, 2].max())
    steps = int(1.05 * last + 60 / config.relative_step)
    size = (config.width, 10)

    starts: dict[str, list[Tensor]] = {}
    escapes: dict[str, list[int]] = {}
    predicted = {}
    for name, law in STARTS.items():
        draws = [law(generator("any-start", name, i), size) for i in range(len(batch))]
        starts[name] = [e * s for s in draws for e in scales]
        escapes[name] = [1, 2, 3]
        predicted[name] = theory.exponents[:, :3]
    for k in config.saddles:
        name = f"near the rank-{k} saddle"
        draws = [_normal(generator("any-start", name, i), size) for i in range(len(batch))]
        starts[name] = [
            near_saddle(m, k, e * s, config.ratio)
            for m, s in zip(batch, draws, strict=True)
            for e in scales
        ]
        escapes[name] = [k + 1]
        growth = staircase.finite_step_rate(theory.rates[:, k], eta)
        predicted[name] = 1 - (growth[:, 1] / growth[:, 0])[:, None]

    track = follow_modes(  # all kinds side by side
        stack_moments(batch * len(starts), count),
        torch.stack([s for kind in starts.values() for s in kind]),
        step_size=eta.repeat(len(starts)).repeat_interleave(count),
        steps=steps,
    )
    measured, interval = {}, {}
    for name, modes in zip(starts, track.modes.chunk(len(starts)), strict=True):
        ratios = []
        for k in escapes[name]:
            found = modes_at_escape(modes, k, config.threshold)
            ratios.append((found[:, k] / found[:, k - 1]).log().reshape(-1, count))
        measured[name], interval[name], _ = fit_slope(scales.log(), torch.stack(ratios, dim=1))
    return AnyStart(measured, interval, predicted)


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/any-initialisation`: all exponents, all starts."""
    config = Config(problems=3) if quick else Config(problems=10)
    found = run(config)
    names = list(found.measured)
    flat = [round(float(x), 6) for n in names for x in found.measured[n].flatten()]
    theory = [round(float(x), 6) for n in names for x in found.predicted[n].flatten()]
    return Evidence(
        measured=flat,
        predicted=theory,
        tolerance=0.015,
        seeds=list(range(config.problems)),
        details={"worst_error_by_start": [found.worst(n) for n in names]},
    )
