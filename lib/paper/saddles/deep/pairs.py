"""Layer-wise, read as: the two matrices around one hidden layer, the others held at their start.

The unit of Arata's thesis is a row of W_l with a column of W_{l+1}. With A and B the products of
the held matrices above and below, the pair is a two-layer net with the map A W_{l+1} W_l B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.saddles.deep_nets import (
    flow_until,
    layer_size,
    layerwise_descent,
    rank_ratios,
)
from paper.claims import Evidence, claim
from paper.records import read_record, write_record
from paper.saddles.deep import escape
from paper.saddles.deep.escape import by_scale, draw, leading_direction, power, stacked

__all__ = ["Config", "main", "pairs_in_turn", "pairwise", "recorded", "run"]


@dataclass(frozen=True)
class Config:
    """draws  : per depth, pair by pair in turn, none passed over.
    growth : factors by which the pair grows on its plateau, epsilon = growth^(-2/L).
    turns  : of `pairs_in_turn`, draws of depth 3, scales, and steps a turn."""

    draws: int = 22
    depths: tuple[int, ...] = (3, 4, 5)
    growth: tuple[float, ...] = (1e5, 1e7, 1e9)
    escaped: float = 0.1
    turns: tuple[int, tuple[float, ...], int] = (6, (1e-7, 1e-9, 1e-11), 3)

    def quick(self) -> "Config":
        return replace(self, draws=5, turns=(1, self.turns[1], 3))


def _product(weights: Sequence[Tensor], size: int) -> Tensor:
    """W_k ... W_1 of every run, the identity of the given size if there is none."""
    return reduce(lambda below, w: w @ below, weights, torch.eye(size, dtype=torch.float64))


def run(config: Config = Config()) -> xr.Dataset:
    """One pair of layers of each draw, trained alone to its escape, from several scales.

    Dimensions depth, draw (and scale). alignment, alignment_predicted : power of epsilon in
    sigma_2/sigma_1, the mean of the two matrices, and (L/2)(1 - g) with g from the singular values
    s_1 > s_2 of A' Sigma_yx B'; length : steps times log(1 + eta s_1) per log(1/epsilon),
    length_predicted : L/2. error : of the alignment, (L/2) d growth^-d with d = g - g_3, from the
    third mode behind the second.
    """
    parts = []
    for depth in config.depths:
        pairs = [_train(depth, low, config) for low in range(depth - 1)]
        parts.append(xr.concat(pairs, "draw").sortby("draw").drop_vars("draw"))
    return xr.concat(parts, "depth").assign_coords(depth=list(config.depths))


def _train(depth: int, low: int, config: Config) -> xr.Dataset:
    """The layers `low` and `low` + 1 of every (depth - 1)-th draw."""
    scales = tuple(float(f) ** (-2 / depth) for f in config.growth)
    many, unit = len(scales), torch.tensor(scales, dtype=torch.float64)
    index = range(low, config.draws, depth - 1)
    draws = [draw(depth, i) for i in index]
    one, all_runs = stacked(draws, (1.0,)), stacked(draws, scales)
    moments, h = one.problem.moments(), one.step
    below = _product(one.start[:low], moments.xx.shape[-1])
    above = _product(one.start[low + 2 :], one.start[low + 1].shape[1])
    u, s, v = torch.linalg.svd(above.mT @ moments.yx @ below.mT)
    seen, moved = below.mT @ v[:, 0, :, None], above @ u[..., :1]
    weight = (seen.mT @ moments.xx @ seen)[:, 0, 0] * moved.square().sum((1, 2))
    gain = 0.5 * s[:, 0] ** 2 / weight
    goal = 0.5 * moments.yy.diagonal(dim1=1, dim2=2).sum(1) - config.escaped * gain
    eta = all_runs.step / s[:, 0].repeat_interleave(many)
    track = layerwise_descent(
        all_runs.start,
        all_runs.problem,
        step_size=eta / unit.repeat(len(draws)) ** (depth - 2),
        sweeps=4000,
        schedule="simultaneous",
        layers=(low, low + 1),
        stop_loss=goal.repeat_interleave(many),
        record_at=torch.arange(0, 4001, 50),
    )
    if int(track.stopped_at.min()) < 1:
        raise ValueError(f"escaped = {config.escaped}: not passed in 4000 steps")
    pair = track.final[low : low + 2]

    def slope(x: Tensor, y: Tensor) -> Tensor:
        """Of y on x over the scales of each draw."""
        x, y = x.reshape(-1, many), y.reshape(-1, many)
        dx = x - x.mean(1, keepdim=True)
        return (dx * y).sum(1) / dx.square().sum(1)

    # Steps are finite: runs stop at slightly different sizes, which are divided out.
    grown = layer_size(pair).log() - unit.log().repeat(len(draws))
    g = torch.log1p(h[:, None] * s / s[:, :1]) / torch.log1p(h)[:, None]  # growth over mode 1's
    lag = g[:, 1] - g[:, 2]
    variables = {
        "alignment": -depth / 2 * slope(grown, rank_ratios(pair).log().mean(1)),
        "alignment_predicted": depth / 2 * (1 - g[:, 1]),
        "length": depth / 2 * slope(grown, track.stopped_at.double()) * torch.log1p(h),
        "length_predicted": torch.full_like(h, depth / 2),
        "error": depth / 2 * lag * config.growth[0] ** -lag,
    }
    return xr.Dataset({n: ("draw", v) for n, v in variables.items()}, {"draw": list(index)})


def pairs_in_turn(config: Config = Config()) -> xr.Dataset:
    """Pairs (1, 2), (2, 3) in turn, some steps each, depth 3: the middle layer is in both.

    ratio_power (draw, layer), astray_power (draw) : powers of epsilon of sigma_2/sigma_1 and of the
    tangent between W_1's leading direction and its limit; predicted : 1 - s_2/s_1, for the latter.
    """
    count, scales, block = config.turns
    # Inputs that do not turn the direction, and no tie.
    draws = [draw(3, i) for i in range(4 * count) if i % 3 and i % 5 < 4][:count]
    many = stacked(draws, scales)
    problem, s = many.problem, many.s
    small = (1e-3 * many.scale) ** (1 / 3)
    weights, _ = flow_until(many.start, problem, small, speeds=(1, 2, 1))
    eta, gain = many.step / s[:, 0] / many.scale ** (1 / 3), 0.5 * s[:, 0] * many.scale
    goal = 0.5 * problem.targets.square().sum(1).mean(1) - config.escaped * gain
    for turn in range(4000):
        done = layerwise_descent(
            weights,
            problem,
            step_size=eta,
            sweeps=block,
            schedule="simultaneous",
            layers=(turn % 2, turn % 2 + 1),
            stop_loss=goal,
            record_at=torch.tensor([0]),
        )
        weights = done.final
        if bool((done.stopped_at == 0).all()):
            break
    side = leading_direction(weights, many.left, many.right)[0][:, 0]
    end = xr.Dataset(
        {
            "size": by_scale(layer_size(weights), scales),
            "ratio": by_scale(rank_ratios(weights), scales, "layer"),
            "astray": by_scale(side, scales),
        }
    )
    x = xr.DataArray(np.log(scales), dims="scale") - np.log(end["size"])
    powers = {f"{name}_power": power(x, end[name]) for name in ("ratio", "astray")}
    return xr.Dataset(powers | {"predicted": ("draw", 1 - (s[:, 1] / s[:, 0])[:: len(scales)])})


def recorded(config: Config = Config()) -> xr.Dataset:
    """`run`, of the default configuration from results/deep_pairs.nc."""
    return read_record("deep_pairs") if config == Config() else run(config)


@claim("saddles/pairwise-layers", Config, recorded, pairs_in_turn)
def pairwise(result: xr.Dataset, turns: xr.Dataset) -> Evidence:
    """Alignment and length of the plateau of one pair; pairs in turn beside it.

    tolerance : 0.005 and five times (for the constants) the error that the theory itself foresees.
    """
    details = {
        "draws": result.alignment.size,
        "median_error": abs(result.alignment - result.alignment_predicted).median(),
        "length_error": abs(result.length / result.length_predicted - 1).max(),
        "turns_ratio_error": abs(turns.ratio_power - 1).max(),
        "turns_direction_error": abs(turns.astray_power - turns.predicted).max(),
    }
    tolerance = 0.005 + 5 * result.error
    seeds = range(result.sizes["draw"])
    return Evidence(result.alignment, result.alignment_predicted, tolerance, seeds, details)


def main() -> None:
    """Run what the chapter shows and write results/deep*.nc (some minutes)."""
    config = escape.Config()
    write_record("deep", escape.run(config))
    write_record("deep_relu", escape.relu(config))
    write_record("deep_pairs", run())


if __name__ == "__main__":
    main()
