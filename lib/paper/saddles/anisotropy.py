"""What anisotropic inputs change: rotation, order of learning, strength of plateaus, test error."""

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Moments, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.alignment import escape
from learning_dynamics.saddles.theory.stages import first_record
from paper.claims import Evidence
from paper.saddles.descent.constrained_phase import rest_record
from paper.saddles.plateau import alignment as plateau_alignment
from paper.saddles.random_linear import (
    at_relative_step,
    moments_with_gaps,
    stack_problems,
    unit_starts,
)

__all__ = ["bend", "errors_under_noise", "evidence", "order", "predicted_rotation", "rotation"]


def _angle(x: Tensor, y: Tensor) -> Tensor:
    """Angle in degrees between the lines along two sets of vectors (..., size)."""
    x, y = x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)
    cosine = (x * y).sum(-1).abs()
    sine = (x - (x * y).sum(-1, keepdim=True) * y).norm(dim=-1)
    return torch.rad2deg(torch.atan2(sine, cosine))


def predicted_rotation(moments: Moments) -> Float[Tensor, "*runs side"]:
    """Degrees between the escape pair of Sigma_yx and the rank-1 optimum: input, output side.

    On the input side from v to Sigma_xx^-1 Sigma_yx' u', on the output side from u to u', with
    (u, v) the top singular pair of Sigma_yx and u' the top eigenvector of
    Sigma_yx Sigma_xx^-1 Sigma_yx'. Zero for isotropic inputs.
    """
    m0 = moments.xx.shape[-1]
    direction = escape(moments.yx).direction
    u, _, v = torch.linalg.svd(staircase.rank_k_map(moments, 1), full_matrices=False)
    inputs = _angle(direction[..., :m0], v[..., 0, :])
    return torch.stack([inputs, _angle(direction[..., m0:], u[..., :, 0])], dim=-1)


def rotation(problems: int = 20, covariance: str = "generic") -> xr.Dataset:
    """Degrees by which the top direction of S turns from sigma_1(S) = 0.001 to saddle 1:
    measured, predicted (problem, side)."""
    batch, scale = moments_with_gaps(problems, covariance=covariance), 1e-60
    each, eta, theory = at_relative_step(batch, 0.3)
    last = theory.drop_steps(scale)[:, 1].max()
    track = follow_modes(
        each,
        unit_starts(len(batch), (scale,), (10, 10), seed="rotation"),
        step_size=eta,
        steps=int(1.1 * float(last)) + 100,
        keep=("modes", "units"),
    )
    rows = torch.arange(len(batch))

    def top(record: Tensor) -> Tensor:
        return torch.linalg.svd(track.units[rows, record], full_matrices=False)[2][:, 0]

    begin = top(first_record(track.modes[..., 0] >= 1e-3))
    end = top(rest_record(track, 1))
    m0 = each.xx.shape[-1]
    sides = [_angle(begin[:, part], end[:, part]) for part in (slice(0, m0), slice(m0, None))]
    dims = ("problem", "side")
    found = {"measured": torch.stack(sides, dim=-1), "predicted": predicted_rotation(each)}
    names = ["input side", "output side"]
    return xr.Dataset({name: (dims, x) for name, x in found.items()}, {"side": names})


def bend(covariance: str = "generic") -> xr.Dataset:
    """Two inputs, one output: the path that bends from Sigma_xx W*' to W*'.

    "generic": the target lies between the principal axes of the inputs; "commuting": along the
    second of them; "isotropic": Sigma_xx = I. xx (input, other), yx (input), turn (side), see
    `predicted_rotation`; product (record, input), the learned map.
    """
    target = torch.tensor([[0.6, 1.2]], dtype=torch.float64)
    xx = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64))
    if covariance == "isotropic":
        xx = torch.eye(2, dtype=torch.float64)
    if covariance == "commuting":
        target = torch.tensor([[0.0, target.norm()]], dtype=torch.float64)
    moments = Moments(xx, target @ xx, target @ xx @ target.mT)
    track = follow_modes(
        stack_moments([moments]),
        unit_starts(1, (1e-6,), (8, 3), seed="bend"),
        step_size=0.02,
        steps=4000,
        every=1,
        rotate_every=None,
        keep=("units",),
    )
    units = track.units[0]
    variables = {
        "xx": (("input", "other"), moments.xx),
        "yx": ("input", moments.yx[0]),
        "turn": ("side", predicted_rotation(moments)),
        "product": (("record", "input"), (units[..., 2:].mT @ units[..., :2])[:, 0]),
    }
    return xr.Dataset(variables)


