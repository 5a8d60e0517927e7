"""Polar steps, as Muon takes them: the gradient with its singular values set to one.

The exact factor goes through the smaller Gram matrix, so that a wide layer and its reduction to
small matrices (`saddles.linear_nets.bottleneck`) take the same root and drop the same directions.
Newton and Schulz's iteration is what optimizers use instead: it needs products only.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import check_integer, check_positive, check_tensor

__all__ = ["COEFFICIENTS", "CUTOFF", "inverse_root", "newton_schulz", "polar_factor"]

#: Singular values below this share of the largest count as zero. Rounding turns the direction of
#: one at the cutoff by 1e-16/cutoff^2 a step, which is why it is not smaller.
CUTOFF = 1e-3
#: Of the quintic iteration of {cite}`jordan2024`, chosen for a steep slope at zero.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def inverse_root(
    gram: Float[Tensor, "*runs p p"], cutoff: float = CUTOFF
) -> Float[Tensor, "*runs p p"]:
    """M^(-1/2) of a positive semidefinite M on its range, 0 on its kernel.

    cutoff : directions whose root is at most this share of the largest count as kernel.
    Raises ValueError for numbers that are not finite.

    >>> inverse_root(torch.diag(torch.tensor([4.0, 1e-20]))).diagonal()
    tensor([0.5000, 0.0000])
    """
    check_tensor("gram", gram)
    check_positive("cutoff", cutoff)
    values, vectors = torch.linalg.eigh(gram)
    keep = values > (cutoff**2 * values[..., -1:]).clamp_min(0)
    root = torch.where(keep, values.clamp_min(torch.finfo(gram.dtype).tiny).rsqrt(), 0.0)
    return (vectors * root[..., None, :]) @ vectors.mT


def polar_factor(
    matrix: Float[Tensor, "*runs o i"], cutoff: float = CUTOFF
) -> Float[Tensor, "*runs o i"]:
    """U V' of G = U S V', over the singular values above `cutoff` times the largest.

    It is G (G'G)^(-1/2) with the root of `inverse_root`, taken in double precision. Where a
    singular value crosses the cutoff the factor jumps: runs that differ by rounding part there.

    >>> polar_factor(torch.tensor([[3.0, 0.0], [0.0, -0.5], [0.0, 0.0]]))
    tensor([[ 1.,  0.],
            [ 0., -1.],
            [ 0.,  0.]])
    """
    check_tensor("matrix", matrix)
    g = matrix.double()
    if matrix.shape[-2] < matrix.shape[-1]:
        return (inverse_root(g @ g.mT, cutoff) @ g).to(matrix.dtype)
    return (g @ inverse_root(g.mT @ g, cutoff)).to(matrix.dtype)


def newton_schulz(
    matrix: Float[Tensor, "*runs o i"],
    steps: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
) -> Float[Tensor, "*runs o i"]:
    """About U V': `steps` times X <- a X + b (XX')X + c (XX')^2 X from G/|G|_F.

    With the usual coefficients singular values above 1e-2 of |G|_F end between 0.7 and 1.2 after
    five steps; smaller ones grow by a = 3.4 a step and fall short.

    >>> newton_schulz(torch.diag(torch.tensor([3.0, 1.0])), 8).diagonal().sub(1).abs().max() < 0.32
    tensor(True)
    """
    check_tensor("matrix", matrix)
    check_integer("steps", steps, least=1)
    a, b, c = coefficients
    x = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
    norm = torch.linalg.matrix_norm(x)[..., None, None]
    x = x / norm.clamp_min(torch.finfo(x.dtype).tiny)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrix.shape[-2] > matrix.shape[-1] else x
