"""Alternating linear nets with their wide layers integrated out, exactly and at any width.

A linear net of widths n_0, n, m, n, m, ..., n, n_L is a chain of *modules*: A_j (n, p) into a wide
layer and B_j (q, n) out of it. Gradient descent sees a module only through three small matrices,

    V = B A (q, p),   P = A'A (p, p),   Q = B B' (q, q),

and their recursion is closed. With F = dL/dV the step A <- A - eta B'F, B <- B - eta F A' gives

    V <- V - eta (Q F + F P) + eta^2 F V' F,
    P <- P - eta (V'F + F'V) + eta^2 F'Q F,    Q <- Q - eta (V F' + F V') + eta^2 F P F'.

So a step costs nothing that grows with n. Polar steps close as well: the polar factors of the
gradients B'F and F A' are B'S and R A' with S = F (F'QF)^(-1/2) and R = (FPF')^(-1/2) F, and S and
R take the places of F above. The start is exact too: for Gaussian A and B the matrix
[P, V'; V, Q] is Wishart with n degrees of freedom, drawn by Bartlett's decomposition. Its
triangular factor is a net as well, whose wide layers have p + q units: every step that commutes
with rotations of the units of a layer takes it and the net of width n through the same maps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.kernels.mlp_torch import deltas
from learning_dynamics.kernels.polar import inverse_root
from learning_dynamics.problems import Moments
from learning_dynamics.runtime import (
    check_alive,
    check_integer,
    check_positive,
    check_tensor,
    generator,
)

__all__ = ["Course", "Module", "chain", "draw_cores", "draw_modules", "train_modules"]


@dataclass(frozen=True)
class Module:
    """V = B A (runs, q, p), P = A'A (runs, p, p), Q = B B' (runs, q, q) of one module."""

    v: Float[Tensor, "runs q p"]
    p: Float[Tensor, "runs p p"]
    q: Float[Tensor, "runs q q"]


@dataclass(frozen=True)
class Course:
    """What a chain of modules did.

    steps   : (records,). loss : (runs, records).
    maps    : (runs, records, n_L, n_0), the map G V_K ... V_1.
    gains   : (runs, records, K), largest singular value of every V_j (K = 0: not recorded).
    stable_ranks : (runs, records, K), |V_j|_F^2 / |V_j|_2^2. final : the modules at the end.
    """

    steps: Tensor
    loss: Float[Tensor, "runs records"]
    maps: Float[Tensor, "runs records outputs inputs"]
    gains: Float[Tensor, "runs records modules"]
    stable_ranks: Float[Tensor, "runs records modules"]
    final: list[Module]


def _bartlett(width: int, size: int, stream: torch.Generator) -> Tensor:
    """Lower-triangular T (size, size), T T' distributed as Wishart(I, width), width >= size."""
    if width < size:
        raise ValueError(f"wide = {width}: must be at least p + q = {size}")
    t = torch.randn(size, size, generator=stream, dtype=torch.float64).tril(-1)
    half = (width - torch.arange(size, dtype=torch.float64)) / 2
    # chi-square with 2a degrees of freedom = 2 Gamma(a), on the same stream
    return t + torch.diag((2 * torch._standard_gamma(half, generator=stream)).sqrt())


