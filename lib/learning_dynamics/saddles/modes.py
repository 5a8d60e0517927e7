"""Singular values of S = [W1, W2'] through a whole run of a linear net, to full relative accuracy.

Rows of S that hold awake modes have size one; what sleeps beside them in the same rows is lost
below the rounding unit (1e-16). Gradient descent on a linear net commutes with rotations of the
hidden units, so we may rotate now and then until sleeping modes live in rows of their own: then
the rounding of a row is relative to that row, and epsilon = 1e-60 is as good as 1e-6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.contracts import checked
from learning_dynamics.problems import Moments
from learning_dynamics.runtime import check_choice, check_finite, check_integer, check_positive

if TYPE_CHECKING:
    import xarray

__all__ = ["ModeRun", "follow_modes", "grade_rows", "mode_values", "stack_moments"]


@dataclass(frozen=True)
class ModeRun:
    """A recorded ensemble of linear runs, squared loss.

    steps  : (records,). losses : (runs, records), L.
    modes  : (runs, records, min(m1, m0 + m2)), singular values of S, falling.
    units  : (runs, records, rows, m0 + m2), S up to a rotation of the hidden units, if kept.
    """

    steps: Int[Tensor, " records"]
    losses: Float[Tensor, "runs records"]
    modes: Float[Tensor, "runs records mode"] | None
    units: Float[Tensor, "runs records row coordinate"] | None
    step_size: float | Float[Tensor, " runs"]

    def to_dataset(self) -> "xarray.Dataset":
        """Losses, and modes and units if kept, with dimensions run, step, mode, row, coordinate."""
        import xarray  # here: most users of a run never need it

        runs = len(self.losses)
        eta = torch.as_tensor(self.step_size, dtype=torch.float64).expand(runs)
        data = {
            "loss": (("run", "step"), self.losses.cpu().numpy(), {"units": "loss"}),
            "step_size": ("run", eta.cpu().numpy(), {"units": "time per step"}),
        }
        if self.modes is not None:
            data["modes"] = (("run", "step", "mode"), self.modes.cpu().numpy(), {"units": "1"})
        if self.units is not None:
            dims = ("run", "step", "row", "coordinate")
            data["units"] = (dims, self.units.cpu().numpy(), {"units": "1"})
        steps = ("step", self.steps.cpu().numpy(), {"units": "steps"})
        return xarray.Dataset(data, coords={"run": range(runs), "step": steps})


def stack_moments(batch: Sequence[Moments], repeat: int = 1) -> Moments:
    """One `Moments` with a leading dimension of runs; each problem `repeat` times in a row."""
    if not batch:
        raise ValueError("batch is empty: pass at least one Moments")
    check_integer("repeat", repeat, least=1)
    parts = zip(*((m.xx, m.yx, m.yy) for m in batch), strict=True)
    return Moments(*(torch.stack(p).repeat_interleave(repeat, 0) for p in parts))


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


def _check_alive(s: Tensor, step: int, eta: Tensor) -> None:
    good = torch.isfinite(s).all(-1).all(-1)
    if not bool(good.all()):
        run = int((~good).nonzero()[0])
        raise ValueError(
            f"run {run} diverged by step {step} with step_size = "
            f"{float(eta.reshape(-1).expand(len(good))[run]):g}: take a smaller step"
        )


@checked
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
    Raises ValueError if a run diverges.
    """
    check_finite("units", units)
    check_positive("step_size", step_size)
    for name, value in (("steps", steps), ("every", every), ("rotate_every", rotate_every or 1)):
        check_integer(name, value, least=1)
    for name in keep:
        check_choice("keep", name, ("modes", "units"))
    xx, yx = moments.xx, moments.yx
    m0 = xx.shape[-1]
    eta = torch.as_tensor(step_size, dtype=units.dtype, device=units.device).reshape(-1, 1, 1)
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
            _check_alive(s, t, eta)
            losses.append(0.5 * (constant + (w * (seen - 2 * yx)).sum((-2, -1))))
            if "modes" in keep:
                modes.append(mode_values(s) if rotate_every else torch.linalg.svdvals(s))
            if "units" in keep:
                kept.append(s)
        r = yx - seen
        s = s + eta * torch.cat([b @ r, a @ r.mT], dim=-1)
    _check_alive(s, steps, eta)
    return ModeRun(
        steps=torch.arange(0, steps + 1, every),
        losses=torch.stack(losses, dim=1),
        modes=torch.stack(modes, dim=1) if modes else None,
        units=torch.stack(kept, dim=1) if kept else None,
        step_size=step_size,
    )
