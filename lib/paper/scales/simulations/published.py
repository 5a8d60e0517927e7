"""Loss curves of figures 3.4 to 3.7 of Utsunomiya's thesis on pairs of digits, as set and tuned.

The record is written by `python -m paper.scales.simulations.published PATH`, on a GPU in minutes.
What is compared, and by how much two schemes may differ and still count as equal, stands in
`Config` and below and was fixed before the record was computed.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.data.images import CIFAR_FOLDER, Images, load
from learning_dynamics.files import write_atomically
from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import Trajectory
from learning_dynamics.scales.parametrizations import scheme as find_scheme
from learning_dynamics.scales.representations import summarise
from learning_dynamics.scales.training import State, initialise, sgd
from paper.claims import Evidence, claim
from paper.fits import mean_interval
from paper.records import decode, encode, provenance, read_record
from paper.training_runs import device

__all__ = ["THESIS", "Config", "epochs_to", "log_ratio", "measure", "run"]

#: Two test losses within this factor are equal: the thesis's own differ by 1.14 to 1.27.
MARGIN = 1.1
#: Train losses that end a plateau and, as in the thesis, the training.
EARLY, LEVEL = 0.2, 0.01
RATE, STEPS = 0.1, 31  # the thesis's step size, and steps of its epoch
KINDS = ("thesis", "tuned")
CURVES = ("train_loss", "test_loss", "test_accuracy")
PARTS = {"rank": "layer", "probe": "layer", "alignment": "between"}


@dataclass(frozen=True)
class Config:
    """Widths n, m, n, m, n with m = n/20, batch, momentum, step size and epochs as in the thesis.

    An epoch is 31 steps, as there; a pass over the images visits each once. octaves : scheme ->
    log2 of the step sizes tried, over 0.1, around where single runs on other digits (1 and 7) were
    stable. The step size of a scheme on a pair is that of the
    least mean train loss at the end over `grid_seeds`, where none has diverged; it is judged by
    `seeds`, which had no part in the choice. digits_* : ten classes, where the bottlenecks are
    looked at when the train loss first is at most `levels` (looked for every 10 steps).
    wide : (n, m) of runs on the first pair, at 0.1 and at the step size chosen at n.
    """

    pairs: tuple[Images, ...] = tuple(Images(classes=c) for c in ((4, 9), (3, 8), (3, 5), (7, 9)))
    n: int = 1024
    m: int = 51
    octaves: tuple[tuple[str, tuple[int, int]], ...] = (
        ("dp(1/2)", (0, 5)),
        ("spectral", (-2, 3)),
        ("mup-fan-in", (-2, 3)),
        ("ntk", (2, 7)),
    )
    schemes: tuple[str, ...] = ("dp(1/2)", "spectral", "mup-fan-in")
    grid_seeds: tuple[int, ...] = tuple(range(5))
    seeds: tuple[int, ...] = tuple(range(5, 25))
    epochs: int = 200
    records: int = 60
    batch_size: int = 64
    momentum: float = 0.9
    digits: Images | None = Images(classes=tuple(range(10)))
    digits_schemes: tuple[str, ...] = ("dp(1/2)", "spectral", "mup-fan-in", "ntk")
    digits_epochs: int = 40
    levels: tuple[float, ...] = (inf, 0.1, 0.05)
    wide: tuple[int, int] | None = (10_000, 500)
    wide_schemes: tuple[str, ...] = ("dp(1/2)", "spectral")
    wide_seeds: tuple[int, ...] = tuple(range(5, 10))
    dtype: str = "float32"
    record: str | None = "published-simulations"

    def quick(self) -> "Config":
        small = Images(source="sklearn", classes=(3, 8), pool=1)
        return replace(
            self,
            pairs=(small,),
            n=160,
            m=16,
            octaves=(("dp(1/2)", (0, 1)), ("spectral", (0, 1)), ("ntk", (3, 4))),
            schemes=("dp(1/2)", "spectral"),
            grid_seeds=(0,),
            seeds=tuple(range(5, 10)),
            epochs=3,
            records=30,
            digits=replace(small, classes=tuple(range(10))),
            digits_schemes=("dp(1/2)", "spectral", "ntk"),
            digits_epochs=3,
            levels=(inf, 0.4),
            wide=None,
            dtype="float64",  # a printed end of an interval hangs on the last digits of a run
            record=None,
        )

    def rates(self, scheme: str) -> list[float]:
        low, high = dict(self.octaves)[scheme]
        return [RATE * 2.0**k for k in range(low, high + 1)]

    def recorded(self) -> list[int]:
        """Steps at which the losses are measured, evenly spaced in the logarithm."""
        spaced = np.geomspace(8, self.epochs * STEPS, self.records).round().astype(int)
        return [0, *np.unique(spaced).tolist()]


#: The thesis's own setting, for who has CIFAR-10 (no rate is chosen, as there).
CLASSES = (("airplane", "automobile"), ("bird", "cat"), ("deer", "dog"), ("frog", "horse"))
THESIS = replace(
    Config(),
    pairs=tuple(Images(source="cifar10", classes=c, pool=1, level=None) for c in CLASSES),
    n=10_000,
    m=500,
    octaves=(("dp(1/2)", (0, 0)), ("spectral", (0, 0))),
    schemes=("dp(1/2)", "spectral"),
    grid_seeds=(),
    seeds=tuple(range(100)),
    digits=None,
    wide=None,
)


class Nets:
    """Starting weights: one draw a seed, shared by schemes, rates and images."""

    def __init__(self, config: Config) -> None:
        self._config, self._drawn = config, dict[object, tuple[Tensor, ...]]()

    def train(
        self,
        images: Images,
        scheme: str,
        runs: Sequence[tuple[float, int]],
        steps: int,
        record: Sequence[int],
        wide: bool = False,
        see: Callable[..., Callable[[State], dict[str, Tensor]]] | None = None,
    ) -> Trajectory:
        """Runs (step size, seed) of a scheme at once; see(multipliers, problem) -> observer."""
        config, where = self._config, device()
        dtype = getattr(torch, config.dtype)
        train, test = (
            Problem(p.inputs.to(dtype), p.targets.to(dtype)) for p in load(images, where)
        )
        n, m = config.wide if wide and config.wide else (config.n, config.m)
        widths = (len(train.inputs), n, m, n, m, n, len(train.targets))
        seeds = list(config.wide_seeds if wide else (*config.grid_seeds, *config.seeds))
        if widths not in self._drawn:
            drawn = initialise(widths, (1.0,) * 6, seeds).weights
            self._drawn[widths] = tuple(w.to(where, dtype) for w in drawn)
        p = find_scheme(scheme)(widths).with_unit_learning_rates()
        pick = torch.tensor([seeds.index(k) for _, k in runs], device=where)
        drawn = self._drawn[widths]
        start = tuple(std * w[pick] for std, w in zip(p.weight_stds, drawn, strict=True))
        return sgd(
            train,
            State(
                start,
                tuple(torch.zeros_like(w) for w in start) if config.momentum else None,
                0,
                torch.full((len(runs),), -1, device=where),
            ),
            p.multipliers,
            seeds=[k for _, k in runs],
            step_size=torch.tensor([eta for eta, _ in runs], dtype=dtype),
            steps=steps,
            batch_size=config.batch_size,
            momentum=config.momentum,
            evaluate={"train": train, "test": test},
            record=record,
            observe=None if see is None else see(p.multipliers, train),
        )


class Levels:
    """What the bottlenecks hold when a run's train loss first is at most each level."""

    def __init__(self, images: Images, levels: Sequence[float], runs: int) -> None:
        self._cpu, self._levels = load(images), levels
        self.found: dict[str, np.ndarray] = {}
        self._step = np.full((runs, len(levels)), -1)

    def see(self, multipliers: Sequence[float], train: Problem) -> Callable[..., dict[str, Tensor]]:
        """The observer of a group of runs."""

        def observe(now: State) -> dict[str, Tensor]:
            f = hidden(now.weights, multipliers, train.inputs[None])[-1]
            loss = squared().value(f, train.targets.expand_as(f)).cpu().numpy()
            for i, level in enumerate(self._levels):
                new = np.flatnonzero((loss <= level) & (self._step[:, i] < 0))
                if not len(new):
                    continue
                self._step[new, i] = now.step
                # on a CPU, where many small decompositions take less time than on a GPU
                weights = [w[torch.from_numpy(new).to(w.device)].cpu().float() for w in now.weights]
                found = summarise(weights, multipliers, *self._cpu)
                seen = {name: value.numpy() for name, value in found.items()}
                for name, value in {**seen, "loss": loss[new], "step": self._step[new, i]}.items():
                    whole = self._step.shape + value.shape[1:]
                    self.found.setdefault(name, np.full(whole, np.nan))[new, i] = value
            return {}

        return observe


