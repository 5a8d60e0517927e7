"""Layer-wise, read as: the two matrices around one hidden layer, the others held at their start.

The unit of Arata's thesis is a row of W_l with a column of W_{l+1}. With A and B the products of
the held matrices above and below, the pair is a two-layer net with the map A W_{l+1} W_l B.
"""

from dataclasses import dataclass, replace

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
from paper.saddles.deep.escape import Draw, draw, leading_direction, power, slope, stacked

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


def _share(s: Tensor, mode: int, h: float) -> float:
    """g of a mode (from 0): its growth per step, in units of the first mode's."""
    return float(np.log1p(h * float(s[mode] / s[0])) / np.log1p(h))


def _product(weights: list[Tensor], size: int) -> Tensor:
    """W_k ... W_1, the identity of the given size if there is none."""
    out = torch.eye(size, dtype=torch.float64)
    for w in weights:
        out = w @ out
    return out


def run(config: Config = Config()) -> xr.Dataset:
    """One pair of layers of each draw, trained alone to its escape, from several scales.

    Dimensions depth, draw (and scale). alignment, alignment_predicted : power of epsilon in
    sigma_2/sigma_1, the mean of the two matrices, and (L/2)(1 - g) with g from the singular values
    s_1 > s_2 of A' Sigma_yx B'; length : steps times log(1 + eta s_1) per log(1/epsilon),
    length_predicted : L/2. grown : power of 1/epsilon by which the pair grows. error : of the
    alignment, (L/2) d growth^-d with d = g - g_3, from the third mode behind the second.
    """
    parts = []
    for depth in config.depths:
        rows: dict[int, dict[str, float]] = {}
        for low in range(depth - 1):
            index = range(low, config.draws, depth - 1)
            draws = [draw(depth, i) for i in index]
            rows |= dict(zip(index, _train(draws, depth, low, config), strict=True))
        ordered = [rows[i] for i in range(config.draws)]
        parts.append(xr.Dataset({n: ("draw", [r[n] for r in ordered]) for n in ordered[0]}))
    return xr.concat(parts, "depth").assign_coords(depth=list(config.depths))


def _train(draws: list[Draw], depth: int, low: int, config: Config) -> list[dict[str, float]]:
    """The layers `low` and `low` + 1 of some draws of one depth."""
    scales = tuple(float(f) ** (-2 / depth) for f in config.growth)
    many, unit = len(scales), torch.tensor(scales, dtype=torch.float64)
    weights, problem, (*_, step) = stacked(draws, scales)
    rates, goals = [], []
    for one in draws:
        moments = one.problem.moments()
        below = _product(list(one.start[:low]), len(moments.xx))
        above = _product(list(one.start[low + 2 :]), one.start[low + 1].shape[0])
        u, s, v = torch.linalg.svd(above.mT @ moments.yx @ below.mT)
        seen, moved = below.mT @ v[0], above @ u[:, 0]
        gain = 0.5 * s[0] ** 2 / (moved @ moved) / (seen @ moments.xx @ seen)
        rates.append(s)
        goals.append(0.5 * moments.yy.trace() - config.escaped * gain)
    first = torch.stack([s[0] for s in rates]).repeat_interleave(many)
    track = layerwise_descent(
        weights,
        problem,
        step_size=step / first / unit.repeat(len(draws)) ** (depth - 2),
        sweeps=4000,
        schedule="simultaneous",
        layers=(low, low + 1),
        stop_loss=torch.stack(goals).repeat_interleave(many),
        record_at=torch.arange(0, 4001, 50),
    )
    if int(track.stopped_at.min()) < 1:
        raise ValueError(f"escaped = {config.escaped}: not passed in 4000 steps")
    pair = track.final[low : low + 2]

    def array(values: Tensor) -> xr.DataArray:
        return xr.DataArray(values.reshape(len(draws), many).numpy(), dims=("draw", "scale"))

    # Steps are finite: runs stop at slightly different sizes, which are divided out.
    small = -unit.log().repeat(len(draws))
    grown = array(layer_size(pair).log() + small)
    aligned = -slope(grown, array(rank_ratios(pair).log().mean(1)))
    steps = slope(grown, array(track.stopped_at.double()))
    total = slope(array(small), grown)
    found = []
    for i, (one, s) in enumerate(zip(draws, rates, strict=True)):
        h = float(one.step)
        lag = _share(s, 1, h) - _share(s, 2, h)
        found.append(
            {
                "alignment": depth / 2 * float(aligned[i]),
                "alignment_predicted": depth / 2 * (1 - _share(s, 1, h)),
                "length": depth / 2 * float(steps[i]) * float(np.log1p(h)),
                "length_predicted": depth / 2,
                "grown": float(total[i]),
                "error": depth / 2 * lag * config.growth[0] ** -lag,
            }
        )
    return found


def pairs_in_turn(config: Config = Config()) -> xr.Dataset:
    """Pairs (1, 2), (2, 3) in turn, some steps each, depth 3: the middle layer is in both.

    ratio_power (draw, layer), astray_power (draw) : powers of epsilon of sigma_2/sigma_1 and of the
    tangent between W_1's leading direction and its limit; predicted : 1 - s_2/s_1, for the latter.
    """
    count, scales, block = config.turns
    # Inputs that do not turn the direction, and no tie.
    draws = [draw(3, i) for i in range(4 * count) if i % 3 and i % 5 < 4][:count]
    weights, problem, (left, right, scale, step) = stacked(draws, scales)
    s = torch.stack([d.s[:2] for d in draws]).repeat_interleave(len(scales), 0)
    small = (1e-3 * scale) ** (1 / 3)
    weights, _ = flow_until(weights, problem, small, speeds=(1, 2, 1))
    eta = step / s[:, 0] / scale ** (1 / 3)
    goal = 0.5 * problem.targets.square().sum(1).mean(1) - 0.5 * config.escaped * s[:, 0] * scale
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
    grid = len(draws), len(scales)
    coords = {"draw": range(grid[0]), "scale": list(scales)}

    def array(values: Tensor, *dims: str) -> xr.DataArray:
        return xr.DataArray(
            values.reshape(*grid, *values.shape[1:]), coords, ("draw", "scale", *dims)
        )

    x = np.log(array(layer_size(weights)).scale) - np.log(array(layer_size(weights)))
    astray = array(leading_direction(weights, left, right)[0][:, 0])
    return xr.Dataset(
        {
            "ratio_power": power(x, array(rank_ratios(weights), "layer")),
            "astray_power": power(x, astray),
            "predicted": ("draw", 1 - (s[:, 1] / s[:, 0])[:: grid[1]]),
        }
    )


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
