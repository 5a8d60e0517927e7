"""Activation functions sigma with the two slopes that the theory needs.

The derivative sigma'(z) enters the gradient of the first layer; the secant
sigma(z)/z enters the gradient of the second (Lemma 1 in its corrected form).
Both coincide exactly for positively 1-homogeneous activations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import check_choice

__all__ = ["ACTIVATIONS", "Activation", "activation", "leaky_relu"]


@dataclass(frozen=True)
class Activation:
    """An elementwise activation sigma and its derivative.

    function, derivative : tensor -> tensor of the same shape, dtype and device.
    homogeneous : sigma(c z) = c sigma(z) for every c > 0 (then sigma(z) = z sigma'(z)).
    At a kink the derivative is the one PyTorch's autograd uses (sigma'(0) = 0 for ReLU).

    For kernels that reuse their buffers:
    apply_  : z -> sigma(z), written over z (None: the kernel keeps z beside sigma(z)).
    pull_   : (grad, saved) -> None, grad *= sigma'(z) in place, where `saved` is sigma(z) if
              `apply_` is given, else z. None: grad *= derivative(z).
    Both are tried at four numbers: a ValueError if they do something else.

    negative_slope : a where sigma(z) = z for z > 0 and a z elsewhere (linear: 1, ReLU: 0); None
              for all others. Kernels are chosen by it. Only this file sets it, and a copy with
              another function loses it: no name makes one activation pass for another.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    homogeneous: bool = False
    apply_: Callable[[Tensor], object] | None = None
    pull_: Callable[[Tensor, Tensor], object] | None = None
    negative_slope: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.apply_ is None and self.pull_ is None:
            return
        z = torch.tensor([-2.0, -0.5, 0.5, 2.0], dtype=torch.float64, device="cpu")
        saved, grad = z.clone(), torch.ones_like(z)
        if self.apply_ is not None:
            self.apply_(saved)
        if self.pull_ is not None:
            self.pull_(grad, saved.clone())
        for name, own, plain in (
            ("apply_", self.apply_ and saved, self.function),
            ("pull_", self.pull_ and grad, self.derivative),
        ):
            if own is not None and not torch.allclose(own, plain(z)):
                raise ValueError(
                    f"{name} of {self.name}: gives {own.tolist()} at {z.tolist()}, "
                    f"allowed is {plain(z).tolist()}"
                )

    def __call__(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """sigma(z), elementwise."""
        return self.function(z)

    def secant(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """sigma(z)/z, elementwise; at z = 0 its limit sigma'(0).

        Infinite at z = 0 when sigma(0) != 0 (sigmoid): there the limit does not exist.
        """
        if self.homogeneous:
            return self.derivative(z)
        zero = z == 0
        safe = torch.where(zero, torch.ones_like(z), z)
        at_zero = torch.zeros_like(z)
        limit = torch.where(
            self.function(at_zero) == 0, self.derivative(at_zero), torch.full_like(z, torch.inf)
        )
        return torch.where(zero, limit, self.function(safe) / safe)


_aten = torch.ops.aten


def _pull_relu(grad: Tensor, h: Tensor) -> None:
    _aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)


def _pull_tanh(grad: Tensor, h: Tensor) -> None:
    _aten.tanh_backward.grad_input(grad, h, grad_input=grad)


def _pull_sigmoid(grad: Tensor, h: Tensor) -> None:
    _aten.sigmoid_backward.grad_input(grad, h, grad_input=grad)


def _bent(negative_slope: float, act: Activation) -> Activation:
    object.__setattr__(act, "negative_slope", float(negative_slope))
    return act


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """Leaky ReLU: z for z > 0, `negative_slope` * z otherwise."""
    if not isinstance(negative_slope, Real) or not math.isfinite(negative_slope):
        raise ValueError(f"negative_slope = {negative_slope!r}: must be a finite number")
    negative_slope = float(negative_slope)
    return _bent(
        negative_slope,
        Activation(
            f"leaky_relu({negative_slope:g})",
            lambda z: torch.where(z > 0, z, negative_slope * z),
            lambda z: torch.where(z > 0, torch.ones_like(z), torch.full_like(z, negative_slope)),
            homogeneous=True,
            pull_=lambda grad, z: _aten.leaky_relu_backward.grad_input(
                grad, z, negative_slope, False, grad_input=grad
            ),
        ),
    )


def _gelu_derivative(z: Tensor) -> Tensor:
    cdf = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    return cdf + z * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _softplus(z: Tensor) -> Tensor:
    """log((1 + exp(z))/2) = z/2 + log cosh(z/2), accurate relative to its value also for tiny z."""
    half = z.abs() / 2
    near = torch.log1p(2 * torch.sinh(z.clamp(-2, 2) / 4).square())
    far = half - math.log(2) + torch.log1p(torch.exp(-2 * half))
    return z / 2 + torch.where(half < 1, near, far)


def _tanh_derivative(z: Tensor) -> Tensor:
    return 1 - torch.tanh(z) ** 2


def _sigmoid_derivative(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 - s)


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        _bent(
            1,
            Activation(
                "linear",
                lambda z: z,
                torch.ones_like,
                homogeneous=True,
                apply_=lambda z: None,
                pull_=lambda grad, h: None,
            ),
        ),
        _bent(
            0,
            Activation(
                "relu",
                torch.relu,
                lambda z: (z > 0).to(z.dtype),
                homogeneous=True,
                apply_=torch.relu_,
                pull_=_pull_relu,
            ),
        ),
        Activation("tanh", torch.tanh, _tanh_derivative, apply_=torch.tanh_, pull_=_pull_tanh),
        Activation(
            "gelu",
            torch.nn.functional.gelu,
            _gelu_derivative,
            pull_=lambda grad, z: _aten.gelu_backward.grad_input(grad, z, grad_input=grad),
        ),
        Activation(
            "softplus",  # shifted by log 2 so that sigma(0) = 0 and the origin is a saddle
            _softplus,
            torch.sigmoid,
        ),
        Activation(
            "sigmoid",
            torch.sigmoid,
            _sigmoid_derivative,
            apply_=torch.sigmoid_,
            pull_=_pull_sigmoid,
        ),
        Activation("square", lambda z: z * z, lambda z: 2 * z),
    )
} | {"leaky_relu": leaky_relu()}


def activation(name: str | Activation) -> Activation:
    """The activation called `name`; an `Activation` is passed through.

    Raises ValueError that lists the known names for an unknown one.
    """
    if isinstance(name, Activation):
        return name
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
