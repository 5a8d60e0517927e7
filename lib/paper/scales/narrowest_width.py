"""The narrowest width in training: how large 1/D may be before gradient descent is unstable.

DP(r) is the NTK parametrization with its output times D = n_min^-r, at its own step size eta/D^2.
Here D is free, eta fixed. The run is linear with the wide layers integrated out, so that n = 2^20
costs no more than n = 2^8, or ReLU as it is. The record is written by
`python -m paper.scales.narrowest_width`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.bottleneck import draw_cores
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import State, initialise, sgd
from paper.claims import Evidence, claim
from paper.fits import fit_slope, mean_interval
from paper.records import provenance, read_record, write_record

__all__ = ["Config", "exponents", "largest", "law", "losses", "measure", "n_min", "run", "stable"]

Judge = Callable[[Tensor], Tensor]
INPUTS, OUTPUTS, TARGETS = 6, 4, (3.0, 1.5, 0.75)


@dataclass(frozen=True)
class Config:
    """Widths INPUTS, n, m, n, ..., m, n, OUTPUTS with K = `modules` wide layers n.

    bottlenecks : m at n = `wide`. wides : n at m = `bottleneck`, all at least 100/D^2, as the law
    needs; narrow_wides : less, outside of it. others : K = 3, one bottleneck
    `least`, the other one of these. relu_* : the same for ReLU nets. octaves : of log2 1/D,
    in which the edge is sought; then in `parts` of one.
    """

    modules: tuple[int, ...] = (2, 3, 4)
    bottlenecks: tuple[int, ...] = (4, 8, 16, 32, 64)
    wide: int = 2**20
    bottleneck: int = 16
    narrow_wides: tuple[int, ...] = (2**6, 2**8, 2**10)
    wides: tuple[int, ...] = (2**12, 2**14, 2**16, 2**18, 2**20)
    least: int = 4
    others: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    relu_modules: tuple[int, ...] = (2, 3)
    relu_wide: int = 1024
    relu_wides: tuple[int, ...] = (256, 512, 1024, 2048)
    relu_seeds: int = 6
    seeds: int = 10
    step_size: float = 0.3
    steps: int = 200
    relu_steps: int = 100
    octaves: tuple[int, int] = (-2, 7)
    parts: int = 16
    record: str | None = "narrowest-width"

    def quick(self) -> "Config":
        return replace(
            self,
            modules=(2,),
            bottlenecks=(4, 8, 16),
            narrow_wides=(),
            wides=(2**12, 2**16, 2**20),
            others=(4, 64, 192),
            relu_modules=(2,),
            relu_wide=64,
            relu_wides=(32, 48, 64),
            relu_seeds=2,
            seeds=4,
            steps=60,
            relu_steps=10,
            octaves=(-1, 4),
            record=None,
        )


def task(samples: int) -> Problem:
    """A linear teacher with singular values 3, 3/2, 3/4 on exactly white inputs."""
    return linear_teacher(
        generator=generator("narrowest-width"),
        input_spectrum=(1.0,) * INPUTS,
        target_spectrum=TARGETS,
        output_dim=OUTPUTS,
        samples=samples,
        covariance="isotropic",
    )


def losses(
    activation: str, hidden: Sequence[int], raised: Tensor, seeds: Sequence[int], config: Config
) -> Float[Tensor, "runs records"]:
    """L at the start and in the second half of runs with log2 1/D = `raised`, +inf once diverged.

    hidden : widths n, m, n, ..., n. activation : "linear" (the n integrated out) or "relu".
    The gauge: NTK's multipliers, its weights times D^(1/L), steps eta D^(2/L)/D^2.
    """
    linear, widths = activation == "linear", (INPUTS, *hidden, OUTPUTS)
    problem = task(INPUTS if linear else 40)  # white inputs: any number of samples is the same
    p = scheme("ntk")(widths, 1.0 if linear else math.sqrt(2))
    factor = 2.0 ** (-raised / p.depth)
    if linear:
        narrow, k = list(hidden[1::2]), len(hidden) // 2 + 1
        wide, std = [hidden[0]] * len(seeds), factor.tolist()
        drawn = draw_cores(INPUTS, narrow, OUTPUTS, k, wide=wide, init_std=std, seeds=seeds)
    else:
        start = initialise(widths, p.weight_stds, seeds)  # single precision: half the time
        drawn = [w * factor[:, None, None].float() for w in start.weights]
        problem = Problem(problem.inputs.float(), problem.targets.float())
    steps = config.steps if linear else config.relu_steps
    record = (0, *range(steps // 2, steps + 1))
    trajectory = sgd(
        problem,
        State(tuple(drawn), None, 0, torch.full((len(seeds),), -1)),
        p.multipliers,
        seeds=list(seeds),
        step_size=(config.step_size * factor**2 * 4.0**raised).to(problem.inputs.dtype),
        steps=steps,
        batch_size=problem.inputs.shape[1],
        activation=activation,
        evaluate={"train": problem},
        record=record,
    )
    loss = trajectory["train_loss"].double()
    return torch.nn.functional.pad(loss, (0, len(record) - loss.shape[1]), value=torch.inf)


def stable(loss: Float[Tensor, "runs records"]) -> Bool[Tensor, " runs"]:
    """Whether a run comes to rest: no step of the second half raises the loss by more than a
    thousandth of the first loss, and it ends a tenth below that, so that a dead net does not count.

    loss : that of the start, then of the second half, as of `losses`.
    """
    first, late = loss[:, :1], loss[:, 1:]
    rest = (late[:, 1:] - late[:, :-1] <= 1e-3 * first).all(1)
    return rest & loss.isfinite().all(1) & (loss[:, -1] < 0.9 * first[:, 0])


def bounded(loss: Float[Tensor, "runs records"]) -> Bool[Tensor, " runs"]:
    """Whether a run merely stays below a hundred times its first loss, at rest or not."""
    return (loss <= 100 * loss[:, :1]).all(1)


def largest(
    trial: Callable[[Tensor, Tensor], Tensor], runs: int, config: Config
) -> Float[Tensor, " runs"]:
    """log2 1/D half a part below the least one tried that is unstable: octaves, then parts of one.

    trial : (log2 1/D, numbers of the runs) -> which are stable, one entry a trial.
    """
    first, last = config.octaves
    low, step = torch.full((runs,), first - 1.0, dtype=torch.float64), 1.0
    for count in (last - first + 1, config.parts - 1):
        grid = low[:, None] + step * torch.arange(1, count + 1)
        everyone = torch.arange(runs).repeat_interleave(count)
        good = trial(grid.flatten(), everyone).reshape(runs, count)
        passed = good.long().cumprod(1).sum(1)  # up to the first that is unstable
        if step == 1.0 and bool(((passed == 0) | (passed == count)).any()):
            raise ValueError(f"octaves = {config.octaves}: the edge of some run lies outside")
        low, step = low + step * passed, 1.0 / config.parts
    return low + step / 2


def law(layers: Sequence[int], narrow: Sequence[int], config: Config) -> float:
    """log2 of the largest 1/D at which the flattest minimum is stable, all other widths infinite.

    narrow : the finite widths. layers : r_1, r_2, ..., the numbers of weight matrices before,
    between and after them. Proposition `prop-narrowest-width`.
    """
    p, signal = len(layers), INPUTS * math.prod(narrow)
    room = 2 / (config.step_size * p) * (signal / math.prod(layers)) ** (1 / p)
    return math.log2(room) * p / (2 * p - 2) - math.log2(TARGETS[0])


def measure(config: Config = Config()) -> xr.Dataset:
    """The variables of `run`, computed anew: `quick()` in seconds, the whole in a quarter hour."""

    def edge(relu: bool, *hidden: int, judge: Judge = stable) -> np.ndarray:
        few = relu or judge is bounded
        seeds = range(config.relu_seeds if few else config.seeds)
        wanted = replace(config, octaves=(config.octaves[0], 10)) if judge is bounded else config

        def trial(raised: Tensor, runs: Tensor) -> Tensor:
            chosen = [seeds[int(k)] for k in runs]
            return judge(losses("relu" if relu else "linear", hidden, raised, chosen, config))

        return largest(trial, len(seeds), wanted).numpy()

    def chain(n: int, m: int, k: int) -> tuple[int, ...]:
        return (n, *(m, n) * (k - 1))

    wides, m, n = (*config.narrow_wides, *config.wides), config.bottleneck, config.wide
    a, others, narrow = config.least, config.others, config.bottlenecks
    ks, relu, few = config.modules, config.relu_modules, config.relu_wide
    hidden: dict[str, list[list[tuple[int, ...]]]] = {
        "by_bottleneck": [[chain(n, b, k) for b in narrow] for k in ks],
        "by_wide": [[chain(w, m, k) for w in wides] for k in ks],
        "by_other": [[(n, a, n, b, n) for b in others], [(n, b, n, a, n) for b in others]],
        "relu_by_bottleneck": [[chain(few, b, k) for b in narrow] for k in relu],
        "relu_by_wide": [[chain(w, m, k) for w in config.relu_wides] for k in relu],
    }
    dims = {
        "by_bottleneck": ("modules", "bottleneck", "seed"),
        "by_wide": ("modules", "wide", "seed"),
        "by_other": ("place", "other", "seed"),
        "relu_by_bottleneck": ("relu_modules", "bottleneck", "relu_seed"),
        "relu_by_wide": ("relu_modules", "relu_wide", "relu_seed"),
    }
    variables = {
        name: (dims[name], [[edge("relu" in name, *h) for h in row] for row in rows])
        for name, rows in hidden.items()
    }
    loose = [[edge(w == few, *chain(w, b, 2), judge=bounded) for b in narrow] for w in (n, few)]
    variables["bounded"] = (("net", "bottleneck", "relu_seed"), loose)
    coords = {
        "net": ["linear", "relu"],
        "modules": list(ks),
        "bottleneck": list(config.bottlenecks),
        "wide": list(wides),
        "place": ["second", "first"],
        "other": list(others),
        "relu_modules": list(relu),
        "relu_wide": list(config.relu_wides),
        "seed": range(config.seeds),
        "relu_seed": range(config.relu_seeds),
    }
    return xr.Dataset(variables, coords)


def run(config: Config = Config()) -> xr.Dataset:
    """log2 of the largest stable 1/D, linear nets unless relu_ is said.

    by_bottleneck (modules, bottleneck, seed) : against m at the widest n.
    by_wide (modules, wide, seed) : against n at one m, the narrow ones included.
    by_other (place, other, seed) : K = 3, the other bottleneck stays the least; place : which one
    is `other`. relu_by_bottleneck, relu_by_wide : (relu_modules, ., relu_seed).
    bounded (net, bottleneck, relu_seed) : K = 2, the largest 1/D at which `bounded` holds.
    """
    return read_record(config.record) if config.record else measure(config)


def exponents(edge: xr.DataArray, seed: str = "seed") -> xr.Dataset:
    """slope, low, high of log2 1/D against log2 of the width (last but one dimension): mean over
    seeds of one fit each, with its 95 % Student interval."""
    width = np.log2(edge[str(edge.dims[-2])].astype(float))
    slopes = fit_slope(width, edge).slope
    ends = xr.apply_ufunc(
        lambda row: np.array(mean_interval(row)),
        slopes,
        input_core_dims=[[seed]],
        output_core_dims=[["end"]],
        vectorize=True,
    )
    return xr.Dataset({k: ends.isel(end=i) for i, k in enumerate(("slope", "low", "high"))})


@claim("scales/n-min-in-training", Config, run)
def n_min(result: xr.Dataset) -> Evidence:
    """Exponents in m (predicted 1/2) and in n (0) for each K; in the wider of two bottlenecks (0).

    The last is taken where it is at least 16 times the narrowest. tolerance : .05 about the
    exponents; .1 for the wider bottleneck, whose 1/m is not yet 0 (a geometric mean of both would
    give 1/4). details : ends of the 95 % intervals; over_law : octaves above `law` at the widest
    m for each K, then at the widest other bottleneck; ReLU's exponents; those of `bounded`.
    """
    config, seeds = Config(), "seed"
    wide = result.by_wide.where(result.wide >= min(config.wides), drop=True)
    m, n = exponents(result.by_bottleneck), exponents(wide)
    other = result.by_other.where(result.other >= 16 * result.other.min(), drop=True).mean(seeds)
    octaves = np.log2(float(other.other[-1] / other.other[0]))
    per_octave = (other.isel(other=-1) - other.isel(other=0)) / octaves
    last = result.by_bottleneck.isel(bottleneck=-1).mean(seeds)
    least = int(last.bottleneck)
    over = [
        float(last.sel(modules=k)) - law([2] * k, [least] * (k - 1), config)
        for k in result.modules.values.tolist()
    ]
    alone = law([2, 4], [int(result.other.min())], config)
    few = {
        ("relu_", "m"): result.relu_by_bottleneck,
        ("relu_", "n"): result.relu_by_wide,
        ("bounded_", "m"): result.bounded,
    }
    details = {
        f"{kind}{name}{axis}": exponents(edge, "relu_seed")[end]
        for (kind, axis), edge in few.items()
        for end, name in (("slope", ""), ("low", "low_"), ("high", "high_"))
    }
    k = result.modules.size
    return Evidence(
        measured=[*m.slope.values, *n.slope.values, *per_octave.values],
        predicted=[0.5] * k + [0.0] * k + [0.0] * 2,
        tolerance=[0.05] * (2 * k) + [0.1] * 2,
        seeds=result.seed,
        details={
            "low_m": m.low,
            "high_m": m.high,
            "low_n": n.low,
            "high_n": n.high,
            "over_law": [*over, *(other.isel(other=-1) - alone).values],
            **details,
        },
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    attributes = {"config": repr(Config()), **provenance()}
    write_record(str(Config().record), measure().assign_attrs(attributes))
