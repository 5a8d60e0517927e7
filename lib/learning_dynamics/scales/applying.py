"""Applying a scheme to a network of one's own: multipliers, initial weights, learning rates.

`parametrize(module, scheme)` accepts a plain multilayer perceptron built from torch.nn modules,
re-initialises it in place, attaches the multipliers and returns the parameter groups for
`torch.optim.SGD`. What it does not understand it refuses, with a sentence that says what to do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learning_dynamics.activations import Activation
from learning_dynamics.runtime import check_choice, check_positive
from learning_dynamics.scales.module_chain import Multiplier, chain
from learning_dynamics.scales.network import initial_weights
from learning_dynamics.scales.parametrizations import Parametrization, Scheme
from learning_dynamics.scales.parametrizations import scheme as find_scheme

__all__ = ["Applied", "gain", "parametrize"]


@dataclass(frozen=True)
class Applied:
    """A module with a scheme applied to it.

    parametrization : its scales, in the gauge that was applied.
    linears         : the layers 1..L. activations : psi_1..psi_{L-1}, as `first_step` takes them.
    """

    module: nn.Module
    parametrization: Parametrization
    linears: tuple[nn.Linear, ...]
    activations: tuple[Activation, ...]

    @property
    def weights(self) -> list[Tensor]:
        """W_1, ..., W_L, detached."""
        return [layer.weight.detach() for layer in self.linears]

    def parameter_groups(self, step_size: float) -> list[dict[str, Any]]:
        """Groups for `torch.optim.SGD`: layer l at step_size * eta_l.

        A bias gets step_size * eta_l g_l^2 fan_in, at which it lowers the loss as much as the
        layer's weights do when its inputs have RMS 1.
        """
        check_positive("step_size", step_size)
        p, groups = self.parametrization, []
        for k, layer in enumerate(self.linears):
            rate = step_size * p.learning_rates[k]
            groups.append({"params": [layer.weight], "lr": rate})
            if layer.bias is not None:
                bias_rate = step_size * p.effective_learning_rates[k] * p.widths[k]
                groups.append({"params": [layer.bias], "lr": bias_rate})
        return groups


def gain(function: Callable[[Tensor], Tensor]) -> float:
    """gamma = E[psi(z)^2]^-1/2 for z ~ N(0, 1): weights of std gamma/sqrt(fan_in) keep the RMS.

    By Gauss-Hermite quadrature with 200 nodes; sqrt(2) for ReLU (exact by symmetry).
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(200)
    values = function(torch.from_numpy(nodes)).square()
    mean = float((values * torch.from_numpy(masses)).sum() / masses.sum())
    if not mean > 0:
        raise ValueError("activation: is zero on N(0, 1) inputs, so no gain preserves the RMS")
    return mean**-0.5


def parametrize(
    module: nn.Module,
    scheme: str | Scheme,
    *,
    generator: torch.Generator,
    hidden_gain: float | None = None,
    biases: str = "refuse",
    gauge: str = "multipliers",
) -> Applied:
    """Apply a scheme to a torch.nn MLP: new weights, multipliers, learning rates per layer.

    module      : a chain of nn.Linear and elementwise activation modules (nn.Flatten may come
                  first), nested as you like; changed in place. Applying again replaces the first.
    generator   : draws the weights, layer 1 first; on the module's device.
    hidden_gain : gamma of the hidden layers; None: `gain` of the first activation.
    biases      : "refuse", or "zero": start at zero and learn at the rate `Applied` states.
    gauge       : "multipliers" attaches g_l by a forward pre-hook (one global learning rate for
                  the schemes that have it); "learning-rates" leaves the modules as they are and puts
                  g_l into deviations and rates, the same run of plain SGD. With weight decay or
                  adaptive optimizers the two gauges differ.
    Raises ValueError for convolutions, normalisation, dropout, residual or functional code,
    tied, lazy or derived weights (weight_norm), layers with a forward() of their own, and biases
    unless asked for. What is understood is recomputed from layers and activations on random
    inputs, and must give what the module gives. Multipliers are hooks: they are not in
    `state_dict()`, so apply the scheme before you load one.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"module = {module!r}: must be a torch.nn.Module, such as "
            "nn.Sequential(nn.Linear(8, 64, bias=False), nn.ReLU(), nn.Linear(64, 1, bias=False))"
        )
    check_choice("biases", biases, ("refuse", "zero"))
    check_choice("gauge", gauge, ("multipliers", "learning-rates"))
    linears, activations = chain(module)
    for name, layer in _named(module, linears):
        if layer.bias is not None and biases == "refuse":
            raise ValueError(
                f"{name} has a bias, which the theory leaves out: build it with bias=False, or pass "
                "biases='zero' to start biases at zero and train them"
            )
    widths = (linears[0].in_features, *(layer.out_features for layer in linears))
    if hidden_gain is None:
        hidden_gain = gain(activations[0].function)
    p = find_scheme(scheme)(widths, hidden_gain)
    if gauge == "learning-rates":
        p = p.with_unit_multipliers()
    fresh = initial_weights(p, generator, dtype=linears[0].weight.dtype)
    for layer, g, weight in zip(linears, p.multipliers, fresh, strict=True):
        for key, hook in list(layer._forward_pre_hooks.items()):  # no public way to list hooks
            if isinstance(hook, Multiplier):
                del layer._forward_pre_hooks[key]
        if gauge == "multipliers":
            layer.register_forward_pre_hook(Multiplier(g))
        with torch.no_grad():
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.zero_()
    return Applied(module, p, tuple(linears), tuple(activations))


def _named(module: nn.Module, linears: list[nn.Linear]) -> list[tuple[str, nn.Linear]]:
    names = {id(m): name for name, m in module.named_modules()}
    return [(f"layer {names[id(layer)] or type(layer).__name__!r}", layer) for layer in linears]