def draw_cores(
    inputs: int,
    bottleneck: int | Sequence[int],
    outputs: int,
    modules: int,
    *,
    wide: Sequence[int],
    init_std: Sequence[float],
    seeds: Sequence[int],
) -> list[Float[Tensor, "runs _ _"]]:
    """A_1, B_1, A_2, ... with p + q units in every wide layer, for one of n: see the module's text.

    One run per entry of `wide` (n), `init_std` (sigma) and `seeds`. bottleneck : m, one for all or
    modules - 1 of them. The Gram matrices of A_j and B_j are those of i.i.d. Gaussian weights of
    standard deviation sigma; n at least the sum of the widths on its two sides.
    """
    check_integer("modules", modules, least=1)
    several = isinstance(bottleneck, Sequence)
    given = list(bottleneck) if isinstance(bottleneck, Sequence) else [bottleneck]
    narrow = given if several else given * (modules - 1)
    if len(narrow) != modules - 1:
        raise ValueError(f"bottleneck = {bottleneck}: allowed is one or {modules - 1} of them")
    named = [("bottleneck", m) for m in given]
    for name, value in (("inputs", inputs), *named, ("outputs", outputs)):
        check_integer(name, value, least=1)
    check_positive("init_std", torch.tensor(list(init_std)))
    sizes = [inputs, *narrow, outputs]
    drawn = []
    for j, (p, q) in enumerate(zip(sizes, sizes[1:], strict=False)):
        factors = []
        for n, std, seed in zip(wide, init_std, seeds, strict=True):
            factors.append(std * _bartlett(n, p + q, generator("bottleneck-modules", seed, j)))
        t = torch.stack(factors)
        drawn += [t[:, :p].mT.contiguous(), t[:, p:].contiguous()]
    return drawn


def draw_modules(
    inputs: int,
    bottleneck: int | Sequence[int],
    outputs: int,
    modules: int,
    *,
    wide: Sequence[int],
    init_std: Sequence[float],
    seeds: Sequence[int],
) -> list[Module]:
    """The modules of `draw_cores`, whose arguments it takes."""
    sizes = (inputs, bottleneck, outputs, modules)
    cores = draw_cores(*sizes, wide=wide, init_std=init_std, seeds=seeds)
    pairs = zip(cores[::2], cores[1::2], strict=True)
    return [Module(b @ a, a.mT @ a, b @ b.mT) for a, b in pairs]


def chain(modules: Sequence[Module]) -> Float[Tensor, "runs outputs inputs"]:
    """V_K ... V_1."""
    product = modules[0].v
    for module in modules[1:]:
        product = module.v @ product
    return product


def _forces(modules: Sequence[Module], error: Tensor, multiplier: Tensor) -> list[Tensor]:
    """F_j = dL/dV_j; `error` is dL/d(map), `multiplier` the product G of all g_l."""
    below: list[Tensor | None] = [None]
    for module in modules[:-1]:
        below.append(module.v if below[-1] is None else module.v @ below[-1])
    maps = [module.v for module in modules]
    back, _ = deltas(maps, [None] * (len(maps) - 1), multiplier * error)
    return [d if u is None else d @ u.mT for d, u in zip(back, below, strict=True)]


def _moved(module: Module, s: Tensor, r: Tensor) -> Module:
    """The module after A <- A - B's and B <- B - r A'; s = r = eta F for gradient steps."""
    v, p, q = module.v, module.p, module.q
    return Module(
        v - q @ s - r @ p + r @ v.mT @ s,
        p - v.mT @ s - s.mT @ v + s.mT @ q @ s,
        q - v @ r.mT - r @ v.mT + r @ p @ r.mT,
    )


def _polar(module: Module, f: Tensor) -> tuple[Tensor, Tensor]:
    """S and R of polar steps."""
    into = f @ inverse_root(f.mT @ module.q @ f)
    return into, inverse_root(f @ module.p @ f.mT) @ f


def _activity(modules: Sequence[Module], forces: Sequence[Tensor], loss: Tensor) -> Tensor:
    """a = sum over all 2K weight matrices of |dL/dW|_F^2 / (2 L), (runs,)."""
    total = torch.zeros_like(loss)
    for module, f in zip(modules, forces, strict=True):
        total = total + (f * (module.q @ f + f @ module.p)).sum((-2, -1))
    return total / (2 * loss)


