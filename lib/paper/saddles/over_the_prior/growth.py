"""How fast anything grows beside the k leading directions, over random problems."""

import math

import numpy as np
import torch
import xarray as xr

from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory.alignment import update_matrix
from learning_dynamics.saddles.theory.growth_bound import growth_bound, leading_projector
from learning_dynamics.saddles.theory.staircase import predict_staircase, visited_map
from paper.saddles.over_the_prior.draws import draw

__all__ = ["growth"]


def growth(number: int) -> xr.Dataset:
    """The bound on sigma_{k+1}(S) a step, k = 1 .. 3, plain descent from epsilon = 1e-6.

    compared (k) : steps compared, those with sigma_{k+1} above 1e-6 sigma_1; broken (k) : steps
    at which it grew by more. grown, bound, known (k) : logarithms of growth between escapes k and
    k + 1, of the product of the bounds, and of what is known beforehand; NaN without the two.
    """
    drawn, eta, starts, _ = draw(number)
    moments, most = drawn.problem.moments(), 3
    names = ("compared", "broken", "grown", "bounded", "known")
    found = {name: np.full(most, np.nan) for name in names}
    times = predict_staircase(moments, eta).drop_steps(1e-6 * drawn.width**0.5)
    count = int((times[: most + 1] <= 2000).sum())
    if count:
        track = follow_modes(
            stack_moments([moments]),
            torch.linalg.qr(starts[:1])[1] * 1e-6,  # the same run with the fewest units
            step_size=eta,
            steps=int(1.1 * float(times[count - 1]) + 10),
            every=1,
            rotate_every=None,
            keep=("modes", "units"),
        )
        s, modes, m0 = track.units[0], track.modes[0], len(moments.xx)
        residual = moments.yx - s[..., m0:].mT @ s[..., :m0] @ moments.xx
        update = update_matrix(residual[:-1], eta)
        full = torch.linalg.svdvals(visited_map(moments, min(count, min(moments.yx.shape)), eta))
        fastest = float(torch.linalg.matrix_norm(residual, ord=2).max())
        for k in range(1, min(most, s.shape[1] - 1, s.shape[2] - 1) + 1):
            factor = growth_bound(update, leading_projector(s[:-1], k))
            before, after = modes[:-1, k], modes[1:, k]
            held = before > 1e-6 * modes[:-1, 0]
            found["compared"][k - 1] = int(held.sum())
            found["broken"][k - 1] = int((held & (after > factor * before * (1 + 1e-9))).sum())
            if k < count:
                a, b = (
                    (modes[:, j] >= 0.1 * (2 * full[j]) ** 0.5).long().argmax() for j in (k - 1, k)
                )
                if 0 < a < b and bool(held[a:b].all()):
                    found["grown"][k - 1] = float((modes[b, k] / modes[a, k]).log())
                    found["bounded"][k - 1] = float(factor[a:b].log().sum())
                    found["known"][k - 1] = float((b - a) * math.log1p(eta * fastest))
    return xr.Dataset(
        {name: ("k", value) for name, value in found.items()}, {"k": range(1, most + 1)}
    )
