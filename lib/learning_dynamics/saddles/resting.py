"""How closely a plateau rests on its saddle: arrival against departure.

Near saddle k the loss above the rank-k level shrinks like exp(-2 a t) while the slowest awake
mode arrives, and the loss below it grows like exp(2 s (t - T)) while the next mode escapes; T is
the length of the plateau, a the rate of arrival, s the rate of escape. At the slowest step both
have equal exponents, at t = s T/(a + s), and the distance from the level is of order

    exp(-2 a s T/(a + s)).

If that is not small the plateau is passed, not rested on, however small the initial scale is
made to look: T = (tau_{k+1} - tau_k) log(1/epsilon) can be short when two rates nearly tie.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.contracts import checked
from learning_dynamics.problems import Moments
from learning_dynamics.runtime import check_integer, check_positive
from learning_dynamics.saddles.staircase import Staircase, finite_step_rate, rank_k_map

__all__ = ["arrival_rate", "log_excess"]


@checked
def arrival_rate(moments: Moments, k: int, step_size: float | None = None) -> Float[Tensor, ""]:
    """Rate at which the slowest awake mode reaches the rank-k saddle of one problem.

    The least non-zero eigenvalue h of the Hessian of the squared loss in (W1, W2) of width k, at
    the balanced factors of the rank-k map; the zero eigenvalues are the k^2 directions that leave
    W2 W1 as it is. With a step size: -log(1 - eta h)/eta, valid for eta h < 1.
    moments : of one problem (no leading dimension); k >= 1.
    """
    check_integer("k", k, least=1)
    if step_size is not None:
        check_positive("step_size", step_size)
    target = rank_k_map(moments, k)
    u, s, vt = torch.linalg.svd(target)
    root = s[:k].sqrt()
    w1, w2 = root[:, None] * vt[:k], u[:, :k] * root

    def loss(parameters: Tensor) -> Tensor:
        a, b = parameters.split((w1.numel(), w2.numel()))
        w = b.reshape(w2.shape) @ a.reshape(w1.shape)
        return 0.5 * torch.trace(w @ moments.xx @ w.mT - 2 * w @ moments.yx.mT)

    hessian = torch.autograd.functional.hessian(
        loss, torch.cat([w1.flatten(), w2.flatten()])
    )
    h = torch.linalg.eigvalsh(hessian)[k * k]
    if step_size is None:
        return h
    if not float(step_size * h) < 1:
        raise ValueError(f"step_size = {step_size!r}: must be below 1/{float(h):g}")
    return -torch.log1p(-step_size * h) / step_size


@checked
def log_excess(moments: Moments, staircase: Staircase, k: int, init_scale: float) -> float:
    """Predicted log of |L - level k|/level k at the slowest step of plateau k, to leading order.

    staircase : `staircase.predict(moments, step_size)` of the same single problem.
    k         : 1 .. r - 1. init_scale : epsilon in (0, 1).
    Constants of order one are left out: read -7 as "about one in a thousand, give or take ten".
    """
    rank = staircase.times.shape[-1]
    check_integer("k", k, least=1)
    if k >= rank:
        raise ValueError(f"k = {k}: must be below {rank}")
    if not 0 < init_scale < 1:
        raise ValueError(f"init_scale = {init_scale!r}: must lie between 0 and 1")
    a = float(arrival_rate(moments, k, staircase.step_size))
    s = float(finite_step_rate(staircase.rates[k, :1], staircase.step_size))
    length = float(staircase.times[k] - staircase.times[k - 1]) * math.log(1 / init_scale)
    return -2 * a * s / (a + s) * length
