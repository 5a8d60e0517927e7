"""The upper end of r on real tasks: is a start richer than DP(1/2) worse, and at which step size?

ReLU nets from r = 0 to far beyond 1/2, at every place of the dial on one grid of step sizes. A
horizontal cut of the grid compares the places at one step size, the best of each column at their
own. The record is written by `python -m paper.together.one_axis.upper_end FOLDER`, in half a minute
on a GPU.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.activations import activation
from learning_dynamics.data.digits import digits, small_digits
from learning_dynamics.kernels.mlp_torch import Passes, hidden
from learning_dynamics.problems import Problem
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import initialise
from paper.claims import Evidence, claim
from paper.fits import mean_interval
from paper.records import provenance, read_record, write_record
from paper.training_runs import device

__all__ = ["TASKS", "Config", "at_best", "at_one", "larger_r", "measure", "run"]


@dataclass(frozen=True)
class Config:
    """nets : hidden widths. places : log2 of Lambda; r = 1/2 is 0, larger r is below.

    speeds : log2 of the step size in DP's units, which keep the first step's effect on the output.
    samples, test_samples : of the tasks. limit : seconds after which no further net is begun.
    """

    tasks: tuple[str, ...] = ("MNIST", "autoencoder")
    nets: tuple[tuple[int, ...], ...] = (
        (512, 16, 512, 16, 512),
        (256, 64, 256, 64, 256),
        (128, 128, 128, 128, 128),
    )
    places: tuple[float, ...] = (2, 1, 0, -1, -2, -3, -4, -5)
    speeds: tuple[float, ...] = tuple(k / 2 for k in range(-18, 7))
    seeds: tuple[int, ...] = tuple(range(10))
    samples: int = 256
    test_samples: int = 500
    steps: int = 250
    limit: float = 30.0
    record: str | None = "upper-end-of-r"

    def quick(self) -> "Config":
        return replace(
            self,
            nets=((64, 16, 64, 16, 64),),
            places=(0, -2, -3),
            speeds=(-3, -2, -1, 1),
            seeds=(0, 1, 2, 3),
            samples=60,
            test_samples=200,
            steps=100,
            limit=600.0,
            record=None,
        )


def reconstruct(samples: int, test_samples: int) -> tuple[Problem, Problem]:
    """Digits of 8 x 8 pixels as their own targets; centred, mean |x|^2 = 64, mean |y|^2 = 1."""
    split = digits(source="sklearn", centre=True, dtype=torch.float32)
    scale = split.train.inputs.square().mean().sqrt()
    stream = torch.Generator().manual_seed(0)

    def part(whole: Problem, size: int) -> Problem:
        index = torch.randperm(whole.inputs.shape[1], generator=stream)[:size]
        x = whole.inputs[:, index] / scale
        return Problem(x, x / 8)

    return part(split.train, samples), part(split.test, test_samples)


TASKS: dict[str, Callable[[int, int], tuple[Problem, Problem]]] = {
    "MNIST": small_digits,  # 49 pixels, centred
    "autoencoder": reconstruct,
}


def train(task: str, net: tuple[int, ...], config: Config) -> xr.Dataset:
    """The variables of `run` for one task and net, (place, speed, seed); full batch, float32."""
    sets = TASKS[task](config.samples, config.test_samples)
    (x, y), (x_test, y_test) = ((p.inputs.to(device()), p.targets.to(device())) for p in sets)
    widths = (len(x), *net, len(y))
    ntk = scheme("ntk")(widths)
    places, speeds = (torch.tensor(v, dtype=torch.float64) for v in (config.places, config.speeds))
    grid = torch.cartesian_prod(places, speeds)
    rho = 2 ** grid[:, 0] * min(net) ** -0.5
    eta = 2 ** grid[:, 1] * rho ** (2 / ntk.depth - 2)  # of weights rho^(1/L) times NTK's
    drawn = initialise(widths, ntk.weight_stds, config.seeds, device=device()).weights
    factor = (rho ** (1 / ntk.depth)).to(drawn[0])
    weights = [(factor[:, None, None, None] * w).flatten(0, 1) for w in drawn]
    eta = eta.repeat_interleave(len(config.seeds)).to(drawn[0])[:, None, None]
    seen = x_test[None, :, :100]

    def features() -> list[Tensor]:
        return hidden(weights, ntk.multipliers, seen)[1:-1]

    first, ones = features(), [1.0] * ntk.depth
    passes = Passes(weights, None, ntk.multipliers, ones, activation("relu"), eta)
    rows = x.mT.expand(len(eta), -1, -1)
    losses = []
    for step in range(config.steps + 1):
        residual = passes.forward(rows) - y.mT
        losses.append(residual.square().sum((1, 2)))
        if step < config.steps:
            passes.backward(residual / len(x.mT))
    loss = torch.stack(losses, 1) / y.square().sum()
    loss = loss.nan_to_num(torch.inf, torch.inf)
    gone = ~(loss.amax(1) < 1e4)
    loss = loss.masked_fill(gone[:, None], torch.inf)

    def below(level: float) -> Tensor:
        met = loss < level
        return torch.where(met.any(1), met.float().argmax(1), torch.inf)

    change = [
        (h - h0).flatten(1).norm(dim=1) / h0.flatten(1).norm(dim=1)
        for h, h0 in zip(features(), first, strict=True)
    ]
    del first
    f = hidden(weights, ntk.multipliers, x_test[None])[-1]
    test = (f - y_test).square().sum((1, 2)) / y_test.square().sum()
    found = {
        "plateau": below(0.95),
        "half": below(0.5),
        "train": loss[:, -1],
        "test": test.masked_fill(gone, torch.inf),
        "change": torch.stack(change).mean(0).masked_fill(gone, torch.nan),
    }
    shape = (len(config.places), len(config.speeds), len(config.seeds))
    dims = ("place", "speed", "seed")
    return xr.Dataset({k: (dims, v.cpu().numpy().reshape(shape)) for k, v in found.items()})


def measure(config: Config) -> xr.Dataset:
    """The variables of `run`, computed anew, of the nets that were begun within the limit."""
    start, rows, nets = perf_counter(), [], config.nets
    for net in nets:
        if perf_counter() - start < config.limit:
            rows.append(xr.concat([train(task, net, config) for task in config.tasks], "task"))
    nets = nets[: len(rows)]
    found = xr.concat(rows, "net").transpose("task", "net", "place", "speed", "seed")
    attributes = {"config": repr(config), "steps": config.steps, "device": device()}
    return found.assign_attrs(attributes | provenance()).assign_coords(
        task=list(config.tasks),
        net=[", ".join(map(str, net)) for net in nets],
        narrowest=("net", [min(net) for net in nets]),
        place=list(map(float, config.places)),
        speed=list(map(float, config.speeds)),
        seed=list(config.seeds),
    )


def run(config: Config = Config()) -> xr.Dataset:
    """What the runs did, each variable (task, net, place, speed, seed); inf where one diverged.

    place : log2 Lambda. speed : log2 of the step size in DP's units. narrowest (net) : n_min.
    plateau, half : steps to 95 % and 50 % of the loss of f = 0. train, test : loss after
    `steps` over that of f = 0. change : of the hidden layers' signals on test images, relative,
    mean over layers. The record holds `accuracy` too, of the images.
    """
    return read_record(config.record) if config.record else measure(config)


def _best(result: xr.Dataset) -> xr.DataArray:
    """Number of the speed with the least mean train loss, (task, net, place)."""
    return result.train.mean("seed").argmin("speed")


def at_best(result: xr.Dataset) -> xr.Dataset:
    """The runs of every place at its own best step size, (task, net, place, seed)."""
    return result.isel(speed=_best(result))


def at_one(result: xr.Dataset) -> xr.Dataset:
    """The runs of every place at the best step size of Lambda = 1, (task, net, place, seed)."""
    return result.isel(speed=_best(result).sel(place=0, drop=True))


@claim("together/larger-r", Config, run)
def larger_r(result: xr.Dataset) -> Evidence:
    """Lambda = 1/4 against Lambda = 1 = DP(1/2), for each task and net.

    measured : mean over seeds of log(test loss at 1/4 / test loss at 1), each at its own best
    step size; tolerance : 0, in words: the 95 % intervals (low, high) lie below 0.
    details : waits, steps by which the plateau at 1/4 is longer (at most all steps); lost, share
    of the runs with Lambda <= 1/8 that diverge or keep 95 % of their loss at the best step size
    of Lambda = 1.
    """
    own, one = at_best(result), at_one(result)
    rich, half = own.sel(place=-2), own.sel(place=0)
    gain = np.log(rich.test / half.test).stack(case=("task", "net")).transpose("case", "seed")
    ends = np.array([mean_interval(row) for row in gain.values])
    waits = [w.plateau.clip(max=result.attrs["steps"]).mean("seed") for w in (rich, half)]
    far = one.train.where(one.place <= -3, drop=True)
    return Evidence(
        measured=ends[:, 0],
        predicted=[0.0] * len(ends),
        tolerance=[0.0] * len(ends),
        seeds=result.seed,
        details={
            "low": ends[:, 1],
            "high": ends[:, 2],
            "waits": (waits[0] - waits[1]).values.flatten(),
            "lost": (~(far < 0.95)).mean(("place", "seed")).values.flatten(),
        },
    )


if __name__ == "__main__":
    write_record("upper-end-of-r", measure(Config()), folder=Path(sys.argv[1]))
