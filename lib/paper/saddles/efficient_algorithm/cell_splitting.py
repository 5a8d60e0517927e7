"""Copies of an active unit part: the second drop of ReLU nets with several outputs.

Units that share an activation cell are a linear net on its active samples. So they may be replaced
by the rows of a rotation of theirs, which keeps what is dormant in rows of its own
(`linear_nets.modes`); gradient descent from 1e-40 is then followed in double precision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from learning_dynamics.activations import leaky_relu
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.linear_nets.modes import grade_rows
from learning_dynamics.saddles.theory.extremal_directions import distinct_directions
from learning_dynamics.saddles.two_layer import Weights, gradient_descent
from paper.claims import Evidence, claim
from paper.records import read_record, write_record

__all__ = ["Case", "Config", "example", "follow", "random_case", "run", "splitting"]

DRAWS = (350, 600)  # those of the record
GROWN = 1e6  # growth from which units are sorted into cells
GRADE = 20  # steps between rotations
FALL = 1e-3  # a drop: the loss has left its plateau by this share of L(0)
NEAR = 1e-3  # on a kink: |a . x_j| below this share of |a| |x_j| for a sample j
REST = 1e-6  # a plateau: the loss falls by less than this share of L(0) in a step
LAG = 14.0  # p log(1/epsilon) at the larger epsilon: what lags behind is below e^-14


@dataclass(frozen=True)
class Config:
    """draws : first and last problem drawn; None: those of the record. Problems that meet the
    criteria are judged.
    scales : two epsilon, falling. relative_step : eta s_1 of a linear net at the origin.
    steps : followed from each."""

    draws: tuple[int, int] | None = None
    scales: tuple[float, float] = (1e-50, 1e-100)
    relative_step: float = 0.3
    steps: int = 6000

    def quick(self) -> "Config":
        return replace(self, draws=(350, 362), steps=3000)


@dataclass(frozen=True)
class Case:
    """inputs x (m0, n), targets y (m2, n), units (m1, m0 + m2) before the factor epsilon; slope
    of the activation at negative arguments."""

    x: np.ndarray
    y: np.ndarray
    units: np.ndarray
    slope: float

    def slopes(self, a: np.ndarray) -> np.ndarray:
        """sigma' at a x."""
        return np.where(a @ self.x > 0, 1.0, self.slope)

    def rates(self, residual: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Singular values of X D R'."""
        return np.linalg.svd((self.x * mask) @ residual.T, compute_uv=False)

    def step_size(self, relative_step: float) -> float:
        """eta with eta s_1 = `relative_step`, s_1 the largest singular value of XY'/n."""
        return relative_step / float(np.linalg.norm(self.x @ self.y.T, 2) / self.y.shape[1])


def random_case(seed: int) -> Case:
    """2 to 5 inputs, one of them constant, 2 to 4 outputs, 8 to 20 samples, 12 to 24 units.

    ReLU or leaky ReLU (slope 0.2); the teacher has three such units; noise of 0.3 of the targets.
    """
    g = np.random.default_rng(seed)
    m0, m2, n, m1 = (int(g.integers(*r)) for r in ((2, 6), (2, 5), (8, 21), (12, 25)))
    slope = float(g.choice([0.0, 0.2]))
    x = np.vstack([g.standard_normal((m0 - 1, n)), np.ones(n)])
    hidden = g.standard_normal((3, m0)) @ x
    y = g.standard_normal((m2, 3)) @ np.where(hidden > 0, hidden, slope * hidden)
    y = y / np.sqrt(np.mean(y**2) + 1e-30) + 0.3 * g.standard_normal((m2, n))
    return Case(x, y, g.standard_normal((m1, m0 + m2)), slope)


class Cell(NamedTuple):
    """A group: sigma' of its cell (n,), its rows by size, how many units it has."""

    mask: np.ndarray
    rows: np.ndarray
    units: int


Cells = dict[int, Cell]


class _Net:
    """The net as rows in groups, each in one cell: that of its first row."""

    def __init__(self, case: Case, scale: float, eta: float) -> None:
        self.case, self.eta, self.m0 = case, eta, len(case.x)
        self.rows = scale * case.units
        self.label = np.arange(len(self.rows))
        self.count = np.ones(len(self.rows), dtype=int)  # units, all of a group's in its first row

    def masks(self) -> np.ndarray:
        """sigma' (rows, n)."""
        return self.case.slopes(self.rows[np.searchsorted(self.label, self.label), : self.m0])

    def sort(self) -> None:
        """Units that share a cell become a group."""
        label = np.unique(self.masks(), axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(label, kind="stable")
        self.rows, self.label, self.count = self.rows[order], label[order], self.count[order]

    def grade(self) -> None:
        """Rotate each group: its modes by size, in rows of their own."""
        groups = {k: self.rows[self.label == k] for k in np.unique(self.label).tolist()}
        counts = [[self.count[self.label == k].sum()] for k in groups]
        for k, own in groups.items():
            if len(own) > 1:
                graded = grade_rows(torch.from_numpy(own[None]))[0].numpy()
                lead = own[np.linalg.norm(own, axis=1).argmax()]
                groups[k] = graded if graded[0] @ lead > 0 else -graded  # the cell of the units
        self.rows = np.concatenate(list(groups.values()))
        lengths = [len(own) for own in groups.values()]
        self.label = np.repeat(list(groups), lengths)
        pairs = zip(counts, lengths, strict=True)
        self.count = np.concatenate([c + [0] * (length - 1) for c, length in pairs])

    def step(self) -> tuple[float, np.ndarray]:
        """One step of gradient descent; L and R = -dL/df before it."""
        masks, (x, y) = self.masks(), (self.case.x, self.case.y)
        a, b = self.rows[:, : self.m0], self.rows[:, self.m0 :]
        h = masks * (a @ x)
        residual = (y - b.T @ h) / y.shape[1]
        move = np.hstack([(masks * (b @ residual)) @ x.T, h @ residual.T])
        self.rows = self.rows + self.eta * move
        return 0.5 * y.shape[1] * float(np.square(residual).sum()), residual

    def cells(self) -> Cells:
        """The groups."""
        masks, found = self.masks(), {}
        for k in np.unique(self.label).tolist():
            own = self.label == k
            found[k] = Cell(masks[own][0], self.rows[own], int(self.count[own].sum()))
        return found


@dataclass(frozen=True)
class Followed:
    """drops : steps of drops 1 and 2, linear between steps. residuals : R at the origin and where
    the first saddle is nearest. level : L/L(0) there. losses : per step. cells : every `GRADE`
    steps, (step, cells). early, origin : at half of the first plateau, and near its end."""

    drops: tuple[float, float]
    level: float
    residuals: tuple[np.ndarray, np.ndarray]
    losses: np.ndarray
    cells: list[tuple[int, Cells]]
    early: Cells
    origin: Cells

    def at(self, part: float) -> Cells:
        """The cells when a part of the second plateau has passed."""
        step = self.drops[0] + part * (self.drops[1] - self.drops[0])
        return min(self.cells, key=lambda c: abs(c[0] - step))[1]


def follow(case: Case, scale: float, eta: float, steps: int) -> Followed | None:
    """Gradient descent from epsilon = `scale` to the second drop; None if there is none so soon."""
    if scale * GROWN > 1e-3:
        raise ValueError(
            f"scale = {scale!r}: at most {1e-3 / GROWN:g}, or no plateau can be sorted"
        )
    net, plateau = _Net(case, scale, eta), 0
    losses: list[float] = []
    cells: list[tuple[int, Any]] = []
    level, first, slowest, residuals = math.inf, None, math.inf, []
    start = np.linalg.norm(net.rows, axis=1).max()
    for step in range(steps):
        if step % GRADE == 0 and (cells or np.linalg.norm(net.rows, axis=1).max() > GROWN * start):
            if losses[-1] > (1 - 1e-9) * losses[0]:  # until the first drop begins
                net.sort()
                plateau = len(cells) + 1
            net.grade()
            cells.append((step, net.cells()))
        loss, residual = net.step()
        losses.append(loss)
        if step == 0:
            residuals, level = [residual, residual], loss
            continue
        fall, edge = losses[-2] - loss, level - FALL * losses[0]
        if first is not None and fall < slowest:
            slowest, residuals[1], level = fall, residual, loss
        elif loss < edge and (first is None or slowest < REST * losses[0]):
            drop = step - (edge - loss) / fall
            if first is not None:
                middle = int(np.argmin([abs(at - first / 2) for at, _ in cells]))
                return Followed(
                    (first, drop),
                    level / losses[0],
                    (residuals[0], residuals[1]),
                    np.array(losses),
                    cells,
                    cells[middle][1],
                    cells[plateau - 1][1],
                )
            first = drop
    return None


def _clear(case: Case, a: np.ndarray, mask: np.ndarray) -> bool:
    """The direction a (m0,) lies in the cell of the mask, no sample near a kink."""
    z = a @ case.x / (np.linalg.norm(a) * np.linalg.norm(case.x, axis=0))
    return bool((case.slopes(a) == mask).all() and np.abs(z).min() >= NEAR)


def _extremal(case: Case, residual: np.ndarray, mask: np.ndarray) -> bool:
    """The fastest direction of the cell of the mask lies inside it."""
    p = np.linalg.svd((case.x * mask) @ residual.T)[0][:, 0]
    return _clear(case, p, mask) or _clear(case, -p, mask)


def _has(cells: Cells, cell: Cell) -> bool:
    """Whether there is this group, in this cell and with as many units."""
    return any(np.array_equal(c.mask, cell.mask) and c.units == cell.units for c in cells.values())


def _still(case: Case, residual: np.ndarray, cell: Cell) -> bool:
    """Whether the first row rests: what moves it is `REST` of what would move a dormant unit."""
    force = (case.x * cell.mask) @ residual.T
    a, b = cell.rows[0, : len(case.x)], cell.rows[0, len(case.x) :]
    push = np.hypot(np.linalg.norm(force @ b), np.linalg.norm(force.T @ a))
    return bool(push <= REST * np.linalg.norm(cell.rows[0]) * np.linalg.norm(force, 2))


def _predict(case: Case, run: Followed, eta: float, scale: float) -> tuple[float, bool, bool]:
    """Steps per log(1/epsilon) from drop 1 to drop 2; whether copies part; whether to be judged.

    scale : the larger epsilon. Cells are read from the run, rates and exponents computed.
    """
    origin, saddle = run.origin, run.at(0.9)
    rates = {k: case.rates(run.residuals[0], cell.mask) for k, cell in origin.items()}
    lead = max(rates, key=lambda k: rates[k][0])
    wait = 1 / math.log1p(eta * rates[lead][0])
    found = []
    for k, cell in saddle.items():
        # of the copies the second mode is dormant, of the others the first
        mode = 1 if k == lead else 0
        now = case.rates(run.residuals[1], cell.mask)[0]
        if cell.units > mode and now > 1e-6 * rates[lead][0] and rates[k][0] > 0:
            p = 1 - wait * math.log1p(eta * rates[k][mode])
            found.append((p / math.log1p(eta * now), p, k))
    if not found:
        return math.nan, False, False
    steps, p, first = min(found)
    groups, halfway, (at_origin, at_saddle) = {lead, first}, run.at(0.5), run.residuals
    judged = (
        saddle[lead].units > 1
        and p * math.log(1 / scale) >= LAG
        and all(_has(run.early, origin[k]) and _has(halfway, saddle[k]) for k in groups)
        and all(_extremal(case, at_origin, origin[k].mask) for k in groups)
        and all(_extremal(case, at_saddle, saddle[k].mask) for k in groups - {lead})
        and _clear(case, saddle[lead].rows[0, : len(case.x)], saddle[lead].mask)
        and _still(case, at_saddle, halfway[lead])
    )
    return steps, first == lead, judged


def run(config: Config = Config()) -> xr.Dataset:
    """The second plateau on random problems.

    measured (draw) : steps from drop 1 to drop 2 per log(1/epsilon), from both scales; predicted
    (draw) : the least over the copies' p/log(1 + eta s) and the dormant units'. parts (draw) : the
    copies' is the least. judged (draw) : the criteria hold. NaN and False where no second drop
    came within the steps. All draws take minutes, so they are read from the record.
    """
    if config.draws is None:
        return read_record("cell-splitting")
    rows = pd.DataFrame([_compare(random_case(draw), config) for draw in range(*config.draws)])
    data = {name: ("draw", rows[name]) for name in rows}
    return xr.Dataset(data, coords={"draw": range(*config.draws)})


def _compare(case: Case, config: Config) -> dict[str, float | bool]:
    """The row of `run`."""
    eta = case.step_size(config.relative_step)
    small = follow(case, config.scales[1], eta, config.steps)
    large = follow(case, config.scales[0], eta, config.steps) if small else None
    if small is None or large is None:
        return {"measured": math.nan, "predicted": math.nan, "parts": False, "judged": False}
    longer = small.drops[1] - small.drops[0] - (large.drops[1] - large.drops[0])
    measured = longer / math.log(config.scales[0] / config.scales[1])
    predicted, parts, judged = _predict(case, small, eta, config.scales[0])
    judged = judged and abs(small.level - large.level) <= FALL
    return {"measured": measured, "predicted": predicted, "parts": parts, "judged": judged}


def example(seed: int = 2, scales: Sequence[float] = (1e-6, 1e-9, 1e-12)) -> xr.Dataset:
    """Plain gradient descent on one problem, nothing rotated, until well after the second drop.

    loss (scale, step) : L/L(0). first, second : predicted steps of the drops per log(1/epsilon).
    units, directions, rank : of the cell of the largest unit, when the loss has fallen by a fifth
    in the second drop from the smallest scale: active units, directions 5 degrees apart among
    them, rank of their S.
    """
    case, config = random_case(seed), Config()
    eta = case.step_size(config.relative_step)
    found = follow(case, config.scales[0], eta, config.steps)
    if found is None:
        raise ValueError(f"seed = {seed}: no second drop within {config.steps} steps")
    fastest = max(case.rates(found.residuals[0], c.mask)[0] for c in found.origin.values())
    first = 1 / math.log1p(eta * fastest)
    second = first + _predict(case, found, eta, config.scales[0])[0]
    steps = int(1.4 * second * math.log(1 / scales[-1]))
    m0, x, y = len(case.x), torch.from_numpy(case.x), torch.from_numpy(case.y)
    units = torch.stack([scale * torch.from_numpy(case.units) for scale in scales])
    run = gradient_descent(
        Weights(units[..., :m0], units[..., m0:].mT),
        Problem(x, y),
        activation=leaky_relu(case.slope),
        step_size=eta,
        steps=steps,
        observables=("loss", "units"),
        record_at=torch.arange(steps + 1),
    )
    loss = run["loss"] / run["loss"][:, :1]
    end = run["units"][-1, int((loss[-1] <= 0.8 * found.level).long().argmax())]
    cells = torch.sign(end[:, :m0] @ x)
    own = end[(cells == cells[end.norm(dim=1).argmax()]).all(1)]
    own = own[own.norm(dim=1) > 1e-2 * own.norm(dim=1).max()]
    values = torch.linalg.svdvals(own)
    return xr.Dataset(
        {
            "loss": (("scale", "step"), loss.numpy()),
            "first": first,
            "second": second,
            "units": len(own),
            "directions": len(distinct_directions(own)[0]),
            "rank": int((values > 1e-2 * values[0]).sum()),
        },
        coords={"scale": list(scales), "step": run.steps.numpy()},
    )


@claim("saddles/cell-splitting", Config, run)
def splitting(result: xr.Dataset) -> Evidence:
    """Measured over predicted steps where copies part first; the share within 2 % of all judged."""
    judged = result.sel(draw=result.judged)
    ratio = judged.measured / judged.predicted
    details = {
        "judged": judged.draw.size,
        "within": (abs(ratio - 1) <= 0.02).mean(),
        "second_drops": int(result.measured.notnull().sum()),
        "all_within": int((abs(result.measured / result.predicted - 1) <= 0.02).sum()),
    }
    parting = ratio.sel(draw=judged.parts)
    return Evidence(parting, 1.0, 0.02, parting.draw, details)


if __name__ == "__main__":
    attributes = {"computed by": "paper.saddles.efficient_algorithm.cell_splitting"}
    write_record("cell-splitting", run(Config(draws=DRAWS)).assign_attrs(attributes))