def _empty(config: Config) -> xr.Dataset:
    """The variables of `run`, not yet measured (NaN)."""
    names = ["/".join(map(str, p.classes)) for p in config.pairs]
    tried = [k for s in config.schemes for k in dict(config.octaves)[s]]
    coords: dict[str, list[Any]] = {
        "kind": list(KINDS),
        "pair": names,
        "scheme": list(config.schemes),
        "octave": list(range(min(tried), max(tried) + 1)),
        "grid_seed": list(config.grid_seeds),
        "seed": list(config.seeds),
        "epoch": [step / STEPS for step in config.recorded()],
        "digits_scheme": list(config.digits_schemes),
        "level": list(config.levels),
        "layer": [2, 4],
        "between": ["layers 2 and 4", "layer 4 and inputs", "layer 4 and targets"],
        "wide_scheme": list(config.wide_schemes),
        "wide_seed": list(config.wide_seeds),
    }
    seen = ("digits_scheme", "seed", "level")
    table: dict[str, tuple[str, ...]] = {
        "rate": ("pair", "scheme"),
        "grid_loss": ("pair", "scheme", "octave", "grid_seed"),
        **dict.fromkeys(CURVES, ("kind", "pair", "scheme", "seed", "epoch")),
        "digits_rate": ("digits_scheme",),
        "digits_loss": seen,
        "digits_step": seen,
        **{name: (*seen, more) for name, more in PARTS.items()},
        **{f"wide_{c}": ("kind", "wide_scheme", "wide_seed", "epoch") for c in CURVES},
    }
    sizes = {name: len(values) for name, values in coords.items()}
    data = {k: (d, np.full([sizes[x] for x in d], np.nan)) for k, d in table.items()}
    return xr.Dataset(data, coords)


