"""How much each layer's change lowers the loss in the first step.

Figures 3.2 and 3.3 of Utsunomiya's thesis.

Six-layer ReLU nets with n_1 = n_3 = n_5 = n and bottlenecks n_2 = n_4 = m(n), one image, one step
of gradient descent with eta = 0.1 on 1/2 |f - y|^2. Inputs have the scale of flattened CIFAR-10
images (|x|^2/n_0 = 0.31); for i.i.d. Gaussian first layers nothing else about x matters.
"""

import json
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.losses import squared
from learning_dynamics.runtime import generator
from learning_dynamics.scales.exponent_check import fit_slope
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.parametrizations import Parametrization, scheme
from paper.claims import Evidence, claim
from paper.records import RESULTS
from paper.workers import worker

__all__ = [
    "FULL",
    "PUBLISHED",
    "QUICK",
    "RECORD",
    "SETTINGS",
    "Chance",
    "Config",
    "Contributions",
    "by_change",
    "by_setting",
    "drawn_step",
    "evidence",
    "read",
    "run",
    "slopes",
    "write",
]

LAYERS = 6


@dataclass(frozen=True)
class Setting:
    """One curve family: scheme, bottleneck width m(n), and what Utsunomiya's thesis publishes.

    literal : sigma_1 = max(n_0, n_1)^-1/2 as the rule says. Here n_0 = 3072 exceeds n in part of
              the range; the published slopes are those of sigma_1 = n_1^-1/2, the rule for n >=
              n_0.
    """

    scheme: str
    bottleneck: Callable[[int], int]
    growth: float  # a in m ~ n^a
    published: tuple[float, ...]
    literal: bool = False

    def parametrization(self, widths: tuple[int, ...]) -> Parametrization:
        """The scales at given widths."""
        p = scheme(self.scheme)(widths)
        if self.scheme == "spectral" and not self.literal:
            p = replace(p, init_stds=(widths[1] ** -0.5, *p.init_stds[1:]))
        return p


#: Published slopes: layers 1..6 of figures 3.2 (two settings) and 3.3 (two).
SETTINGS: dict[str, Setting] = {
    "Spectral, m = n/5": Setting(
        "spectral", lambda n: round(n / 5), 1.0, (-0.05, -0.05, -0.05, -0.05, -0.06, -0.06)
    ),
    "Spectral, m = 6 n^(1/2)": Setting(
        "spectral", lambda n: round(6 * n**0.5), 0.5, (-0.98, -0.98, -0.97, -0.97, -0.96, -0.96)
    ),
    "Spectral, m = 150 n^(1/5)": Setting(
        "spectral", lambda n: round(150 * n**0.2), 0.2, (-1.60, -1.60, -1.59, -1.58, -1.57, -1.56)
    ),
    "DP(1/2), m = 150 n^(1/5)": Setting("dp(1/2)", lambda n: round(150 * n**0.2), 0.2, (0.02,) * 6),
    "Spectral to the letter, m = 150 n^(1/5)": Setting(
        "spectral", lambda n: round(150 * n**0.2), 0.2, (), literal=True
    ),
}
PUBLISHED = tuple(name for name, s in SETTINGS.items() if s.published)


@dataclass(frozen=True)
class Config:
    """Numbers of the experiment, by default Utsunomiya's; settings: those computed."""

    sizes: tuple[int, ...] = tuple(range(1000, 10001, 1000))
    trials: int = 30
    inputs: int = 3072
    outputs: int = 2
    step_size: float = 0.1
    mean_square: float = 0.31
    seed: str = "thesis figures 3.2 and 3.3"
    settings: tuple[str, ...] = tuple(SETTINGS)


#: The committed record of the full run.
RECORD = RESULTS / "scales_contributions.json"

FULL = Config()
QUICK = Config(sizes=(1000, 2000, 4000), trials=8, inputs=64)