def order(
    angles: tuple[float, ...] = (0.0, 0.1, 2.0, 20.0), scale: float = 1e-10, steps: int = 700
) -> xr.Dataset:
    """Loss (angle, step) for inputs turned by each angle, degrees, away from commuting.

    Two modes: the first has the larger correlation s, the second the larger gain mu. level
    (learned) : at angle 0, with mode 1 or mode 2 (the rank-1 optimum) alone.

    Sigma_xx = Q diag(4, 0.5) Q', teacher diag(0.6, 3): at angle 0, s = (2.4, 1.5) and
    mu = (1.44, 4.5).
    """
    batch = []
    teacher = torch.diag(torch.tensor([0.6, 3.0], dtype=torch.float64))
    for angle in angles:
        t = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
        q = torch.stack([torch.stack([t.cos(), -t.sin()]), torch.stack([t.sin(), t.cos()])])
        xx = q @ torch.diag(torch.tensor([4.0, 0.5], dtype=torch.float64)) @ q.mT
        batch.append(Moments(xx, teacher @ xx, teacher @ xx @ teacher.mT))
    track = follow_modes(
        stack_moments(batch),
        unit_starts(1, (scale,), (4, 4), seed="order").repeat(len(batch), 1, 1),
        step_size=0.05,
        steps=steps,
        every=1,
    )
    mu = (1.44, 4.5)
    levels, learned = [mu[1] / 2, mu[0] / 2], ["mode 1", "mode 2"]
    variables = {"loss": (("angle", "step"), track.losses), "level": ("learned", levels)}
    coords = {"angle": list(angles), "step": track.steps, "learned": learned}
    return xr.Dataset(variables, coords)


def errors_under_noise(problems: int = 20, steps: int = 1500) -> xr.Dataset:
    """Error on noiseless targets, 1/2 tr((W - W*) Sigma_xx (W - W*)'), of a rank-2 teacher.

    error (covariance, problem, step) : along the run from a small start. saddle (covariance,
    problem, rank) : at the rank-k optima. The same spectra, starts and noise for every covariance.
    """
    kinds, results = ("isotropic", "commuting", "generic"), []
    for covariance in kinds:
        data = [
            linear_teacher(
                generator=generator("anisotropy-test-error", i),
                covariance=covariance,
                target_spectrum=(2.0, 1.5),
                noise=1.0,
            )
            for i in range(problems)
        ]
        each, teacher = stack_moments([p.moments() for p in data]), stack_problems(data)[1]

        def error(w: Tensor, each: Moments = each, teacher: Tensor = teacher) -> Tensor:
            """Of maps (..., problem, output, input)."""
            gap = w - teacher
            return 0.5 * ((gap @ each.xx) * gap).sum((-2, -1))

        track = follow_modes(
            each,
            unit_starts(problems, (1e-10,), (10, 10), seed="test-error"),
            step_size=0.2 / escape(each.yx).rate,
            steps=steps,
            every=5,
            keep=("units",),
        )
        units = track.units.transpose(0, 1)
        saddles = torch.stack([error(staircase.rank_k_map(each, k)) for k in range(5)])
        values = {
            "error": (("step", "problem"), error(units[..., 6:].mT @ units[..., :6])),
            "saddle": (("rank", "problem"), saddles),
        }
        results.append(xr.Dataset(values, {"step": track.steps}))
    return xr.concat(results, "covariance").assign_coords(covariance=list(kinds))


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/anisotropy`: rotation angles (degrees) and strengths of the second plateau
    (exponent at escape 2), predicted and measured, then the angles of isotropic inputs."""
    count = 8 if quick else 24
    turned = rotation(count)
    straight = rotation(4 if quick else 12, covariance="isotropic")
    config = plateau_alignment.Config(count, (1e-12, 1e-16, 1e-20), (0.3,))
    second = plateau_alignment.run(config).isel(relative_step=0).sel(escape=2)
    return Evidence(
        measured=turned.measured.values.ravel().round(4).tolist(),
        predicted=turned.predicted.values.ravel().round(4).tolist(),
        tolerance=2.0,
        seeds=list(range(count)),
        details={
            "strength_error": float(abs(second.measured - second.predicted).max()),
            "weakest_second_plateau": float(second.predicted.min()),
            "isotropic_rotation": float(straight.measured.max()),
            "largest_rotation": float(turned.measured.max()),
        },
    )
