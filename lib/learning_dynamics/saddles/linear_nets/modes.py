"""Singular values of S = [W1, W2'] through a whole run of a linear net, to full relative accuracy.

Rows of S that hold active modes have size one; what is dormant beside them in the same rows is lost
below the rounding unit (1e-16). Gradient descent on a linear net commutes with rotations of the
hidden units, so we may rotate now and then until dormant modes live in rows of their own: then
the rounding of a row is relative to that row, and epsilon = 1e-60 is as good as 1e-6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.kernels.weights import linear_force
from learning_dynamics.losses import Loss, check_labels
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import (
    as_positive,
    check_alive,
    check_choice,
    check_instance,
    check_integer,
    check_positive,
    check_tensors,
)
from learning_dynamics.saddles.two_layer import Weights

__all__ = [
    "ModeRun",
    "follow_modes",
    "grade_rows",
    "mode_values",
    "rotate_rows",
    "stack_moments",
    "steps_until",
]

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class ModeRun:
    """A recorded ensemble of linear runs, squared loss.

    steps  : (records,). losses : (runs, records), L.
    kept   : "modes" (runs, records, min(m1, m0 + m2)), singular values of S, falling; "units"
             (runs, records, rows, m0 + m2), S up to a rotation of the hidden units.
    """

    steps: Int[Tensor, " records"]
    losses: Float[Tensor, "runs records"]
    kept: Mapping[str, Tensor]
    step_size: float | Float[Tensor, " runs"]

    def __getattr__(self, name: str) -> Tensor:
        """`modes` and `units`, if they were kept; ValueError if not."""
        if name not in ("modes", "units"):
            raise AttributeError(name)
        check_choice("keep", name, self.kept)
        return self.kept[name]

    def to_dataset(self) -> "xarray.Dataset":
        """Losses, and modes and units if kept, with dimensions run, step, mode, row, coordinate."""
        import xarray  # here: most users of a run never need it

        runs = len(self.losses)
        eta = torch.as_tensor(self.step_size, dtype=torch.float64).expand(runs)
        data = {
            "loss": (("run", "step"), self.losses.cpu().numpy(), {"units": "loss"}),
            "step_size": ("run", eta.cpu().numpy(), {"units": "time per step"}),
        }
        if "modes" in self.kept:
            data["modes"] = (("run", "step", "mode"), self.modes.cpu().numpy(), {"units": "1"})
        if "units" in self.kept:
            dims = ("run", "step", "row", "coordinate")
            data["units"] = (dims, self.units.cpu().numpy(), {"units": "1"})
        steps = ("step", self.steps.cpu().numpy(), {"units": "steps"})
        return xarray.Dataset(data, coords={"run": range(runs), "step": steps})


def stack_moments(batch: Sequence[Moments], repeat: int = 1) -> Moments:
    """One `Moments` with a leading dimension of runs; each problem `repeat` times in a row.

    >>> from learning_dynamics import generator, linear_teacher
    >>> stack_moments([linear_teacher(generator=generator(0)).moments()], 3).yx.shape
    torch.Size([3, 4, 6])
    """
    if not batch:
        raise ValueError("batch is empty: pass at least one Moments")
    check_integer("repeat", repeat, least=1)
    if isinstance(batch, Moments):
        raise ValueError("batch: pass a list of Moments, one for each problem")
    for m in batch:
        check_instance("batch", m, Moments)
    kinds = {(m.yx.shape, m.yx.dtype, m.yx.device) for m in batch}
    if len(kinds) > 1:
        raise ValueError(f"batch: the problems differ in shape, dtype or device: {kinds}")
    parts = zip(*((m.xx, m.yx, m.yy) for m in batch), strict=True)
    return Moments(*(torch.stack(p).repeat_interleave(repeat, 0) for p in parts))


def check_range(**starts: Float[Tensor, "*runs m1 coordinate"]) -> None:
    """Raise ValueError if a start that is not zero is so small that products of two weights are
    not normal numbers: below 1e-140 in float64, 1e-16 in float32.
    """
    for name, units in starts.items():
        size = units.abs().amax((-2, -1))
        least = 1e-140 if units.dtype == torch.float64 else 1e-16
        if bool(((size > 0) & (size < least)).any()):
            raise ValueError(
                f"{name}: its largest entry is {float(size.min()):.3g}: in {units.dtype} allowed "
                f"are starts of at least {least:.1e}, or zero"
            )


def grade_rows(units: Float[Tensor, "runs m1 coordinate"]) -> Float[Tensor, "runs row coordinate"]:
    """S after a rotation of hidden units that sorts its content by size into separate rows.

    One step of the QR iteration for singular values: S = L Q', L = J R, and J'S = R Q'. Rows
    of very different size come out nearly orthogonal. min(m1, m0 + m2) rows: the width is
    reduced to the number of modes.
    """
    q, lower = torch.linalg.qr(units.mT)
    return torch.linalg.qr(lower.mT)[1] @ q.mT


def mode_values(units: Float[Tensor, "runs row coordinate"]) -> Float[Tensor, "runs mode"]:
    """Singular values of graded S, falling; small ones read from the graded rows.

    Relative accuracy is near rounding where rows are well separated or of similar size.
    """
    values = torch.linalg.svdvals(units)
    rows = grade_rows(units).norm(dim=-1)
    return torch.where(values > 1e-9 * values[..., :1], values, rows)


@torch.no_grad()
def follow_modes(
    moments: Moments,
    units: Float[Tensor, "runs m1 coordinate"],
    *,
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    every: int = 2,
    rotate_every: int | None = 20,
    keep: Sequence[str] = ("modes",),
) -> ModeRun:
    """Gradient descent on L of f = W2 W1 X from S = `units`, through the second moments alone.

    moments      : with leading dimension runs (see `stack_moments`).
    step_size    : eta > 0, one for all or one per run. steps : updates; every : record distance.
    rotate_every : steps between rotations, None for plain floating point.
    keep         : "modes" and/or "units".
    Raises ValueError if a run diverges, or starts below the range of `check_range`.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> moments = saddles.stack_moments([linear_teacher(generator=generator(0)).moments()])
    >>> start = saddles.initialise((6, 10, 4), 1e-20, [generator(1)]).units
    >>> run = saddles.follow_modes(moments, start, step_size=0.05, steps=400)
    >>> run.modes.shape
    torch.Size([1, 201, 10])
    """
    check_tensors(moments=(moments, Moments), units=(units, "runs m1 _"))
    xx, yx = moments.xx, moments.yx
    runs, m0 = len(units), xx.shape[-1]
    check_tensors(units=(units, f"runs m1 {sum(yx.shape[-2:])}"))
    if tuple(yx.shape[:-2]) not in ((), (1,), (runs,)):
        raise ValueError(f"moments: {len(yx)} problems for {runs} runs: pass one, or one per run")
    eta = as_positive("step_size", step_size, runs, units.dtype, units.device).reshape(-1, 1, 1)
    for name, value in (("steps", steps), ("every", every), ("rotate_every", rotate_every or 1)):
        check_integer(name, value, least=1)
    for name in keep:
        check_choice("keep", name, ("modes", "units"))
    check_range(units=units)
    constant = moments.yy.diagonal(dim1=-2, dim2=-1).sum(-1)
    s = grade_rows(units) if rotate_every else units
    losses, modes, kept = [], [], []
    for t in range(steps + 1):
        if rotate_every and t % rotate_every == 0:
            s = grade_rows(s)
        a, b = s[..., :m0], s[..., m0:]
        w = b.mT @ a
        seen = w @ xx
        if t % every == 0:
            check_alive(s, t, eta)
            losses.append(0.5 * (constant + (w * (seen - 2 * yx)).sum((-2, -1))))
            if "modes" in keep:
                modes.append(mode_values(s) if rotate_every else torch.linalg.svdvals(s))
            if "units" in keep:
                kept.append(s)
        s = s + eta * linear_force(s, yx - seen)
    check_alive(s, steps, eta)
    return ModeRun(
        steps=torch.arange(0, steps + 1, every, device=units.device),
        losses=torch.stack(losses, dim=1),
        kept={k: torch.stack(v, dim=1) for k, v in (("modes", modes), ("units", kept)) if v},
        step_size=step_size,
    )


@cache
def _rounds(rows: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """A round-robin tournament: every pair of rows once, disjoint pairs side by side."""
    players: list[int | None] = list(range(rows)) + [None] * (rows % 2)
    half, rounds = len(players) // 2, []
    for _ in range(len(players) - 1):
        pairs = zip(players[:half], players[: half - 1 : -1], strict=True)
        met = [(a, b) for a, b in pairs if a is not None and b is not None]
        rounds.append((tuple(a for a, _ in met), tuple(b for _, b in met)))
        players = [players[0], players[-1], *players[1:-1]]
    return tuple(rounds)


def rotate_rows(
    rows: Float[Tensor, "*runs m1 coordinate"],
    rotation: Float[Tensor, "*runs m1 m1"] | None = None,
    *,
    sweeps: int = 1,
) -> tuple[Float[Tensor, "*runs m1 coordinate"], Float[Tensor, "*runs m1 m1"]]:
    """Rows of S made orthogonal, and the rotation Omega with (new rows) = Omega (first rows).

    rotation : Omega so far (identity if None).
    sweeps   : Jacobi sweeps; one keeps nearly orthogonal rows orthogonal, from a random start
               about log2(m1) + 4 are needed for 1e-15.
    Each sweep rotates every pair (a, b) by the angle with tan 2 angle = 2 a.b / (|a|^2 - |b|^2),
    formed from norms and the cosine, so that rows of length 1e-100 neither vanish nor overflow.
    """
    s = rows.clone()
    if rotation is None:
        rotation = torch.eye(s.shape[-2], dtype=s.dtype, device=s.device)
        rotation = rotation.expand(*s.shape[:-2], -1, -1)
    width = s.shape[-1]
    s = torch.cat([s, rotation], -1)
    for _ in range(sweeps):
        for first, second in _rounds(s.shape[-2]):
            i, j = list(first), list(second)
            a, b = s[..., i, :], s[..., j, :]
            na = a[..., :width].norm(dim=-1, keepdim=True)
            nb = b[..., :width].norm(dim=-1, keepdim=True)
            cosine = ((a[..., :width] / na) * (b[..., :width] / nb)).sum(-1, keepdim=True)
            zeta = (nb / na - na / nb) / (2 * cosine)
            t = torch.copysign(1 / (zeta.abs() + torch.hypot(zeta, torch.ones_like(zeta))), zeta)
            t = torch.where((cosine == 0) | ~torch.isfinite(cosine), 0.0, t)
            c = 1 / torch.hypot(t, torch.ones_like(t))
            s[..., i, :], s[..., j, :] = c * (a - t * b), c * (b + t * a)
    return s[..., :width], s[..., width:]


def steps_until(
    weights: Weights,
    problem: Problem,
    there: Callable[[Float[Tensor, ""], Float[Tensor, "m2 n"]], bool],
    *,
    step_size: float,
    max_steps: int,
    loss: str | Loss = "squared",
    rotate_every: int | None = 20,
) -> int:
    """Updates of gradient descent until `there(L, f(X))`, one run.

    weights      : W1 (m1, m0), W2 (m2, m1), in the range of `check_range`.
    step_size    : eta. rotate_every : steps between rotations, None for plain floating point.
    Raises ValueError if max_steps do not suffice or the loss becomes non-finite.
    """
    check_tensors(weights=(weights, Weights), problem=(problem, Problem))
    check_positive("step_size", step_size)
    check_integer("max_steps", max_steps, least=1)
    criterion = find_loss(loss)
    check_labels(criterion, problem.targets)
    check_range(weights=weights.units)
    x, targets = problem.inputs, problem.targets
    m0 = len(x)
    rows = weights.units
    for step in range(max_steps + 1):
        if rotate_every is not None and step % rotate_every == 0:
            rows = grade_rows(rows[None])[0]
        a, b = rows[:, :m0], rows[:, m0:]
        outputs = b.mT @ (a @ x)
        value = criterion.value(outputs, targets)
        check_alive(value[None], step, step_size)
        if there(value, outputs):
            return step
        push = -criterion.gradient(outputs, targets) @ x.mT
        rows = rows + step_size * linear_force(rows, push)
    raise ValueError(f"max_steps = {max_steps}: too few")