@dataclass(frozen=True)
class Contributions:
    """values : setting -> (size, trial, layer), |<delta_l, Delta h~_l>| after one real step.

    seconds : wall time; cpu_seconds : summed over processes.
    """

    config: Config
    values: Mapping[str, Tensor]
    seconds: float
    cpu_seconds: float

    def slopes(self, setting: str) -> tuple[list[float], list[float]]:
        """Slopes of log mean against log n with 95 % half-widths, layers 1..6."""
        pairs = [fit_slope(self.config.sizes, self.values[setting][..., k]) for k in range(LAYERS)]
        return [p[0] for p in pairs], [p[1] for p in pairs]

    def levels(self, setting: str) -> Tensor:
        """Means over trials, (size, layer)."""
        return self.values[setting].mean(1)

    def predicted_levels(self, setting: str) -> Tensor:
        """Closed form (layer balance), (size, layer): eta kappa times (1/2, 1, 3/2, 2, 5/2, 7/2).

        Spectral: times n_L (m/n)^2 in addition. To first order in eta, for |f - y| = 1.
        """
        shares = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5, 3.5], dtype=torch.float64)
        level = self.config.step_size * self.config.mean_square * shares
        s = SETTINGS[setting]
        factor = torch.tensor(
            [
                self.config.outputs * (s.bottleneck(n) / n) ** 2 if s.scheme == "spectral" else 1.0
                for n in self.config.sizes
            ],
            dtype=torch.float64,
        )
        return factor[:, None] * level


