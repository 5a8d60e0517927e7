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

__all__ = ["ACTIVATIONS", "Activation", "activation", "kinks", "leaky_relu", "slopes_at_zero"]


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


def activation(name: str | Activation | Callable[[Tensor], Tensor]) -> Activation:
    """The activation called `name`; an `Activation` is passed through.

    A function of tensors or a module (`torch.nn.Mish()`) becomes one that is differentiated by
    autograd, if it acts on each number alone; it is tried at numbers between -8e6 and 7e6.
    Raises ValueError that lists the known names for an unknown one, and for a function that has
    parameters of its own, is random, changes its argument, mixes numbers, or has no derivative.

    >>> import torch
    >>> activation(torch.nn.ELU()).homogeneous, activation(torch.nn.LeakyReLU(0.2)).negative_slope
    (False, 0.2)
    """
    if isinstance(name, Activation):
        return name
    if callable(name):
        return _of_function(name)
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


#: What is known of torch's own; `Activation`s that kernels recognise.
_KNOWN = {torch.relu: "relu", torch.nn.functional.relu: "relu", torch.nn.ReLU: "relu"}
_KNOWN |= {torch.tanh: "tanh", torch.nn.Tanh: "tanh", torch.nn.Identity: "linear"}
_KNOWN |= {torch.sigmoid: "sigmoid", torch.nn.Sigmoid: "sigmoid"}
_TRIED = [-8.0, -2.5, -0.7, -0.3, -1e-3, 0.0, 1e-3, 0.2, 0.4, 1.9, 3.3, 7.0]


def _of_function(function: Callable[[Tensor], Tensor]) -> Activation:
    name = " ".join(str(getattr(function, "__name__", function)).split())
    if known := _KNOWN.get(function) or _KNOWN.get(type(function)):
        return ACTIVATIONS[known]
    if type(function) is torch.nn.LeakyReLU:
        return leaky_relu(function.negative_slope)

    def derivative(z: Tensor) -> Tensor:
        with torch.enable_grad():
            at = z if z.requires_grad else z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(function(at).sum(), at, create_graph=z.requires_grad)
        return slope

    def refuse(why: str) -> None:
        raise ValueError(f"activation = {name}: {why}")

    if any(True for _ in getattr(function, "parameters", tuple)()):
        refuse("has parameters of its own, which nothing here would train")
    z = torch.tensor(_TRIED, dtype=torch.float64)
    kept, factors = z.clone(), torch.tensor([[1e-6], [0.01], [1.0], [3.0], [1e6]]).double()
    try:
        value, again, alone = function(z), function(z), function(z[3:4])
        many, single = function(factors * z), function(z.float())
        slope = derivative(z)
    except Exception as error:
        raise ValueError(f"activation = {name}: fails at a tensor of numbers: {error}") from None
    if not torch.equal(z, kept):
        refuse("changes its argument in place")
    if not isinstance(value, Tensor) or (value.shape, value.dtype) != (z.shape, z.dtype):
        refuse("gives no tensor of the shape and dtype of its argument")
    if single.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
        refuse("leaves the finite numbers of its argument's dtype")
    if not torch.equal(value, again):
        refuse("two calls differ: it is random")
    if not torch.equal(alone, value[3:4]) or not torch.allclose(many[2], value, 1e-12, 1e-15):
        refuse("a result depends on other numbers than its own: it is not elementwise")
    near = 1e-5 * z.abs().clamp(1e-3)
    quotient = (function(z + near) - function(z - near)) / (2 * near)
    smooth = z != 0
    if not torch.allclose(slope[smooth], quotient[smooth], 1e-4, 1e-7):
        refuse("what autograd gives is not its derivative")
    homogeneous = torch.allclose(many, factors * value, 1e-12, 0.0)
    return Activation(name, function, derivative, homogeneous)


def slopes_at_zero(act: Activation) -> tuple[float, float]:
    """sigma'(0-) and sigma'(0+): what sigma is to a unit of infinitesimal size."""
    sides = torch.tensor([-1e-30, 1e-30], dtype=torch.float64)
    left, right = (0.0 if abs(s) < 1e-12 else s for s in act.derivative(sides).tolist())
    return left, right


def kinks(act: Activation) -> list[float]:
    """Where the slope of sigma jumps between -20 and 20, by more than a hundredth of the largest.

    Found between points 1/1000 apart, and kept if the jump is still there at 1e-9.
    """
    z = torch.linspace(-20.0005, 20.0005, 40002, dtype=torch.float64)
    slope = act.derivative(z)
    least = 0.01 * slope.abs().max()
    jumps = (slope.diff().abs() > least).nonzero()[:, 0]
    low, high = z[jumps], z[jumps + 1]
    for _ in range(20):
        middle = (low + high) / 2
        left, inner, right = (act.derivative(p) for p in (low, middle, high))
        below = (inner - left).abs() > (right - inner).abs()
        low, high = torch.where(below, low, middle), torch.where(below, middle, high)
    still = (act.derivative(high) - act.derivative(low)).abs() > least
    return [round(p, 6) + 0.0 for p in ((low + high) / 2)[still].tolist()]
