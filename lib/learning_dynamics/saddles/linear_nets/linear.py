"""Runs of linear nets at a cost that does not grow with samples, width or length of plateau.

The three reductions of `reductions` and `fast_forward` and the rotation of `rotations` together:
width 10^6, 10^6 samples and initial scale 1e-100 take seconds. All are exact: the run is that
of gradient descent with finite step, to rounding (`tolerance` for the jumps).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.kernels.weights import Weights
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    Trajectory,
    as_positive,
    check_alive,
    check_choices,
    check_instance,
    check_integer,
    check_share,
    check_tensors,
)
from learning_dynamics.saddles.linear_nets.fast_forward import Plateau
from learning_dynamics.saddles.linear_nets.modes import check_range, rotate_rows
from learning_dynamics.saddles.linear_nets.reductions import (
    NarrowNet,
    compress,
    from_moments,
    gaussian_narrow,
    narrow,
)
from learning_dynamics.saddles.two_layer import record_grid

__all__ = [
    "LINEAR_OBSERVABLES",
    "NarrowNet",
    "compress",
    "from_moments",
    "gaussian_narrow",
    "linear_descent",
    "narrow",
    "rotate_rows",
]

#: What `linear_descent` records: trailing dimension names and unit.
LINEAR_OBSERVABLES = {
    "loss": ((), "loss"),
    "mode_sizes": (("mode",), "1"),  # singular values of S, each to high relative accuracy
    "product": (("output", "input"), "1"),
    "product_singular_values": (("mode",), "1"),
}
#: Steps between rotations at most, and growth between rotations at most.
ROTATE, GROWTH = 20, 1e4


class _Run:
    """One run: rows R of the narrow net, rotated as it goes."""

    def __init__(self, weights: Weights, problem: Problem, eta: float) -> None:
        self.m0 = weights.w1.shape[-1]
        self.eta = eta
        self.x, self.y = problem.inputs, problem.targets
        moments = problem.moments()
        self.xx, self.yx = moments.xx, moments.yx
        self.input_norm = float(torch.linalg.matrix_norm(self.xx, 2))
        sweeps = weights.w1.shape[0].bit_length() + 4
        self.rows, self.rotation = rotate_rows(weights.units, sweeps=sweeps)

    def product(self) -> Tensor:
        return self.rows[:, self.m0 :].mT @ self.rows[:, : self.m0]

    def slope(self) -> Tensor:
        """C = W Sigma_xx - Sigma_yx."""
        return torch.addmm(self.yx, self.product(), self.xx, beta=-1)

    def loss(self) -> Tensor:
        return 0.5 * (self.y - self.product() @ self.x).square().sum(-2).mean(-1)

    def step(self, steps: int) -> None:
        """Plain steps, no rotation: `kernels.weights.linear_force`, in place."""
        w1 = self.rows[:, : self.m0].contiguous()
        w2t = self.rows[:, self.m0 :].contiguous()
        w, c, old = w1.new_empty(len(self.yx), self.m0), torch.empty_like(self.yx), w2t.clone()
        for _ in range(steps):
            torch.mm(w2t.mT, w1, out=w)
            torch.addmm(self.yx, w, self.xx, beta=-1, out=c)
            old.copy_(w2t)
            w2t.addmm_(w1, c.mT, alpha=-self.eta)
            w1.addmm_(old, c, alpha=-self.eta)
        self.rows = torch.cat([w1, w2t], -1)

    def stride(self, slope: Tensor) -> int:
        """Steps that may be taken before the next rotation."""
        rate = 2 * self.eta * float(slope.norm())
        return max(1, min(ROTATE, int(math.log(GROWTH) / max(rate, 1e-12))))

    def rotate(self) -> None:
        self.rows, self.rotation = rotate_rows(self.rows, self.rotation)


@torch.no_grad()
def linear_descent(
    weights: Weights,
    problem: Problem,
    *,
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    record_at: Int[Tensor, " records"] | Sequence[int] | None = None,
    observables: Sequence[str] = ("loss",),
    tolerance: float | None = 1e-10,
) -> Trajectory:
    """Gradient descent on L = 1/(2n) |Y - W2 W1 X|^2 with all exact reductions.

    weights     : (runs, m1, m0) and (runs, m2, m1), any width m1, of a size in the range of
                  `check_range` (1e-140 in float64).
    problem     : shared by all runs, any number of samples.
    step_size, steps, record_at : as in `two_layer.gradient_descent`.
    observables : names from `LINEAR_OBSERVABLES`.
    tolerance   : of each jump over a plateau (`fast_forward.Plateau.bound`); None: no jumps.
    Returns a trajectory whose `final` holds the weights of the narrow net in the basis of
    `narrow(weights)`, so that `narrow(weights).widen(trajectory.final)` are the wide ones.
    A diverging run raises ValueError with the step (to within 20) and the step size.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> start = saddles.initialise((6, 50, 4), 1e-30, [generator(1)])
    >>> run = saddles.linear_descent(start, problem, step_size=0.05, steps=4000)
    >>> bool(run["loss"][0, -1] < 1e-3 * run["loss"][0, 0])
    True
    """
    check_choices("observables", observables, LINEAR_OBSERVABLES)
    check_integer("steps", steps)
    if tolerance is not None:
        check_share("tolerance", tolerance)
    check_instance("weights", weights, Weights)
    check_tensors(
        w1=(weights.w1, "runs m1 m0"), w2=(weights.w2, "runs m2 m1"), problem=(problem, Problem)
    )
    check_tensors(inputs=(problem.inputs, "m0 n"))
    check_range(weights=weights.units)
    grid = record_grid(record_at, steps)
    small, thin = compress(problem), narrow(weights).weights
    runs = len(thin.w1)
    etas = as_positive("step_size", step_size, runs, torch.float64).expand(runs).tolist()
    histories, finals = [], []
    for i in range(runs):
        run = _Run(Weights(thin.w1[i], thin.w2[i]), small, etas[i])
        histories.append(_descend(run, grid, steps, observables, tolerance))
        finals.append(run.rotation.mT @ run.rows)
    rows = torch.stack(finals)
    m0 = problem.inputs.shape[-2]
    return Trajectory(
        steps=torch.tensor(grid, device=rows.device),
        step_size=step_size,
        observables={
            name: torch.stack([torch.stack(h[name]) for h in histories]) for name in observables
        },
        dims={name: LINEAR_OBSERVABLES[name][0] for name in observables},
        diverged_at=torch.full((runs,), -1, device=rows.device),
        stopped_at=torch.full((runs,), -1, device=rows.device),
        final=Weights(rows[..., :m0], rows[..., m0:].mT),
        units={name: LINEAR_OBSERVABLES[name][1] for name in observables},
    )


def _observe(run: _Run, name: str) -> Tensor:
    if name == "loss":
        return run.loss()
    if name == "product":
        return run.product()
    if name == "product_singular_values":
        return torch.linalg.svdvals(run.product())
    rows = rotate_rows(run.rows, sweeps=3)[0]
    return rows.norm(dim=-1).sort(descending=True).values


def _descend(
    run: _Run, grid: list[int], steps: int, observables: Sequence[str], tolerance: float | None
) -> dict[str, list[Tensor]]:
    """Step and jump through all records; returns the history."""
    history: dict[str, list[Tensor]] = {name: [] for name in observables}
    stations = [*grid, steps] if grid[-1] != steps else list(grid)
    t, wait, patience = 0, 0, 1
    plateau, at, land = None, run.rows, 0  # a jump under way: its P, and where it ends
    for number, station in enumerate(stations):
        while t < station:
            if plateau is not None:
                end = min(station, land)
                at, run.rotation = plateau.advance(at, run.rotation, end - t)
                run.rows, t = at @ plateau.vectors.mT, end
                if t == land:
                    plateau = None
                continue
            slope = run.slope()
            check_alive(slope[None], t, run.eta)
            if tolerance is not None and wait <= 0:
                plateau = Plateau.at(run.rows, slope, run.eta, run.input_norm)
                land = t + plateau.longest(steps - t, tolerance)
                if land - t > 2 * ROTATE:
                    at, patience = plateau.start, 1
                    continue
                plateau, patience = None, min(2 * patience, 16)
                wait = patience
            ahead = min(run.stride(slope), station - t)
            run.step(ahead)
            run.rotate()
            t, wait = t + ahead, wait - 1
        if number < len(grid):
            for name in observables:
                history[name].append(_observe(run, name))
    return history
