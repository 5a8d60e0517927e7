"""Raw tables of scikit-learn through every public function of `saddles`, judged by NumPy.

Nothing is centred, scaled or cleaned: wine has columns of 0.1 and of 1000, digits has columns that
are always zero. Classes are handed over as columns of zeros and ones.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn import datasets

from learning_dynamics import generator
from learning_dynamics import saddles as sd
from learning_dynamics.problems import Problem
from learning_dynamics.saddles.theory.alignment import update_matrix
from learning_dynamics.saddles.theory.growth_bound import leading_projector

__all__ = ["CHECKS", "TABLES", "Table", "judge"]

TABLES = ("breast_cancer", "wine", "linnerud", "diabetes", "iris", "digits")
STEPS, RELU, GRID = 100, {"activation": "relu"}, torch.arange(101)
SETTINGS = sd.Settings(max_stages=3, max_steps=300)


class Table:
    """One table as it comes; by NumPy its moments, best linear outputs, gradients and losses."""

    def __init__(self, name: str) -> None:
        options = {"scaled": False} if name == "diabetes" else {}
        raw = getattr(datasets, f"load_{name}")(**options)
        y, whole = raw.target, np.issubdtype(raw.target.dtype, np.integer)
        y = np.eye(y.max() + 1)[y] if whole else y.reshape(len(y), -1)
        self.x, self.y, self.n = raw.data.T.astype(float), y.T.astype(float), len(y)
        self.m0, self.m2 = len(self.x), len(self.y)
        self.problem = Problem(torch.from_numpy(self.x), torch.from_numpy(self.y))
        self.inputs, self.moments = self.problem.inputs, self.problem.moments()
        self.xx, self.yx = self.x @ self.x.T / self.n, self.y @ self.x.T / self.n
        self.top = float(np.linalg.norm(self.yx, 2))
        unit = np.abs(self.x).max(1, keepdims=True)
        scaled = (self.x / np.where(unit > 0, unit, 1)).T
        self.best = self.loss((scaled @ np.linalg.lstsq(scaled, self.y.T, rcond=1e-12)[0]).T)
        self.map = sd.rank_k_map(self.moments, min(self.m0, self.m2))
        self.net = sd.initialise((self.m0, 6, self.m2), 1e-3, [generator("kinds", name)])
        self.units, self.w = self.net.units, tuple(part[0].numpy() for part in self.net)
        self.outputs, self.slopes = self.pass_through(self.w, relu=True)
        self.how: Any = {"step_size": 0.1 / (self.top + 1e-3 * float(np.linalg.norm(self.xx, 2)))}

    def loss(self, outputs: Any) -> float:
        """L of outputs (m2, n)."""
        return float(0.5 * np.square(self.y - outputs).sum(0).mean())

    def pass_through(self, w: Any, relu: bool) -> tuple[Any, Any]:
        """The outputs, and the gradient of L unit by unit."""
        w1, w2 = w
        z = w1 @ self.x
        h, slope = (np.maximum(z, 0), z > 0) if relu else (z, 1.0)
        g = (w2 @ h - self.y) / self.n
        return w2 @ h, np.hstack([(slope * (w2.T @ g)) @ self.x.T, h @ g.T])

    def run(self, relu: bool = False, first: bool = True) -> Any:
        """The losses of plain gradient descent, step by step; with W1 fixed if not `first`."""
        (w1, w2), losses = self.w, []
        for _ in range(STEPS + 1):
            outputs, d = self.pass_through((w1, w2), relu)
            losses.append(self.loss(outputs))
            move = self.how["step_size"] * d
            w1, w2 = w1 - first * move[:, : self.m0], w2 - move[:, self.m0 :].T
        return np.array(losses)


def _slowest(t: Table) -> float:
    """The least positive eigenvalue of the Hessian of L at the balanced best map of rank 1."""
    u, s, v = np.linalg.svd(sd.rank_k_map(t.moments, 1).numpy())
    a, b = v[0] * s[0] ** 0.5, u[:, 0] * s[0] ** 0.5
    off = 2 * np.outer(t.xx @ a, b) - t.yx.T
    values = np.linalg.eigvalsh(
        np.block([[(b @ b) * t.xx, off], [off.T, (a @ t.xx @ a) * np.eye(t.m2)]])
    )
    values = values[np.abs(values).argsort()][1 + int((np.diag(t.xx) == 0).sum()) :]
    return float(values[values > 1e-14 * np.abs(values).max()].min())  # ties are flat


def _plateau(t: Table) -> float:
    u, s, v = np.linalg.svd(t.yx)
    along = t.units[0].numpy() @ np.concatenate([v[0], u[:, 0]]) / 2**0.5
    return float(np.log(0.1 / np.linalg.norm(along)) / np.log1p(t.how["step_size"] * s[0]))


def _directions(t: Table) -> Any:
    """Rates, and twice the utility b'R relu(a X) of the directions that were found."""
    r, how = torch.from_numpy(t.y / t.n), {"starts": 20, "iterations": 300}
    found = sd.extremal_directions(t.inputs, r, generator=generator("kinds"), **how)  # type: ignore
    a, b = np.split(found.directions.numpy(), [t.m0], axis=1)
    return found.rates, 2 * ((b @ t.y / t.n) * np.maximum(a @ t.x, 0)).sum(1)


