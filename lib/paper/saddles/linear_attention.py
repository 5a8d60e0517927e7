"""Linear attention learns linear regression in context one principal component at a time.

A sequence holds N pairs (x_i, y_i) and a query x, with x_i, x ~ N(0, Sigma), y_i = w'x_i and
w ~ N(0, I). With xi = mean of y_i x_i, attention without softmax and with H heads of rank one
answers xi' U x, U = sum over heads of v k q'. Its loss over all sequences is

    L = tr(Sigma)/2 - tr(Sigma U Sigma) + tr(Xi U Sigma U')/2,
    Xi = E xi xi' = (1 + 1/N) Sigma^2 + tr(Sigma) Sigma/N,

the problem of Zhang, Singh, Latham and Saxe (2025).
"""

from dataclasses import dataclass, replace

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.runtime import generator, normal
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.claims import Evidence, claim

__all__ = ["Config", "field", "loss", "moments", "predict", "run"]


@dataclass(frozen=True)
class Config:
    """draws : starts, Gaussian of standard deviation `scale`. context : N. Eigenvalues of Sigma
    are 1/d, d = 1 .. inputs, over their sum."""

    draws: int = 20
    inputs: int = 4
    context: int = 32
    heads: int = 8
    scale: float = 3e-3
    step_size: float = 1.0
    every: int = 20

    def quick(self) -> "Config":
        return replace(self, draws=2, scale=6e-3)


def moments(config: Config) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Eigenvalues of Sigma and of Xi, which share their eigenvectors."""
    spectrum = 1 / torch.arange(1, config.inputs + 1, dtype=torch.float64)
    spectrum = spectrum / spectrum.sum()
    return spectrum, (1 + 1 / config.context) * spectrum**2 + spectrum / config.context


def loss(
    u: Float[Tensor, "*draws d d"], spectrum: Float[Tensor, " d"], a: Float[Tensor, " d"]
) -> Float[Tensor, "*draws"]:
    """L of the map U, for the `moments`."""
    gained = (spectrum**2 * u.diagonal(dim1=-2, dim2=-1)).sum(-1)
    return spectrum.sum() / 2 - gained + (a[:, None] * u**2 * spectrum).sum((-2, -1)) / 2


def field(
    u: Float[Tensor, "*draws d d"], spectrum: Float[Tensor, " d"], a: Float[Tensor, " d"]
) -> Float[Tensor, "*draws d d"]:
    """-dL/dU."""
    return torch.diag(spectrum**2) - a[:, None] * u * spectrum


Heads = tuple[Tensor, Tensor, Tensor]


def _step(heads: Heads, field: Tensor, eta: float) -> Heads:
    """One step of v (draw, head, 1), k, q (draw, head, d) in the field -dL/dU (draw, d, d)."""
    v, k, q = heads
    right, left = q @ field.mT, k @ field
    return v + eta * (k * right).sum(-1, keepdim=True), k + eta * v * right, q + eta * v * left


def _starts(config: Config) -> Heads:
    sources = [generator("linear-attention", i) for i in range(config.draws)]
    v, k, q = (
        torch.stack([normal(config.heads, m, generator=g, dtype=torch.float64) for g in sources])
        for m in (1, config.inputs, config.inputs)
    )
    return config.scale * v, config.scale * k, config.scale * q


def predict(config: Config) -> Float[Tensor, "draw drop"]:
    """Steps of all drops, from the start alone.

    At a saddle with the components C learned the field is that of the others, Sigma^2 outside C,
    and stands still; each head moves in it by itself. The head that first brings v k_d q_d to half
    of its final value, lambda_d/zeta_d, learns d; it is taken out, and so is d from the field.
    """
    spectrum, a = moments(config)
    heads, left = _starts(config), torch.ones(config.draws, config.inputs, dtype=torch.float64)
    found, rows = torch.full_like(left, torch.nan), torch.arange(config.draws)
    number = torch.zeros(config.draws, dtype=torch.long)
    step = 0
    while bool((number < config.inputs).any()):
        step += 1
        heads = _step(heads, torch.diag_embed(left * spectrum**2), config.step_size)
        v, k, q = heads
        share = v * k * q / (spectrum / a) * left[:, None]
        here = share.flatten(1).max(-1)
        for i in rows[here.values >= 0.5].tolist():
            head, d = divmod(int(here.indices[i]), config.inputs)
            found[i, number[i]], left[i, d] = step, 0.0
            number[i] += 1
            for part in heads:
                part[i, head] = 0.0
    return found


def run(config: Config = Config()) -> xr.Dataset:
    """loss (draw, step); level (rank), with so many components learned; at, rank_of_u (draw,
    plateau): loss, and rank of U, at the slowest step between two drops; measured, predicted (draw,
    drop): steps of the drops."""
    spectrum, a = moments(config)
    heads, predicted = _starts(config), predict(config)
    losses, maps = [], []
    for step in range(int(1.2 * float(predicted.max()))):
        v, k, q = heads
        u = (v * k).mT @ q
        if step % config.every == 0:
            losses.append(loss(u, spectrum, a))
            maps.append(u)
        heads = _step(heads, field(u, spectrum, a), config.step_size)
    curve, u = torch.stack(losses, -1), torch.stack(maps, 1)
    steps = torch.arange(curve.shape[-1]) * config.every
    drops = spectrum**3 / a / 2
    level = spectrum.sum() / 2 - torch.cat([torch.zeros_like(drops[:1]), drops.cumsum(0)])
    middle = ((level[1:] + level[:-1]) / 2).expand(config.draws, -1)
    measured = crossing_steps(curve, middle, steps)
    speed = curve.diff(dim=-1).abs()
    at, rank = [], []
    for m in range(1, config.inputs):
        inside = (steps[1:] > measured[:, m - 1 : m]) & (steps[1:] < measured[:, m : m + 1])
        slow = torch.where(inside, speed, torch.inf).argmin(-1, keepdim=True)
        at.append(curve.gather(1, slow)[:, 0])
        values = torch.linalg.svdvals(u[torch.arange(config.draws), slow[:, 0]])
        rank.append((values > 0.05 * values[:, :1]).sum(-1))
    return xr.Dataset(
        {
            "loss": (("draw", "step"), curve),
            "level": ("rank", level),
            "at": (("draw", "plateau"), torch.stack(at, -1)),
            "rank_of_u": (("draw", "plateau"), torch.stack(rank, -1)),
            "measured": (("draw", "drop"), measured),
            "predicted": (("draw", "drop"), predicted),
        },
        {"step": steps},
    )


@claim("saddles/linear-attention", Config, run)
def linear_attention(result: xr.Dataset) -> Evidence:
    """Relative errors of the times of all drops, predicted from the start.

    details: largest distance from the level at the slowest step of a plateau, over L(0); how many
    plateaus have another rank of U than drops so far; plateaus.
    """
    inner = result.level.values[1:-1]
    return Evidence(
        measured=(result.measured / result.predicted - 1).values.ravel(),
        predicted=0.0,
        tolerance=0.05,
        seeds=range(result.sizes["draw"]),
        details={
            "level_error": float(abs(result["at"] - inner).max() / result.level[0]),
            "other_rank": int((result.rank_of_u != range(1, len(inner) + 1)).sum()),
            "plateaus": result["at"].size,
        },
    )
