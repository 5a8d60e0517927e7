"""Is the training of a real net a series of low-rank steps? A small convolutional net on digits.

Two convolutions of 3 x 3 with ReLU, the second with stride 2, and a linear readout; full-batch
gradient descent. A *step* is what happens between two plateaus of the loss, as
`saddles.find_drops` finds them; it is of *low rank* if in every layer the change of the matrix
(kernels unfolded) has a participation rank, (sum s^2)^2/sum s^4, of at most `LOW`. The record is
written by `python -m paper.saddles.nonlinear.real_net`.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
import xarray as xr
from torch import Tensor

from learning_dynamics.data import digits
from learning_dynamics.runtime import generator, normal
from learning_dynamics.saddles.theory.stages import find_drops
from paper.claims import Evidence, claim
from paper.records import provenance, read_record, write_record

__all__ = ["Config", "measure", "participation_rank", "real_net_steps", "run"]

#: Stated before the runs of `Config`, after one pilot run each; random changes have 4, 13 and 10.
LOW = 2.0
PROMINENCE = 0.5  # of a drop, in log speed
SHAPES = {"conv 1": (8, 9), "conv 2": (16, 72), "readout": (10, 256)}
STEP_SIZE = {"cross-entropy": 0.04, "squared": 0.02}
MOST = 8  # steps of a run that are kept


@dataclass(frozen=True)
class Config:
    """scales : factors of He's standard deviation, the last being the control. every : steps
    between records. thin : one image in so many of scikit-learn's digits."""

    scales: tuple[float, ...] = (0.1, 1.0)
    seeds: int = 1
    steps: int = 2000
    every: int = 8
    thin: int = 8
    record: str | None = "real-net-steps"

    def quick(self) -> "Config":
        return replace(self, steps=400, thin=24, record=None)


def participation_rank(change: Tensor) -> Tensor:
    """(sum s^2)^2/sum s^4 of the singular values s: 1 for rank one, k for k equal ones."""
    square = torch.linalg.svdvals(change).square()
    return square.sum(-1).square() / square.square().sum(-1)


def _outputs(weights: list[Tensor], images: Tensor) -> Tensor:
    """(n, 10) from images (n, 1, 8, 8)."""
    first, second, readout = weights
    hidden = functional.relu(first @ functional.unfold(images, 3, padding=1)).unflatten(2, (8, 8))
    hidden = functional.relu(second @ functional.unfold(hidden, 3, padding=1, stride=2))
    return hidden.flatten(1) @ readout.T


def _train(loss: str, scale: float, seed: int, config: Config) -> xr.Dataset:
    """loss (step); rank (change, layer): participation rank of the change of a layer from plateau
    to plateau; ends (change): its last step; accuracy: of test images."""
    split = digits(source="sklearn")
    problems = (split.train, split.test)
    (x, y), (test_x, test_y) = ((p.inputs.T.reshape(-1, 1, 8, 8), p.targets.T) for p in problems)
    x, y, source = x[:: config.thin], y[:: config.thin], generator("real-net", seed)
    weights = []
    for rows, columns in SHAPES.values():
        gain = (1 if rows == 10 else 2) / columns
        w = normal(rows, columns, generator=source, dtype=x.dtype)
        weights.append((scale * gain**0.5 * w).requires_grad_())
    losses, kept = [], []
    for step in range(config.steps + 1):
        f = _outputs(weights, x)
        if loss == "squared":
            value = (f - y).square().sum(1).mean() / 2
        else:
            value = functional.cross_entropy(f, y)
        if step % config.every == 0:
            losses.append(value.detach())
            kept.append([w.detach().clone() for w in weights])
        gradients = torch.autograd.grad(value, weights)
        with torch.no_grad():
            for w, gradient in zip(weights, gradients, strict=True):
                w -= STEP_SIZE[loss] * gradient
    curve, steps = torch.stack(losses), torch.arange(len(losses)) * config.every
    _, rests = find_drops(curve, steps, prominence=PROMINENCE)
    pairs = list(zip(rests.tolist(), rests.tolist()[1:], strict=False))[:MOST]
    rank = torch.full((MOST, len(SHAPES)), torch.nan, dtype=x.dtype)
    ends = torch.full((MOST,), torch.nan)
    for i, (start, end) in enumerate(pairs):
        ends[i] = steps[end]
        for layer, (old, new) in enumerate(zip(kept[start], kept[end], strict=True)):
            rank[i, layer] = participation_rank(new - old)
    with torch.no_grad():
        right = _outputs(weights, test_x).argmax(1) == test_y.argmax(1)
    return xr.Dataset(
        {
            "loss": ("step", curve),
            "rank": (("change", "layer"), rank),
            "ends": ("change", ends),
            "accuracy": right.double().mean(),
        },
        {"step": steps, "layer": list(SHAPES), "change": range(1, MOST + 1)},
    )


def measure(config: Config = Config()) -> xr.Dataset:
    """The variables of `_train` for each objective, scale and seed."""
    runs = [
        [[_train(*case, seed, config) for seed in range(config.seeds)] for case in cases]
        for cases in ([(loss, scale) for scale in config.scales] for loss in STEP_SIZE)
    ]
    result = xr.combine_nested(runs, ["objective", "scale", "seed"])
    return result.assign_coords(objective=list(STEP_SIZE), scale=list(config.scales))


def run(config: Config = Config()) -> xr.Dataset:
    """The record of `measure()` where the configuration names one; else `measure(config)`."""
    return read_record(config.record) if config.record else measure(config)


@claim("saddles/real-net-steps", Config, run)
def real_net_steps(result: xr.Dataset) -> Evidence:
    """The largest participation rank, over layers, of each step from a small start."""
    most = result["rank"].max("layer")
    small, control = most.isel(scale=0), most.isel(scale=-1)
    ranks = result["rank"].isel(scale=0)
    return Evidence(
        measured=small.values[small.notnull().values],
        predicted=LOW,
        tolerance=0.0,
        seeds=range(result.sizes["seed"]),
        details={
            "steps": small.notnull().sum("change").values.ravel(),
            "first": small.isel(change=0).values.ravel(),
            "layers": ranks.median(["objective", "seed", "change"]).values,
            "control": control.values[control.notnull().values],
            "accuracy": float(result.accuracy.min()),
        },
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    attributes = {"config": repr(Config()), **provenance()}
    write_record(str(Config().record), measure().assign_attrs(attributes))
