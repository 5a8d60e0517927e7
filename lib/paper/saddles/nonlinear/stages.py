"""Nonlinear activations on anisotropic inputs: how far the linear picture carries.

While a unit is dormant, a smooth sigma with sigma(0) = 0 acts as kappa z, kappa = sigma'(0). A
(leaky) ReLU does not; but if with each (x, y) the data hold (-x, -y), then X D R' = kappa X R' for
every pattern D and every odd residual R, kappa = (1 + negative slope)/2. In both cases the linear
prediction is exact to state: the linear net from weights sqrt(kappa) W with steps kappa eta. Each
nonlinear run is compared with this twin.
"""

from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import activation as find_activation
from learning_dynamics.activations import leaky_relu
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.extremal_directions import extremal_directions
from learning_dynamics.saddles.theory.stages import find_stages
from learning_dynamics.saddles.two_layer import Weights, gradient_descent, initialise, uniform_grid
from paper.claims import Evidence
from paper.records import write_record
from paper.saddles.random_linear import problems_with_gaps, stack_problems

__all__ = [
    "ACTIVATIONS",
    "Comparison",
    "NonlinearStages",
    "compare",
    "data",
    "kappa",
    "main",
    "measure",
    "sample_run",
    "to_dataset",
]

ACTIVATIONS = ("tanh", "gelu", "leaky_relu", "relu")


@dataclass(frozen=True)
class NonlinearStages:
    """Random problems with generic inputs, 6 inputs and 4 outputs, 80 samples.

    inputs : "symmetric" (with each sample its negative) or "shifted" (mean of the inputs moved
    by `shift` in a random direction, targets by the teacher).
    """

    activation: str = "tanh"
    inputs: str = "symmetric"
    problems: int = 20
    units: int = 50
    init_scale: float = 1e-6
    step_size: float = 0.05
    steps: int = 1500
    shift: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """Nonlinear runs beside their linear twins.

    steps : (records,). loss, twin_loss : (problems, records). levels : (problems, 3), the linear
    levels L_0, L_1, L_2. drops, twin_drops : (problems, 2), steps of half-drops, NaN if none.
    rests, twin_rests : (problems,), loss at the slowest step between the first two drops.
    rate, linear_rate : (problems,), growth rate of the fastest extremal direction that the units
    reach from the origin, and kappa times the largest singular value of Sigma_yx.
    """

    config: NonlinearStages
    steps: Tensor
    loss: Float[Tensor, "problems records"]
    twin_loss: Float[Tensor, "problems records"]
    levels: Float[Tensor, "problems levels"]
    drops: Float[Tensor, "problems drops"]
    twin_drops: Float[Tensor, "problems drops"]
    rests: Float[Tensor, " problems"]
    twin_rests: Float[Tensor, " problems"]
    rate: Float[Tensor, " problems"]
    linear_rate: Float[Tensor, " problems"]

    def matches(self, share: float = 0.1) -> Float[Tensor, "problems 3"]:
        """1 where drop 1, drop 2 come within `share` of the twin's steps, and where the resting
        loss lies within `share` of the first drop's height of the twin's; else 0."""
        times = ((self.drops / self.twin_drops - 1).abs() <= share).double()
        height = self.levels[:, 0] - self.levels[:, 1]
        level = ((self.rests - self.twin_rests).abs() <= share * height).double()
        return torch.cat([times, level[:, None]], dim=1)

    @property
    def extremal_ratio(self) -> Float[Tensor, " problems"]:
        """Steps of drop 1 over those of the twin rescaled to the fastest extremal rate."""
        rates = torch.stack([self.linear_rate, self.rate])
        twin, own = staircase.finite_step_rate(rates, self.config.step_size)
        return self.drops[:, 0] / (self.twin_drops[:, 0] * twin / own)


def kappa(name: str) -> float:
    """Slope that dormant units feel: sigma'(0), for a (leaky) ReLU the mean of both slopes."""
    act = _activation(name)
    ends = act.derivative(torch.tensor([-1e-9, 1e-9], dtype=torch.float64))
    return float(ends.mean())


def _activation(name: str):
    return leaky_relu(0.2) if name == "leaky_relu" else find_activation(name)


def data(config: NonlinearStages) -> Problem:
    """The problems of one configuration, stacked: X (problems, 6, n), Y (problems, 4, n)."""
    problems = problems_with_gaps(config.problems, seed="nonlinear-stages", least_gap=0.2)
    together, teacher = stack_problems(problems)
    x, y = together.inputs, together.targets
    if config.inputs == "symmetric":
        return Problem(torch.cat([x, -x], -1), torch.cat([y, -y], -1))
    move = torch.stack(
        [
            torch.randn(
                x.shape[1], 1, generator=generator("nonlinear-stages/shift", i), dtype=torch.float64
            )
            for i in range(config.problems)
        ]
    )
    move = config.shift * move / move.norm(dim=1, keepdim=True)
    return Problem(x + move, y + teacher @ move)