def _ends(trajectory: Trajectory) -> np.ndarray:
    return trajectory["train_loss"][:, -1].double().cpu().numpy()


def measure(
    config: Config = Config(),
    save: Callable[[xr.Dataset], object] = lambda _: None,
    limit: float = inf,
    say: Callable[[str], object] = lambda _: None,
    found: xr.Dataset | None = None,
) -> xr.Dataset:
    """The variables of `run`, computed anew; what is not begun within `limit` seconds stays NaN.

    save : called with the dataset after each part. say : with a line after each part. found : a
    dataset cut short, whose parts are kept.
    """
    found = _empty(config) if found is None else found
    nets, started = Nets(config), time.perf_counter()
    steps, record = config.epochs * STEPS, config.recorded()

    def late(done: str) -> bool:
        save(found)
        spent = time.perf_counter() - started
        say(f"{spent:7.1f} s  {done}")
        return spent > limit

    def fill(prefix: str, at: dict[str, object], trajectory: Trajectory, first: int) -> None:
        for name in CURVES:
            found[prefix + name].loc[at] = trajectory[name][first:].double().cpu().numpy()

    def best(rates: Sequence[float], ends: np.ndarray) -> float:
        means = ends.reshape(len(rates), -1).mean(1)  # +inf where a run has diverged
        if not np.isfinite(means).any():
            raise ValueError(f"rates = {rates}: at each of them a run has diverged")
        return rates[int(np.argmin(means))]

    grid, judged, rest = list(config.grid_seeds), list(config.seeds), config.wide_seeds
    for s in config.digits_schemes if config.digits else ():
        if found.digits_rate.sel(digits_scheme=s).notnull():
            continue
        rates, last = config.rates(s), config.digits_epochs * STEPS
        tries = [(eta, k) for eta in rates for k in grid]
        assert config.digits is not None
        eta = best(rates, _ends(nets.train(config.digits, s, tries, last, [last])))
        found.digits_rate.loc[{"digits_scheme": s}] = eta
        levels = Levels(config.digits, config.levels, len(judged))
        runs, often = [(eta, k) for k in judged], range(0, last + 1, 10)
        nets.train(config.digits, s, runs, last, list(often), see=levels.see)
        for part, values in levels.found.items():
            to = part if part in PARTS else f"digits_{part}"
            found[to].loc[{"digits_scheme": s}] = values
        if late(f"digits {s}"):
            return found
    for name, images in zip(found.pair.values, config.pairs, strict=True):
        for s in config.schemes:
            rates, place = config.rates(s), {"pair": name, "scheme": s}
            if found.train_loss.loc[place].notnull().any():
                continue
            tries = [(eta, k) for eta in rates for k in grid]
            both = nets.train(images, s, [*tries, *((RATE, k) for k in judged)], steps, record)
            fill("", {"kind": "thesis", **place}, both, len(tries))
            if grid:
                ends = _ends(both)[: len(tries)]
                low, high = dict(config.octaves)[s]
                found.grid_loss.loc[{**place, "octave": list(range(low, high + 1))}] = ends.reshape(
                    len(rates), -1
                )
                eta = best(rates, ends)
                found.rate.loc[place], first = eta, len(tries)
                if eta != RATE:
                    runs = [(eta, k) for k in judged]
                    both, first = nets.train(images, s, runs, steps, record), 0
                fill("", {"kind": "tuned", **place}, both, first)
            if late(f"{name} {s}"):
                return found
    for kind in KINDS if config.wide else ():
        for s in config.wide_schemes:
            tuned = float(found.rate.sel(scheme=s)[0])
            runs = [(tuned if kind == "tuned" else RATE, k) for k in rest]
            place = {"kind": kind, "wide_scheme": s}
            if found.wide_train_loss.loc[place].notnull().any():
                continue
            fill("wide_", place, nets.train(config.pairs[0], s, runs, steps, record, wide=True), 0)
            if late(f"wide, {kind}, {s}"):
                return found
    return found


