"""One run under the assumptions of earlier accounts, and the same run without each of them."""

import math
from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.runtime import generator, normal
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.saddles.theory.staircase import predict_staircase
from paper.saddles.random_linear import moments_with_gaps

__all__ = ["Setting", "run"]


@dataclass(frozen=True)
class Setting:
    """covariance of the inputs; eta s_1; width; whether the start is diagonal in the singular
    vectors of Sigma_yx, with all modes of size epsilon, or Gaussian."""

    covariance: str = "commuting"
    relative_step: float = 0.05
    width: int = 100
    diagonal: bool = True


#: The first row meets the assumptions of all three, each other lacks one, the last all of them.
SETTINGS = {
    "all assumptions": Setting(),
    "Gaussian start": Setting(diagonal=False),
    "finite step": Setting(relative_step=0.5),
    "width 4": Setting(width=4),
    "generic inputs": Setting(covariance="generic"),
    "none of them": Setting("generic", 0.5, 4, False),
}


def _start(yx: Tensor, setting: Setting) -> Tensor:
    """Units (m1, m0 + m2) of size one."""
    m2, m0 = yx.shape
    if not setting.diagonal:
        g = generator("assumptions/start")
        return normal(setting.width, m0 + m2, generator=g, dtype=yx.dtype)
    u, _, vt = torch.linalg.svd(yx, full_matrices=False)
    units = yx.new_zeros(setting.width, m0 + m2)
    units[: len(u)] = torch.cat([vt, u.mT], -1)
    return units


def run(scale: float = 1e-12, problems: int = 4) -> xr.Dataset:
    """Relative errors of the times of drops 1 to 3, measured over predicted less one.

    alone (setting, problem, drop) : every mode by itself, log(1/epsilon)/s_k. greedy : each next
    direction from epsilon anew once the last has arrived. ours : `predict_staircase`.
    """
    parts = []
    for setting in SETTINGS.values():
        batch = moments_with_gaps(problems, covariance=setting.covariance)
        moments = stack_moments(batch)
        rates = torch.linalg.svdvals(moments.yx)
        eta = setting.relative_step / rates[:, 0]
        theory = predict_staircase(moments, eta)
        start = torch.stack([_start(one.yx, setting) for one in batch])
        size = scale * float(torch.linalg.matrix_norm(start, ord=2).mean())
        ours = theory.drop_steps(size)[:, :3]
        track = follow_modes(
            moments,
            scale * start,
            step_size=eta,
            steps=int(1.2 * float(ours.max())),
            every=max(1, round(0.1 / setting.relative_step)),
            keep=(),
        )
        middle = (theory.levels[:, 1:4] + theory.levels[:, :3]) / 2
        steps = crossing_steps(track.losses, middle, track.steps)
        wait = -math.log(size) / eta[:, None]
        greedy = (wait / theory.escape_rates[:, :3]).cumsum(-1)
        data = {"alone": wait / rates[:, :3], "greedy": greedy, "ours": ours}
        errors = {name: (("problem", "drop"), steps / x - 1) for name, x in data.items()}
        parts.append(xr.Dataset(errors))
    return xr.concat(parts, "setting").assign_coords(setting=list(SETTINGS), drop=[1, 2, 3])