def _stages(t: Table) -> Any:
    losses, levels = t.run(), sd.levels(t.moments)[None, :2]
    k, middle = int((losses < float(levels.mean())).argmax()), float(levels.mean())
    found = sd.find_stages(torch.tensor(losses)[None], levels, GRID).drop_steps[0, 0]
    return found, k - 1 + (losses[k - 1] - middle) / (losses[k - 1] - losses[k])


def _skip(t: Table) -> str:
    found = sd.skip_plateaus(t.problem, width=6, settings=SETTINGS)
    fine = found.loss >= (1 - 1e-9) * t.best and found.losses == sorted(found.losses)[::-1]
    return found.status if fine else "wrong"


def _bound(t: Table) -> Any:
    update, p = update_matrix(t.moments.yx, t.how["step_size"]), leading_projector(t.units[0])
    rest = update.numpy() @ (np.eye(t.m0 + t.m2) - p.numpy())
    return sd.growth_bound(update, p), np.linalg.norm(rest, 2)


def _modes(t: Table) -> Any:
    stacked = sd.stack_moments([t.moments])
    return sd.follow_modes(stacked, t.units, steps=STEPS, every=1, **t.how).losses[0], t.run()


def _turns(t: Table) -> Any:
    how: Any = t.how | {"most_steps": STEPS, "order": (1,), "tolerance": 1e-9}
    return sd.layers_in_turn(t.net, t.problem, **how).losses[0, 0], t.run(first=False)[-1]


def _descent(run: Callable[..., Any], t: Table, **options: Any) -> Any:
    return run(t.net, t.problem, **t.how, **options)["loss"][0], t.run("activation" in options)


#: Function -> what it gives, and the same by NumPy; or its status.
CHECKS: dict[str, Callable[[Table], Any]] = {
    "arrival_rate": lambda t: (sd.arrival_rate(t.moments, 1), _slowest(t)),
    "certify": lambda t: sd.certify(t.problem, sd.Weights(t.map, torch.eye(t.m2).double())).status,
    "deep_forward": lambda t: (sd.deep_forward(t.net, t.inputs, **RELU)[0], t.outputs),
    "escape": lambda t: (sd.escape(t.moments.yx).rate, t.top),
    "extremal_directions": _directions,
    "find_drops": lambda t: (
        sd.find_drops(torch.tensor(t.run()), GRID)[0][0],
        np.abs(np.gradient(t.run())).argmax(),
    ),
    "find_stages": _stages,
    "follow_modes": _modes,
    "forward": lambda t: (sd.forward(t.net, t.inputs, **RELU)[0], t.outputs),
    "gradient": lambda t: (sd.gradient(t.net, t.problem, **RELU).gradients.units[0], t.slopes),
    "gradient_descent": lambda t: _descent(sd.gradient_descent, t, steps=STEPS, **RELU),
    "growth_bound": _bound,
    "layers_in_turn": _turns,
    "layerwise_descent": lambda t: _descent(
        sd.layerwise_descent, t, sweeps=STEPS, schedule="simultaneous"
    ),
    "levels": lambda t: (sd.levels(t.moments)[[0, -1]], [t.loss(0.0), t.best]),
    "linear_descent": lambda t: _descent(sd.linear_descent, t, steps=STEPS),
    "plateau_steps": lambda t: (
        sd.plateau_steps(t.moments, t.units[0], t.how["step_size"]),
        _plateau(t),
    ),
    "predict_staircase": lambda t: (sd.predict_staircase(t.moments).rates[0, 0], t.top),
    "rank_k_map": lambda t: (t.loss(t.map.numpy() @ t.x), t.best),
    "rank_ratios": lambda t: (
        sd.rank_ratios(t.net)[0],
        [np.append(np.linalg.svd(w)[1], 0)[1] / np.linalg.norm(w, 2) for w in t.w],
    ),
    "skip_plateaus": _skip,
    "stack_moments": lambda t: (sd.stack_moments([t.moments]).xx[0], t.xx),
    "unit_gradient": lambda t: (sd.unit_gradient(t.net, t.problem, **RELU)[0], t.slopes),
    "unit_matrix": lambda t: (
        (sd.unit_matrix(t.net, t.problem, **RELU) @ t.units[..., None])[0, ..., 0],
        t.slopes,
    ),
}


def judge(names: Iterable[str] = TABLES) -> pd.DataFrame:
    """A row for each function, a column for each table: "right" within 1e-6 of the largest entry,
    "off" by how much, a status, or the sentence that refuses.
    """

    def cell(check: Callable[[Table], Any], table: Table) -> str:
        try:
            given = check(table)
        except ValueError as error:
            return str(error)
        if isinstance(given, str):
            return given
        a, b = (np.asarray(v, dtype=float) for v in given)
        off = np.abs(a - b).max(initial=0) / (np.abs(b).max(initial=0) or 1.0)
        return "right" if off < 1e-6 else f"off {off:.0e}"

    tables = {name: Table(name) for name in names}
    rows = {f: {n: cell(check, t) for n, t in tables.items()} for f, check in CHECKS.items()}
    return pd.DataFrame(rows).T