def run(config: Config = Config()) -> xr.Dataset:
    """Losses and accuracy on all training and test images; +inf and 0 where a run has diverged.

    train_loss, test_loss, test_accuracy (kind, pair, scheme, seed, epoch), kind "thesis" at step
    size 0.1 and "tuned" at `rate` (pair, scheme). grid_loss (pair, scheme, octave, grid_seed):
    train loss at the end. wide_* : the same curves at config.wide on the first pair.
    rank, probe (digits_scheme, seed, level, layer), alignment (.., between): of ten classes when
    the train loss first is at most `level`; digits_loss, digits_step: that loss, when.
    """
    return read_record(config.record) if config.record else measure(config)


def epochs_to(level: float, losses: xr.DataArray) -> xr.DataArray:
    """First recorded epoch with a loss of at most `level`; the last one where there is none."""
    below = losses <= level
    first = losses.epoch[below.argmax("epoch")].drop_vars("epoch")
    return first.where(below.any("epoch"), losses.epoch.values[-1])


def log_ratio(
    values: xr.DataArray, over: str = "spectral", coverage: float = 0.95
) -> tuple[list[float], list[float], list[float]]:
    """Mean log ratio DP(1/2) / `over` with the same seeds, and its Student interval, by pair.

    An interval of coverage 0.9 inside of +-log MARGIN is a test of equality at 5 %: two
    one-sided tests. values : (pair, scheme, seed), positive and finite.
    """
    ratio = values.sel(scheme="dp(1/2)") / values.sel(scheme=over)
    rows = [mean_interval(np.log(ratio.sel(pair=p).values), coverage) for p in values.pair]
    mean, low, high = zip(*rows, strict=True)
    return list(mean), list(low), list(high)


def _compare(result: xr.Dataset, kind: str) -> dict[str, list[float]]:
    """DP over Spectral on each pair: log ratios with intervals, and who arrives."""
    own, found = result.sel(kind=kind), dict[str, list[float]]()
    values = {
        "early": epochs_to(EARLY, own.train_loss),
        "epochs": epochs_to(LEVEL, own.train_loss),
        "test": own.test_loss.isel(epoch=-1).clip(max=1e3),  # a run that diverged is kept
    }
    for name, value in values.items():
        found[name], found[f"{name}_low"], found[f"{name}_high"] = log_ratio(value)
    _, found["test_low_90"], found["test_high_90"] = log_ratio(values["test"], coverage=0.9)
    arrived = (own.train_loss <= LEVEL).any("epoch").sum("seed")
    for s in ("dp(1/2)", "spectral"):
        short = s[:2]
        found[f"arrived_{short}"] = arrived.sel(scheme=s).values.tolist()
        accuracy = own.test_accuracy.isel(epoch=-1).sel(scheme=s).mean("seed")
        found[f"accuracy_{short}"] = (100 * accuracy).values.tolist()
    return found


