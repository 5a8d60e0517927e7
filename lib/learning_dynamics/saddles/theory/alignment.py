"""Plateaus (Theorem 1 of Arata's thesis): escape direction, rate, and how far units align.

At a stationary point with residual correlation R = Sigma_yx - W Sigma_xx (for any loss and
activation: R = -G D X'), a dormant unit obeys w(t+1) = (I - eta M) w(t) with
M = -[[0, R'], [R, 0]]. Its fastest direction is (v, u)/sqrt(2), u and v the top singular pair
of R, and the factor per step is 1 + eta sigma_1(R).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments
from learning_dynamics.runtime import check_integer, check_positive, check_tensors

__all__ = [
    "Escape",
    "correlation",
    "escape",
    "modes_at_escape",
    "plateau_steps",
    "update_matrix",
    "worst_angle",
]


@dataclass(frozen=True)
class Escape:
    """How a stationary point is left.

    rate      : (*runs,), sigma_1(R): a unit grows by 1 + eta rate per step.
    direction : (*runs, m0 + m2), the unit vector (v, u)/sqrt(2), up to sign.
    gap       : (*runs,), sigma_2(R)/sigma_1(R), 1 for R = 0; Theorem 1 needs it below 1.
    """

    rate: Float[Tensor, " *runs"]
    direction: Float[Tensor, "*runs coordinate"]
    gap: Float[Tensor, " *runs"]


def correlation(
    inputs: Float[Tensor, "*runs m0 n"],
    gradient: Float[Tensor, "*runs m2 n"],
    slope: Float[Tensor, "*runs n"] | None = None,
) -> Float[Tensor, "*runs m2 m0"]:
    """R = -G D X', with G = dL/df and D = diag `slope` (identity for a linear net)."""
    check_tensors(inputs=(inputs, "*runs m0 n"), gradient=(gradient, "*runs m2 n"))
    return -(gradient if slope is None else gradient * slope[..., None, :]) @ inputs.mT


def escape(residual: Float[Tensor, "*runs m2 m0"]) -> Escape:
    """Rate, direction and gap of the escape from a stationary point with correlation R.

    >>> import torch
    >>> out = escape(torch.diag(torch.tensor([3.0, 1.0])))  # R at the origin: Sigma_yx
    >>> round(float(out.rate), 6)
    3.0
    """
    check_tensors(residual=(residual, "*runs m2 m0"))
    u, s, vh = torch.linalg.svd(residual, full_matrices=False)
    second = s[..., 1] if s.shape[-1] > 1 else torch.zeros_like(s[..., 0])
    direction = torch.cat([vh[..., 0, :], u[..., :, 0]], dim=-1) / math.sqrt(2)
    return Escape(s[..., 0], direction, torch.where(s[..., 0] > 0, second / s[..., 0], 1.0))


def update_matrix(
    residual: Float[Tensor, "*runs m2 m0"], step_size: float | Float[Tensor, " *runs"]
) -> Float[Tensor, "*runs coordinate coordinate"]:
    """I - eta M = I + eta [[0, R'], [R, 0]], what one step does to every unit of a linear net."""
    check_tensors(residual=(residual, "*runs m2 m0"))
    check_positive("step_size", step_size)
    m2, m0 = residual.shape[-2:]
    eta = torch.as_tensor(step_size, dtype=residual.dtype, device=residual.device)[..., None, None]
    a = residual.new_zeros(*residual.shape[:-2], m0 + m2, m0 + m2)
    a[..., m0:, :m0] = eta * residual
    a[..., :m0, m0:] = eta * residual.mT
    return a + torch.eye(m0 + m2, dtype=a.dtype, device=a.device)


def worst_angle(
    units: Float[Tensor, "*runs m1 coordinate"], direction: Float[Tensor, "*runs coordinate"]
) -> Float[Tensor, " *runs"]:
    """max_i |(I - P1) w_i|/|P1 w_i|, the ratio of Theorem 1, P1 along the unit `direction`."""
    check_tensors(units=(units, "*runs m1 coordinate"), direction=(direction, "*runs coordinate"))
    along = (units * direction[..., None, :]).sum(-1)
    across = units - along[..., None] * direction[..., None, :]
    return (across.norm(dim=-1) / along.abs()).amax(-1)


def modes_at_escape(
    modes: Float[Tensor, "runs records mode"], escape_number: int, threshold: float = 0.1
) -> Float[Tensor, "runs mode"]:
    """Singular values of S where the `escape_number`-th of them first reaches `threshold`.

    Log-linear between records. The alignment at the k-th escape is entry k over entry k - 1
    (counting from 0). Raises ValueError if a run never gets there or starts above.
    """
    check_tensors(modes=(modes, "runs records mode"))
    check_integer("escape_number", escape_number, least=1)
    check_positive("threshold", threshold)
    leader = modes[..., escape_number - 1]
    active = leader >= threshold
    if not bool(active.any(-1).all()) or bool(active[:, 0].any()):
        run = int((~active.any(-1) | active[:, 0]).nonzero()[0])
        raise ValueError(
            f"run {run}: mode {escape_number} never rises through {threshold:g}; run longer, "
            "or start smaller"
        )
    at = active.long().argmax(-1)
    rows = torch.arange(len(modes), device=modes.device)
    low, high = modes[rows, at - 1].log(), modes[rows, at].log()
    k = escape_number - 1
    part = (math.log(threshold) - low[:, k]) / (high[:, k] - low[:, k])
    return torch.exp(low + part[:, None] * (high - low))


def plateau_steps(
    moments: Moments,
    units: Float[Tensor, "*runs m1 coordinate"],
    step_size: float | Float[Tensor, " *runs"],
    threshold: float = 0.1,
) -> Float[Tensor, " *runs"]:
    """Steps from `units` near the origin until the top mode of S reaches `threshold`.

    log(threshold/|S p|)/log(1 + eta s_1), p the escape direction at the origin, s_1 the top
    singular value of Sigma_yx: linear in log(1/epsilon) with slope 1/log(1 + eta s_1). Infinite
    where nothing grows. Raises ValueError for units that are beyond the threshold.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> moments = linear_teacher(generator=generator(0)).moments()
    >>> short, long = (
    ...     saddles.plateau_steps(
    ...         moments, saddles.initialise((6, 10, 4), scale, [generator(1)]).units[0], 0.05
    ...     )
    ...     for scale in (1e-4, 1e-8)
    ... )
    >>> bool(long > 2 * short)
    True
    """
    check_tensors(moments=(moments, Moments), units=(units, "... m1 _"))
    m0_m2 = sum(moments.yx.shape[-2:])
    check_tensors(yx=(moments.yx, "... m2 m0"), units=(units, f"... m1 {m0_m2}"))
    check_positive("threshold", threshold)
    check_positive("step_size", step_size)
    first = escape(moments.yx)
    start = (units @ first.direction[..., None]).flatten(-2).norm(dim=-1)
    if bool((start >= threshold).any()):
        size = float(start.max())
        raise ValueError(f"units: {size:g} along the escape: must be below {threshold = :g}")
    growth = torch.log1p(step_size * first.rate)
    return (threshold / start).log() / growth
