"""Predicted levels, exponents and times of every drop of a two-layer linear net.

Squared loss, f = W2 W1 X, start of scale epsilon. The visited saddles are the reduced-rank
regressions of Y on X; between two of them the dormant modes grow at the rates of the residual
correlation R_k = (I - P_k) Sigma_yx, each step by the factor 1 + eta sigma_j(R_k). All that is
needed are the second moments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from learning_dynamics.problems import Moments
from learning_dynamics.runtime import (
    as_positive,
    check_integer,
    check_positive,
    check_share,
    check_tensors,
    generator,
    normal,
)

__all__ = [
    "Staircase",
    "finite_step_rate",
    "independent_blocks",
    "input_whitener",
    "least_squares",
    "levels",
    "predict_staircase",
    "rank_k_map",
    "rank_k_optimum",
    "recursion",
    "residual_correlation",
    "sharpness",
    "visited_map",
]


def finite_step_rate(
    rates: Float[Tensor, "*runs mode"], step_size: float | Tensor | None
) -> Float[Tensor, "*runs mode"]:
    """log|1 + eta s|/eta: the growth per unit of time of a factor 1 + eta s per step.

    `step_size` eta: one for all, one per run, or None for gradient flow (the rates themselves).
    Raises ValueError for eta <= 0.
    """
    check_tensors(rates=(rates, "*runs mode"))
    if step_size is None:
        return rates
    check_positive("step_size", step_size)
    eta = torch.as_tensor(step_size, dtype=rates.dtype, device=rates.device)[..., None]
    change = eta * rates
    return torch.where(change > -1, torch.log1p(change), (1 + change).abs().log()) / eta


def input_whitener(xx: Float[Tensor, "*runs m0 m0"]) -> Float[Tensor, "*runs m0 m0"]:
    """V with V V' an inverse of Sigma_xx where it has one, on its range.

    Features are compared at unit size, so that none is lost beside a large one.
    """
    size = xx.diagonal(dim1=-2, dim2=-1).sqrt()
    size = torch.where(size > 0, size, 1.0)
    values, vectors = torch.linalg.eigh(xx / size[..., None] / size[..., None, :])
    tiny = values[..., -1:] * xx.shape[-1] * torch.finfo(xx.dtype).eps
    inverse = torch.where(values > tiny, values.clamp_min(tiny), torch.inf).rsqrt()
    return vectors * inverse[..., None, :] / size[..., None]


def independent_blocks(xx: Float[Tensor, "m0 m0"], yx: Float[Tensor, "m2 m0"]) -> list[Tensor]:
    """Orthonormal bases (m0, d) of input subspaces that no run of one problem ever mixes.

    They are invariant under Sigma_xx and Sigma_yx' Sigma_yx: one block for generic inputs, m0
    lines for commuting ones. A common eigenvector basis of the two is cut where neither links two
    of its vectors by more than 1e-10 of their own sizes (plus rounding), so that a large
    feature cannot hide a link between small ones.
    """
    check_tensors(xx=(xx, "m0 m0"), yx=(yx, "m2 m0"))
    basis, members = _members(xx[None], yx[None])
    return [basis[0][:, row] for row in torch.unique(members[0], dim=0)]


def _members(xx: Tensor, yx: Tensor) -> tuple[Tensor, Tensor]:
    """The common basis (runs, m0, m0) of each problem and which of its vectors share a block."""
    tiny, eps = torch.finfo(xx.dtype).tiny, torch.finfo(xx.dtype).eps
    forms = [xx, yx.mT @ yx]
    forms = [form / form.abs().amax((-2, -1), keepdim=True).clamp_min(tiny) for form in forms]
    basis = torch.linalg.eigh(forms[0] + 0.5**0.5 * forms[1])[1]
    linked = torch.zeros_like(forms[0], dtype=torch.bool)
    for form in forms:
        inside = basis.mT @ form @ basis
        size = inside.diagonal(dim1=-2, dim2=-1).abs().sqrt()
        least = 1e-10 * size[..., :, None] * size[..., None, :] + 8 * form.shape[-1] * eps
        linked |= inside.abs() > least
    members = linked | torch.eye(linked.shape[-1], dtype=torch.bool, device=linked.device)
    for _ in range(linked.shape[-1].bit_length()):  # paths of twice the length each time
        members = (members.float() @ members.float()) > 0
    return basis, members


class _Order(NamedTuple):
    """The modes in the order of learning: u_i (*runs, m2, r), and of each (*runs, r)

    mu_i, twice the loss that it removes; the time of its escape; the exponent of the next mode of
    all at that time.
    """

    directions: Tensor
    gains: Tensor
    times: Tensor
    exponents: Tensor


def _order_alike(xx: Tensor, yx: Tensor, eta: Tensor | None, bases: Sequence[Tensor]) -> _Order:
    """Of problems whose tasks lie in as many blocks, spanned by `bases` (runs, m0, d). Each block
    has a staircase of its own; together they are sorted by the times of escape."""
    runs, outputs, inputs = yx.shape
    rank = min(outputs, inputs)
    none = yx.new_zeros(runs, rank)
    parts, tops = [(yx.new_zeros(runs, outputs, rank), none, none + torch.inf)], []
    # Modes at rest: outputs and inputs in no block's task.
    spare = outputs + inputs - sum(basis.shape[-1] for basis in bases)
    for basis in bases:
        part = yx @ basis
        whitened = part @ input_whitener(basis.mT @ xx @ basis)
        u, c, _ = torch.linalg.svd(whitened, full_matrices=False)
        rates = _deflated_rates(part, u)
        own = basis.shape[-1] - c.shape[-1]  # inputs of this block that carry nothing
        times, left = recursion(rates, eta, spare=own)
        spare -= c.shape[-1]
        parts.append((u, c.square(), times))
        ends = torch.nn.functional.pad(times, (1, 0))
        first = torch.nn.functional.pad(left, (1, 0), value=1.0)
        growth = torch.nn.functional.pad(finite_step_rate(rates[..., 0], eta), (0, 1))
        tops.append((ends, first, growth))
    u, gains, times = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    times, index = times.sort(stable=True)
    times, index = times[:, :rank], index[:, :rank]
    exponents = torch.ones_like(times) if spare > 0 else torch.full_like(times, torch.inf)
    for ends, first, growth in tops:
        at = (times[..., None] >= ends[:, None]).sum(-1) - 1
        here, since = growth.gather(1, at), times - ends.gather(1, at)
        waited = torch.where(here == 0, 0.0, here * since)
        exponents = torch.minimum(exponents, first.gather(1, at) - waited)
    tied = torch.nn.functional.pad(times[:, 1:] == times[:, :-1], (0, 1)) & times.isfinite()
    exponents = torch.where(tied, 0.0, exponents)  # both escape at once
    directions = u.gather(2, index[:, None].expand(-1, outputs, -1))
    return _Order(directions, gains.gather(1, index), times, exponents)


def _groups(rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Different rows, and the indices at which each is found."""
    different, which = torch.unique(rows, dim=0, return_inverse=True)
    return [(row, (which == k).nonzero()[:, 0]) for k, row in enumerate(different)]


