"""SGD of deep nets, on any device, takes these products of torch.

Forward and backward pass of f(x) = g_L W_L h_{L-1}, h_l = psi(g_l W_l h_{l-1}), h_0 = x.

The leading dimension of every tensor is the run; batches are stored one sample a row. The gradient
of layer l is the outer product g_l delta_l h_{l-1}', which is added to W_l without being stored.
W_l is larger than the caches, so the pass back works on panels of its rows: each is multiplied by
delta and updated while it is near.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.runtime import check_shapes

__all__ = ["Passes", "deltas", "forward", "hidden"]

#: Bytes of the panels of W in the backward pass: about the private cache of a core.
PANEL = 1 << 20


#: Memory kept from step to step: asking the system for it anew takes as long as a thin product.
Kept = dict[tuple[object, ...], Tensor]


def _memory(kept: Kept, name: str, layer: int, like: Tensor, *shape: int) -> Tensor:
    """Uninitialised memory of this shape; the same for the same name, layer and shape."""
    key = (name, layer, *shape)
    if key not in kept:
        kept[key] = like.new_empty(shape)
    return kept[key]


def _product(out: Tensor, a: Tensor, b: Tensor, scale: float, beta: float = 0.0) -> None:
    """out <- beta * out + scale * a @ b per run; a plain GEMM for one run, which is faster."""
    if len(out) == 1:
        torch.addmm(out[0], a[0], b[0], beta=beta, alpha=scale, out=out[0])
    else:
        a, b = a.expand(len(out), -1, -1), b.expand(len(out), -1, -1)
        torch.baddbmm(out, a, b, beta=beta, alpha=scale, out=out)


def _panels(w: Tensor) -> list[slice]:
    """Rows of W that are read and updated together, while they are in the cache of a core."""
    runs, rows, columns = w.shape
    size = max(64, PANEL // (columns * w.element_size()))
    if runs > 1 or w.device.type != "cpu":
        size = rows
    return [slice(i, i + size) for i in range(0, rows, size)]


def forward(
    weights: Sequence[Tensor],
    multipliers: Sequence[float],
    rows: Tensor,
    psi: Activation,
    kept: Kept | None = None,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """h_0..h_{L-1}, f and z_1..z_L, one sample a row: (runs, samples, n_l).

    For ReLU the z are None: h tells all. With `kept` the results live there, until the next pass.
    """
    h, z, kept = [rows], [], {} if kept is None else kept
    for layer, (w, g) in enumerate(zip(weights, multipliers, strict=True)):
        now = _memory(kept, "forward", layer, w, len(w), rows.shape[1], w.shape[1])
        _product(now, h[-1], w.mT, g)
        relu = psi.negative_slope == 0
        z.append(None if relu else now)
        if layer < len(weights) - 1:
            now = now.relu_() if relu else psi(now)
        h.append(now)
    return h, z


@torch.no_grad()
def hidden(
    weights: Sequence[Tensor],
    multipliers: Sequence[float],
    inputs: Float[Tensor, "_ n0 samples"],
    activation: str | Activation = "relu",
) -> list[Tensor]:
    """h_0 = x, h_1, ..., h_{L-1}, and the output f: a list of (runs, n_l, samples).

    inputs : (runs, n_0, samples), or (1, n_0, samples) shared by all runs. No gradient is recorded.

    >>> import torch
    >>> weights = [torch.ones(1, 4, 3), torch.ones(1, 2, 4)]
    >>> [tuple(h.shape) for h in hidden(weights, (1.0, 0.5), torch.ones(1, 3, 5))]
    [(1, 3, 5), (1, 4, 5), (1, 2, 5)]
    """
    if len(multipliers) != len(weights):
        raise ValueError(f"multipliers: {len(multipliers)} values for {len(weights)} weights")
    named = {f"weights[{k}]": (w, f"runs n{k + 1} n{k}") for k, w in enumerate(weights)}
    check_shapes(**named, inputs=(inputs, "_ n0 samples"))
    found, _ = forward(weights, multipliers, inputs.mT, find_activation(activation))
    return [h.mT for h in found]


def deltas(
    weights: Sequence[Tensor],
    slopes: Sequence[Tensor | None],
    top: Tensor,
    multipliers: Sequence[float] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """delta_1 ... delta_L = `top`, delta_l = psi'(z_l) * g_{l+1} W_{l+1}' delta_{l+1}, and these
    products without psi', l = 1 ... L - 1.

    Samples are columns, (*runs, n_l, n). slopes : psi'(z_1) ... psi'(z_{L-1}), None where it is 1;
    multipliers : g_1 ... g_L, None where all are 1. For those who do not train: no step is taken.
    """
    passed: list[Tensor] = []
    found = [top]
    for layer in range(len(weights) - 1, 0, -1):
        back = weights[layer].mT @ found[0]
        passed.insert(0, back if multipliers is None else back.mul_(multipliers[layer]))
        slope = slopes[layer - 1]
        found.insert(0, passed[0] if slope is None else slope * passed[0])
    return found, passed


class Passes:
    """Both passes of a step of SGD with the products of torch: any runs, any device."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        velocities: Sequence[Tensor] | None,
        multipliers: Sequence[float],
        ratios: Sequence[float],
        psi: Activation,
        eta: float | Tensor,
        momentum: float = 0.0,
    ) -> None:
        """eta: one number, or (runs, 1, 1). ratios: step size of layer l over eta."""
        self._weights, self._velocities, self._multipliers = weights, velocities, multipliers
        self._ratios, self._psi, self._eta, self._momentum = ratios, psi, eta, momentum
        self._kept: Kept = {}

    def forward(self, rows: Tensor) -> Tensor:
        """f (runs, samples, n_L) of samples (runs, samples, n_0); what `backward` needs is kept."""
        self._h, self._z = forward(self._weights, self._multipliers, rows, self._psi, self._kept)
        return self._h[-1]

    def backward(self, delta: Tensor) -> None:
        """Every weight takes its step. delta: dloss/df, (runs, samples, n_L)."""
        for layer in reversed(range(len(self._weights))):
            if layer == 0:
                return self._step(layer, delta, None)
            h, z = self._h[layer], self._z[layer - 1]
            below = _memory(self._kept, "backward", layer, delta, *h.shape)
            self._step(layer, delta, below)
            if z is None:  # ReLU: h > 0 tells the same as z > 0
                delta = torch.ops.aten.threshold_backward.grad_input(below, h, 0, grad_input=below)
            else:
                delta = below.mul_(self._psi.derivative(z))

    def _step(self, layer: int, delta: Tensor, below: Tensor | None) -> None:
        """One layer: below <- g delta W (unless None), while W and its velocity take their step.

        Each panel of W is read once for both products.
        """
        w, h, g, eta = self._weights[layer], self._h[layer], self._multipliers[layer], self._eta
        v = self._velocities[layer] if self._velocities else None
        change, scale = delta.mT, g * self._ratios[layer]
        if v is None:
            if isinstance(eta, Tensor):
                change = change * -eta
            else:
                scale = -scale * eta
        for number, rows in enumerate(_panels(w)):
            panel = w[:, rows]
            if below is not None:
                _product(below, delta[..., rows], panel, g, beta=min(number, 1))
            if v is None:
                _product(panel, change[:, rows], h, scale, beta=1)
            else:
                part = v[:, rows]
                _product(part, change[:, rows], h, scale, beta=self._momentum)
                panel.sub_(eta * part)
