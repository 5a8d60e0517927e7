"""Extremal directions: where dormant units of a nonlinear net can go, and what "rank" becomes.

With R = -G = -dL/df held at its value at a saddle, a dormant unit w = (a, b) obeys
    da/dt = X D R' b,    db/dt = R sigma(a X)',    D = diag sigma'(a X),
which is the ascent of the utility U(w) = b'R sigma(a X)'. For a 1-homogeneous sigma its norm
grows at the rate 2 U(w/|w|), and its direction tends to a local maximum of U on the unit sphere:
an *extremal direction*. It is self-consistent: the top singular pair of X D R' for the pattern D
that it has itself. Other activations with sigma(0) = 0 act on dormant units through their slope
sigma'(0) alone. (Extremal vectors: boursier2025; utilities: kunin2025; D: Arata's thesis, Lemma 1.)
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import lsq_linear
from torch import Tensor

from learning_dynamics.activations import Activation, slopes_at_zero
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.kernels.weights import unit_force
from learning_dynamics.runtime import (
    check_integer,
    check_positive,
    check_tensors,
    normal,
    on_inputs,
)

__all__ = ["ExtremalDirections", "distinct_directions", "dormant_activation", "extremal_directions"]


@dataclass(frozen=True)
class ExtremalDirections:
    """The extremal directions that were found, fastest first.

    directions : (k, m0 + m2), unit vectors w = (a, b) with |a| = |b|.
    rates      : (k,) > 0, growth of log |w| per unit time.
    residuals  : (k,) how far w is from self-consistent: |N(w) - rate w| / rate, with the best
                 slopes in [0, 1] (ReLU) for samples that lie on a kink of sigma.
    kinks      : (k,) number of samples on a kink.
    starts     : (k,) how many of the starts ended there.
    dormant     : number of starts that ended with no growth (dead units).
    """

    directions: Float[Tensor, "k coordinate"]
    rates: Float[Tensor, " k"]
    residuals: Float[Tensor, " k"]
    kinks: Int[Tensor, " k"]
    starts: Int[Tensor, " k"]
    dormant: int


def dormant_activation(activation: str | Activation) -> Activation:
    """What sigma is to an infinitesimal unit: itself if 1-homogeneous, else its slopes at zero.

    Raises ValueError if sigma(0) != 0 or both slopes are 0: then the origin is no saddle of the
    kind treated here.
    """
    act = find_activation(activation)
    if act.homogeneous:
        return act
    left, right = slopes_at_zero(act)
    if float(act(torch.zeros((), dtype=torch.float64))) != 0 or left == right == 0:
        raise ValueError(
            f"activation = {act.name!r}: needs sigma(0) = 0 and sigma'(0) != 0, or homogeneity"
        )

    def slope(z: Tensor) -> Tensor:
        return torch.where(z > 0, torch.full_like(z, right), left)

    name = f"{right:g} z" if left == right else f"{right:g} z, {left:g} z below 0"
    return Activation(name, lambda z: slope(z) * z, slope, homogeneous=True)


def _unit(w: Tensor) -> Tensor:
    return w / w.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)


def _polish(
    w: Tensor, x: Tensor, residual: Tensor, act: Activation, width: float
) -> tuple[Tensor, float, float, int]:
    """The exact extremal direction with the pattern of w; its rate, residual, kinks."""
    m0 = len(x)
    z = w[:m0] @ x / (w[:m0].norm() * x.norm(dim=0))
    ends = act.derivative(x.new_tensor([-1.0, 1.0]))
    kink = (z.abs() < width) & bool(ends[0] != ends[1])
    slopes = torch.where(kink, 0.0, act.derivative(z))
    on_kink = x[:, kink]
    # With samples on a kink, a stays orthogonal to them.
    free = torch.eye(m0, dtype=x.dtype) - on_kink @ torch.linalg.pinv(on_kink)
    force = (x * slopes) @ residual.mT
    p, s, q = torch.linalg.svd(free @ force, full_matrices=False)
    pair = torch.cat([p[:, 0], q[0]]) / 2**0.5
    pair = pair * (1.0 if float(pair @ w) >= 0 else -1.0)
    back = force @ pair[m0:] - s[0] * pair[:m0]  # to be balanced by the samples on the kink
    if bool(kink.any()):
        columns = (on_kink * (residual.mT @ pair[m0:])[kink]).numpy()
        limits = (float(ends.min()), float(ends.max()))
        back = back + torch.from_numpy(columns @ lsq_linear(columns, -back.numpy(), limits).x)
    off = pair[:m0] @ x
    off = torch.where(kink, 0.0, off)
    wrong = (act.derivative(off) != act.derivative(z)) & ~kink
    lost = float(back.norm() / s[0].clamp_min(torch.finfo(x.dtype).tiny))
    return pair, float(s[0]), lost + float(wrong.any()), int(kink.sum())


@on_inputs
@torch.no_grad()
def extremal_directions(
    inputs: Float[Tensor, "m0 n"],
    residual: Float[Tensor, "m2 n"],
    *,
    activation: str | Activation = "relu",
    starts: int | Float[Tensor, "s coordinate"] = 100,
    generator: torch.Generator | None = None,
    iterations: int = 3000,
    tolerance: float = 1e-6,
) -> ExtremalDirections:
    """The extremal directions of the utility U(w) = b'R sigma(a X)', R = `residual` = -dL/df.

    starts : number of random unit directions (`generator` needed), or the directions themselves.
             Starts have |a| = |b|, as units that begin balanced.
    Ascends U on the sphere with shrinking steps, then solves each pattern exactly; directions
    with |N(w) - rate w| > tolerance rate are not reported. What no start reaches is not found:
    in low dimensions take about ten starts a pattern.

    >>> import torch
    >>> from learning_dynamics import generator
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> found = extremal_directions(x, torch.ones(1, 2, dtype=x.dtype), generator=generator(0))
    >>> len(found.rates) > 0
    True
    """
    act = dormant_activation(activation)
    check_tensors(inputs=(inputs, "m0 n"), residual=(residual, "m2 n"))
    m0, m2 = len(inputs), len(residual)
    check_integer("iterations", iterations, least=1)
    check_positive("tolerance", tolerance)
    if not isinstance(starts, Tensor):
        check_integer("starts", starts, least=1)
        if generator is None:
            raise ValueError("generator is None: random starts need a generator")
        starts = normal(
            starts, m0 + m2, generator=generator, dtype=inputs.dtype, device=inputs.device
        )
    check_tensors(inputs=(inputs, "_ _"), starts=(starts, f"_ {m0 + m2}"))
    w = torch.cat([_unit(starts[:, :m0]), _unit(starts[:, m0:])], 1) / 2**0.5
    scale = torch.linalg.matrix_norm(inputs, 2) * torch.linalg.matrix_norm(residual, 2)
    if float(scale) == 0:
        iterations = 0
    for t in range(iterations):
        step = 0.1 * 1e-5 ** max(0.0, 2 * t / iterations - 1)  # constant, then 1e-5 of it
        w = _unit(w + step / scale * unit_force(w, inputs, residual, act))
    growth = (unit_force(w, inputs, residual, act) * w).sum(1)
    active = growth > 1e-9 * scale
    found: list[tuple[Tensor, float, float, int]] = []
    counts: list[int] = []
    for start in w[active]:
        pair, rate, lost, kinks = _polish(start, inputs, residual, act, width=1e-3)
        if lost > tolerance or rate <= 0:
            continue
        same = [k for k, f in enumerate(found) if float(f[0] @ pair) > 1 - 1e-8]
        if same:
            counts[same[0]] += 1
        else:
            found.append((pair, rate, lost, kinks))
            counts.append(1)
    order = sorted(range(len(found)), key=lambda k: -found[k][1])
    pick = [found[k] for k in order]
    return ExtremalDirections(
        torch.stack([f[0] for f in pick]) if pick else inputs.new_zeros(0, m0 + m2),
        inputs.new_tensor([f[1] for f in pick]),
        inputs.new_tensor([f[2] for f in pick]),
        torch.tensor([f[3] for f in pick], dtype=torch.long),
        torch.tensor([counts[k] for k in order], dtype=torch.long),
        int((~active).sum()),
    )


@on_inputs
def distinct_directions(
    units: Float[Tensor, "m1 coordinate"],
    *,
    angle: float = 5.0,
    floor: float = 1e-2,
    lines: bool = False,
) -> tuple[Float[Tensor, "k coordinate"], Int[Tensor, " m1"]]:
    """Distinct directions among the active units, and which one each unit has (-1: dormant).

    angle : degrees; a unit joins the largest earlier unit within this angle.
    floor : a unit is active if its norm exceeds `floor` times the root of the sum of squares of
            all, relative to 1/sqrt(m1).
    lines : count w and -w as one (for odd activations, where they are the same function).
    """
    check_tensors(units=(units, "m1 coordinate"))
    check_positive("angle", angle)
    check_positive("floor", floor, zero=True)
    norms = units.norm(dim=1)
    least = floor * norms.square().sum().sqrt() / len(units) ** 0.5
    kind = torch.full((len(units),), -1)
    chosen: list[Tensor] = []
    for i in norms.argsort(descending=True).tolist():
        if norms[i] <= least:
            break
        w = units[i] / norms[i]
        cosines = [float(w @ c) for c in chosen]
        close = [abs(c) if lines else c for c in cosines]
        best = int(np.argmax(close)) if close else -1
        if best >= 0 and close[best] >= np.cos(np.radians(angle)):
            kind[i] = best
        else:
            kind[i] = len(chosen)
            chosen.append(w)
    return torch.stack(chosen) if chosen else units[:0], kind
