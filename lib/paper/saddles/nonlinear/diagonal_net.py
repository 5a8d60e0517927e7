"""The diagonal net beta = u * v: jump times by recursion and by gradient descent in logarithms.

With w+ = u + v and w- = u - v a step of gradient descent is a product,
    w+ <- w+ (1 - eta g),   w- <- w- (1 + eta g),   beta = (w+^2 - w-^2) / 4,   g = dL/dbeta,
so that log |w+-| can be followed from any initial scale, far below the smallest float.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from learning_dynamics.data.published import diagonal_pair
from learning_dynamics.problems import Moments
from learning_dynamics.runtime import check_positive
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.saddles.theory.staircase import finite_step_rate
from paper.claims import Evidence

__all__ = [
    "PUBLISHED_TIMES",
    "Jumps",
    "descend_in_logarithms",
    "jumps",
    "measure",
    "measured_times",
]

#: Jump times over log(1/alpha) (pesme2023; numbers as in kunin2025: 2.667, 8.292, 47.765).
PUBLISHED_TIMES = (0.1930, 0.6002, 3.4574)


class Jumps(NamedTuple):
    """What theory predicts: times (jumps,) in units of log(1/alpha), maps (jumps + 1, d) rested
    on, losses (jumps + 1,) there."""

    times: Float[Tensor, " jumps"]
    maps: Float[Tensor, "saddles coordinate"]
    losses: Float[Tensor, " saddles"]


def _loss(moments: Moments, beta: Tensor) -> Tensor:
    inner = moments.yy[0, 0] - 2 * beta @ moments.yx[0] + ((beta @ moments.xx) * beta).sum(-1)
    return 0.5 * inner


def jumps(moments: Moments, step_size: float | None = None) -> Jumps:
    """Jump times, saddles and losses of the diagonal net as alpha -> 0 (recursion of pesme2023).

    log |w+-| = -p+- log(1/alpha): both exponents begin at 1 and move at the rates of w+- (with
    finite steps log(1 -+ eta g)/eta) while g is constant. Where one reaches 0 the coordinate
    becomes active, beta moves to the least loss with the signs that the active w+- allow, and
    so on until g = 0, at most 20 times. step_size : eta, None for the flow. Output dimension 1.
    """
    h, target = moments.xx.numpy(), moments.yx[0].numpy()
    d = len(target)
    p = np.ones((2, d))  # exponents of w+ and w-
    beta, now = np.zeros(d), 0.0
    times, maps = [], [beta]
    root = np.linalg.cholesky(h)
    for _ in range(20):
        g = h @ beta - target
        g[np.abs(g) <= 1e-9 * np.abs(target).max()] = 0
        if not g.any():
            break
        rates = finite_step_rate(torch.from_numpy(np.stack([-g, g])), step_size).numpy()
        wait = np.min(p[rates > 0] / rates[rates > 0])
        now += wait
        p = p - rates * wait
        p[np.abs(p) < 1e-9] = 0
        signs = np.where(p[0] == 0, 1.0, np.where(p[1] == 0, -1.0, 0.0))
        active = signs != 0
        beta = np.zeros(d)
        size, _ = nnls(root.T[:, active] * signs[active], np.linalg.solve(root, target))
        beta[active] = signs[active] * size
        times.append(now)
        maps.append(beta)
    b = torch.tensor(np.array(maps))
    return Jumps(torch.tensor(times), b, _loss(moments, b))


def descend_in_logarithms(
    moments: Moments, log_scales: Sequence[float], *, step_size: float, steps: int
) -> tuple[Float[Tensor, "scales records"], Float[Tensor, "scales records coordinate"]]:
    """Losses and maps beta of exact gradient descent from u = sqrt(2) alpha, v = 0, at every step.

    log_scales : log(1/alpha). step_size : eta with eta |g| < 1 along the run, else ValueError.
    """
    check_positive("step_size", step_size)
    h, target = moments.xx.numpy(), moments.yx[0].numpy()
    log_plus = np.log(2) / 2 - np.asarray(log_scales, dtype=float)[:, None] + np.zeros(len(target))
    log_minus = log_plus.copy()
    maps = np.empty((steps + 1, *log_plus.shape))
    for t in range(steps + 1):
        beta = (np.exp(2 * log_plus) - np.exp(2 * log_minus)) / 4
        maps[t] = beta
        move = step_size * (beta @ h - target)
        if not np.abs(move).max() < 1:
            raise ValueError(f"step_size = {step_size}: too large at step {t} (eta |g| >= 1)")
        log_plus += np.log1p(-move)
        log_minus += np.log1p(move)
    b = torch.from_numpy(maps).transpose(0, 1)
    return _loss(moments, b.reshape(-1, len(target))).reshape(b.shape[:2]), b


def measured_times(
    log_scales: tuple[float, float] = (80.0, 120.0), *, step_size: float = 0.02
) -> tuple[Float[Tensor, " jumps"], Float[Tensor, " jumps"]]:
    """Slope of the half-drop times in log(1/alpha) between two scales; the prediction.

    Both at this step size, in units of time (steps x step size) per log(1/alpha).
    """
    moments = diagonal_pair().moments()
    predicted = jumps(moments, step_size)
    steps = round((float(predicted.times[-1]) + 0.3) * max(log_scales) / step_size)
    losses, _ = descend_in_logarithms(moments, log_scales, step_size=step_size, steps=steps)
    half = (predicted.losses[1:] + predicted.losses[:-1]) / 2
    times = step_size * crossing_steps(losses, half.expand(2, -1), torch.arange(losses.shape[1]))
    return (times[1] - times[0]) / (log_scales[1] - log_scales[0]), predicted.times


def measure(*, quick: bool = False) -> Evidence:
    """`saddles/diagonal-net`: three jump times of the recursion against the published ones.

    run, run_predicted: the times of gradient descent at a finite step size, and the recursion
    with finite-step rates. maps, losses: after each jump, flattened.
    """
    flow = jumps(diagonal_pair().moments())
    run, predicted = measured_times((80.0, 120.0) if quick else (150.0, 450.0))
    return Evidence(
        measured=flow.times.tolist(),
        predicted=list(PUBLISHED_TIMES),
        tolerance=5e-5,
        details={
            "run": run.tolist(),
            "run_predicted": predicted.tolist(),
            "losses": flow.losses.tolist(),
            "maps": flow.maps.flatten().tolist(),
        },
    )
