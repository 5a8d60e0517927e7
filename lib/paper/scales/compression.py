"""What passes the bottleneck: which directions and classes a narrow layer keeps while a net learns.

Linear nets of widths n_0, n, m, n, n_L with n integrated out are compared with a law that has no
free number; linear and ReLU nets on digits show the classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.data.digits import small_digits
from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.scales.parametrizations import scheme
from learning_dynamics.scales.training import State, initialise, sgd
from paper.claims import Evidence, claim
from paper.fits import fit_slope
from paper.records import provenance, read_record, write_record

__all__ = ["Config", "bottleneck_compression", "classes", "directions", "energies", "run"]

PHASES = (1.2, 4.0, 30.0)  # times, after each of which a linear net is looked at


@dataclass(frozen=True)
class Config:
    """Linear nets: `problems` random tasks, every m in `bottlenecks`, every r in `powers`, steps
    of `step` over the curvature. Nets on digits: widths 49, n, m, n, 10 at `size`, `steps` of
    full-batch descent at the best of the rates 2^`rates` and, `paces` times as many, at that
    over each of `paces`; once for each of `seeds`."""

    problems: int = 20
    bottlenecks: tuple[int, ...] = (16, 32, 64, 128, 256)
    powers: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    step: float = 0.02
    schemes: tuple[str, ...] = ("dp(0)", "dp(1/4)", "dp(1/2)", "spectral")
    size: tuple[int, int] = (512, 64)
    images: int = 256
    rates: tuple[int, ...] = tuple(range(-2, 5))
    seeds: tuple[int, ...] = (20, 21, 22, 23, 24)
    paces: tuple[int, ...] = (1, 4)
    steps: int = 60
    record: str | None = "compression"

    def quick(self) -> "Config":
        return replace(
            self,
            problems=2,
            bottlenecks=(16, 64, 256),
            step=0.1,
            size=(128, 32),
            seeds=(10,),
            images=128,
            rates=(0, 1, 2),
            record=None,
        )


def energies(
    maps: Float[Tensor, "runs outputs inputs"], start: Float[Tensor, " runs"]
) -> Float[Tensor, "runs inputs inputs"]:
    """The law: U'U over its mean at the start, U (m, n_0) the map into the bottleneck.

    (1 + M'M/s^2)^(1/2), M the map that is learned, s = `start` the root of m times the RMS entry
    of the initial map. Proposition `prop-compression`.
    """
    values, v = torch.linalg.eigh(maps.mT @ maps)
    root = (1 + values.clamp_min(0) / start[:, None] ** 2).sqrt()
    return (v * root[:, None]) @ v.mT


def task(draw: int) -> tuple[Moments, Tensor]:
    """Moments of a random problem, and its right singular vectors (n_0, n_0) as columns."""
    g = generator("compression", draw)
    problem = linear_teacher(
        generator=g,
        input_spectrum=tuple((0.3 + 2.5 * torch.rand(8, generator=g)).tolist()),
        target_spectrum=tuple((0.5 + 2 * torch.rand(3, generator=g)).tolist()),
    )
    w = problem.targets @ torch.linalg.pinv(problem.inputs)
    return problem.moments(), torch.linalg.svd(w).Vh.mT


def directions(config: Config, problem: int) -> xr.Dataset:
    """growth, law (m, r, phase, direction): energy v'U'Uv over that at the start.

    U and V, the maps into and out of the bottleneck, are products over a wide layer; as its width
    grows they take gradient steps as two matrices do, with twice the rate.
    """
    moments, v = task(problem)
    outputs, inputs = moments.yx.shape
    shape = (len(config.bottlenecks), len(config.powers), len(PHASES), v.shape[1])
    growth, law = torch.empty(shape, dtype=torch.float64), torch.empty(shape, dtype=torch.float64)
    steep = torch.linalg.matrix_norm(moments.yx @ torch.linalg.pinv(moments.xx), 2)
    r = torch.tensor(config.powers, dtype=torch.float64)
    for k, m in enumerate(config.bottlenecks):
        draw = generator("compression/start", problem, m)
        into = torch.randn(m, inputs, generator=draw, dtype=torch.float64).expand(len(r), -1, -1)
        out = torch.randn(outputs, m, generator=draw, dtype=torch.float64).expand(len(r), -1, -1)
        first = (into @ v).square().sum(1)
        scale = m**-r / math.sqrt(inputs * m)  # NTK's, the output times m^-r
        start = scale * m
        curvature = 2 * scale**2 * m * torch.linalg.eigvalsh(moments.xx)[-1]
        rate = (config.step / curvature / (1 + (steep / start) ** 2).sqrt() * scale)[:, None, None]
        scale = scale[:, None, None]
        for phase, steps in enumerate(PHASES):
            for _ in range(int(steps / config.step)):
                force = scale * out @ (into @ moments.xx) - moments.yx
                into, out = into - rate * out.mT @ force, out - rate * force @ into.mT
            learned = energies(scale * out @ into, start)
            growth[k, :, phase] = (into @ v).square().sum(1) / first
            law[k, :, phase] = (v * (learned @ v)).sum(1) / v.square().sum(0)
    dims = ("m", "r", "phase", "direction")
    return xr.Dataset({"growth": (dims, growth), "law": (dims, law)})


def classes(config: Config) -> xr.Dataset:
    """share (activation, scheme, pace, seed, step): of the bottleneck's variance that lies between
    the classes; law: the same by `energies` from the map alone, for linear nets; loss, likewise;
    rate (activation, scheme)."""
    data, _ = small_digits(config.images, 1)
    kind = torch.nn.functional.one_hot(data.targets.argmax(0)).float()
    means = (kind / kind.sum(0)) @ kind.mT
    record = list(range(0, config.steps + 1, 10))  # of the fastest pace
    n, m = config.size
    widths = (len(data.inputs), n, m, n, len(data.targets))

    def train(
        activation: str, name: str, rates: Sequence[float], seeds: Sequence[int], pace: int
    ) -> Tensor:
        gain = math.sqrt(2) if activation == "relu" else 1.0
        p = scheme(name)(widths, (1.0, gain, gain, gain)).with_unit_learning_rates()
        weights = initialise(widths, p.weight_stds, list(seeds)).weights
        entry = math.prod(p.multipliers) * math.prod(p.weight_stds) * n * math.sqrt(m)
        start = torch.full((len(rates),), entry * math.sqrt(m))

        def part(z: Tensor) -> Tensor:
            z = z - z.mean(-1, keepdim=True)
            return (z @ means).square().sum((1, 2)) / z.square().sum((1, 2))

        def observe(now: State) -> dict[str, Tensor]:
            x = data.inputs[None]
            seen = part(hidden(now.weights[:2], p.multipliers[:2], x, activation)[-1])
            if activation != "linear":
                return {"share": seen, "law": torch.full_like(seen, torch.nan)}
            whole = hidden(now.weights, p.multipliers, torch.eye(len(x[0]))[None], "linear")[-1]
            values, v = torch.linalg.eigh(energies(whole.nan_to_num(), start))
            return {"share": seen, "law": part(values.sqrt()[..., None] * (v.mT @ x))}

        found = sgd(
            Problem(data.inputs, data.targets),
            State(weights, None, 0, torch.full((len(rates),), -1)),
            p.multipliers,
            seeds=list(seeds),
            step_size=torch.tensor(rates) / pace,
            steps=config.steps * pace,
            batch_size=config.images,
            activation=activation,
            evaluate={"train": data},
            record=[pace * step for step in record],
            observe=observe,
        )
        return torch.stack([found[k] for k in ("train_loss", "share", "law")])

    rates = [2.0**k for k in config.rates]
    kinds, rows, best = ("linear", "relu"), [], []
    for activation in kinds:
        for name in config.schemes:
            tried = train(activation, name, rates, [0] * len(rates), 1)[0, :, -1]
            best.append(rates[int(tried.argmin())])
            same = [best[-1]] * len(config.seeds)
            rows += [train(activation, name, same, config.seeds, pace) for pace in config.paces]
    shape = (len(kinds), len(config.schemes), len(config.paces))
    whole = torch.stack(rows).unflatten(0, shape).double()
    dims = ("activation", "scheme", "pace", "seed", "step")
    return xr.Dataset(
        {
            "loss": (dims, whole[:, :, :, 0]),
            "share": (dims, whole[:, :, :, 1]),
            "law": (dims, whole[:, :, :, 2]),
            "rate": (dims[:2], torch.tensor(best).reshape(len(kinds), -1)),
        },
        {
            "activation": list(kinds),
            "scheme": list(config.schemes),
            "pace": list(config.paces),
            "step": record,
        },
    )


def measure(config: Config = Config()) -> xr.Dataset:
    """The variables of `run`, computed anew: `quick()` in seconds, the whole in minutes."""
    linear = xr.concat([directions(config, k) for k in range(config.problems)], "problem")
    coords = {"m": list(config.bottlenecks), "r": list(config.powers)}
    return xr.merge([linear.rename(law="growth_law").assign_coords(coords), classes(config)])


def run(config: Config = Config()) -> xr.Dataset:
    """growth, growth_law (problem, m, r, phase, direction): see `directions`. share, law, loss
    (activation, scheme, pace, seed, step), rate: see `classes`."""
    return measure(config) if config.record is None else read_record(config.record)


@claim("scales/bottleneck-compression", Config, run)
def bottleneck_compression(result: xr.Dataset) -> Evidence:
    """measured : RMS error of the logarithm of growth at the largest m.

    details: the same if nothing grew; power of m of the error; share_error: distance of the share
    between classes from the law, linear nets under DP at the slowest pace; at_the_edge: at the
    fastest; order: of how many nets of digits the share rises
    from each scheme to the next, of `nets`.
    """
    error = np.log(result.growth / result.growth_law)
    rest = ("problem", "r", "phase", "direction")
    size = np.sqrt((error**2).mean(rest))
    still = np.sqrt((np.log(result.growth.isel(m=-1)) ** 2).mean())
    end = result.isel(step=-1)
    off = abs(end.share - end.law).sel(activation="linear").isel(scheme=slice(3)).mean("seed")
    rising = (end.share.diff("scheme") > 0).all("scheme")
    return Evidence(
        measured=float(size[-1]),
        predicted=0.0,
        tolerance=0.05,
        details={
            "control": float(still),
            "power": float(fit_slope(np.log(result.m), np.log(size)).slope),
            "share_error": float(off.isel(pace=-1).max()),
            "at_the_edge": float(off.isel(pace=0).max()),
            "order": int(rising.sum()),
            "nets": rising.size,
        },
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    attributes = {"config": repr(Config()), **provenance()}
    write_record(str(Config().record), measure().assign_attrs(attributes))