def _order(moments: Moments, step_size: float | Tensor | None = None) -> _Order:
    """Within an independent block of inputs the modes are the eigenvectors of
    Sigma_yx Sigma_xx^-1 Sigma_yx' by falling eigenvalue; the blocks never mix and take turns.
    """
    check_tensors(moments=(moments, Moments))
    runs = moments.yx.shape[:-2]
    xx, yx = (part.reshape(-1, *part.shape[-2:]) for part in (moments.xx, moments.yx))
    # Powers of four divide exactly; the squares of some moments have no room in the numbers.
    unit_x, unit_y = (
        part.new_tensor([4.0 ** round(math.log(a or 1.0, 4)) for a in top.tolist()])[:, None]
        for part, top in ((part, part.abs().amax((-2, -1))) for part in (xx, yx))
    )
    eta = None
    if step_size is not None:
        eta = as_positive("step_size", step_size, len(yx), yx.dtype, yx.device)
        eta = eta.expand(len(yx)) * unit_y[:, 0]
    xx, yx = xx / unit_x[..., None], yx / unit_y[..., None]
    seen = torch.finfo(yx.dtype).eps * max(yx.shape[1:]) * torch.linalg.matrix_norm(yx)
    basis, members = _members(xx, yx)
    at, found = [], []
    for pattern, alike in _groups(members.flatten(1)):
        rows = torch.unique(pattern.reshape(members.shape[1:]), dim=0)
        bases = [basis[alike][..., row] for row in rows]
        parts = torch.stack([torch.linalg.matrix_norm(yx[alike] @ b) for b in bases], -1)
        for carries, which in _groups(parts > seen[alike, None]):
            index = alike[which]
            own = [b[which] for b, some in zip(bases, carries.tolist(), strict=True) if some]
            one = eta if eta is None else eta[index]
            at.append(index)
            found.append(_order_alike(xx[index], yx[index], one, own))
    back = torch.cat(at).argsort()
    u, gains, times, exponents = (torch.cat(part)[back] for part in zip(*found, strict=True))
    gains = gains * (unit_y / unit_x) * unit_y
    order = _Order(u, gains, times / unit_y, exponents)
    return _Order(*(part.reshape(*runs, *part.shape[1:]) for part in order))


