"""Does the best rate of a narrow network serve a wide one? Architectures, then optimizers.

A *case* is a network, a scheme and an optimizer. Every case is trained at every width on a grid of
rates, each a factor of two from the next; the best rate has the lowest loss at the end, the
geometric mean over seeds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from learning_dynamics import generator
from learning_dynamics.scales import parametrize
from learning_dynamics.scales.applying import Parametrized
from paper.records import read_record
from paper.scales.how_to_use.architectures import ARCHITECTURES

__all__ = ["Architectures", "Case", "Config", "Optimizers", "best_rates", "optimizers_of", "run"]


@dataclass(frozen=True)
class Case:
    """A network under a scheme with an optimizer; `rates` are powers of two, by exponent.

    rule : the optimizer for which the scheme's rates are asked; None: the one in use.
    """

    network: str
    scheme: str
    optimizer: str
    rates: tuple[int, ...]
    rule: str | None = None

    @property
    def name(self) -> str:
        """Network, scheme and optimizer in words."""
        odd = f" by the rates of {self.rule}" if self.rule else ""
        return f"{self.network}, {self.scheme}, {self.optimizer}{odd}"


NETWORKS = ("autoencoder", "convolutional", "residual", "attention")


@dataclass(frozen=True)
class Config:
    """cases; sizes n, the first is the base size; steps of `samples` fresh samples; seeds."""

    cases: tuple[Case, ...]
    sizes: tuple[int, ...] = (64, 128, 256, 512)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 40
    samples: int = 16
    record: str = ""

    def quick(self) -> "Config":
        """Two widths, one seed, a few steps of the first case."""
        few = replace(self.cases[0], rates=self.cases[0].rates[2:6])
        return replace(self, cases=(few,), sizes=(16, 32), seeds=(0,), steps=10, record="")


@dataclass(frozen=True)
class Architectures(Config):
    """Four architectures with Adam: standard scales, then DP(1/2)."""

    cases: tuple[Case, ...] = tuple(
        Case(network, scheme, "adam", tuple(range(low, low + 7)))
        for scheme, low in (("dp(1/2)", -9), ("standard", -11))
        for network in NETWORKS
    )
    record: str = "transfer-architectures"


@dataclass(frozen=True)
class Optimizers(Config):
    """The autoencoder under DP(1/2) with three optimizers, and Adam by the rates of another."""

    cases: tuple[Case, ...] = (
        Case("autoencoder", "dp(1/2)", "sgd", tuple(range(-4, 3))),
        Case("autoencoder", "dp(1/2)", "adam", tuple(range(-9, -2))),
        Case("autoencoder", "dp(1/2)", "muon", tuple(range(-8, -1))),
        Case("autoencoder", "dp(1/2)", "adam", tuple(range(-10, -3)), rule="sgd"),
    )
    record: str = "optimizer-budgets"


def optimizers_of(scaled: Parametrized, optimizer: str, rate: float) -> list[torch.optim.Optimizer]:
    """The optimizer(s) of a `parametrize`d network: momentum 0.9 with SGD, AdamW beside Muon."""
    if optimizer == "sgd":
        return [torch.optim.SGD(scaled.param_groups(rate), momentum=0.9)]
    if optimizer == "muon":
        rest = scaled.param_groups(rate / 4, rest=True)
        matrices = scaled.param_groups(rate)
        return [torch.optim.Muon(matrices, weight_decay=0.0), torch.optim.AdamW(rest)]
    return [torch.optim.Adam(scaled.param_groups(rate))]


def _train(case: Case, n: int, rate: float, seed: int, config: Config) -> float:
    """Loss on unseen samples after training; infinite for a run that diverged."""
    network = ARCHITECTURES[case.network]
    with torch.random.fork_rng():
        torch.manual_seed(generator("transfer", case.network, n, seed).initial_seed())
        scaled = parametrize(
            network.build,
            n,
            config.sizes[0],
            case.scheme,
            case.rule or case.optimizer,
            embeddings=network.embeddings,
        )
        optimizers = optimizers_of(scaled, case.optimizer, rate)
        for step in range(config.steps):
            loss = network.loss(scaled.model, network.batch(config.samples, f"{seed}, {step}"))
            if not loss < 1e6:
                return np.inf
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        with torch.no_grad():
            end = float(network.loss(scaled.model.eval(), network.batch(256, "unseen")))
    return end if np.isfinite(end) else np.inf


def run(config: Config) -> xr.Dataset:
    """loss(case, size, place, seed) and rate(case, place), the exponents of two of its grid.

    Read from results/ where the configuration has a record there.
    """
    if config.record:
        return read_record(config.record)
    return measure(config)


def measure(config: Config, progress: Any = None) -> xr.Dataset:
    """The same, computed anew."""
    shape = [len(v) for v in (config.cases, config.sizes, config.cases[0].rates, config.seeds)]
    loss = np.full(shape, np.nan)
    for place in np.ndindex(*shape):
        case = config.cases[place[0]]
        rate = 2.0 ** case.rates[place[2]]
        loss[place] = _train(case, config.sizes[place[1]], rate, config.seeds[place[3]], config)
        if progress is not None:
            progress(case.name, place)
    coords: Mapping[str, Iterable[Any]] = {
        "case": [c.name for c in config.cases],
        "size": list(config.sizes),
        "seed": list(config.seeds),
    }
    rates = [list(c.rates) for c in config.cases]
    data = {"loss": (("case", "size", "place", "seed"), loss), "rate": (("case", "place"), rates)}
    return xr.Dataset(data, coords=dict(coords))


def best_rates(result: xr.Dataset) -> xr.DataArray:
    """log2 of the best rate, (case, size)."""
    middle = np.log(result.loss).mean("seed")
    return result.rate.isel(place=middle.argmin("place"))
