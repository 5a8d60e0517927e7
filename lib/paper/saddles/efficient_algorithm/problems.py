"""The nine problems on which plateau-skipping methods are compared, each with its saddles.

P1-P3 linear teacher (isotropic, commuting, generic inputs), P4 matrix completion (P4' without a
gap), P5-P7 small published ReLU problems, P8 diagonal net with a coordinate that switches off,
P9 a linear net with logistic loss.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from learning_dynamics.data.published import diagonal_pair, five_point, orthogonal_pair, three_point
from learning_dynamics.losses import Loss, squared
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import check_choice, generator
from learning_dynamics.saddles.skipping.objective import Objective
from learning_dynamics.saddles.theory.staircase import rank_k_map

__all__ = ["CASES", "Case", "case"]

#: Names in the order of the tables.
CASES = ("P1", "P2", "P3", "P4", "P4'", "P5", "P6", "P7", "P8", "P9")


@dataclass(frozen=True)
class Case:
    """A problem with the saddles that gradient descent visits as epsilon goes to zero.

    outputs : (K + 1, m2, n) f(X) at saddle 0 (the origin) to K (the end), from closed forms or,
              for P4 and P9, from rank-constrained optimisation with restarts.
    levels  : (K + 1,) L there.
    largest_step : 1/sigma_1 of the gradient at the origin, where step-size searches begin.
    """

    name: str
    problem: Problem
    outputs: Float[Tensor, "saddles m2 n"]
    activation: str = "linear"
    loss: str | Loss = "squared"
    diagonal: bool = False
    width: int = 10

    @property
    def kind(self) -> str:
        """ "linear", "relu" or "diagonal"."""
        return "diagonal" if self.diagonal else self.activation

    @property
    def levels(self) -> Float[Tensor, " saddles"]:
        """L at each saddle."""
        criterion = find_loss(self.loss)
        return torch.stack([criterion.value(f, self.problem.targets) for f in self.outputs])

    @property
    def largest_step(self) -> float:
        """1/sigma_1(X G') at f = 0."""
        g = find_loss(self.loss).gradient(self.outputs[0] * 0, self.problem.targets)
        return float(1 / torch.linalg.matrix_norm(self.problem.inputs @ g.mT, 2))


def _regression(problem: Problem, rank: int) -> Tensor:
    moments = problem.moments()
    return torch.stack([rank_k_map(moments, k) @ problem.inputs for k in range(rank + 1)])


def _subset(problem: Problem, features: list[list[int]]) -> Tensor:
    """Least-squares fits on subsets of the inputs' rows, f = 0 first."""
    fits = [torch.zeros_like(problem.targets)]
    for rows in features:
        x = problem.inputs[rows]
        fits.append(problem.targets @ x.mT @ torch.linalg.inv(x @ x.mT) @ x)
    return torch.stack(fits)


def _rank_constrained(
    problem: Problem, loss: str | Loss, ranks: int, restarts: int, seed: int
) -> Tensor:
    """f of the best map of rank 0 .. ranks by L-BFGS on random factors; best of `restarts`."""
    draw = generator("rivals/restarts", seed)
    m0, m2 = problem.inputs.shape[-2], problem.targets.shape[-2]
    fits = [torch.zeros_like(problem.targets)]
    for rank in range(1, ranks + 1):
        best, best_loss = fits[-1], np.inf
        for _ in range(restarts):
            objective = Objective(problem, loss=loss)

            def function(v: np.ndarray, o=objective, k=rank) -> tuple[float, np.ndarray]:
                a = torch.from_numpy(v[: k * m0].reshape(k, m0).copy())
                b = torch.from_numpy(v[k * m0 :].reshape(m2, k).copy())
                value, g = o.output_gradient(b @ (a @ problem.inputs))
                da, db = b.mT @ g @ problem.inputs.mT, g @ (a @ problem.inputs).mT
                return value, torch.cat([da.flatten(), db.flatten()]).numpy()

            start = torch.randn(rank * (m0 + m2), generator=draw, dtype=torch.float64).numpy()
            found = minimize(
                function,
                0.5 * start,
                jac=True,
                method="L-BFGS-B",
                options={"gtol": 1e-9, "ftol": 0.0, "maxiter": 3000, "maxfun": 5000, "maxcor": 30},
            )
            if found.fun < best_loss:
                a = torch.from_numpy(found.x[: rank * m0].reshape(rank, m0).copy())
                b = torch.from_numpy(found.x[rank * m0 :].reshape(m2, rank).copy())
                best, best_loss = b @ (a @ problem.inputs), found.fun
        fits.append(best)
    return torch.stack(fits)


def _completion(seed: int, connected: bool) -> tuple[Problem, Loss]:
    """An 8 x 8 matrix of rank 2, about 60 % seen; or two separate 4 x 4 blocks with equal rates."""
    draw = generator("rivals/completion", seed)
    size = 8
    if connected:
        left, right = (
            torch.linalg.qr(torch.randn(size, 2, generator=draw, dtype=torch.float64))[0]
            for _ in range(2)
        )
        target = (left * torch.tensor([12.0, 5.0], dtype=torch.float64)) @ right.mT
        seen = (torch.rand(size, size, generator=draw, dtype=torch.float64) < 0.6).double()
        seen.fill_diagonal_(1.0)
        seen.diagonal(1).fill_(1.0)
    else:
        left, right = (
            torch.linalg.qr(torch.randn(size // 2, 1, generator=draw, dtype=torch.float64))[0]
            for _ in range(2)
        )
        seen = torch.block_diag(*[torch.ones(4, 4, dtype=torch.float64)] * 2)
        target = torch.block_diag(*[8.0 * left @ right.mT] * 2)
    return Problem(torch.eye(size, dtype=torch.float64), target), squared(seen)


def case(name: str, seed: int = 0) -> Case:
    """Problem `name` (see CASES); `seed` draws it anew (P5-P8 are fixed: it has no effect there).

    P4': two blocks whose first singular values are equal: no gap, order undefined.
    """
    check_choice("name", name, CASES)
    if name in ("P1", "P2", "P3"):
        kind = {"P1": "isotropic", "P2": "commuting", "P3": "generic"}[name]
        problem = linear_teacher(
            generator=generator("rivals", seed),
            covariance=kind,
            noise=0.1,
            target_spectrum=(3.0, 1.8, 1.0, 0.5),
        )
        return Case(name, problem, _regression(problem, 4))
    if name in ("P4", "P4'"):
        problem, criterion = _completion(seed, connected=name == "P4")
        if name == "P4'":  # both blocks in one drop: rank 2, although rank 1 can fit
            outputs = torch.stack([torch.zeros_like(problem.targets), problem.targets])
        else:
            outputs = _rank_constrained(problem, criterion, 2, 5, seed)
        return Case(name, problem, outputs, loss=criterion)
    if name == "P9":
        base = linear_teacher(
            generator=generator("rivals", seed),
            samples=80,
            target_spectrum=(3.0, 1.5),
            output_dim=3,
            noise=2.0,
        )
        problem = Problem(base.inputs, base.targets.sign())
        return Case(
            name, problem, _rank_constrained(problem, "logistic", 3, 6, seed), loss="logistic"
        )
    if name == "P8":
        problem = diagonal_pair()
        # coordinate 0 becomes active, then 1 (and 0 dormant), then 0 again (pesme2023)
        return Case(name, problem, _subset(problem, [[0], [1], [0, 1]]), diagonal=True, width=2)
    problem = {"P5": five_point, "P6": orthogonal_pair, "P7": three_point}[name]()
    y, zero = problem.targets, torch.zeros_like(problem.targets)
    line = _subset(problem, [[0, 1]])[1]
    if name == "P5":  # the first saddle has the kink on the last point
        d = 0.7 - problem.inputs[:1]
        fits = [zero, (y * d).sum() / (d * d).sum() * d, line]
    elif name == "P6":
        fits = [zero, y.clamp(min=0), y]
    else:
        fits = [zero, line]
    return Case(name, problem, torch.stack(fits), activation="relu", width=50)