def trial(config: Config, n: int, number: int) -> tuple[list[list[float]], float]:
    """Contributions of one draw at one width under the settings, (setting, layer), and CPU time.

    All settings use slices of one draw; first and last layer are the same for all of them.
    """
    torch.set_num_threads(1)
    start = time.process_time()
    g = generator(config.seed, n, number)
    widest = max(s.bottleneck(n) for s in SETTINGS.values())
    widths = (config.inputs, n, widest, n, widest, n, config.outputs)
    draw = [torch.randn(b, a, generator=g) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    x = torch.rand(config.inputs, 1, generator=g)
    x = x * (config.mean_square * config.inputs) ** 0.5 / x.norm()
    target = torch.zeros(config.outputs, 1)
    target[number % config.outputs] = 1.0
    loss, zero = squared(), torch.zeros(())
    rows = []
    for s in map(SETTINGS.__getitem__, config.settings):
        m = s.bottleneck(n)
        sliced = [draw[0], draw[1][:m], draw[2][:, :m], draw[3][:m], draw[4][:, :m], draw[5]]
        p = s.parametrization((config.inputs, n, m, n, m, n, config.outputs))
        step = first_step(
            sliced,
            p,
            x,
            lambda f: loss.gradient(f, target),
            step_size=config.step_size,
            drawn=True,
            norms=[zero] * LAYERS,
        )
        rows.append(step["contribution"].tolist())
    return rows, time.process_time() - start


def run(config: Config = FULL, executor: Executor | None = None) -> Contributions:
    """Every trial at every width, in this process or on an executor."""
    start = time.perf_counter()
    tasks = [(config, n, k) for n in reversed(config.sizes) for k in range(config.trials)]
    columns = list(zip(*tasks, strict=True))
    found = list((executor.map if executor is not None else map)(trial, *columns))
    table = torch.tensor([rows for rows, _ in found], dtype=torch.float64)
    table = table.reshape(len(config.sizes), config.trials, len(config.settings), LAYERS)
    values = {name: table[:, :, k].flip(0) for k, name in enumerate(config.settings)}
    spent = sum(seconds for _, seconds in found)
    return Contributions(config, values, time.perf_counter() - start, spent)


def write(result: Contributions, path: Path) -> None:
    """The record of a run: settings, means, spreads, slopes, time, machine."""
    record = {
        "config": asdict(result.config),
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(result.cpu_seconds, 1),
        "machine": {"cpus": 2, "python": platform.python_version(), "torch": torch.__version__},
        "values": {
            name: [[[float(f"{x:.5g}") for x in row] for row in size] for size in v.tolist()]
            for name, v in result.values.items()
        },
    }
    path.write_text(json.dumps(record) + "\n")


def read(path: Path) -> Contributions:
    """The record written by `write`."""
    record = json.loads(path.read_text())
    lists = {k: tuple(v) for k, v in record["config"].items() if isinstance(v, list)}
    config = Config(**record["config"] | lists)
    values = {k: torch.tensor(v, dtype=torch.float64) for k, v in record["values"].items()}
    return Contributions(config, values, record["seconds"], record["cpu_seconds"])


@dataclass(frozen=True)
class Chance:
    """Slopes as the thesis measured them: ten widths even in log n, 30 trials, an image for each.

    images : relative standard deviation of |x|^2 between images; the least of ours, pairs of
    digits of 14 x 14 pixels. draws : nets drawn at each width to find mean and spread.
    """

    sizes: tuple[int, ...] = (1000, 1291, 1668, 2154, 2782, 3593, 4641, 5994, 7742, 10000)
    trials: int = 30
    images: float = 0.33
    draws: int = 200
    step_size: float = 0.1
    literal: bool = False
    logarithm: bool = False

    def quick(self) -> "Chance":
        return replace(self, draws=60)


SMALL_STEP = 1e-4
#: One setting changed at a time, at m = n/5, from those of `Chance`.
CHANGES: dict[str, dict[str, Any]] = {
    "as in the thesis": {},
    "one image for all trials": {"images": 0.0},
    "widths even in n": {"sizes": FULL.sizes},
    "four widths, eight trials": {"sizes": (1000, 2154, 4641, 10000), "trials": 8, "images": 0.0},
    "mean of the logarithm": {"logarithm": True},
    "an infinitesimal step": {"step_size": SMALL_STEP},
    "sigma_1 to the letter": {"literal": True},
}


def drawn_step(
    p: Parametrization, draws: int, g: torch.Generator, *, kappa: float, step_size: float
) -> Tensor:
    """Loss removed by layers 1..l in a real step, over its size: (draws, layer).

    The law of a ReLU net with one input is drawn exactly, without its matrices: of W only W h and
    W'v matter. Given z = W h, W'v is h (z.v)/|h|^2 along h and Gaussian of length sigma |v|
    across; given both, W u for u across h is v (W'v.u)/|v|^2 along v and Gaussian of length
    sigma |u| across. kappa : |x|^2/n_0; the target is (1, 0, ..).
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1, keepdim=True)

    def across(v: Tensor, size: Tensor) -> Tensor:
        """Standard Gaussian numbers less their part along v, |v|^2 = size."""
        drawn = torch.randn(v.shape, generator=g)
        return drawn - v * dot(drawn, v) / size

    widths, depth, gs = p.widths, p.depth, p.multipliers
    std = [m * s for m, s in zip(gs, p.weight_stds, strict=True)]
    squares = [torch.full((draws, 1), kappa * widths[0])]  # |h_l|^2
    h, z = [torch.zeros(draws, 1)], []
    for k in range(depth):
        drawn = torch.randn(draws, widths[k + 1], generator=g)
        z.append(drawn * std[k] * squares[k].sqrt())
        h.append(z[k].relu())
        squares.append(dot(h[-1], h[-1]))
    top = z[-1].clone()
    top[:, 0] -= 1.0
    delta, back = [top], [h[0]]  # back: g W'delta, before the gate of the layer below
    for k in reversed(range(1, depth)):
        v = delta[0]
        found = h[k] * dot(z[k], v) / squares[k]
        back.insert(1, found + std[k] * dot(v, v).sqrt() * across(h[k], squares[k]))
        delta.insert(0, back[1] * (h[k] > 0))
    removed, moved = [], torch.zeros(draws, 1)  # the change of h
    for k in range(depth):
        v, size = delta[k], dot(delta[k], delta[k])
        change = -step_size * gs[k] ** 2 * v * (squares[k] + dot(h[k], moved))
        if k:
            along = dot(h[k], moved) / squares[k]
            rest = moved - along * h[k]
            change = change + along * z[k] + v * dot(back[k], rest) / size
            change = change + std[k] * dot(rest, rest).sqrt() * across(v, size)
        removed.append(dot(v, change).abs() / step_size)
        moved = (z[k] + change).relu() - h[k + 1]
    return torch.cat(removed, 1).double()


@lru_cache(maxsize=32)
def _moments(setting: str, config: Chance) -> tuple[Tensor, Tensor, Tensor]:
    """log mean, mean log and relative variance of the contributions, each (size, layer)."""
    s = replace(SETTINGS[setting], literal=config.literal)
    rows = []
    for n in config.sizes:
        m, g = s.bottleneck(n), generator("chance of a slope", setting, n)
        p = s.parametrization((FULL.inputs, n, m, n, m, n, FULL.outputs))
        found = drawn_step(p, config.draws, g, kappa=FULL.mean_square, step_size=config.step_size)
        mean = found.mean(0)
        rows.append((mean.log(), found.log().mean(0), (found.std(0) / mean).square()))
    first, second, third = map(torch.stack, zip(*rows, strict=True))
    return first, second, third


def slopes(setting: str, config: Chance) -> xr.Dataset:
    """slope, error (layer): the expected slope with its 95 % half-width from the draws, and
    chance (layer): the standard deviation of a slope that `config.trials` trials give."""
    logs = torch.tensor(config.sizes, dtype=torch.float64).log()
    weight = ((logs - logs.mean()) / (logs - logs.mean()).square().sum())[:, None]
    same = replace(config, images=0.0, trials=1, logarithm=False)  # what the draws depend on
    log_mean, mean_log, spread = _moments(setting, same)
    noise = spread + config.images**2 * (1 + spread)
    return xr.Dataset(
        {
            "slope": ("layer", (weight * (mean_log if config.logarithm else log_mean)).sum(0)),
            "error": ("layer", 1.96 * ((weight**2 * spread).sum(0) / config.draws).sqrt()),
            "chance": ("layer", ((weight**2 * noise).sum(0) / config.trials).sqrt()),
        },
        {"layer": range(1, LAYERS + 1)},
    )


def by_setting(config: Chance = Chance()) -> xr.Dataset:
    """`slopes` of the thesis's four settings, and `limit`, `limit_error` for an infinitesimal step:
    dimensions setting, layer."""
    names = xr.Variable("setting", list(PUBLISHED))
    found = xr.concat([slopes(s, config) for s in PUBLISHED], names)
    small = replace(config, step_size=SMALL_STEP)
    limit = xr.concat([slopes(s, small) for s in PUBLISHED], names)
    return found.assign(limit=limit.slope, limit_error=limit.error)


def by_change(config: Chance = Chance()) -> xr.Dataset:
    """`slopes` at m = n/5 with one setting changed at a time: dimensions change, layer."""
    rows = [slopes(PUBLISHED[0], replace(config, **changes)) for changes in CHANGES.values()]
    return xr.concat(rows, xr.Variable("change", list(CHANGES)))


@claim("scales/contribution-slopes", Chance, by_setting)
def evidence(found: xr.Dataset) -> Evidence:
    """measured: expected slopes of an infinitesimal step, four settings by six layers; predicted:
    the theory's.

    tolerance: 0.03, and what the draws leave open. details: expected, the slopes of the thesis's
    step; the published ones and how far from the expected one a slope of its experiment lies in
    99 of 100 cases (of four settings none should lie further); the same of our record, whose
    trials share |x|^2; levels of the record over the closed form.
    """
    record, quantile = read(RECORD), 2.576
    ours = [record.slopes(name) for name in PUBLISHED]
    ratios = torch.cat([record.levels(n) / record.predicted_levels(n) for n in PUBLISHED])
    growths = [SETTINGS[n].growth if "Spectral" in n else 1.0 for n in PUBLISHED]
    return Evidence(
        measured=found.limit.values.ravel(),
        predicted=np.repeat([2 * (a - 1) for a in growths], LAYERS),
        tolerance=0.03 + found.limit_error.values.ravel(),
        seeds=[],
        details={
            "expected": found.slope.values.ravel(),
            "published": np.ravel([SETTINGS[name].published for name in PUBLISHED]),
            "chance": quantile * found.chance.values.ravel(),
            "record": np.ravel([slope for slope, _ in ours]),
            "record_chance": quantile / 1.96 * np.ravel([half for _, half in ours]),
            "lowest_level_ratio": float(ratios.min()),
            "highest_level_ratio": float(ratios.max()),
            "level_tolerance": 0.25,
        },
    )


if __name__ == "__main__":
    with ProcessPoolExecutor(2, initializer=worker) as workers:
        write(run(FULL, workers), RECORD)
