"""The network of Part II: h~_l = g_l W_l h_{l-1}, h_l = psi(h~_l), without biases.

`MLP` follows torch.nn: inputs are (batch, n_0), rows are samples. Its matrices W_l are ordinary
parameters; the multipliers g_l are constants of the layers.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.runtime import as_positive, check_instance, check_positive, normal
from learning_dynamics.scales.parametrizations import Parametrization

__all__ = ["MLP", "ScaledLinear", "initial_weights", "standard_normal_weights"]


def standard_normal_weights(
    widths: tuple[int, ...], generator: torch.Generator, *, dtype: torch.dtype = torch.float64
) -> list[Float[Tensor, "fan_out fan_in"]]:
    """Z_1, ..., Z_L with independent N(0, 1) entries, Z_l (n_l, n_{l-1}), drawn layer by layer.

    Schemes that share the generator's seed share the draw: they differ in scales alone.
    """
    return [
        normal(n, m, generator=generator, dtype=dtype)
        for m, n in zip(widths[:-1], widths[1:], strict=True)
    ]


def initial_weights(
    parametrization: Parametrization,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float64,
) -> list[Float[Tensor, "fan_out fan_in"]]:
    """W_1, ..., W_L with W_l ~ N(0, (gamma_l sigma_l)^2), W_l (n_l, n_{l-1}).

    The generator's device is the weights' device.
    """
    check_instance("parametrization", parametrization, Parametrization)
    check_instance("generator", generator, torch.Generator)
    for std in parametrization.weight_stds:
        as_positive("weight_stds", std, 1, dtype)
    draws = standard_normal_weights(parametrization.widths, generator, dtype=dtype)
    return [z.mul_(std) for z, std in zip(draws, parametrization.weight_stds, strict=True)]


class ScaledLinear(nn.Module):
    """h -> g W h, h (batch, fan_in); the multiplier acts on the narrower side, which is cheap."""

    weight: nn.Parameter

    def __init__(self, weight: Float[Tensor, "fan_out fan_in"], multiplier: float) -> None:
        super().__init__()
        check_positive("multiplier", multiplier)
        self.weight = nn.Parameter(weight)
        self.multiplier = multiplier
        self._before = weight.shape[1] <= weight.shape[0]

    def forward(self, h: Float[Tensor, "*batch fan_in"]) -> Float[Tensor, "*batch fan_out"]:
        """g W h."""
        if self._before:
            return nn.functional.linear(h * self.multiplier, self.weight)
        return nn.functional.linear(h, self.weight) * self.multiplier

    def extra_repr(self) -> str:
        """Sizes and multiplier, for print."""
        fan_out, fan_in = self.weight.shape
        return f"fan_in={fan_in}, fan_out={fan_out}, multiplier={self.multiplier:.4g}"


class MLP(nn.Module):
    """The network at one parametrization, freshly initialised.

    parametrization : widths and scales, see `parametrizations.scheme`.
    activation      : psi, a name or an `Activation`; linear in the output layer.
    generator       : draws the weights, W_1 first; its device is the network's.

    >>> import torch
    >>> from learning_dynamics import generator, scales
    >>> net = MLP(scales.scheme("dp(1/2)")((3, 64, 8, 2)), generator=generator(0))
    >>> net(torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        parametrization: Parametrization,
        activation: str | Activation = "relu",
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        weights = initial_weights(parametrization, generator, dtype=dtype)
        self.parametrization = parametrization
        self.activation = find_activation(activation)
        self.layers = nn.ModuleList(
            ScaledLinear(w, g) for w, g in zip(weights, parametrization.multipliers, strict=True)
        )

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """f(x), (batch, n_L)."""
        h = inputs
        for layer in self.layers[:-1]:
            h = self.activation.function(layer(h))
        return self.layers[-1](h)

    @property
    def weights(self) -> list[nn.Parameter]:
        """W_1, ..., W_L."""
        return list(self.parameters())

    def parameter_groups(self, step_size: float) -> list[dict[str, Any]]:
        """One group per layer with lr = step_size * eta_l, for `torch.optim.SGD`."""
        check_positive("step_size", step_size)
        return [
            {"params": [w], "lr": step_size * eta}
            for w, eta in zip(self.weights, self.parametrization.learning_rates, strict=True)
        ]
