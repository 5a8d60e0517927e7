"""Does the best rate of a narrow network serve a wide one, by optimizer and by architecture?

A *case* is a scheme with an optimizer. Every case is trained at every width on a grid of rates,
each a factor of two from the next; the best rate has the lowest loss at the end, the geometric mean
over seeds.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr

from learning_dynamics import generator
from learning_dynamics.scales import parametrize
from paper.claims import Evidence, claim
from paper.records import provenance, read_record, write_record
from paper.scales.how_to_use.architectures import ARCHITECTURES

__all__ = [
    "Architectures",
    "Case",
    "Config",
    "architectures",
    "best_rates",
    "measure",
    "optimizer_budgets",
    "run",
]


@dataclass(frozen=True)
class Case:
    """A scheme with an optimizer ("sgd" has momentum 0.9); rates are 2^low to 2^(low + 6).

    rule : the optimizer whose rates the scheme is asked for. network : of `ARCHITECTURES`.
    """

    scheme: str
    optimizer: str
    rule: str
    low: int
    network: str = "autoencoder"

    @property
    def name(self) -> str:
        """Network, unless it is the autoencoder, scheme and optimizer in words."""
        odd = "" if self.rule == self.optimizer else f" by the rates of {self.rule}"
        where = "" if self.network == "autoencoder" else f"{self.network}, "
        return f"{where}{self.scheme}, {self.optimizer}{odd}"


@dataclass(frozen=True)
class Config:
    """cases; sizes n, the first is the base size; steps of `samples` fresh samples; seeds."""

    cases: tuple[Case, ...] = (
        Case("dp(1/2)", "sgd", "sgd", -4),
        Case("dp(1/2)", "adam", "adam", -9),
        Case("standard", "adam", "adam", -11),
        Case("dp(1/2)", "adam", "sgd", -10),
        Case("mup-package", "adam", "adam", -9),
    )
    sizes: tuple[int, ...] = (64, 128, 256, 512)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 40
    samples: int = 16
    record: str = "optimizer-budgets"

    def quick(self) -> "Config":
        """One seed of four cases at the first and last width."""
        return replace(
            self,
            cases=self.cases[:3] + self.cases[4:],
            sizes=self.sizes[::3],
            seeds=(0,),
            record="",
        )


@dataclass(frozen=True)
class Architectures(Config):
    """Residual blocks, attention, convolutions with Adam: DP(1/2), then standard scales. In these
    networks one width grows, so that DP(1/2) gives them what the package mup gives."""

    cases: tuple[Case, ...] = tuple(
        Case(scheme, "adam", "adam", low + (network == "convolutional"), network)
        for scheme, low in (("dp(1/2)", -10), ("standard", -11))
        for network in ("residual", "attention", "convolutional")
    )
    record: str = "transfer-architectures"

    def quick(self) -> "Architectures":
        """One seed of the residual network, at two widths."""
        return replace(
            self, cases=self.cases[::3], sizes=self.sizes[:3:2], seeds=self.seeds[:1], record=""
        )


def _train(case: Case, n: int, rate: float, seed: int, config: Config) -> float:
    """Loss on unseen samples after training; infinite for a run that diverged."""
    network, words = ARCHITECTURES[case.network], ARCHITECTURES[case.network].embeddings
    with torch.random.fork_rng():
        torch.manual_seed(generator("transfer", case.network, n, seed).initial_seed())
        base = config.sizes[0]
        scaled = parametrize(network.build, n, base, case.scheme, case.rule, embeddings=words)
        groups = scaled.param_groups(rate)
        momentum = torch.optim.SGD(groups, momentum=0.9)
        optimizer = momentum if case.optimizer == "sgd" else torch.optim.Adam(groups)
        for step in range(config.steps):
            loss = network.loss(scaled.model, network.batch(config.samples, f"{seed}, {step}"))
            if not loss < 1e6:
                return np.inf
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            end = float(network.loss(scaled.model.eval(), network.batch(256, "unseen")))
    return end if np.isfinite(end) else np.inf


def run(config: Config) -> xr.Dataset:
    """loss(case, size, place, seed) and rate(case, place), the exponents of two of its grid.

    Read from results/ where the configuration has a record there.
    """
    return read_record(config.record) if config.record else measure(config)


def measure(config: Config) -> xr.Dataset:
    """The same, computed anew; `quick()` in seconds, the whole in minutes."""
    shape = (len(config.cases), len(config.sizes), 7, len(config.seeds))
    loss = np.full(shape, np.nan)
    for i, j, k, m in np.ndindex(shape):
        case = config.cases[i]
        rate = 2.0 ** (case.low + k)
        loss[i, j, k, m] = _train(case, config.sizes[j], rate, config.seeds[m], config)
    rates = [[c.low + k for k in range(7)] for c in config.cases]
    data = {"loss": (("case", "size", "place", "seed"), loss), "rate": (("case", "place"), rates)}
    names, sizes, seeds = [c.name for c in config.cases], list(config.sizes), list(config.seeds)
    return xr.Dataset(data, coords={"case": names, "size": sizes, "seed": seeds})


def best_rates(result: xr.Dataset) -> xr.DataArray:
    """log2 of the best rate, (case, size)."""
    middle = np.log(result.loss).mean("seed")
    return result.rate.isel(place=middle.argmin("place"))


@claim("scales/optimizer-budgets", Config, run)
def optimizer_budgets(result: xr.Dataset) -> Evidence:
    """log2 of the best rate at the largest width (measured) and at the base: SGD, Adam, DP(1/2).

    details: the difference for Adam under standard scales and under those of the package mup, and
    how many optima of the two measured cases lie at an end of their grid.
    """
    best = best_rates(result)
    ends = (best == result.rate.min("place")) | (best == result.rate.max("place"))
    return Evidence(
        measured=best[:2, -1].astype(float),
        predicted=best[:2, 0].astype(float),
        tolerance=[1.0, 1.0],
        seeds=result.seed,
        details={
            "standard": float(best[2, -1] - best[2, 0]),
            "mup": float(best[-1, -1] - best[-1, 0]),
            "at_the_edge": float(ends[:2].sum()),
        },
    )


@claim("scales/transfer-architectures", Architectures, run)
def architectures(result: xr.Dataset) -> Evidence:
    """log2 of the best rate at the largest width (measured) and at the base, under DP(1/2).

    details: the differences under standard scales, and how many optima of DP lie at an end of their
    grid.
    """
    best = best_rates(result).astype(float)
    half = best["case"].size // 2
    ends = (best == result.rate.min("place")) | (best == result.rate.max("place"))
    return Evidence(
        measured=best[:half, -1],
        predicted=best[:half, 0],
        tolerance=[1.0] * half,
        seeds=result.seed,
        details={
            "standard": best[half:, -1] - best[half:, 0],
            "at_the_edge": float(ends[:half].sum()),
        },
    )


def main() -> None:
    """Measure the architectures and write their record."""
    config = Architectures()
    write_record(config.record, measure(config).assign_attrs(provenance()))


if __name__ == "__main__":
    main()
