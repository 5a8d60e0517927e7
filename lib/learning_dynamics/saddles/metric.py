"""The metric in which a quasi-Newton descent starts: Gauss-Newton of the net, before any step.

With l'' replaced by its mean c along the new unit, the Gauss-Newton matrix of f = W2 W1 X needs
no data beyond Sigma_xx:
    d2/dW1 dW1 = c W2'W2 (x) Sigma_xx,    d2/dW2 dW2 = c I (x) W1 Sigma_xx W1',
    d2/da_ip db_ol = c (W2)_oi (W1 Sigma_xx)_lp.
Its zero directions leave W2 W1 as it is; eigenvalues are kept above a share of the largest, so
that steps stay bounded there (Levenberg). What l'' and the residual add is left to the secants.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.contracts import checked
from learning_dynamics.saddles.two_layer import Weights

__all__ = ["gauss_newton", "inverse_root"]


@checked
def gauss_newton(
    weights: Weights, moment: Float[Tensor, "m0 m0"], curvature: float
) -> Float[Tensor, "parameter parameter"]:
    """The matrix above, in loss/weight^2; parameters: W1 row by row, then W2 row by row.

    moment : Sigma_xx. curvature : c, in units of l''; for an activation with slope s at zero
    pass c s^2.
    """
    w1, w2 = weights
    seen = w1 @ moment
    first = torch.kron(w2.mT @ w2, moment)
    second = torch.kron(torch.eye(len(w2), dtype=w2.dtype), seen @ w1.mT)
    mixed = torch.einsum("oi,lp->ipol", w2, seen).reshape(len(first), len(second))
    return curvature * torch.cat(
        [torch.cat([first, mixed], dim=1), torch.cat([mixed.mT, second], dim=1)]
    )


def inverse_root(
    metric: Float[Tensor, "parameter parameter"], least: float = 0.1
) -> tuple[Float[Tensor, "parameter parameter"], Float[Tensor, "parameter parameter"]]:
    """P^(1/2) and P^(-1/2), eigenvalues of P below `least` of the largest raised to that."""
    values, vectors = torch.linalg.eigh(metric)
    values = values.clamp(min=least * float(values[-1]))
    return (vectors * values.sqrt()) @ vectors.mT, (vectors / values.sqrt()) @ vectors.mT
