"""Applying a scheme to a network of one's own: multipliers, initial weights, learning rates.

`parametrize(module, scheme)` accepts a plain multilayer perceptron built from torch.nn modules,
re-initialises it in place, attaches the multipliers and returns the parameter groups for
`torch.optim.SGD`. What it does not understand it refuses, with a sentence that says what to do.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learning_dynamics.activations import Activation
from learning_dynamics.runtime import check_choice, check_positive
from learning_dynamics.scales.network import initial_weights
from learning_dynamics.scales.parametrizations import Parametrization, Scheme
from learning_dynamics.scales.parametrizations import scheme as find_scheme

__all__ = ["Applied", "Multiplier", "chain", "gain", "parametrize"]

_ELEMENTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.Tanh,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.Softplus,
    nn.Sigmoid,
    nn.Identity,
)


class Multiplier:
    """Forward pre-hook that feeds g h to a linear layer in place of h; a bias stays outside."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * self.value, *inputs[1:])


def _refuse_unknown(module: nn.Module) -> None:
    """Refuse leaf modules that are no linear layer, activation or flattening."""
    for name, leaf in module.named_modules():
        if list(leaf.children()):
            if list(leaf.parameters(recurse=False)):
                raise ValueError(
                    f"module {name or type(leaf).__name__!r} owns parameters besides its layers: "
                    "put every weight into an nn.Linear"
                )
            continue
        kind = type(leaf).__name__
        if isinstance(leaf, (nn.Linear, nn.Flatten, *_ELEMENTWISE)):
            continue  # linear layers: see `_refuse_strange_layers`
        if isinstance(leaf, nn.modules.conv._ConvNd):
            raise ValueError(
                f"{name} is a convolution ({kind}); only nn.Linear layers are understood: write it "
                "as a linear layer, or set its scales by hand from scheme(name)(widths)"
            )
        raise ValueError(
            f"{name or 'the module'} is a {kind}; only nn.Linear, nn.Flatten and elementwise "
            "activation modules are understood: remove it, or set scales by hand from "
            "scheme(name)(widths)"
        )


def _refuse_strange_layers(module: nn.Module) -> None:
    """Refuse linear layers that are lazy, have derived weights or a forward() of their own."""
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        where = f"layer {name or type(layer).__name__!r}"
        if nn.parameter.is_lazy(layer.weight):
            raise ValueError(
                f"{where} is lazy and has no widths yet: pass one batch through the network first, "
                "or name in_features"
            )
        if "weight" not in layer._parameters:  # weight_norm, spectral_norm, parametrizations
            raise ValueError(
                f"{where} computes its weight from other parameters (weight_norm or the like), so "
                "new weights would be lost at the next forward: remove that first"
            )
        if type(layer).forward is not nn.Linear.forward:
            raise ValueError(
                f"{where} is a {type(layer).__name__} with a forward() of its own: use nn.Linear"
            )


def chain(module: nn.Module) -> tuple[list[nn.Linear], list[Activation]]:
    """The linear layers and activations in the order in which an input meets them.

    The module is left as it is. Raises ValueError for what `applying.parametrize` refuses.
    """
    _refuse_strange_layers(module)
    _refuse_unknown(module)
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if len(linear) < 2:
        raise ValueError("module: at least two nn.Linear layers are needed (one hidden layer)")
    if len({m.weight.data_ptr() for m in linear}) < len(linear):
        raise ValueError(
            "two layers share one weight; schemes set each layer's scales by its own widths: give "
            "every layer its own weight"
        )
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        m.register_forward_hook(
            lambda m, inputs, output: calls.append((m, inputs[0], output)), prepend=True
        )
        for m in module.modules()
        if not list(m.children())
    ]
    training = module.training
    try:
        with torch.no_grad():
            stream = torch.Generator().manual_seed(0)
            example = torch.randn(16, linear[0].in_features, generator=stream, device="cpu")
            example = example.to(linear[0].weight)
            copied = example.clone()  # forward() may change its input in place
            result = module.eval()(example)
    except RuntimeError as error:
        raise ValueError(
            f"module: the layers do not fit into one chain for an input of {linear[0].in_features} "
            f"numbers ({error}): register them in the order in which forward() uses them"
        ) from None
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    used, activations = _read(calls, example, result, linear)
    _refuse_other_function(copied, result, used, activations)
    return used, activations


