"""Learning problems: inputs X (m0, n), targets Y (m2, n), columns are samples."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation, activation, leaky_relu
from learning_dynamics.losses import Loss, loss
from learning_dynamics.runtime import (
    check_choice,
    check_instance,
    check_integer,
    check_positive,
    check_tensors,
    normal,
)

__all__ = [
    "LINEAR_TRAITS",
    "TRAITS",
    "LinearProblem",
    "Moments",
    "Problem",
    "TwoLayerProblem",
    "linear_teacher",
    "random_linear",
    "random_orthogonal",
    "random_two_layer",
]


def _as_tensors(holder: "Moments | Problem", *names: str) -> None:
    """Arrays and lists of real numbers become tensors of their dtype; gradients are not kept."""
    for name in names:
        value = getattr(holder, name)
        if isinstance(value, np.ndarray | list | tuple):
            try:
                array = np.asarray(value)
            except ValueError as error:
                raise ValueError(f"{name}: no array of numbers: {error}") from None
            if np.ma.is_masked(value):
                raise ValueError(
                    f"{name}: has masked entries: fill them or leave their samples out"
                )
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(
                    f"{name}: an array of {array.dtype}: allowed are real numbers of 32 or 64 "
                    f"bits; convert with np.asarray({name}, float)"
                )
            value = torch.from_numpy(array.copy())
        if isinstance(value, Tensor):
            object.__setattr__(holder, name, value.detach())


@dataclass(frozen=True)
class Moments:
    """Second moments of a problem: Sigma_xx = XX'/n, Sigma_yx = YX'/n, Sigma_yy = YY'/n.

    For the squared loss and a linear net they determine every run exactly. Moments that no data
    have are refused: [[xx, yx'], [yx, yy]] must be symmetric without negative eigenvalues.

    >>> import torch
    >>> Moments(torch.eye(2), torch.ones(1, 2), 3 * torch.eye(1)).yx
    tensor([[1., 1.]])
    """

    xx: Float[Tensor, "*runs m0 m0"]
    yx: Float[Tensor, "*runs m2 m0"]
    yy: Float[Tensor, "*runs m2 m2"]

    def __post_init__(self) -> None:
        _as_tensors(self, "xx", "yx", "yy")
        check_tensors(
            xx=(self.xx, "*runs m0 m0"), yx=(self.yx, "*runs m2 m0"), yy=(self.yy, "*runs m2 m2")
        )
        for name, part in (("xx", self.xx), ("yy", self.yy)):
            size = part.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
            allowed = 1e4 * torch.finfo(part.dtype).eps * size[..., :, None] * size[..., None, :]
            if bool(((part - part.mT).abs() > allowed).any()):
                raise ValueError(f"{name} = {part}: must be symmetric, as second moments are")
        least = float(_correlations(self).min())
        if least < -1e4 * torch.finfo(self.xx.dtype).eps:
            raise ValueError(
                f"xx, yx, yy: the matrix [[xx, yx'], [yx, yy]] of correlations has the eigenvalue "
                f"{least:g}: allowed are those >= 0; no data have such moments"
            )


def _correlations(moments: Moments) -> Tensor:
    """Eigenvalues of the block matrix with all variables at unit size, so that none hides."""
    top = torch.cat([moments.xx, moments.yx.mT], -1)
    block = torch.cat([top, torch.cat([moments.yx, moments.yy], -1)], -2)
    size = block.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    size = torch.where(size > 0, size, block.abs().amax((-2, -1), keepdim=True)[..., 0].sqrt())
    size = torch.where(size > 0, size, 1.0)
    return torch.linalg.eigvalsh(block / size[..., :, None] / size[..., None, :])


@dataclass(frozen=True)
class Problem:
    """A regression or classification problem.

    inputs  : X (*runs, m0, n); targets : Y (*runs, m2, n); columns are samples. Tensors, or
              NumPy arrays and lists of real numbers, which become tensors.
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
        _as_tensors(self, "inputs", "targets", "teacher")
        teacher = {} if self.teacher is None else {"teacher": (self.teacher, "... m2 m0")}
        check_tensors(
            inputs=(self.inputs, "*runs m0 n"), targets=(self.targets, "*runs m2 n"), **teacher
        )
        for name, t in (("inputs", self.inputs), ("targets", self.targets)):
            if t.is_meta:  # no numbers, where a test lets such tensors pass
                continue
            limit, low, high = torch.finfo(t.dtype).max / t.shape[-1], *map(float, t.aminmax())
            if max(-low, high) > limit**0.5:
                raise ValueError(
                    f"{name}: entries up to {max(-low, high):.2g} in size: at most "
                    f"{limit**0.5:.2g} are allowed for {t.shape[-1]} samples; choose a larger unit"
                )

    def moments(self) -> Moments:
        """Sigma_xx, Sigma_yx, Sigma_yy, means over samples.

        Raises ValueError where their numbers would be lost (1e-160 squared).
        """
        x, y, n = self.inputs, self.targets, self.inputs.shape[-1]
        for name, t in (("inputs", x), ("targets", y)):
            largest, least = float(t.abs().max()), (torch.finfo(t.dtype).tiny * n) ** 0.5
            if 0 < largest < least:
                raise ValueError(
                    f"{name}: entries up to {largest:.2g} in size: at least {least:.2g} are needed "
                    f"for second moments of {n} samples; choose a smaller unit"
                )
        return Moments(x @ x.mT / n, y @ x.mT / n, y @ y.mT / n)


def random_orthogonal(
    size: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "size size"]:
    """A Haar-distributed orthogonal matrix (QR of a Gaussian, signs fixed; Mezzadri 2007)."""
    check_integer("size", size, least=1)
    g = normal(size, size, generator=generator, dtype=dtype)
    q, r = torch.linalg.qr(g)
    return q * torch.sign(torch.diagonal(r))


def _white(
    rows: int, samples: int, generator: torch.Generator, dtype: torch.dtype
) -> Float[Tensor, "rows samples"]:
    """Z (rows, samples) with ZZ'/samples = I exactly."""
    g = normal(samples, rows, generator=generator, dtype=dtype)
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
    check_instance("generator", generator, torch.Generator)
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
        targets = targets + noise * normal(*targets.shape, generator=generator, dtype=dtype)
    return Problem(inputs, targets, teacher)


@dataclass(frozen=True)
class TwoLayerProblem:
    """What a two-layer net is asked: data, activation, loss, number of hidden units m1.

    trait : what is out of the ordinary, one of `TRAITS`.
    """

    problem: Problem
    activation: Activation
    loss: Loss
    width: int
    trait: str


#: Properties that a random problem may have; a third of them have one beside "none".
TRAITS = (
    "none",
    "duplicates",  # the first half of the samples again, with other noise
    "zero feature",  # one row of X is zero
    "fewer samples",  # n < m0 (where m0 > 1)
    "one sample",
    "commuting",  # X X' = n I (where n >= m0)
    "scaled samples",  # columns of X times 10^u, u uniform in -2 .. 2
    "integers",  # 2 X and 2 Y rounded
)


def _uniform(low: float, high: float, g: torch.Generator, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


def _choice(count: int, g: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=g))


def random_two_layer(generator: torch.Generator) -> TwoLayerProblem:
    """A problem from a wide prior: sizes, spectra, noise, activations, losses, degenerate cases.

    Sizes      : m0, m2 in 1 .. 12, evenly in the logarithm; n uniform in 1 .. 60; m1 uniform in
                 1 .. 3 (m0 + m2).
    Net        : linear, ReLU, leaky ReLU (slope 0.2), tanh; loss squared (half of the problems),
                 Huber (threshold 1) or logistic (a quarter each).
    Inputs     : Gaussian, eigenvalues of their covariance 0.1 .. 1 (log-uniform) in a random
                 basis, in half of the problems with a mean of standard deviation 1/2.
    Targets    : a linear map of random rank with singular values 0.3 .. 3, or as often a net of 1
                 to min(m0, m2) + 1 Gaussian units with the drawn activation; in two thirds of the
                 problems with Gaussian noise of 0.1 to 1 of their root mean square, which is then
                 brought to 0.3 .. 2.1 (log-uniform). Logistic loss: their signs, +1 for zero.
    Degenerate : a third of the problems have one of the other `TRAITS`, evenly.

    >>> from learning_dynamics import generator
    >>> drawn = random_two_layer(generator("example", 0))
    >>> drawn.problem.inputs.shape[1] == drawn.problem.targets.shape[1]
    True
    """
    g, gaussian = generator, partial(normal, generator=generator, dtype=torch.float64)
    trait = TRAITS[1 + _choice(len(TRAITS) - 1, g)] if _choice(3, g) == 0 else TRAITS[0]
    act = (activation("linear"), activation("relu"), leaky_relu(0.2), activation("tanh"))[
        _choice(4, g)
    ]
    criterion = loss(("squared", "squared", "huber", "logistic")[_choice(4, g)])
    m0, m2 = (int(12 ** float(_uniform(0, 1, g)) + 0.5) for _ in range(2))
    width = 1 + _choice(3 * (m0 + m2), g)
    n = 1 + _choice(60, g)
    if trait == "fewer samples" and m0 > 1:
        n = 1 + _choice(m0 - 1, g)
    n = 1 if trait == "one sample" else n
    basis, spectrum = random_orthogonal(m0, g), 10 ** _uniform(-1, 0, g, m0)
    x = basis @ (spectrum.sqrt()[:, None] * gaussian(m0, n))
    if _choice(2, g):
        x = x + 0.5 * gaussian(m0, 1)
    if trait == "zero feature":
        x[0] = 0
    if trait == "commuting" and n >= m0:
        x = _white(m0, n, g, torch.float64)
    if trait == "scaled samples":
        x = x * 10 ** _uniform(-2, 2, g, n)
    if trait == "duplicates" and n > 1:
        x[:, -(n // 2) :] = x[:, : n // 2]
    if _choice(2, g):
        rank = 1 + _choice(min(m0, m2), g)
        left, right = random_orthogonal(m2, g), random_orthogonal(m0, g)
        values = 0.3 * 10 ** _uniform(0, 1, g, rank)
        y = (left[:, :rank] * values) @ right[:, :rank].mT @ x
    else:
        units = 1 + _choice(min(m0, m2) + 1, g)
        y = gaussian(m2, units) @ act(gaussian(units, m0) @ x)
    size_y = y.square().mean().sqrt()
    y = y / size_y if float(size_y) > 0 else torch.zeros_like(y)
    if _choice(3, g):
        y = y + 10 ** _uniform(-1, 0, g) * gaussian(m2, n)
    y = y * 0.3 * 7 ** _uniform(0, 1, g)
    if trait == "integers":
        x, y = (2 * x).round(), (2 * y).round()
    if criterion.name == "logistic":
        y = torch.where(y >= 0, 1.0, -1.0).double()
    return TwoLayerProblem(Problem(x, y), act, criterion, width, trait)


@dataclass(frozen=True)
class LinearProblem:
    """What a two-layer linear net is asked: data, hidden units m1, and how large a step.

    inputs : "generic", "commuting" or "white". share : the step over its limit, 2/sharpness of the
    saddles passed (`saddles.theory.staircase.sharpness`). trait : one of `LINEAR_TRAITS`.
    """

    problem: Problem
    inputs: str
    width: int
    share: float
    trait: str


#: Properties that a random linear problem may have; a quarter have one beside "none".
LINEAR_TRAITS = (
    "none",
    "zero targets",
    "one sample",
    "zero feature",  # one row of X is zero
    "duplicates",  # the first half of the samples again, with other noise
    "tied",  # white inputs, no noise, and the two leading singular values are one number
)


def random_linear(generator: torch.Generator) -> LinearProblem:
    """A linear problem from a wide prior: sizes, spectra, kinds of inputs, noise, step.

    Sizes      : m0, m2 in 1 .. 20, width in 2 .. 60, n in m0/2 .. 400, all even in the logarithm.
    Inputs     : generic (half of the problems), commuting with the task or white (a quarter each).
                 Eigenvalues of Sigma_xx 0.1 .. 1 (log-uniform); the sample has them exactly where
                 n >= m0. Where n < m0 inputs are generic: Gaussian samples of that covariance.
    Targets    : a linear map of random rank, singular values 0.3 .. 3 (log-uniform), in half of the
                 problems with Gaussian noise of 0.1 to 1 of their root mean square. Where inputs
                 commute only the part of the noise that they do not see is kept.
    Step       : share of the limit 0.05 .. 0.95 (log-uniform).
    Degenerate : a quarter of the problems have one of the other `LINEAR_TRAITS`, evenly; their
                 inputs are generic, those of "tied" white.

    >>> from learning_dynamics import generator
    >>> drawn = random_linear(generator("example", 0))
    >>> drawn.problem.inputs.shape[1] == drawn.problem.targets.shape[1]
    True
    """
    g, gaussian = generator, partial(normal, generator=generator, dtype=torch.float64)

    def size(low: float, high: float) -> int:
        return max(1, round(low * (high / low) ** float(_uniform(0, 1, g))))

    m0, m2, width = size(1, 20), size(1, 20), size(2, 60)
    n, share = size(m0 / 2, 400), 0.05 * 19 ** float(_uniform(0, 1, g))
    kind = ("generic", "generic", "commuting", "white")[_choice(4, g)]
    degenerate, trait = _choice(4, g) == 0, LINEAR_TRAITS[1 + _choice(len(LINEAR_TRAITS) - 1, g)]
    trait = trait if degenerate else "none"
    rank = 1 + _choice(min(m0, m2), g)
    n = 1 if trait == "one sample" else max(n, m0) if trait == "tied" else n
    if trait == "tied":
        kind = "white"
    elif n < m0 or trait != "none":
        kind = "generic"
    spectrum = 10 ** _uniform(-1, 0, g, m0) if kind != "white" else torch.ones(m0).double()
    right, left = random_orthogonal(m0, g), random_orthogonal(m2, g)
    basis = right if kind == "commuting" else random_orthogonal(m0, g)
    latent = _white(m0, n, g, torch.float64) if n >= m0 else gaussian(m0, n)
    x = basis @ (spectrum.sqrt()[:, None] * (basis.mT @ latent))
    if trait == "zero feature":
        x[0] = 0
    if trait == "duplicates" and n > 1:
        x[:, -(n // 2) :] = x[:, : n // 2]
    values = 0.3 * 10 ** _uniform(0, 1, g, rank)
    if trait == "tied":
        values[:2] = values.max()
    teacher = (left[:, :rank] * values) @ right[:, :rank].mT
    y = teacher @ x
    noise = _choice(2, g) * 10 ** _uniform(-1, 0, g) * y.square().mean().sqrt() * gaussian(m2, n)
    if kind == "commuting":
        noise = noise - noise @ torch.linalg.pinv(x) @ x
    if trait == "zero targets":
        y, teacher = torch.zeros_like(y), torch.zeros_like(teacher)
    elif trait != "tied":
        y = y + noise
    return LinearProblem(Problem(x, y, teacher), kind, width, share, trait)