def _deflated_rates(
    yx: Float[Tensor, "*runs m2 m0"], u: Float[Tensor, "*runs m2 r"]
) -> Float[Tensor, "*runs r r"]:
    """rates[k, j] = sigma_{j+1}(R_k), R_k = Sigma_yx less its parts along the first k of `u`."""
    count, r, rates = u.shape[-1], yx, []
    floor = torch.finfo(r.dtype).eps * max(r.shape[-2:]) * torch.linalg.svdvals(r)[..., :1]
    for k in range(count):
        s = torch.linalg.svdvals(r)[..., : count - k]
        rates.append(torch.nn.functional.pad(torch.where(s > floor, s, 0.0), (0, k)))
        r = r - u[..., k : k + 1] @ (u[..., k : k + 1].mT @ r)
    return torch.stack(rates, dim=-2)


def rank_k_map(moments: Moments, k: int) -> Float[Tensor, "*runs m2 m0"]:
    """P_k Sigma_yx Sigma_xx^-1: the map of rank <= k with the least squared loss.

    k : 0 .. min(m0, m2). P_k projects on the top k eigenvectors of
    Sigma_yx Sigma_xx^-1 Sigma_yx' (reduced-rank regression, izenman1975).

    >>> import torch
    >>> from learning_dynamics import Moments
    >>> s = torch.diag(torch.tensor([3.0, 1.0]))
    >>> rank_k_map(Moments(torch.eye(2), s, s @ s), 1)  # white inputs
    tensor([[3., 0.],
            [0., 0.]])
    """
    check_tensors(moments=(moments, Moments))
    check_integer("k", k)
    rank = min(moments.yx.shape[-2:])
    if k > rank:
        raise ValueError(f"k = {k}: must be at most min(m0, m2) = {rank}")
    whitened = moments.yx @ input_whitener(moments.xx)
    u = torch.linalg.svd(whitened, full_matrices=False)[0][..., :k]
    return u @ (u.mT @ least_squares(moments))


def least_squares(moments: Moments) -> Float[Tensor, "*runs m2 m0"]:
    """Sigma_yx Sigma_xx^+, the least of the maps with the least squared loss."""
    whitener = input_whitener(moments.xx)
    best = moments.yx @ whitener @ whitener.mT
    if bool((whitener.abs().amax(-2) == 0).any()):  # outside the span of inputs nothing is learned
        span = moments.xx @ whitener
        best = best @ span @ torch.linalg.pinv(span)
    return best


def rank_k_optimum(
    moments: Moments, k: int
) -> tuple[Float[Tensor, "*runs m2 m0"], Float[Tensor, " *runs"]]:
    """The best map of rank <= k and its loss 1/2 tr(Sigma_yy - 2 W Sigma_yx' + W Sigma_xx W')."""
    w = rank_k_map(moments, k)
    inner = moments.yy - 2 * w @ moments.yx.mT + w @ moments.xx @ w.mT
    return w, 0.5 * inner.diagonal(dim1=-2, dim2=-1).sum(-1)


def visited_map(
    moments: Moments, k: int, step_size: float | Tensor | None = None
) -> Float[Tensor, "*runs m2 m0"]:
    """The map at the k-th visited saddle: `rank_k_map` for generic inputs; where inputs fall into
    independent blocks the first k modes to escape, which need not be the k largest."""
    check_integer("k", k)
    if k > min(moments.yx.shape[-2:]):
        raise ValueError(f"k = {k}: must be at most {min(moments.yx.shape[-2:])}, min(m0, m2)")
    u = _order(moments, step_size).directions[..., :k]
    return u @ (u.mT @ least_squares(moments))


def residual_correlation(
    moments: Moments, k: int, step_size: float | Tensor | None = None
) -> Float[Tensor, "*runs m2 m0"]:
    """R_k = Sigma_yx - W_k Sigma_xx = (I - P_k) Sigma_yx at the k-th visited saddle."""
    check_integer("k", k)
    u = _order(moments, step_size).directions[..., :k]
    return moments.yx - u @ (u.mT @ moments.yx)


