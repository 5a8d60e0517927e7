"""At and beyond the edge of stability: how large may a step be before gradient descent cannot rest?

Balanced layers, as a small start leaves them, are not the flattest that make a map. Beyond the
limit of `saddle_to_saddle.step_limit` a run may still unbalance its layers until it can rest.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import stack_moments
from learning_dynamics.saddles.theory.staircase import least_squares, sharpness
from learning_dynamics.saddles.two_layer import gradient_descent, initialise
from paper.claims import Evidence, claim
from paper.saddles.optimisers.one_law import three_drops
from paper.saddles.random_linear import gaps, stack_problems

__all__ = ["Config", "edge", "flattest", "run"]


#: Stated before the runs below were made, from other draws: up to here (eta a_max) no run diverged
#: on its way, and at the limit of a single mode, 4, nearly all do.
ON_ITS_WAY = 3.2
STEPS_OFF = 0.02  # the shares next to the limit are 0.98 and 1.02


@dataclass(frozen=True)
class Config:
    """problems : random, inputs generic and commuting in turn, eigenvalues of Sigma_xx over one
    decade for half of them and over two for the others. shares : eta over the limit 2/a_min.
    scale : epsilon. near, scales : share and epsilon of the runs that test the recursion.
    """

    problems: int = 60
    shares: tuple[float, ...] = (0.5, 0.8, 0.95, 0.98, 1.02, 1.05, 1.2, 1.5, 2.0)
    scale: float = 1e-8
    steps: int = 30_000
    near: float = 0.95
    scales: tuple[float, ...] = (1e-20, 1e-40, 1e-60)

    def quick(self) -> "Config":
        return replace(self, problems=12, shares=(0.5, 0.98, 1.02, 1.5))


def flattest(moments: Moments) -> Float[Tensor, " *runs"]:
    """a_min: the least, over all W1, W2 that make the least-squares map W, of the largest
    eigenvalue of the Hessian of L there.

    It is min over beta > 0 of lambda_max(beta Sigma_xx + C/beta), C = Sigma_xx^(1/2) W'W
    Sigma_xx^(1/2): beta is |W2|^2. Convex in beta.

    >>> import torch
    >>> from learning_dynamics import Moments
    >>> s = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    >>> round(float(flattest(Moments(torch.eye(2).double(), s, s @ s))), 6)  # white: as balanced
    6.0
    """
    values, vectors = torch.linalg.eigh(moments.xx)
    root = (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT
    map_ = least_squares(moments)
    inner = root @ map_.mT @ map_ @ root
    found = []
    both = (part.reshape(-1, *part.shape[-2:]) for part in (moments.xx, inner))
    for xx, c in zip(*both, strict=True):

        def top(log_beta: float, xx: Tensor = xx, c: Tensor = c) -> float:
            beta = float(np.exp(log_beta))
            return float(torch.linalg.eigvalsh(beta * xx + c / beta)[-1])

        centre = 0.5 * float((torch.trace(c) / torch.trace(xx)).log())
        exact = {"xatol": 1e-10}  # the least value may lie in a kink
        around = (centre - 7, centre + 7)
        found.append(minimize_scalar(top, bounds=around, method="bounded", options=exact).fun)
    return torch.tensor(found, dtype=inner.dtype).reshape(moments.yx.shape[:-2])


def draw(i: int) -> Problem:
    """Problem i: spectra log-uniform, Sigma_xx in 0.3 .. 3 or 0.03 .. 3, teacher in 0.5 .. 3."""
    source, decades = generator("edge-of-stability", i), 1 + i // 2 % 2
    u = torch.rand(10, generator=source, dtype=torch.float64).sort().values
    u = u[torch.randperm(10, generator=source)]
    return linear_teacher(
        generator=source,
        covariance=("generic", "commuting")[i % 2],
        input_spectrum=tuple((3 * 10 ** (-decades * u[:6])).tolist()),
        target_spectrum=tuple((0.5 * 6 ** u[6:]).sort(descending=True).values.tolist()),
    )


def run(config: Config = Config()) -> xr.Dataset:
    """Every problem at every step size, from near the origin to its end.

    reached, diverged (problem, share) : whether the loss ends at its least value, to 1e-6 of the
    first, and whether the run diverged; imbalance : |W1 W1' - W2' W2| at the end over that of the
    sum. relative_step, balanced (problem, share) : eta s_1, eta a_max. ratio (problem) :
    a_max/a_min, of the minimum with balanced layers and of the flattest. power, pace and those
    measured (near_problem, escape) : `three_drops` at the share `near`, on generic problems with
    gaps of at least 0.1 and 2 < eta a_max < 3.2.
    """
    problems, shares = [draw(i) for i in range(config.problems)], torch.tensor(config.shares)
    batch, grid = [p.moments() for p in problems], (config.problems, len(shares))
    moments = stack_moments(batch)
    least, s1 = flattest(moments), torch.linalg.svdvals(moments.yx)[:, :1]
    ratio = sharpness(moments)[:, -1] / least
    eta = 2 * shares.double() / least[:, None]
    several, _ = stack_problems([one for one in problems for _ in shares])
    starts = [generator("edge-of-stability/start", i) for i in range(len(problems)) for _ in shares]
    track = gradient_descent(
        initialise((6, 10, 4), config.scale, starts),
        several,
        step_size=eta.flatten(),
        steps=config.steps,
        record_at=torch.tensor([0, config.steps]),
        on_divergence="mark",
    )
    first, last = track.final.w1 @ track.final.w1.mT, track.final.w2.mT @ track.final.w2
    gone = track.diverged_at >= 0
    excess = (track["loss"][:, -1] / track["loss"][:, 0]).nan_to_num(torch.inf)
    variables = {
        "reached": (~gone & (excess < 1e-6)).double(),
        "diverged": gone.double(),
        "imbalance": (first - last).norm(dim=(1, 2)) / (first + last).norm(dim=(1, 2)),
        "relative_step": eta * s1,
        "balanced": eta * (ratio * least)[:, None],
    }
    data = {name: (("problem", "share"), v.reshape(grid)) for name, v in variables.items()}
    result = xr.Dataset(data, {"problem": range(len(batch)), "share": list(config.shares)})
    result["ratio"] = "problem", ratio
    pushed = 2 * config.near * ratio
    near = [
        three_drops([m], 2 * config.near / least[i : i + 1], config.scales)
        for i, m in enumerate(batch)
        if i % 2 == 0 and 2 < pushed[i] < ON_ITS_WAY and float(gaps(m)) >= 0.1
    ]
    return result.merge(xr.concat(near, "problem").rename(problem="near_problem"))


@claim("saddles/edge-of-stability", Config, run)
def edge(result: xr.Dataset) -> Evidence:
    """The share of the limit, half-way between the largest at which a problem ends at its least
    loss and the next, where eta a_max = 3.2 is not passed before."""
    share, inside = result.share, 2 * result.ratio <= ON_ITS_WAY
    most = (share * result.reached).max("share")
    found = (most + share.where(share > most).min("share")) / 2
    below, above = result.isel(share=share < 1), result.isel(share=share > 1)
    ends = result.imbalance.where(result.reached > 0)
    calm, turned = (ends.where(chosen) for chosen in (result.balanced < 1.9, result.balanced > 2.1))
    error, pace = result.power_measured - result.power, abs(result.pace_measured / result.pace - 1)
    details = {
        "reached_below": below.reached.where(inside, drop=True).min(),
        "reached_above": above.reached.sum(),
        "runs_above": above.reached.size,
        "ratio": [float(result.ratio.min()), float(result.ratio.max())],
        "unbalanced": turned.min() > 3 * calm.max(),
        "diverged_at_once": above.diverged.isel(share=0).mean() > 0.5,
        "recursion": [float(abs(error).max()), float(pace.max())],
        "near_problems": result.sizes["near_problem"],
    }
    kept = found.where(inside, drop=True)
    return Evidence(kept, np.ones(kept.size), STEPS_OFF, kept.problem, details)
