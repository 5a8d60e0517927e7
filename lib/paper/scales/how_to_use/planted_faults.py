"""Does the coordinate check find what is wrong, and only that? Faults planted in sound networks.

Mistakes that people make by hand, in networks under DP(1/2) with several optimizers, and sound
networks beside them. A row of the check that says "differs", "diverged" or "untrained" catches a
fault; in a sound network it is a false alarm.
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
from paper.records import provenance, read_record, write_record
from paper.scales.how_to_use.architectures import ARCHITECTURES

__all__ = ["FAULTS", "Config", "Fault", "check", "measure", "planted_faults", "run"]

BASE = 32
CAUGHT = ["differs", "diverged", "untrained"]
#: Rates at the base size; Muon's matrices have their own, its other parameters are AdamW's.
RATES = {"sgd": 0.05, "adam": 0.003, "muon": 0.02}
#: Whose rates are mistaken for one's own.
OTHER = {"sgd": "adam", "adam": "sgd", "muon": "adam"}
Rates = dict[str, float]


@dataclass(frozen=True)
class Fault:
    """What is done wrong to a network of n units, s = n / base.

    plant : (network, rates by name over those at the base, s) changes either in place; a parameter
            whose rate it deletes gets no optimizer. The rest says what `parametrize` was asked for:
    other : the rates of another optimizer. scheme : another scheme. base : a base as large as n.
    flat  : a scheduler that knows one rate only.
    """

    plant: Callable[[Parametrized, Rates, float], None] = lambda scaled, rates, s: None
    other: bool = False
    scheme: str | None = None
    base: bool = False
    flat: bool = False


def _chosen(scaled: Parametrized, which: str) -> list[Weight]:
    """Matrices and tables by role, "input", "hidden", "readout"; "bias" and "gain" of the body."""
    ending = {"bias": "bias", "gain": "weight"}.get(which)
    if ending:
        body = [w for w in scaled.weights if w.value.ndim == 1 and w.grows]
        return [w for w in body if w.names[0].endswith(ending)]
    return [w for w in scaled.weights if w.role == which and w.value.ndim > 1]


def _rate(which: str, change: Callable[[float, float], float], count: int | None = None) -> Fault:
    """Rates of the first `count` parameters of one kind become change(rate, s)."""

    def plant(scaled: Parametrized, rates: Rates, s: float) -> None:
        for w in _chosen(scaled, which)[:count]:
            rates[w.names[0]] = change(rates[w.names[0]], s)

    return Fault(plant)


def _all(change: Callable[[float], float]) -> Fault:
    def plant(scaled: Parametrized, rates: Rates, s: float) -> None:
        rates.update({name: change(rate) for name, rate in rates.items()})

    return Fault(plant)


def _start(which: str, power: float) -> Fault:
    """The first matrix of one kind starts s^power times too large."""

    def plant(scaled: Parametrized, rates: Rates, s: float) -> None:
        for w in _chosen(scaled, which)[:1]:
            w.value.data *= s**power

    return Fault(plant)


def _biases_like_matrices(scaled: Parametrized, rates: Rates, s: float) -> None:
    for w in _chosen(scaled, "bias"):
        rates[w.names[0]] = rates.get(w.names[0][: -len("bias")] + "weight", rates[w.names[0]])


def _left_out(scaled: Parametrized, rates: Rates, s: float) -> None:
    for w in _chosen(scaled, "hidden")[-1:]:
        del rates[w.names[0]]


def _readouts(scaled: Parametrized) -> list[nn.Module]:
    names = [w.names[0].rpartition(".")[0] for w in _chosen(scaled, "readout")]
    return [scaled.model.get_submodule(name) for name in [*names, *scaled.multipliers]]


def _twice(scaled: Parametrized, rates: Rates, s: float) -> None:
    for layer in _readouts(scaled):
        layer.register_forward_pre_hook(Multiplier(1 / s))


def _no_multiplier(scaled: Parametrized, rates: Rates, s: float) -> None:
    for layer in _readouts(scaled):
        layer._forward_pre_hooks.clear()


def _anew(scaled: Parametrized, rates: Rates, s: float) -> None:
    for module in scaled.model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()


FAULTS = {
    "groups not handed over": _all(lambda rate: 1.0),
    "a scheduler knows one rate only": Fault(flat=True),
    "rates of another optimizer": Fault(other=True),
    "another scheme (NTK)": Fault(scheme="ntk"),
    "base size follows the size": Fault(base=True),
    "rates scaled twice": _all(lambda rate: rate**2),
    "a layer without optimizer": Fault(_left_out),
    "a hidden rate left as it is": _rate("hidden", lambda rate, s: 1.0, 1),
    "a hidden rate falls half as fast": _rate("hidden", lambda rate, s: rate**0.5, 1),
    "a hidden rate rises": _rate("hidden", lambda rate, s: 1 / rate, 1),
    "biases at the rates of matrices": Fault(_biases_like_matrices),
    "biases not scaled": _rate("bias", lambda rate, s: 1.0),
    "gains scaled as matrices": _rate("gain", lambda rate, s: rate / s),
    "first layer's rate as if hidden": _rate("input", lambda rate, s: rate / s),
    "first layer starts by the wrong fan": _start("input", -0.5),
    "a hidden layer without 1/sqrt(fan)": _start("hidden", 0.5),
    "a hidden layer with 1/fan": _start("hidden", -0.5),
    "readout starts as a hidden layer": _start("readout", 0.5),
    "readout's rate left as it is": _rate("readout", lambda rate, s: 1.0),
    "readout multiplied twice": Fault(_twice),
    "tied readout without multiplier": Fault(_no_multiplier),
    "initial values drawn anew": Fault(_anew),
}


@dataclass(frozen=True)
class Config:
    """networks and optimizers; faults, in networks under DP(1/2); sound: schemes of those without.

    sizes n (muon_sizes: polar factors are slow on a CPU), `runs` draws for each; sound networks are
    checked `repeats` times, each with draws of its own.
    """

    networks: tuple[str, ...] = ("autoencoder", "convolutional", "residual", "tied")
    optimizers: tuple[str, ...] = ("sgd", "adam", "muon")
    faults: tuple[str, ...] = tuple(FAULTS)
    sound: tuple[str, ...] = ("dp(1/2)", "ntk", "spectral", "mup-package")
    repeats: int = 2
    sizes: tuple[int, ...] = (32, 96, 256)
    muon_sizes: tuple[int, ...] = (32, 64, 128)
    runs: int = 3
    record: str = "planted-faults"

    def quick(self) -> "Config":
        """The autoencoder with two optimizers, three faults and one scheme."""
        return replace(
            self,
            networks=("autoencoder",),
            optimizers=("sgd", "adam"),
            faults=tuple(FAULTS)[::8],
            sound=self.sound[:1],
            repeats=1,
            record="",
        )


def _build(network: str, n: int, scheme: str, optimizer: str, fault: Fault) -> Parametrized:
    made = ARCHITECTURES[network]
    scaled = parametrize(
        made.build,
        n,
        n if fault.base else BASE,
        fault.scheme or scheme,
        OTHER[optimizer] if fault.other else optimizer,
        embeddings=made.embeddings,
    )
    known = {w.names[0]: f["rate"] for w, f in zip(scaled.weights, scaled.factors, strict=True)}
    fault.plant(scaled, known, n / BASE)
    weights = tuple(w for w in scaled.weights if w.names[0] in known)
    factors = tuple({"rate": known[w.names[0]], "sgd": 1.0} for w in weights)
    return replace(scaled, optimizer=optimizer, weights=weights, factors=factors)


def _applies(network: str, optimizer: str, fault: Fault) -> bool:
    """Whether it changes a rate, an initial value or a multiplier of this network at all."""

    def state(fault: Fault) -> list[float]:
        torch.manual_seed(0)
        built = _build(network, 2 * BASE, "dp(1/2)", optimizer, fault)
        rates = [1.0 if fault.flat else float(f["rate"]) for f in built.factors]
        hooks = [len(m._forward_pre_hooks) for m in built.model.modules()]
        return [*rates, *hooks, *(float(p.detach().norm()) for p in built.model.parameters())]

    with torch.random.fork_rng():
        right, wrong = state(Fault()), state(fault)
    return len(right) != len(wrong) or not np.allclose(right, wrong, rtol=1e-5)


def check(
    network: str, scheme: str, optimizer: str, fault: Fault, config: Config, repeat: int = 0
) -> bool:
    """Whether a row of the check finds something wrong."""
    made = ARCHITECTURES[network]

    def optimizers(scaled: Parametrized) -> list[torch.optim.Optimizer]:
        if optimizer == "sgd":
            return [torch.optim.SGD(scaled.param_groups(RATES["sgd"]))]
        if optimizer == "adam":
            return [torch.optim.Adam(scaled.param_groups(RATES["adam"]))]
        rest = scaled.param_groups(RATES["adam"], 0.0, rest=True)
        matrices = scaled.param_groups(RATES["muon"], 0.0)
        muon: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices)] if matrices else []
        return [*muon, torch.optim.AdamW(rest)]

    def one_cycle(given: list[torch.optim.Optimizer]) -> list[Any]:
        rates = [RATES["adam"]] if optimizer == "muon" else [RATES[optimizer]]
        cycle = torch.optim.lr_scheduler.OneCycleLR
        return [
            cycle(o, max_lr=r, total_steps=20)
            for o, r in zip(given, [*[RATES["muon"]] * (len(given) - 1), *rates], strict=True)
        ]

    rows = coordinate_check(
        lambda n: _build(network, n, scheme, optimizer, fault),
        scheme,
        optimizers,
        made.loss,
        made.batch(16, "check"),
        config.muon_sizes if optimizer == "muon" else config.sizes,
        one_cycle if fault.flat else None,
        runs=config.runs,
        embeddings=made.embeddings,
        seed=f"planted faults {repeat}",
    )
    return bool(rows.verdict.isin(CAUGHT).any())


def run(config: Config) -> xr.Dataset:
    """caught(fault, optimizer, network), NaN where a network has no place for a fault, and
    alarm(scheme, optimizer, network, repeat); truth values as 0 and 1.

    Read from results/ where the configuration has a record there.
    """
    return read_record(config.record) if config.record else measure(config)


def measure(config: Config) -> xr.Dataset:
    """The same, computed anew; `quick()` in seconds, the whole in a quarter of an hour."""
    places = [(o, w) for o in config.optimizers for w in config.networks]
    caught = [
        check(w, "dp(1/2)", o, FAULTS[f], config) if _applies(w, o, FAULTS[f]) else np.nan
        for f in config.faults
        for o, w in places
    ]
    alarm = [
        check(w, s, o, Fault(), config, repeat)
        for s in config.sound
        for o, w in places
        for repeat in range(config.repeats)
    ]
    coords = {
        "fault": list(config.faults),
        "scheme": list(config.sound),
        "optimizer": list(config.optimizers),
        "network": list(config.networks),
    }
    shapes = [(len(coords[k]), len(config.optimizers), -1) for k in ("fault", "scheme")]
    found = np.array(caught, dtype=float).reshape(shapes[0])
    false = np.array(alarm, dtype=float).reshape(*shapes[1], config.repeats)
    return xr.Dataset(
        {
            "caught": (("fault", "optimizer", "network"), found),
            "alarm": (("scheme", "optimizer", "network", "repeat"), false),
        },
        coords=coords,
    )


@claim("scales/planted-faults", Config, run)
def planted_faults(result: xr.Dataset) -> Evidence:
    """Shares of faults caught and of sound networks with an alarm, over all that apply.

    details: how many there were, and the smallest share caught with any one optimizer or network.
    """
    return Evidence(
        measured=[float(result.caught.mean()), float(result.alarm.mean())],
        predicted=[1.0, 0.0],
        tolerance=[0.1, 0.05],
        details={
            "planted": float(result.caught.notnull().sum()),
            "sound": float(result.alarm.size),
            "least_by_optimizer": float(result.caught.mean(["fault", "network"]).min()),
            "least_by_network": float(result.caught.mean(["fault", "optimizer"]).min()),
        },
    )


def main() -> None:
    """Measure the book's configuration and write its record."""
    config = Config()
    write_record(config.record, measure(config).assign_attrs(provenance()))


if __name__ == "__main__":
    main()
