"""Lemma 1 put to the test: how wrong is the unit-wise step, per activation and weight scale?"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory.unit_matrix import unit_error, unit_gradient
from learning_dynamics.saddles.two_layer import initialise
from paper.claims import Evidence

__all__ = ["Config", "UnitErrors", "evidence", "run"]

EXACT = ("linear", "relu", "leaky_relu")
CURVED = ("tanh", "gelu", "softplus", "sigmoid", "square")


@dataclass(frozen=True)
class Config:
    """Sizes (m0, m1, m2), samples, losses, weight scales (standard deviations) and seeds."""

    widths: tuple[int, int, int] = (6, 8, 4)
    samples: int = 30
    losses: tuple[str, ...] = ("squared", "huber")
    scales: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0)
    seeds: tuple[int, ...] = tuple(range(12))


@dataclass(frozen=True)
class UnitErrors:
    """Results by activation name; tensors (loss, scale, seed).

    printed, secant : relative error of one step, max over units.
    gradient_norm   : (scale,) norm of the whole gradient, median over seeds, first loss.
    slopes          : d log(printed error)/d log(scale) between the two smallest scales.
    """

    scales: Float[Tensor, " scale"]
    printed: dict[str, Tensor] = field(default_factory=dict)
    secant: dict[str, Tensor] = field(default_factory=dict)
    gradient_norm: dict[str, Tensor] = field(default_factory=dict)

    def slopes(self, name: str) -> float:
        """Power of the weight scale with which the printed form's error falls."""
        median = self.printed[name][0].median(-1).values.log()
        return float((median[1] - median[0]) / (self.scales[1] / self.scales[0]).log())


def run(config: Config | None = None) -> UnitErrors:
    """Errors of both forms for all activations, on random data (X, Y Gaussian)."""
    config = config or Config()
    m0, _, m2 = config.widths
    count = len(config.seeds)
    g = generator("unit-wise-update", "data")
    shape = {"generator": g, "dtype": torch.float64}
    problem = Problem(
        torch.randn(count, m0, config.samples, **shape),
        torch.randn(count, m2, config.samples, **shape),
    )
    result = UnitErrors(torch.tensor(config.scales, dtype=torch.float64))
    for name in EXACT + CURVED:
        errors = {"printed": [], "secant": []}
        norms = []
        for loss in config.losses:
            for scale in config.scales:
                weights = initialise(
                    config.widths, scale, [generator("unit-wise-update", s) for s in config.seeds]
                )
                for form, rows in errors.items():
                    error = unit_error(weights, problem, activation=name, loss=loss, form=form)
                    rows.append(error)
                if loss == config.losses[0]:
                    gradient = unit_gradient(weights, problem, activation=name, loss=loss)
                    norms.append(gradient.flatten(-2).norm(dim=-1).median())
        grid = (len(config.losses), len(config.scales), count)
        result.printed[name] = torch.stack(errors["printed"]).reshape(grid)
        result.secant[name] = torch.stack(errors["secant"]).reshape(grid)
        result.gradient_norm[name] = torch.stack(norms)
    return result


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/unit-wise-update`: worst errors of the exact cases and of the secant form."""
    config = Config(seeds=(0, 1)) if quick else Config()
    result = run(config)
    exact = max(float(result.printed[name].max()) for name in EXACT)
    secant = max(float(result.secant[name].max()) for name in EXACT + CURVED)
    return Evidence(
        measured=[exact, secant],
        predicted=[0.0, 0.0],
        tolerance=[1e-13, 1e-12],
        seeds=list(config.seeds),
        details={
            "printed_error_at_scale_1": [
                float(result.printed[n][0, config.scales.index(1.0)].median()) for n in CURVED
            ],
            "printed_slope": [result.slopes(n) for n in CURVED],
        },
    )
