"""Exact reductions of a linear net with squared loss: samples to moments, width to rank.

Moments. The gradient, dL/dW2 = C W1' and dL/dW1 = W2' C with C = W2 W1 Sigma_xx - Sigma_yx, and
the loss depend on the data only through Sigma_xx, Sigma_yx, Sigma_yy. Any data set with the same
moments gives the same run; one with m0 + m2 samples is the triangular factor of the stacked
data: with [X; Y]' = Q R (Q'Q = I), the columns of R' are m0 + m2 samples with R'R = [X; Y][X; Y]'.
Data rather than moments are returned because the loss |Y - W X|^2 has no cancellation.

Width. With S = [W1, W2'] one step reads S <- S (I - eta M), where M = [[0, C'], [C, 0]] and C
depends on W2 W1, a block of S'S. If S = B R with B'B = I, then S'S = R'R: the net whose units
are the rows of R takes the same steps, and B R(t) are the units of the wide net at every step.
R has at most m0 + m2 rows. See the section on exact reductions of the performance chapter.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.kernels.weights import Weights
from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import check_integer, check_positive, check_tensors, normal, stream

__all__ = ["NarrowNet", "compress", "from_moments", "gaussian_narrow", "narrow"]


def _as_problem(stacked: Tensor, inputs: int) -> Problem:
    """Samples (columns of `stacked` / sqrt(n)) with prescribed stacked'stacked as moments."""
    columns = stacked * stacked.shape[-1] ** 0.5
    return Problem(columns[..., :inputs, :].contiguous(), columns[..., inputs:, :].contiguous())


def compress(problem: Problem) -> Problem:
    """The problem with at most m0 + m2 samples that every linear net cannot tell from this one.

    Exact for the squared loss without entry weights: same loss, same gradient, hence the same
    run. Cost of a step becomes independent of n; the reduction itself is one QR, O(n (m0+m2)^2).
    """
    check_tensors(problem=(problem, Problem))
    x, y = problem.inputs, problem.targets
    n = x.shape[-1]
    if n <= x.shape[-2] + y.shape[-2]:
        return problem
    triangular = torch.linalg.qr(torch.cat([x, y], -2).mT, mode="r")[1]
    small = _as_problem(triangular.mT / n**0.5, x.shape[-2])
    return Problem(small.inputs, small.targets, problem.teacher)


def from_moments(moments: Moments) -> Problem:
    """A problem with m0 + m2 samples that has these second moments (n = infinity allowed).

    Raises ValueError if the block matrix [[xx, yx'], [yx, yy]] has a negative eigenvalue beyond
    rounding: then no data have these moments.
    """
    top = torch.cat([moments.xx, moments.yx.mT], -1)
    block = torch.cat([top, torch.cat([moments.yx, moments.yy], -1)], -2)
    values, vectors = torch.linalg.eigh(block)
    if bool((values < -1e-10 * values.abs().amax(-1, keepdim=True)).any()):
        raise ValueError(
            f"moments: the block matrix has eigenvalue {float(values.min()):g}; it must be >= 0"
        )
    root = vectors * values.clamp_min(0).sqrt()[..., None, :]
    return _as_problem(root, moments.xx.shape[-1])


@dataclass(frozen=True)
class NarrowNet:
    """A wide linear net reduced to rank: S = basis R, rows of R = units of `weights`.

    weights : the narrow net, width k = min(m1, m0 + m2).
    basis   : (*runs, m1, k), orthonormal columns.
    """

    weights: Weights
    basis: Float[Tensor, "*runs m1 k"]

    def widen(self, weights: Weights | None = None) -> Weights:
        """The wide net's weights when the narrow one's are `weights` (default: the start)."""
        w = self.weights if weights is None else weights
        return Weights(self.basis @ w.w1, w.w2 @ self.basis.mT)


def narrow(weights: Weights) -> NarrowNet:
    """S = B R by QR: the narrow net that takes the same steps as this linear net."""
    check_tensors(weights=(weights, Weights))
    units = weights.units
    scale = units.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(units.dtype).tiny)
    basis, rows = torch.linalg.qr(units / scale)
    rows = rows * scale
    m0 = weights.w1.shape[-1]
    return NarrowNet(Weights(rows[..., :m0].contiguous(), rows[..., m0:].mT.contiguous()), basis)


def gaussian_narrow(
    widths: tuple[int, int, int], init_scale: float, generator: torch.Generator
) -> Weights:
    """The narrow net of a Gaussian net of width m1, drawn without ever forming the wide one.

    R of the QR of a Gaussian matrix (m1, d), d = m0 + m2 <= m1, has independent entries: normal
    above the diagonal, chi with m1 - i + 1 degrees of freedom on it (Bartlett). Cost O(d^2) for
    any m1. Same law as `narrow(initialise(...))`, not the same draw.
    """
    if len(widths) != 3:
        raise ValueError(f"widths = {tuple(widths)}: must be (m0, m1, m2)")
    m0, m1, m2 = widths
    check_integer("m0", m0, least=1)
    check_integer("m2", m2, least=1)
    check_integer("m1", m1, least=m0 + m2)
    check_positive("init_scale", init_scale)
    d = m0 + m2
    dtype = torch.float64
    rows = normal(d, d, generator=generator, dtype=dtype).triu(1)
    freedom = (m1 - torch.arange(d, dtype=dtype, device="cpu")) / 2
    chi = (2 * torch._standard_gamma(freedom, generator=stream(generator))).sqrt()
    rows = init_scale * (rows + torch.diag(chi).to(rows))[None]
    return Weights(rows[..., :m0].contiguous(), rows[..., m0:].mT.contiguous())