def levels(
    moments: Moments, step_size: float | Tensor | None = None
) -> Float[Tensor, "*runs level"]:
    """Losses of the saddles visited, rank 0 .. min(m0, m2), L = mean of 1/2 |y - f|^2.

    Generic inputs: the losses of the rank-k optima. Inputs that fall into independent blocks (such
    as commuting ones: m0 blocks): sums of the blocks' own levels in the order of escape, which for
    blocks of several modes depends on the step size (None: gradient flow).

    >>> import torch
    >>> from learning_dynamics import Moments
    >>> s = torch.diag(torch.tensor([3.0, 1.0]))
    >>> levels(Moments(torch.eye(2), s, s @ s))  # white inputs: half the squares not yet learned
    tensor([5.0000, 0.5000, 0.0000])
    """
    return _levels(moments, _order(moments, step_size).gains)


def _levels(moments: Moments, gains: Tensor) -> Tensor:
    total = moments.yy.diagonal(dim1=-2, dim2=-1).sum(-1)
    none = torch.zeros_like(gains[..., :1])
    left = total[..., None] - torch.cat([none, gains.cumsum(-1)], dim=-1)
    return 0.5 * left.clamp_min(0)  # below zero by rounding only, where nothing is left


def sharpness(
    moments: Moments, step_size: float | Tensor | None = None, iterations: int = 100
) -> Float[Tensor, "*runs level"]:
    """Largest eigenvalue of the Hessian of L in (W1, W2) at each visited saddle, 0 .. min(m0, m2).

    The layers are balanced there, as after a small start. A step of gradient descent multiplies
    what is off the saddle by 1 - eta a, a the eigenvalues; it is stable below eta = 2/sharpness.
    By power iteration on the Hessian, to about a thousandth, always from below.

    >>> import torch
    >>> from learning_dynamics import Moments
    >>> s = torch.diag(torch.tensor([3.0, 1.0]))
    >>> sharpness(Moments(torch.eye(2), s, s @ s)).round(decimals=2)  # white inputs: twice s_1
    tensor([3., 6., 6.])
    """
    check_tensors(moments=(moments, Moments))
    check_integer("iterations", iterations, least=1)
    u = _order(moments, step_size).directions
    m2, m0 = moments.yx.shape[-2:]
    rank = min(m0, m2)
    taken = torch.tril(torch.ones(rank + 1, rank, dtype=u.dtype, device=u.device), -1)
    learned = (u[..., None, :, :] * taken[:, None, :]) @ u.mT[..., None, :, :]
    yx, xx = moments.yx[..., None, :, :], moments.xx[..., None, :, :]
    w = learned @ least_squares(moments)[..., None, :, :]
    left, s, right = torch.linalg.svd(w, full_matrices=False)
    root = (s * taken).sqrt()
    w1, w2 = root[..., :, None] * right, left * root[..., None, :]
    residual = yx - w @ xx
    shift = torch.linalg.svdvals(moments.yx)[..., :1, None, None]  # no eigenvalue is below -s_1
    start = normal(m0 + m2, rank, generator=generator("sharpness"), dtype=torch.float64)
    both = start.to(w).expand(*w.shape[:-2], -1, -1)
    value = shift
    tiny = torch.finfo(both.dtype).tiny
    for _ in range(iterations):
        both = both / both.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
        both = both / both.square().sum((-2, -1), keepdim=True).sqrt().clamp_min(tiny)
        d1, d2 = both[..., :m0, :].mT, both[..., m0:, :]
        seen = (d2 @ w1 + w2 @ d1) @ xx
        new = torch.cat([(w2.mT @ seen - d2.mT @ residual).mT, seen @ w1.mT - residual @ d1.mT], -2)
        value = (both * new).sum((-2, -1))
        both = new + shift * both
    return value


