"""What anisotropic inputs change: rotation, order of learning, strength of plateaus, test error."""

from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.problems import Moments, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.modes import ModeRun, follow_modes, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.alignment import escape
from learning_dynamics.saddles.theory.stages import first_record
from paper.claims import Evidence
from paper.saddles.descent.constrained_phase import rest_record
from paper.saddles.plateau import alignment as plateau_alignment
from paper.saddles.random_linear import problems_with_gaps, stack_problems, unit_starts

__all__ = [
    "Bend",
    "NoiseErrors",
    "Order",
    "Rotation",
    "bend",
    "errors_under_noise",
    "evidence",
    "order",
    "predicted_rotation",
    "rotation",
    "strength",
]


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


@dataclass(frozen=True)
class Rotation:
    """measured, predicted : (problem, side) degrees, sides input and output."""

    measured: Float[Tensor, "problem side"]
    predicted: Float[Tensor, "problem side"]


def rotation(
    problems: int = 20, covariance: str = "generic", scale: float = 1e-60, early: float = 1e-3
) -> Rotation:
    """Turn of the top direction of S from sigma_1(S) = `early` to the rest on saddle 1."""
    batch = [p.moments() for p in problems_with_gaps(problems, covariance=covariance)]
    each = stack_moments(batch)
    eta = 0.3 / staircase.predict_staircase(each).escape_rates[:, 0]
    last = staircase.predict_staircase(each, eta).drop_steps(scale)[:, 1].max()
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

    begin = top(first_record(track.modes[..., 0] >= early))
    end = top(rest_record(track, 1))
    m0 = each.xx.shape[-1]
    sides = [_angle(begin[:, part], end[:, part]) for part in (slice(0, m0), slice(m0, None))]
    return Rotation(torch.stack(sides, dim=-1), predicted_rotation(each))


def strength(problems: int = 10) -> xr.Dataset:
    """Exponents of alignment at escapes 1 to 3, eta s_1 = 0.3, from scales far below the others."""
    return plateau_alignment.run(
        plateau_alignment.Config(
            problems=problems, scales=(1e-12, 1e-16, 1e-20), relative_steps=(0.3,)
        )
    )


@dataclass(frozen=True)
class Bend:
    """One problem with two inputs and one output: moments, all unit paths, the learned map."""

    moments: Moments
    units: Float[Tensor, "record unit coordinate"]
    product: Float[Tensor, "record input"]


def bend(covariance: str = "generic", width: int = 8, scale: float = 1e-6) -> Bend:
    """Two inputs, one output: the path that bends from Sigma_xx W*' to W*'.

    "generic": the target lies between the principal axes of the inputs; "commuting": along the
    second of them; "isotropic": Sigma_xx = I.
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
        unit_starts(1, (scale,), (width, 3), seed="bend"),
        step_size=0.02,
        steps=4000,
        every=1,
        rotate_every=None,
        keep=("units",),
    )
    units = track.units[0]
    return Bend(moments, units, (units[..., 2:].mT @ units[..., :2])[:, 0])


@dataclass(frozen=True)
class Order:
    """Loss curves for inputs turned by each angle away from commuting.

    angles : degrees. levels : losses with no mode, mode 1 (largest correlation), mode 2 alone
    (the rank-1 optimum), both; for angle 0.
    """

    angles: tuple[float, ...]
    track: ModeRun
    levels: tuple[float, float, float, float]


def order(
    angles: tuple[float, ...] = (0.0, 0.1, 2.0, 20.0), scale: float = 1e-10, steps: int = 700
) -> Order:
    """Two modes: the first has the larger correlation s, the second the larger gain mu.

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
    total = sum(mu) / 2
    return Order(angles, track, (total, total - mu[0] / 2, total - mu[1] / 2, 0.0))


@dataclass(frozen=True)
class NoiseErrors:
    """Error on noiseless targets, 1/2 tr((W - W*) Sigma_xx (W - W*)'), per covariance.

    steps : (records,). curves : name -> (problem, records). saddles : name -> (problem, level),
    at the rank-k optima. large : name -> (problem,), at the end from a large start.
    """

    steps: Int[Tensor, " records"]
    curves: dict[str, Tensor]
    saddles: dict[str, Tensor]
    large: dict[str, Tensor]


def errors_under_noise(problems: int = 20, noise: float = 1.0, steps: int = 1500) -> NoiseErrors:
    """Noisy targets of a rank-2 teacher: error along the run and at each saddle.

    The same spectra, starts and noise level for isotropic, commuting and generic inputs.
    """
    curves: dict[str, Tensor] = {}
    saddles: dict[str, Tensor] = {}
    large: dict[str, Tensor] = {}
    for covariance in ("isotropic", "commuting", "generic"):
        data = [
            linear_teacher(
                generator=generator("anisotropy-test-error", i),
                covariance=covariance,
                target_spectrum=(2.0, 1.5),
                noise=noise,
            )
            for i in range(problems)
        ]
        each = stack_moments([p.moments() for p in data])
        teacher = stack_problems(data)[1]
        eta = 0.2 / escape(each.yx).rate

        def error(w: Tensor, each: Moments = each, teacher: Tensor = teacher) -> Tensor:
            gap = w - (teacher if w.ndim == 3 else teacher[:, None])
            xx = each.xx if w.ndim == 3 else each.xx[:, None]
            return 0.5 * ((gap @ xx) * gap).sum((-2, -1))

        for scale, kept in ((1e-10, curves), (0.5, large)):
            track = follow_modes(
                each,
                unit_starts(problems, (scale,), (10, 10), seed="test-error"),
                step_size=eta,
                steps=steps,
                every=5,
                keep=("units",),
            )
            path = error(track.units[..., 6:].mT @ track.units[..., :6])
            kept[covariance] = path if kept is curves else path.amin(-1)
        ranks = [error(staircase.rank_k_map(each, k)) for k in range(5)]
        saddles[covariance] = torch.stack(ranks, dim=-1)
    return NoiseErrors(track.steps, curves, saddles, large)


def evidence(quick: bool = False) -> Evidence:
    """For `saddles/anisotropy`: rotation angles (degrees) and strengths of the second plateau
    (exponent at escape 2), predicted and measured, then the angles of isotropic inputs."""
    count = 8 if quick else 24
    turned = rotation(count)
    straight = rotation(4 if quick else 12, covariance="isotropic")
    strong = strength(count)
    second = strong.isel(relative_step=0).sel(escape=2)
    return Evidence(
        measured=[round(float(x), 4) for x in turned.measured.flatten()],
        predicted=[round(float(x), 4) for x in turned.predicted.flatten()],
        tolerance=2.0,
        seeds=list(range(count)),
        details={
            "strength_error": float(abs(second.measured - second.predicted).max()),
            "weakest_second_plateau": float(second.predicted.min()),
            "isotropic_rotation": float(straight.measured.max()),
            "largest_rotation": float(turned.measured.max()),
        },
    )
