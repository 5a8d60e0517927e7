"""Learning problems: inputs X (m0, n), targets Y (m2, n), columns are samples."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import check_choice, check_integer, check_positive, check_tensors

__all__ = ["Moments", "Problem", "linear_teacher", "random_orthogonal"]


@dataclass(frozen=True)
class Moments:
    """Second moments of a problem: Sigma_xx = XX'/n, Sigma_yx = YX'/n, Sigma_yy = YY'/n.

    For the squared loss and a linear net they determine every run exactly.

    >>> import torch
    >>> Moments(torch.eye(2), torch.ones(1, 2), torch.eye(1)).yx
    tensor([[1., 1.]])
    """

    xx: Float[Tensor, "*runs m0 m0"]
    yx: Float[Tensor, "*runs m2 m0"]
    yy: Float[Tensor, "*runs m2 m2"]

    def __post_init__(self) -> None:
        check_tensors(
            xx=(self.xx, "*runs m0 m0"), yx=(self.yx, "*runs m2 m0"), yy=(self.yy, "*runs m2 m2")
        )


@dataclass(frozen=True)
class Problem:
    """A regression or classification problem.

    inputs  : X (*runs, m0, n); targets : Y (*runs, m2, n); columns are samples.
    teacher : (*runs, m2, m0), the linear map behind the targets, if there is one.
    Raises ValueError where XX' or YY' would leave the numbers of their type (1e160 squared):
    every gradient would be infinite at the start, whatever the step.

    >>> import torch
    >>> problem = Problem(torch.eye(3), torch.ones(2, 3))  # three samples, two outputs
    >>> problem.moments().yx.shape
    torch.Size([2, 3])
    """

    inputs: Float[Tensor, "*runs m0 n"]
    targets: Float[Tensor, "*runs m2 n"]
    teacher: Float[Tensor, "*runs m2 m0"] | None = None

    def __post_init__(self) -> None:
        teacher = {} if self.teacher is None else {"teacher": (self.teacher, "... m2 m0")}
        check_tensors(
            inputs=(self.inputs, "*runs m0 n"), targets=(self.targets, "*runs m2 n"), **teacher
        )
        for name, t in (("inputs", self.inputs), ("targets", self.targets)):
            if t.is_meta:  # no numbers, where a test lets such tensors pass
                continue
            wide = torch.promote_types(t.dtype, torch.float32)  # half precision sums wider
            limit, low, high = torch.finfo(wide).max / t.shape[-1], *map(float, t.aminmax())
            if max(-low, high) > limit**0.5:
                raise ValueError(
                    f"{name}: entries up to {max(-low, high):.2g} in size: at most "
                    f"{limit**0.5:.2g} are allowed for {t.shape[-1]} samples; choose a larger unit"
                )

    def moments(self) -> Moments:
        """Sigma_xx, Sigma_yx, Sigma_yy, means over samples."""
        x, y, n = self.inputs, self.targets, self.inputs.shape[-1]
        return Moments(x @ x.mT / n, y @ x.mT / n, y @ y.mT / n)


def random_orthogonal(
    size: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "size size"]:
    """A Haar-distributed orthogonal matrix (QR of a Gaussian, signs fixed; Mezzadri 2007)."""
    check_integer("size", size, least=1)
    g = torch.randn(size, size, generator=generator, dtype=dtype, device=generator.device)
    q, r = torch.linalg.qr(g)
    return q * torch.sign(torch.diagonal(r))


def _white(
    rows: int, samples: int, generator: torch.Generator, dtype: torch.dtype
) -> Float[Tensor, "rows samples"]:
    """Z (rows, samples) with ZZ'/samples = I exactly."""
    g = torch.randn(samples, rows, generator=generator, dtype=dtype, device=generator.device)
    return torch.linalg.qr(g)[0].mT * samples**0.5


def linear_teacher(
    *,
    generator: torch.Generator,
    input_spectrum: tuple[float, ...] = (2.5, 1.6, 1.2, 0.9, 0.6, 0.4),
    target_spectrum: tuple[float, ...] = (3.0, 1.8, 1.0, 0.5),
    output_dim: int = 4,
    samples: int = 40,
    covariance: str = "generic",
    noise: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """Y = W* X + noise with chosen input covariance and chosen spectrum of W*.

    input_spectrum  : eigenvalues of Sigma_xx, all > 0; m0 is their number. The sample second
                      moment has them exactly (the latent sample is exactly white).
    target_spectrum : singular values of W* (m2, m0), >= 0; missing ones are zero.
    samples         : n >= m0.
    covariance      : "isotropic": Sigma_xx = mean(input_spectrum) I;
                      "commuting": Sigma_xx has the right singular vectors of W* as eigenvectors;
                      "generic": the two bases are independent (non-commuting).
    noise           : standard deviation of Gaussian noise on each target entry.
    Raises ValueError for impossible sizes or values.

    >>> from learning_dynamics import generator
    >>> problem = linear_teacher(generator=generator(0), samples=40)
    >>> problem.inputs.shape, problem.targets.shape
    (torch.Size([6, 40]), torch.Size([4, 40]))
    """
    check_choice("covariance", covariance, ("isotropic", "commuting", "generic"))
    check_integer("samples", samples, least=1)
    check_integer("output_dim", output_dim, least=1)
    check_positive("noise", noise, zero=True)
    lam = torch.tensor(input_spectrum, dtype=dtype, device=generator.device)
    check_positive("input_spectrum", lam)
    size = len(lam)
    rank = len(target_spectrum)
    if rank > min(size, output_dim):
        raise ValueError(
            f"target_spectrum has {rank} values: at most min(m0, m2) = {min(size, output_dim)}"
        )
    if samples < size:
        raise ValueError(f"samples = {samples}: must be at least m0 = {size}")
    s = torch.tensor(target_spectrum, dtype=dtype, device=generator.device)
    check_positive("target_spectrum", s, zero=True)

    left = random_orthogonal(output_dim, generator, dtype)
    right = random_orthogonal(size, generator, dtype)
    basis = random_orthogonal(size, generator, dtype)
    latent = _white(size, samples, generator, dtype)
    if covariance == "isotropic":
        lam = lam.mean().expand(size)
    if covariance == "commuting":
        basis = right
    inputs = basis @ (lam.sqrt()[:, None] * (basis.mT @ latent))
    teacher = (left[:, :rank] * s) @ right[:, :rank].mT
    targets = teacher @ inputs
    if noise:
        targets = targets + noise * torch.randn(
            targets.shape, generator=generator, dtype=dtype, device=generator.device
        )
    return Problem(inputs, targets, teacher)