@dataclass(frozen=True)
class Staircase:
    """What theory says about a run from small initialisation (to leading order in log(1/eps)).

    levels    : (*runs, r + 1), the loss at saddle 0 .. r, r = min(m0, m2).
    rates     : (*runs, r, r), rates[k, j] = sigma_{j+1}(R_k), zero where k + j >= r.
    times     : (*runs, r), time (steps x step size) of drop k + 1 in units of log(1/epsilon);
                infinite for a mode that never escapes.
    exponents : (*runs, r), p with sigma_{k+2}(S)/sigma_{k+1}(S) ~ epsilon^p at escape k + 1.
    step_size : eta for which it was computed (one or one per run), None for gradient flow.
    sharpness : (*runs, r + 1), largest curvature at saddle 0 .. r; None for gradient flow.
    """

    levels: Float[Tensor, "*runs level"]
    rates: Float[Tensor, "*runs saddle mode"]
    times: Float[Tensor, "*runs drop"]
    exponents: Float[Tensor, "*runs drop"]
    step_size: float | Tensor | None = None
    sharpness: Float[Tensor, "*runs level"] | None = None

    @property
    def beyond(self) -> Bool[Tensor, "*runs level"]:
        """Whether eta sharpness > 2: gradient descent cannot rest at that saddle with balanced
        layers. What is predicted for later drops then need not hold: the run unbalances the layers,
        or diverges."""
        if self.sharpness is None or self.step_size is None:
            return torch.zeros_like(self.levels, dtype=torch.bool)
        eta = torch.as_tensor(self.step_size, dtype=self.levels.dtype, device=self.levels.device)
        return eta[..., None] * self.sharpness > 2

    @property
    def escape_rates(self) -> Float[Tensor, "*runs saddle"]:
        """sigma_1(R_k), the rate at which saddle k is left."""
        return self.rates[..., 0]

    def drop_steps(self, init_scale: float) -> Float[Tensor, "*runs drop"]:
        """Predicted number of steps to each drop from initial scale epsilon = `init_scale`."""
        if self.step_size is None:
            raise ValueError("step_size = None: a prediction for gradient flow has no steps")
        check_share("init_scale", init_scale)
        eta = torch.as_tensor(self.step_size, dtype=self.times.dtype, device=self.times.device)
        return self.times * math.log(1 / init_scale) / eta[..., None]


def recursion(
    rates: Float[Tensor, "*runs saddle mode"],
    step_size: float | Tensor | None = None,
    spare: int = 1,
) -> tuple[Float[Tensor, "*runs drop"], Float[Tensor, "*runs drop"]]:
    """Times and exponents of all escapes from the rates at each saddle, whatever the loss.

    rates : rates[..., k, j] = sigma_{j+1}(R_k) at the k-th visited saddle, j < saddles - k.
    spare : m0 + m2 - 2 r, the number of zero eigenvalues of M at the origin.
    Fields `times` and `exponents` of `Staircase`.
    """
    check_tensors(rates=(rates, "*runs saddle mode"))
    check_integer("spare", spare)
    count = rates.shape[-2]
    p = torch.ones_like(rates[..., 0, :1]).expand(*rates.shape[:-2], count + 1)
    now = torch.zeros_like(rates[..., 0, 0])
    times, exponents = [], []
    for k in range(count):
        s = rates[..., k, : count - k]
        # The first mode beyond the rank rests, or shrinks if M has no zero eigenvalue left.
        beyond = -s[..., -1:] if spare + k == 0 else torch.zeros_like(s[..., :1])
        g = finite_step_rate(torch.cat([s, beyond], dim=-1), step_size)
        wait = torch.where(g[..., 0] > 0, p[..., 0] / g[..., 0], torch.inf)
        now = now + wait
        growth = torch.where(g == 0, g, g * wait[..., None])  # 0 x infinity is 0 here
        p = (p - growth)[..., 1:]
        times.append(now)
        exponents.append(p[..., 0])
    return torch.stack(times, dim=-1), torch.stack(exponents, dim=-1)


def predict_staircase(moments: Moments, step_size: float | Tensor | None = None) -> Staircase:
    """Levels, escape rates, times and exponents of all drops.

    With dormant exponents p_1 <= p_2 <= ... (all 1 at the start) and growth rates
    g_j = log(1 + eta sigma_j(R_k))/eta at saddle k, the next mode becomes active after the time
    p_1/g_1 (times log(1/epsilon)); by then the others stand at p_j - g_j p_1/g_1. The singular
    values of S are ratios of volumes, so that any generic mixing of directions on the way leaves
    the sorted exponents alone: the recursion holds for non-commuting inputs as well.

    step_size : eta, one or one per run, or None for gradient flow. Its limit is 2/sharpness at the
    saddles passed: `sharpness` and `beyond` say where it is exceeded.
    The recursion of times is that of kunin2025; needs distinct rates and a hidden width of at
    least r = min(m0, m2).

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> moments = linear_teacher(generator=generator(0)).moments()
    >>> staircase = saddles.predict_staircase(moments, 0.05)
    >>> [round(x, 3) for x in staircase.levels.tolist()]
    [7.248, 2.401, 0.94, 0.167, 0.0]
    >>> [round(x) for x in staircase.drop_steps(1e-6).tolist()]  # steps at which the loss drops
    [86, 124, 210, 428]
    """
    order = _order(moments, step_size)
    rates = _deflated_rates(moments.yx, order.directions)
    curvature = None if step_size is None else sharpness(moments, step_size)
    levels = _levels(moments, order.gains)
    return Staircase(levels, rates, order.times, order.exponents, step_size, curvature)
