"""Second order among active units: the Hessian of L, and how fast copies of a unit part.

The Hessian is J' l'' J + C, with J = df/dw and C block diagonal: the block C_i of unit i is what
two copies of it feel that move in opposite directions (the outputs stay to first order). They
part at the rate -lambda_min(C_i); for a piecewise linear activation off its kinks
C_i = [[0, X D_i G'], [., 0]], and the rate is sigma_1(X D_i R').
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.losses import Loss
from learning_dynamics.saddles.skipping.clarke import Kinks, normal_space
from learning_dynamics.saddles.skipping.objective import Objective

__all__ = ["Curvature", "curvature", "loss_curvature"]


def loss_curvature(
    loss: Loss, outputs: Float[Tensor, "m2 n"], targets: Float[Tensor, "m2 n"]
) -> Float[Tensor, "m2 m2 n"]:
    """l''(f) of every sample."""
    f = outputs.detach().clone().requires_grad_(True)
    residual = loss.residual(f, targets)
    rows = [
        torch.autograd.grad(row.sum(), f, retain_graph=True, allow_unused=True)[0]
        for row in residual
    ]
    return torch.stack([torch.zeros_like(outputs) if r is None else r for r in rows])


@dataclass(frozen=True)
class Curvature:
    """gradient : (k, c) dL/dw_i. hessian : (k c, k c). copies : (k, c, c), the blocks C_i.

    All on the tangent space of the kinks that are held (zero across)."""

    gradient: Float[Tensor, "k coordinate"]
    hessian: Float[Tensor, "parameter parameter"]
    copies: Float[Tensor, "k coordinate coordinate"]


def curvature(
    units: Float[Tensor, "k coordinate"],
    objective: Objective,
    outputs: Float[Tensor, "m2 n"],
    kinks: Kinks | None = None,
) -> Curvature:
    """First and second derivatives at a point with outputs f (activation: with its kinks).

    Costs k c/6 gradient evaluations, the ratio of the multiplications; the caller counts them.
    """
    x, act = objective.problem.inputs, objective.activation
    k, m0, m2 = len(units), len(x), len(outputs)
    a, b = units[:, :m0], units[:, m0:]
    z = a @ x
    slopes = act.derivative(z) if kinks is None else kinks.slopes
    hidden = act(z) if kinks is None else slopes * z
    g = objective.loss.gradient(outputs, objective.problem.targets)
    l2 = loss_curvature(objective.loss, outputs, objective.problem.targets) / x.shape[1]
    jacobian = torch.cat(
        [
            b[:, None, :, None] * (slopes[:, None] * x)[:, :, None],
            torch.eye(m2, dtype=x.dtype)[None, :, :, None] * hidden[:, None, None],
        ],
        dim=1,
    )
    flat = jacobian.flatten(0, 1)
    hessian = flat.flatten(1) @ torch.einsum("opn,ipn->ion", l2, flat).flatten(1).mT
    copies = x.new_zeros(k, m0 + m2, m0 + m2)
    copies[:, :m0, m0:] = (slopes[:, None] * x) @ g.mT
    copies[:, m0:, :m0] = copies[:, :m0, m0:].mT
    if not act.homogeneous:
        free = z.detach().clone().requires_grad_(True)
        bend = torch.autograd.grad(act.derivative(free).sum(), free)[0] * (b @ g)
        copies[:, :m0, :m0] = (bend[:, None] * x) @ x.mT
    gradient = torch.cat([(slopes * (b @ g)) @ x.mT, hidden @ g.mT], dim=1)
    blocks = hessian.reshape(k, m0 + m2, k, m0 + m2)
    for i in range(k):
        blocks[i, :, i] += copies[i]
    if kinks is not None:
        for i in kinks.held.any(1).nonzero()[:, 0].tolist():
            across = normal_space(x[:, kinks.held[i]])
            inside = torch.eye(m0 + m2, dtype=x.dtype)
            inside[:m0, :m0] -= across
            gradient[i] = inside @ gradient[i]
            blocks[i] = torch.einsum("pq,qjr->pjr", inside, blocks[i])
            blocks[:, :, i] = torch.einsum("jrq,pq->jrp", blocks[:, :, i], inside)
            copies[i] = inside @ copies[i] @ inside
    return Curvature(gradient, blocks.reshape(hessian.shape), copies)