def compare(config: NonlinearStages) -> Comparison:
    """Train the nonlinear nets and their linear twins; find the first two drops of each."""
    problem, k, act = data(config), kappa(config.activation), _activation(config.activation)
    start = initialise(
        (problem.inputs.shape[1], config.units, problem.targets.shape[1]),
        config.init_scale,
        [generator("nonlinear-stages/start", i) for i in range(config.problems)],
    )
    options: dict[str, Any] = dict(
        steps=config.steps, record_at=uniform_grid(config.steps, 5), on_divergence="mark"
    )
    run = gradient_descent(start, problem, activation=act, step_size=config.step_size, **options)
    twin = gradient_descent(
        Weights(k**0.5 * start.w1, k**0.5 * start.w2),
        problem,
        step_size=k * config.step_size,
        **options,
    )
    moments = problem.moments()
    levels = staircase.levels(moments)[:, :3]
    found, expected = (find_stages(t["loss"].nan_to_num(1e9), levels, t.steps) for t in (run, twin))
    n = problem.inputs.shape[-1]
    # A smooth sigma has one extremal pair, which any start finds; a kinked one needs all units.
    few = None if act.homogeneous else 8
    rates = []
    for i in range(config.problems):
        directions = extremal_directions(
            problem.inputs[i],
            problem.targets[i] / n,
            activation=act,
            starts=start.units[i, :few],
            iterations=600,
            tolerance=1e-3,
        )
        rates.append(float(directions.rates[0]) if len(directions.rates) else 0.0)
    return Comparison(
        config,
        run.steps,
        run["loss"],
        twin["loss"],
        levels,
        found.drop_steps,
        expected.drop_steps,
        found.plateau_losses[:, 1],
        expected.plateau_losses[:, 1],
        torch.tensor(rates, dtype=torch.float64),
        k * torch.linalg.matrix_norm(moments.yx, 2),
    )


def sample_run(activation: str, inputs: str, **options) -> Comparison:
    """One problem of a configuration, for a figure."""
    return compare(NonlinearStages(activation, inputs, problems=1, **options))


def to_dataset(results: list[Comparison]) -> xr.Dataset:
    """All comparisons in one dataset, without the curves."""
    names = ("drops", "twin_drops", "rests", "twin_rests", "rate", "linear_rate", "levels")
    dims = {"drops": ("drop",), "twin_drops": ("drop",), "levels": ("level",)}
    stacked = {n: torch.stack([getattr(r, n) for r in results]).numpy() for n in names}
    stacked["extremal_ratio"] = torch.stack([r.extremal_ratio for r in results]).numpy()
    stacked["matches"] = torch.stack([r.matches() for r in results]).numpy()
    dims["matches"] = ("statement",)
    return xr.Dataset(
        {n: (("case", "problem", *dims.get(n, ())), v) for n, v in stacked.items()},
        coords={
            "case": [f"{r.config.activation}/{r.config.inputs}" for r in results],
            "statement": ["drop 1", "drop 2", "rest"],
        },
        attrs={"computed by": "paper.saddles.nonlinear.stages"},
    )


def main() -> None:
    """Run every activation on both kinds of inputs and write results/nonlinear_stages.nc."""
    cases = [compare(NonlinearStages(a, i)) for i in ("symmetric", "shifted") for a in ACTIVATIONS]
    write_record("nonlinear_stages", to_dataset(cases))


def measure(*, quick: bool = False) -> Evidence:
    """`saddles/nonlinear-stages`: fractions of problems that match their linear twin.

    Each time for drop 1, drop 2 and the rest between: measured: tanh, GELU, leaky ReLU, ReLU on
    symmetric inputs. On shifted inputs: tanh, gelu, kinked (leaky ReLU, then ReLU). extremal:
    median over problems of `extremal_ratio`, all eight cases. narrow: tanh with 4 units,
    symmetric inputs.
    """
    problems = 3 if quick else 20
    steps = 600 if quick else 1500
    cases = {
        (name, inputs): compare(NonlinearStages(name, inputs, problems=problems, steps=steps))
        for inputs in ("symmetric", "shifted")
        for name in ACTIVATIONS
    }
    share = {key: found.matches().mean(0).tolist() for key, found in cases.items()}
    narrow = compare(NonlinearStages("tanh", problems=problems, steps=steps, units=4))
    return Evidence(
        measured=[v for name in ACTIVATIONS for v in share[name, "symmetric"]],
        predicted=1.0,
        tolerance=0.15,
        seeds=list(range(problems)),
        details={
            "tanh": share["tanh", "shifted"],
            "gelu": share["gelu", "shifted"],
            "kinked": share["leaky_relu", "shifted"] + share["relu", "shifted"],
            "extremal": [float(c.extremal_ratio.median()) for c in cases.values()],
            "narrow": narrow.matches().mean(0).tolist(),
        },
    )
