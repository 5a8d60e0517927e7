"""Forward and backward pass of f(x) = g_L W_L h_{L-1}, h_l = psi(g_l W_l h_{l-1}), h_0 = x.

The leading dimension of every tensor is the run; batches are stored one sample a row. The gradient
of layer l is the outer product g_l delta_l h_{l-1}', which is added to W_l without being stored.
W_l is larger than the caches, so the pass back works on panels of its rows: each is multiplied by
delta and updated while it is near.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation, activation as find_activation

__all__ = ["backward", "forward", "hidden", "through_activation"]

#: Bytes of the panels of W in the backward pass: about half the private cache of a core.
PANEL = 1 << 19


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * a @ b per run; for one run a plain GEMM, which is faster than a batched one."""
    if len(a) == 1 and len(b) == 1:
        out = a.new_empty(a.shape[1], b.shape[2])
        return torch.addmm(out, a[0], b[0], beta=0, alpha=scale, out=out)[None]
    runs = max(len(a), len(b))
    out = a.new_empty(runs, a.shape[1], b.shape[2])
    a, b = a.expand(runs, -1, -1), b.expand(runs, -1, -1)
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _accumulate(total: Tensor, a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    """total += scale * a @ b per run, in place."""
    if len(total) == 1:
        total[0].addmm_(a[0], b[0], alpha=scale)
    else:
        total.baddbmm_(a, b, alpha=scale)


def _panels(w: Tensor) -> list[slice]:
    """Rows of W that are read and updated together, while they are in the cache of a core."""
    _, rows, columns = w.shape
    if len(w) > 1 or w.device.type != "cpu":
        return [slice(None)]
    size = max(64, PANEL // (columns * w.element_size()))
    return [slice(i, i + size) for i in range(0, rows, size)] if rows > size else [slice(None)]


def forward(
    weights: Sequence[Tensor], multipliers: Sequence[float], rows: Tensor, psi: Activation
) -> tuple[list[Tensor], list[Tensor | None]]:
    """h_0..h_{L-1}, f and z_1..z_L, one sample a row: (runs, samples, n_l).

    For ReLU the z are None: h tells all.
    """
    h, z = [rows], []
    for layer, (w, g) in enumerate(zip(weights, multipliers, strict=True)):
        now = _product(h[-1], w.mT, g)
        z.append(None if psi.name == "relu" else now)
        if layer < len(weights) - 1:
            now = now.relu_() if psi.name == "relu" else psi(now)
        h.append(now)
    return h, z


def hidden(
    weights: Sequence[Tensor],
    multipliers: Sequence[float],
    inputs: Float[Tensor, "_ n0 samples"],
    activation: str | Activation = "relu",
) -> list[Tensor]:
    """h_0 = x, h_1, ..., h_{L-1}, and the output f: a list of (runs, n_l, samples).

    inputs : (runs, n_0, samples), or (1, n_0, samples) shared by all runs.
    """
    found, _ = forward(weights, multipliers, inputs.mT, find_activation(activation))
    return [h.mT for h in found]


def through_activation(psi: Activation, delta: Tensor, h: Tensor, z: Tensor | None) -> Tensor:
    """psi'(z) * delta; for ReLU h > 0 tells the same as z > 0."""
    if z is None:
        return torch.ops.aten.threshold_backward(delta, h, 0)
    return psi.derivative(z) * delta


def backward(
    w: Tensor, v: Tensor | None, h: Tensor, delta: Tensor, g: float, ratio: float, eta: Tensor,
    momentum: float, back: bool,
) -> Tensor:
    """One layer: g delta W (empty unless `back`), while W and its velocity v take their step.

    h, delta: (runs, samples, n_in) and (runs, samples, n_out). Each panel of W is read once
    for both products.
    """
    below = delta.new_zeros(len(w), delta.shape[1], w.shape[2] if back else 0)
    change = (delta * (-g * ratio * eta) if v is None else delta * (g * ratio)).mT
    for rows in _panels(w):
        panel = w[:, rows]
        if back:
            _accumulate(below, delta[..., rows], panel, g)
        if v is None:
            _accumulate(panel, change[:, rows], h)
        else:
            part = v[:, rows].mul_(momentum)
            _accumulate(part, change[:, rows], h)
            panel.sub_(eta * part)
    return below
