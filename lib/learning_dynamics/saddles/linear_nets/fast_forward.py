"""Fast-forward over a plateau: T steps of a linear net by one eigendecomposition.

One step is R <- R (I - eta M(C)), C = W Sigma_xx - Sigma_yx (see `reductions`). At a saddle C
hardly moves. With M(C0) = V diag(mu) V', lambda = 1 - eta mu and P = R V the frozen recursion is
P(tau) = P lambda^tau.

A-posteriori bound. Along the frozen run W(tau) - W(0) = V2 [Q o ((lambda lambda')^tau - 1)] V1'
with Q = P'P and V1, V2 the blocks of V (norm <= 1), so with entries' absolute values summed

    sum_{tau<T} eta |C(tau) - C(0)| <= eta |Sigma_xx| sum_ab |Q_ab| |g_ab(T) - T| =: bound(T),
    g(T) = (rho^T - 1)/(rho - 1),   rho = lambda_a lambda_b > 0,

and |R(T) - R lambda^T-run| <= |R| max(lambda)^T (exp(bound / min(lambda)) - 1): products of
perturbed factors. The jump is the longest T with bound(T) <= tolerance; no jump where eta mu >= 1.
Dormant modes survive a jump because it is cut where the fastest mode has outgrown the slowest by
`SPREAD` and the rows are rotated there (see `rotations`).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from learning_dynamics.saddles.linear_nets.modes import rotate_rows

__all__ = ["Plateau"]

#: Growth of the fastest over the slowest mode between two rotations; costs this many ulp.
SPREAD = 1e4


@dataclass(frozen=True)
class Plateau:
    """The frozen recursion from the rows R of one net, (k, m0 + m2)."""

    vectors: Tensor  # V
    logs: Tensor  # log(lambda); NaN or -inf where eta mu >= 1
    start: Tensor  # P = R V
    sensitivity: float  # eta |Sigma_xx|

    @classmethod
    def at(cls, rows: Tensor, slope: Tensor, step_size: float, input_norm: float) -> "Plateau":
        """rows: R; slope: C (m2, m0); input_norm: |Sigma_xx|."""
        m2, m0 = slope.shape
        block = rows.new_zeros(m0 + m2, m0 + m2)
        block[:m0, m0:], block[m0:, :m0] = slope.mT, slope
        values, vectors = torch.linalg.eigh(block)
        logs = torch.log1p(-step_size * values)
        return cls(vectors, logs, rows @ vectors, step_size * input_norm)

    def bound(self, steps: Tensor) -> Tensor:
        """The a-posteriori bound for each T in `steps`."""
        rho = self.logs[:, None] + self.logs
        size = self.sensitivity * (self.start.mT @ self.start).abs()
        t = steps[:, None, None].to(rho.dtype)
        flat = (t * rho).abs() < 1e-3  # series: g(T) - T = T (T - 1)/2 log rho (1 + O(T log rho))
        safe = torch.where(rho == 0, 1.0, rho)
        growth = (torch.expm1(t * safe) / torch.expm1(safe) - t).abs()
        growth = torch.where(flat, 0.501 * t * (t - 1) * rho.abs(), growth)
        return (size * growth).nan_to_num(nan=torch.inf).sum((-2, -1))

    def longest(self, most: int, tolerance: float) -> int:
        """The longest jump T <= most with bound(T) <= tolerance; 0 if there is none."""
        if not bool(torch.isfinite(self.logs).all()) or most < 1:
            return 0
        low, high = 0, most  # bound(low) is good, bound(high + 1) is not or high = most
        while low < high:
            grid = (
                torch.linspace(low, high, 33, dtype=torch.float64, device="cpu")
                .ceil()
                .long()
                .unique()[1:]
            )
            good = self.bound(grid.to(self.logs.device)).cpu() <= tolerance
            count = int(good.cumprod(0).sum())  # the bound grows with T
            if count:
                low = int(grid[count - 1])
            if count < len(grid):
                high = int(grid[count]) - 1
        return low

    def advance(self, at: Tensor, rotation: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """P and Omega after that many more frozen steps, rotated on the way."""
        spread = float(self.logs.max() - self.logs.min())
        pieces = max(1, math.ceil(steps * spread / math.log(SPREAD)))
        edges = [round(steps * i / pieces) for i in range(pieces + 1)]
        for begin, end in zip(edges, edges[1:], strict=False):
            at, rotation = rotate_rows(at * torch.exp((end - begin) * self.logs), rotation)
        return at, rotation