def _refuse_other_function(
    inputs: Tensor, result: Tensor, linears: list[nn.Linear], activations: list[Activation]
) -> None:
    """Refuse a module whose output is not that of its layers and activations alone.

    Code that works in place (h.relu_(), k += h) leaves no other trace.
    """
    h = inputs
    with torch.no_grad():
        for k, layer in enumerate(linears):
            for hook in layer._forward_pre_hooks.values():
                if isinstance(hook, Multiplier):
                    h = h * hook.value
            h = nn.functional.linear(h, layer.weight, layer.bias)
            if k < len(activations):
                h = activations[k].function(h)
    same = result.shape == h.shape
    rounding = 1000 * torch.finfo(h.dtype).eps * float(h.abs().max())
    if not same or float((result - h).abs().max()) > rounding:
        raise ValueError(
            "forward() gives something other than its linear layers and activation modules in "
            "turn: write in-place code such as h.relu_() as modules (nn.ReLU()), and leave out "
            "factors and residual connections"
        )


def _read(
    calls: list[tuple[nn.Module, Tensor, Tensor]],
    example: Tensor,
    result: Tensor,
    linear: list[nn.Linear],
) -> tuple[list[nn.Linear], list[Activation]]:
    used = [m for m, _, _ in calls if isinstance(m, nn.Linear)]
    if len(used) != len(set(map(id, used))) or len(used) < len(linear):
        raise ValueError(
            "forward() uses a layer twice or not at all: give every step its own layer (tied "
            "weights are not understood)"
        )
    previous = example
    scaled = {
        id(m): any(isinstance(h, Multiplier) for h in m._forward_pre_hooks.values()) for m in used
    }
    for m, given, output in calls:
        if given is not previous and not scaled.get(id(m), False):
            raise ValueError(
                f"forward() computes something of its own before {type(m).__name__}: write "
                "activations as modules (nn.ReLU()) and leave out residual connections"
            )
        previous = output
    if result is not previous:
        raise ValueError("forward() computes something of its own after the last module: drop it")
    groups: list[list[nn.Module]] = [[]]
    for m, _, _ in calls:
        if isinstance(m, nn.Linear):
            groups.append([])
        else:
            groups[-1].append(m)
    if any(not isinstance(m, nn.Flatten | nn.Identity) for m in groups[0]):
        raise ValueError("an activation acts on the raw input: apply it to the data beforehand")
    if any(not isinstance(m, nn.Identity) for m in groups[-1]):
        raise ValueError(
            "an activation acts on the output: move it into the loss (nn.BCEWithLogitsLoss, "
            "nn.CrossEntropyLoss); the theory's output layer is linear"
        )
    return used, [_activation(ms) for ms in groups[1:-1]]


def _activation(modules: list[nn.Module]) -> Activation:
    """The composition of elementwise modules, with its derivative by autograd."""
    copies = [copy.deepcopy(m) for m in modules]
    for m in copies:
        m._forward_hooks.clear()
        vars(m).update({"inplace": False} if "inplace" in vars(m) else {})
    function = nn.Sequential(*copies)

    def derivative(z: Tensor) -> Tensor:
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            return torch.autograd.grad(function(point).sum(), point)[0]

    homogeneous = all(isinstance(m, nn.ReLU | nn.LeakyReLU | nn.Identity) for m in modules)
    return Activation(
        "+".join(type(m).__name__ for m in modules) or "linear",
        function if modules else (lambda z: z),
        derivative if modules else torch.ones_like,
        homogeneous,
    )


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
                  the schemes that have it); "learning-rates" leaves the modules as they are and
                  puts
                  g_l into deviations and rates, the same run of plain SGD. With weight decay or
                  adaptive optimizers the two gauges differ.
    Raises ValueError for convolutions, normalisation, dropout, residual or functional code,
    tied, lazy or derived weights (weight_norm), layers with a forward() of their own, and biases
    unless asked for. What is understood is recomputed from layers and activations on random
    inputs, and must give what the module gives. Multipliers are hooks: they are not in
    `state_dict()`, so apply the scheme before you load one.

    >>> from torch import nn
    >>> from learning_dynamics import generator
    >>> net = nn.Sequential(nn.Linear(3, 64, bias=False), nn.ReLU(), nn.Linear(64, 2, bias=False))
    >>> applied = parametrize(net, "dp(1/2)", generator=generator(0))
    >>> applied.parametrization.widths
    (3, 64, 2)
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
                f"{name} has a bias, which the theory leaves out: build it with bias=False, or "
                "pass biases='zero' to start biases at zero and train them"
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
