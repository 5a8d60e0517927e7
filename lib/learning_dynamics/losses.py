"""Losses L = (1/n) sum_j l(y_j, f(x_j)) and their gradients G = dL/df.

All tensors end in (m2, n): columns are samples. Leading dimensions are runs.
The theses use sums where we use means: their L is n times ours, so their step size
corresponds to ours divided by n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import check_choice, check_positive, check_tensors

__all__ = [
    "LOSSES",
    "Loss",
    "check_fits",
    "check_labels",
    "classified",
    "cross_entropy",
    "huber",
    "logistic",
    "loss",
    "squared",
]


@dataclass(frozen=True)
class Loss:
    """A loss per sample summed over outputs and averaged over samples.

    value    : (outputs, targets), both (..., m2, n) -> (...), L in units of l.
    gradient : (outputs, targets) -> (..., m2, n), G = dL/df, the factor 1/n included.
    residual : (outputs, targets) -> (..., m2, n), l'(f), that is n G, without the factor.
    lipschitz: a Lipschitz constant of l' in f (None if there is none).
    residual_: (outputs, targets) -> None, the residual written over the outputs, for kernels
               that reuse their buffers (None: `residual` is copied over them).
    select   : index or slice of runs -> the loss of these runs, where the loss itself holds
               numbers per run (None: it holds none).
    labels   : what targets may be, in words, and a test of it (None: any numbers).
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    residual: Callable[[Tensor, Tensor], Tensor]
    lipschitz: float | None = None
    residual_: Callable[[Tensor, Tensor], object] | None = None
    select: "Callable[[Tensor | slice], Loss] | None" = None
    labels: tuple[str, Callable[[Tensor], Tensor]] | None = None

    def gradient(
        self, outputs: Float[Tensor, "... m2 n"], targets: Float[Tensor, "... m2 n"]
    ) -> Float[Tensor, "... m2 n"]:
        """G = dL/df, (..., m2, n)."""
        return self.residual(outputs, targets) / outputs.shape[-1]

    def of_runs(self, index: Tensor | slice) -> "Loss":
        """The loss of some runs."""
        return self if self.select is None else self.select(index)


# Residuals l'(f) by name: a kernel recognises a loss that it computes itself by this function.


def difference(f: Tensor, y: Tensor) -> Tensor:
    """Of the squared loss."""
    return f - y


def weighted_difference(weights: Tensor, f: Tensor, y: Tensor) -> Tensor:
    """Of the squared loss with a weight for each entry."""
    return weights * (f - y)


def clipped_difference(threshold: float, f: Tensor, y: Tensor) -> Tensor:
    """Of the Huber loss."""
    return (f - y).clamp(-threshold, threshold)


def logistic_residual(f: Tensor, y: Tensor) -> Tensor:
    """Of the logistic loss."""
    return -y * torch.sigmoid(-y * f)


def cross_entropy_residual(f: Tensor, y: Tensor) -> Tensor:
    """Of the cross-entropy with class probabilities y."""
    return y.sum(-2, keepdim=True) * torch.softmax(f, -2) - y


def squared(weights: Float[Tensor, "*runs m2 n"] | None = None) -> Loss:
    """l = 1/2 |y - f|^2; with `weights` omega (*runs, m2, n) >= 0, per run or shared:
    l_j = 1/2 sum_i omega_ij (y - f)_ij^2.

    Matrix completion: X = I (n = m0), omega_ij = 1 where entry (i, j) is observed, else 0.
    """
    if weights is None:
        return Loss(
            "squared",
            lambda f, y: 0.5 * (f - y).square().sum(-2).mean(-1),
            difference,
            lipschitz=1.0,
            residual_=lambda f, y: f.sub_(y),
        )
    check_tensors(weights=(weights, "*runs m2 n"))
    check_positive("weights", weights, zero=True)
    return _weighted(weights, float(weights.max()))


def _weighted(weights: Tensor, lipschitz: float) -> Loss:
    return Loss(
        "weighted squared",
        lambda f, y: 0.5 * (weights * (f - y).square()).sum(-2).mean(-1),
        partial(weighted_difference, weights),
        lipschitz=lipschitz,
        residual_=lambda f, y: f.sub_(y).mul_(weights),
        select=None if weights.ndim == 2 else lambda i: _weighted(weights[i], lipschitz),
    )