def train_modules(
    modules: Sequence[Module],
    moments: Moments,
    *,
    multiplier: Float[Tensor, " runs"],
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    record_at: Sequence[int] | None = None,
    stop: Callable[[Tensor], Tensor] | None = None,
    spectra: bool = False,
    time_power: float = 0.0,
    polar: Float[Tensor, "runs layers"] | None = None,
) -> Course:
    """Full-batch gradient descent on the squared loss, f = G V_K ... V_1 x; or polar steps.

    multiplier : G = g_1 ... g_L, per run; by the re-gauge symmetry only the product matters.
    step_size  : eta, one for all layers, per run or for all. stop : maps (runs, n_L, n_0) ->
    (runs,) bool; a run freezes at the first record at which it holds, and `final` is its state
    there. spectra : record gains and stable ranks of every V_j.
    time_power : power q >= 0 of the change of time: the step is eta max(1, (eta a)^-q), a the
                 activity
    sum_l |dL/dW_l|^2 / (2 L); 0 is plain gradient descent.
    polar : entries for A_1, B_1, A_2, ...: each weight matrix subtracts eta times its entry times
    the polar factor of its gradient.
    Raises ValueError if a run diverges.
    """
    check_integer("steps", steps, least=1)
    check_positive("step_size", step_size)
    check_tensor("multiplier", multiplier)
    eta = torch.as_tensor(step_size, dtype=torch.float64).reshape(-1, 1, 1)
    scale = multiplier.reshape(-1, 1, 1)
    wanted = set(range(steps + 1) if record_at is None else record_at)
    state, taken = list(modules), []
    frozen = torch.zeros(len(scale), dtype=torch.bool)
    rest = 0.5 * torch.diagonal(moments.yy, dim1=-2, dim2=-1).sum(-1)
    check_positive("time_power", time_power, zero=True)
    if polar is not None:
        if polar.shape != (len(scale), 2 * len(state)) or time_power:
            raise ValueError(
                f"polar: shape {tuple(polar.shape)}, time_power = {time_power}: allowed is "
                f"{(len(scale), 2 * len(state))}, one entry a run and layer, with time_power = 0"
            )
        check_positive("polar", polar)
        lengths = polar[..., None, None].unbind(1)
    loss, maps, gains, ranks = [], [], [], []
    for t in range(steps + 1):
        f = scale * chain(state)
        error = f @ moments.xx - moments.yx
        if t in wanted:
            value = 0.5 * ((f @ moments.xx - 2 * moments.yx) * f).sum((-2, -1))
            value = value + rest
            check_alive(value, t, eta)
            taken.append(t)
            loss.append(value)
            maps.append(f)
            if spectra:
                found = [torch.linalg.svdvals(m.v) for m in state]
                gains.append(torch.stack([s[:, 0] for s in found], -1))
                ranks.append(torch.stack([(s / s[:, :1]).square().sum(-1) for s in found], -1))
            if stop is not None:
                frozen = frozen | stop(f)
                if bool(frozen.all()):
                    break
        if t < steps:
            forces = _forces(state, error, scale)
            step = eta * ~frozen[:, None, None]
            if time_power:
                value = 0.5 * ((f @ moments.xx - 2 * moments.yx) * f).sum((-2, -1)) + rest
                a = _activity(state, forces, value)[:, None, None]
                step = step * (eta * a).pow(-time_power).clamp_min(1.0)
            pairs = [(f, f) for f in forces]
            if polar is not None:
                sides = zip(lengths[::2], lengths[1::2], strict=True)
                roots = [_polar(x, f) for x, f in zip(state, forces, strict=True)]
                pairs = [(a * s, b * r) for (a, b), (s, r) in zip(sides, roots, strict=True)]
            moves = zip(state, pairs, strict=True)
            state = [_moved(x, step * s, step * r) for x, (s, r) in moves]
    none = torch.zeros(len(scale), len(taken), 0, dtype=torch.float64)
    return Course(
        torch.tensor(taken),
        torch.stack(loss, 1),
        torch.stack(maps, 1),
        torch.stack(gains, 1) if spectra else none,
        torch.stack(ranks, 1) if spectra else none,
        state,
    )