@claim("scales/published-simulations", Config, run)
def as_set(result: xr.Dataset) -> Evidence:
    """measured: log ratio DP(1/2) over Spectral, at the thesis's step size, of the epochs to train
    loss 0.2 on each pair; details: of the epochs to 0.01 and of the test loss at the end, with
    their 95 % intervals (test_low_90 and test_high_90: 90 %); runs that reach 0.01 (others count
    with the last epoch) and test accuracy in per cent, of DP (dp) and Spectral (sp).
    """
    found = _compare(result, "thesis")
    return Evidence(found.pop("early"), 0.0, 0.0, result.seed, found)


@claim("scales/loss-curves", Config, run)
def tuned(result: xr.Dataset) -> Evidence:
    """The same at each scheme's own step size; measured: log ratio of the epochs to 0.01.

    details in addition: the step sizes; margin: log MARGIN; test loss of DP over muP (fan-in) on
    the pairs where that was run.
    """
    found = _compare(result, "tuned")
    for s in result.scheme.values:
        found[f"rate_{str(s)[:2]}"] = result.rate.sel(scheme=s).dropna("pair").values.tolist()
    if "mup-fan-in" in result.scheme:
        run_there = result.rate.sel(scheme="mup-fan-in").notnull()
        test = result.test_loss.sel(kind="tuned").isel(epoch=-1).clip(max=1e3)
        ends = log_ratio(test.isel(pair=run_there.values), "mup-fan-in", 0.9)
        found["mup_test"], found["mup_low_90"], found["mup_high_90"] = ends
    found["margin"] = [log(MARGIN)]
    return Evidence(found.pop("epochs"), 0.0, 0.0, result.seed, found)


@claim("scales/representations", Config, run)
def inside(result: xr.Dataset) -> Evidence:
    """What DP(1/2) and Spectral have over NTK = DP(0) at equal train loss (the last level).

    measured: percentage points of probe accuracy at layer 4, mean over seeds, DP(1/2) then
    Spectral; details: its 95 % interval; alignment of layer 4 with the targets and the logarithm
    of the effective rank of layer 2, over NTK's with the same seeds, likewise; loss: of DP(1/2),
    Spectral, NTK where they were compared.
    """
    there, names = result.isel(level=-1), ("dp(1/2)", "spectral")
    values = {
        "probe": 100 * there.probe.sel(layer=4),
        "aligned": there.alignment.sel(between="layer 4 and targets"),
        "rank": np.log(there["rank"].sel(layer=2)),
    }
    found: dict[str, list[float]] = {}
    for name, value in values.items():
        gap = value - value.sel(digits_scheme="ntk")
        rows = [mean_interval(gap.sel(digits_scheme=s).dropna("seed").values) for s in names]
        ends = zip(*rows, strict=True)
        found |= {name + end: list(v) for end, v in zip(("", "_low", "_high"), ends, strict=True)}
    loss = there.digits_loss.mean("seed")
    reached = there.digits_loss.notnull().mean("seed")
    for name, value in {"loss": loss, "reached": reached}.items():
        found[name] = [float(value.sel(digits_scheme=s)) for s in (*names, "ntk")]
    return Evidence(found.pop("probe"), 0.0, 0.0, result.seed, found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write the record after each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="file to write, or to complete")
    parser.add_argument("--limit", type=float, default=inf, help="begin no part after SECONDS")
    parser.add_argument("--cifar10", type=Path, help="folder: the thesis's own setting")
    parser.add_argument("--quick", action="store_true", help="in seconds, on small digits")
    options = parser.parse_args(arguments)
    config = Config().quick() if options.quick else Config()
    if options.cifar10 is not None:
        os.environ[CIFAR_FOLDER], config = str(options.cifar10), THESIS
    labels = {"config": repr(config), "device": device(), **provenance()}

    def save(found: xr.Dataset) -> None:
        write_atomically(options.path, encode(found.assign_attrs(labels)))

    begun = decode(options.path.read_bytes()) if options.path.exists() else None
    measure(config, save, options.limit, print, begun)


if __name__ == "__main__":
    main()
