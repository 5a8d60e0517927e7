"""Reading a torch.nn module as a chain of linear layers and activations, or refusing it.

A module that computes anything else is refused with a sentence that says what to do.
"""

import copy

import torch
from torch import Tensor, nn

from learning_dynamics.activations import Activation

__all__ = ["Multiplier", "chain"]

_ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.Sigmoid,
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
        for m in module.modules() if not list(m.children())
    ]
    training = module.training
    try:
        with torch.no_grad():
            stream = torch.Generator().manual_seed(0)
            example = torch.randn(16, linear[0].in_features, generator=stream)
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
    calls: list[tuple[nn.Module, Tensor, Tensor]], example: Tensor, result: Tensor,
    linear: list[nn.Linear],
) -> tuple[list[nn.Linear], list[Activation]]:
    used = [m for m, _, _ in calls if isinstance(m, nn.Linear)]
    if len(used) != len(set(map(id, used))) or len(used) < len(linear):
        raise ValueError(
            "forward() uses a layer twice or not at all: give every step its own layer (tied "
            "weights are not understood)"
        )
    previous = example
    scaled = {id(m): any(isinstance(h, Multiplier) for h in m._forward_pre_hooks.values())
              for m in used}
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
        if hasattr(m, "inplace"):
            m.inplace = False
    function = nn.Sequential(*copies)

    def derivative(z: Tensor) -> Tensor:
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            return torch.autograd.grad(function(point).sum(), point)[0]

    homogeneous = all(isinstance(m, nn.ReLU | nn.LeakyReLU | nn.Identity) for m in modules)
    return Activation("+".join(type(m).__name__ for m in modules) or "linear",
                      function if modules else (lambda z: z),
                      derivative if modules else torch.ones_like, homogeneous)
