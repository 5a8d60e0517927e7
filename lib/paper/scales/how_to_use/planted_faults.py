"""Does the coordinate check find what is wrong, and only that? Faults planted in sound networks.

Twenty mistakes that people make by hand, on four architectures, with the right networks beside.
A fault counts as caught if a row of the check says "differs" or "diverged"; such a row in a right
network is a false alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from learning_dynamics.scales import coordinate_check, parametrize
from learning_dynamics.scales.applying import Multiplier, Parametrized, Weight
from paper.claims import Evidence, claim
from paper.records import read_record
from paper.scales.how_to_use.architectures import ARCHITECTURES

__all__ = ["FAULTS", "Config", "Fault", "planted_faults", "run"]

RATES = {"sgd": 0.05, "adam": 0.003}
BASE = 32
Factors = dict[str, float]


@dataclass(frozen=True)
class Fault:
    """plant(network, rates by name relative to the base, n over the base) -> whether it applies.

    It changes rates and initial values in place. optimizer : in use; rule : whose rates were asked
    for. flat : whether a scheduler overwrites the rates. base : whether the base follows the size.
    """

    optimizer: str
    plant: Callable[[Parametrized, Factors, float], bool] = lambda scaled, rates, s: True
    rule: str | None = None
    flat: bool = False
    base: bool = False


def _chosen(scaled: Parametrized, which: str) -> list[Weight]:
    """Weights of a kind: "input", "hidden", "readout" matrices; "bias", "gain" of the body."""
    ending = {"bias": "bias", "gain": "weight"}.get(which)
    if ending:
        body = [w for w in scaled.weights if w.value.ndim == 1 and w.grows]
        return [w for w in body if w.names[0].endswith(ending)]
    tables = [w for w in scaled.weights if w.fan_in > 1 or w.names[0].startswith("tokens")]
    return [w for w in tables if w.role == which]


def _rate(which: str, change: Callable[[float, float], float], count: int | None = None) -> Any:
    """Rates of the first `count` parameters of one kind become change(rate, n over base)."""

    def plant(scaled: Parametrized, rates: Factors, s: float) -> bool:
        chosen = _chosen(scaled, which)[:count]
        for w in chosen:
            rates[w.names[0]] = change(rates[w.names[0]], s)
        return bool(chosen)

    return plant


def _value(which: str, power: float) -> Any:
    """The first parameter of one kind starts (n / base)^power times too large."""

    def plant(scaled: Parametrized, rates: Factors, s: float) -> bool:
        chosen = [w for w in _chosen(scaled, which) if not w.tied][:1]
        for w in chosen:
            w.value.data *= s**power
        return bool(chosen)

    return plant


def _all(change: Callable[[float, float], float]) -> Any:
    def plant(scaled: Parametrized, rates: Factors, s: float) -> bool:
        rates.update({name: change(rate, s) for name, rate in rates.items()})
        return True

    return plant


def _biases_like_weights(scaled: Parametrized, rates: Factors, s: float) -> bool:
    own = {name for w in _chosen(scaled, "hidden") + _chosen(scaled, "input") for name in w.names}
    pairs = [(n, n[: -len("bias")] + "weight") for n in rates if n.endswith("bias")]
    for bias, weight in pairs:
        if weight in own:
            rates[bias] = rates[weight]
    return any(weight in own for _, weight in pairs)


def _twice(scaled: Parametrized, rates: Factors, s: float) -> bool:
    for w in _chosen(scaled, "readout"):
        layer = scaled.model.get_submodule(w.names[0].rpartition(".")[0])
        layer.register_forward_pre_hook(Multiplier(1 / s))
    return bool(_chosen(scaled, "readout"))


def _anew(scaled: Parametrized, rates: Factors, s: float) -> bool:
    for w in scaled.weights:
        if not w.tied and w.fan_in > 1:
            nn.init.kaiming_uniform_(w.value, a=5**0.5)
    return any(w.role == "readout" for w in scaled.weights)


FAULTS = {
    "groups not handed over": Fault("adam", _all(lambda rate, s: 1.0)),
    "gradient descent's rates with Adam": Fault("adam", rule="sgd"),
    "Adam's rates with gradient descent": Fault("sgd", rule="adam"),
    "a scheduler flattens the rates": Fault("adam", flat=True),
    "a hidden rate does not fall": Fault("adam", _rate("hidden", lambda rate, s: 1.0, 1)),
    "a hidden rate falls by the root": Fault("adam", _rate("hidden", lambda rate, s: rate**0.5, 1)),
    "a hidden rate rises": Fault("adam", _rate("hidden", lambda rate, s: 1 / rate, 1)),
    "rates scaled twice": Fault("adam", _all(lambda rate, s: rate**2)),
    "biases at the rates of weights": Fault("sgd", _biases_like_weights),
    "a bias rate rises": Fault("adam", _rate("bias", lambda rate, s: rate * s, 1)),
    "gains at the rates of matrices": Fault("adam", _rate("gain", lambda rate, s: rate / s)),
    "first layer or embedding as hidden": Fault("adam", _rate("input", lambda rate, s: rate / s)),
    "first layer by its outputs": Fault("sgd", _value("input", -0.5)),
    "a hidden layer starts too large": Fault("sgd", _value("hidden", 0.5)),
    "a hidden layer starts too small": Fault("adam", _value("hidden", -0.5)),
    "readout starts as a hidden layer": Fault("adam", _value("readout", 0.5)),
    "readout rate does not fall": Fault("sgd", _rate("readout", lambda rate, s: 1.0)),
    "readout multiplied twice": Fault("sgd", _twice),
    "base follows the size": Fault("sgd", base=True),
    "initial values drawn anew": Fault("adam", _anew),
}


@dataclass(frozen=True)
class Config:
    """What is checked: faults under DP(1/2), and right networks under several schemes."""

    networks: tuple[str, ...] = ("autoencoder", "convolutional", "residual", "attention")
    faults: tuple[str, ...] = tuple(FAULTS)
    right: tuple[tuple[str, str], ...] = tuple(
        (scheme, optimizer)
        for scheme in ("dp(1/2)", "ntk", "spectral")
        for optimizer in ("sgd", "adam")
    )
    sizes: tuple[int, ...] = (32, 96, 256)
    runs: int = 3
    samples: int = 16
    record: str = "planted-faults"

    def quick(self) -> "Config":
        """The two smallest networks and four faults, two schemes."""
        return replace(
            self,
            networks=("autoencoder", "plain"),
            faults=tuple(FAULTS)[:5:2] + tuple(FAULTS)[-5:-3],
            right=self.right[:2],
            sizes=(32, 64, 128),
            record="",
        )


def check(network: str, scheme: str, fault: Fault, config: Config) -> tuple[bool, bool]:
    """(whether the fault applies to the network, whether a row says "differs" or "diverged")."""
    made, applies = ARCHITECTURES[network], []

    def build(n: int) -> Parametrized:
        base = n if fault.base else BASE
        rule = fault.rule or fault.optimizer
        scaled = parametrize(made.build, n, base, scheme, rule, embeddings=made.embeddings)
        names = [w.names[0] for w in scaled.weights]
        rates = {n: factor["rate"] for n, factor in zip(names, scaled.factors, strict=True)}
        applies.append(fault.plant(scaled, rates, n / BASE))
        return replace(scaled, factors=tuple({"rate": rates[n], "sgd": 1.0} for n in names))

    def optimizer(scaled: Parametrized) -> torch.optim.Optimizer:
        kind = torch.optim.SGD if fault.optimizer == "sgd" else torch.optim.Adam
        return kind(scaled.param_groups(RATES[fault.optimizer]))

    def flat(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        rate = RATES[fault.optimizer]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=20)

    build(2 * BASE)
    if not applies[0]:
        return False, False
    rows = coordinate_check(
        build,
        scheme,
        optimizer,
        made.loss,
        made.batch(config.samples, "check"),
        config.sizes,
        flat if fault.flat else None,
        runs=config.runs,
        embeddings=made.embeddings,
    )
    return True, bool(rows.verdict.isin(["differs", "diverged"]).any())


def run(config: Config) -> xr.Dataset:
    """caught(fault, network), NaN where a fault does not apply, and alarm(right, network).

    Read from results/ where the configuration has a record there.
    """
    return read_record(config.record) if config.record else measure(config)


def measure(config: Config) -> xr.Dataset:
    """The same, computed anew; `quick()` in seconds, the whole in minutes."""
    caught = [
        [check(network, "dp(1/2)", FAULTS[name], config) for network in config.networks]
        for name in config.faults
    ]
    alarm = [
        [check(network, scheme, Fault(optimizer), config)[1] for network in config.networks]
        for scheme, optimizer in config.right
    ]
    found = [[float(hit) if applies else np.nan for applies, hit in row] for row in caught]
    return xr.Dataset(
        {
            "caught": (("fault", "network"), np.array(found)),
            "alarm": (("right", "network"), np.array(alarm, dtype=float)),
        },
        coords={
            "fault": list(config.faults),
            "network": list(config.networks),
            "right": [f"{scheme}, {optimizer}" for scheme, optimizer in config.right],
        },
    )


@claim("scales/planted-faults", Config, run)
def planted_faults(result: xr.Dataset) -> Evidence:
    """Shares of faults caught and of right networks with an alarm, over all that apply."""
    return Evidence(
        measured=[float(result.caught.mean()), float(result.alarm.mean())],
        predicted=[1.0, 0.0],
        tolerance=[0.1, 0.05],
        details={
            "planted": float(result.caught.notnull().sum()),
            "right": float(result.alarm.size),
        },
    )