def huber(threshold: float = 1.0) -> Loss:
    """Huber loss: 1/2 u^2 for |u| <= threshold, else threshold (|u| - threshold/2), u = f - y."""
    check_positive("threshold", threshold)

    def value(f: Tensor, y: Tensor) -> Tensor:
        u = (f - y).abs()
        small = 0.5 * u.square()
        large = threshold * (u - 0.5 * threshold)
        return torch.where(u <= threshold, small, large).sum(-2).mean(-1)

    return Loss(
        f"huber({threshold:g})",
        value,
        partial(clipped_difference, threshold),
        lipschitz=1.0,
        residual_=lambda f, y: f.sub_(y).clamp_(-threshold, threshold),
    )


def logistic() -> Loss:
    """Logistic loss log(1 + exp(-y f)) for labels y in {-1, +1}, summed over outputs."""
    return Loss(
        "logistic",
        lambda f, y: torch.nn.functional.softplus(-y * f, threshold=40).sum(-2).mean(-1),
        logistic_residual,
        lipschitz=0.25,
        labels=("labels -1 and 1", lambda y: y.abs() == 1),
    )


def cross_entropy() -> Loss:
    """Softmax cross-entropy; targets are class probabilities (columns sum to one)."""
    return Loss(
        "cross_entropy",
        lambda f, y: (y.sum(-2) * torch.logsumexp(f, -2) - (y * f).sum(-2)).mean(-1),
        cross_entropy_residual,
        lipschitz=0.5,
        labels=("probabilities of two or more classes, columns that sum to one", _probabilities),
    )


def _probabilities(y: Tensor) -> Tensor:
    """To a few roundings of the sum; one class has nothing to learn."""
    good = (y.sum(-2, keepdim=True) - 1).abs() <= 8 * y.shape[-2] * torch.finfo(y.dtype).eps
    return (y >= 0) & good & (y.shape[-2] > 1)


def classified(
    outputs: Float[Tensor, "... m2 n"], targets: Float[Tensor, "... m2 n"]
) -> Tensor | None:
    """Which samples are classified rightly, (..., n) bool; None where targets name no classes.

    A class is named by the largest of several targets, or by the sign of one that is -1 or 1. A
    sample is right if the output of its class is above all others, or of that sign: a net whose
    outputs are all equal says nothing, and is right nowhere.
    """
    if targets.shape[-2] == 1:
        named = bool((targets.abs() == 1).all())
        return (outputs.sign() == targets.sign()).squeeze(-2) if named else None
    largest = targets.amax(-2, keepdim=True) == targets
    if bool((largest.sum(-2) > 1).any()):
        return None
    others = outputs.masked_fill(largest, -torch.inf).amax(-2)
    return outputs.masked_fill(~largest, -torch.inf).amax(-2) > others


def check_labels(criterion: Loss, targets: Tensor) -> None:
    """Raise ValueError unless targets are what the loss is made for."""
    if criterion.labels is None:
        return
    words, test = criterion.labels
    wrong = ~test(targets)
    if bool(wrong.any()):
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"targets[{place}] = {float(targets[place]):g}: loss {criterion.name} allows {words}"
        )


def check_fits(criterion: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless targets are what the loss is made for, and it gives a number of the
    outputs' dtype for each of them.
    """
    check_labels(criterion, targets)
    given: object
    try:
        residual = criterion.residual(torch.zeros_like(outputs), targets)
        given = tuple(residual.shape), residual.dtype
    except RuntimeError as error:
        given = error
    wanted = tuple(outputs.shape), outputs.dtype
    if given != wanted:
        raise ValueError(
            f"loss {criterion.name}: its residual is {given}: allowed is {wanted}, as "
            "the outputs; its weights must have their dtype and shape"
        )


LOSSES: dict[str, Callable[[], Loss]] = {
    "squared": squared,
    "huber": huber,
    "logistic": logistic,
    "cross_entropy": cross_entropy,
}


def loss(name: str | Loss) -> Loss:
    """The loss called `name` with its default parameters; a `Loss` is passed through.

    Raises ValueError that lists the known names for an unknown one.
    """
    if isinstance(name, Loss):
        return name
    check_choice("loss", name, LOSSES)
    return LOSSES[name]()
