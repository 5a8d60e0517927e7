"""Constants that no width changes: a gain for every layer, and a rate for biases that does no harm.

The record is written by `python -m paper.scales.how_to_use.gains`.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from learning_dynamics.activations import activation
from learning_dynamics.data.digits import small_digits
from learning_dynamics.runtime import generator
from learning_dynamics.scales.applying import parametrize
from learning_dynamics.scales.parametrizations import gains, scheme
from paper.claims import Evidence, claim
from paper.records import provenance, read_record, write_record
from paper.together.one_axis.upper_end import reconstruct

__all__ = ["Config", "gains_and_biases", "measure", "rms", "run"]

ACTIVATIONS = ("linear", "relu", "tanh", "gelu", "leaky_relu")
#: Rates of biases over those of `parametrize`; 0 stands for n_min of the base network, with which a
#: bias moves its layer as fast as all inputs of the layer do.
BIASES = {"none": 1.0, "groups": 1.0, "a quarter": 0.25, "as a layer": 0.0}


@dataclass(frozen=True)
class Config:
    """nets random ones of `layers` hidden layers of 256 to 1024 units, `draws` each; then training:
    widths inputs, n, 4 sqrt(n), n, outputs from `base` to `size` under DP(1/2), rates 2^rates."""

    nets: int = 60
    layers: int = 12
    draws: int = 200
    base: int = 64
    size: int = 256
    tasks: tuple[str, ...] = ("autoencoder", "MNIST", "diabetes")
    rates: tuple[float, ...] = tuple(k / 2 for k in range(-10, 3))
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    steps: int = 60
    level: float = 0.4
    record: str | None = "gains"

    def quick(self) -> "Config":
        return replace(
            self,
            nets=5,
            base=16,
            size=64,
            tasks=self.tasks[::2],
            rates=(-2, -1),
            seeds=(0,),
            record=None,
        )


def rms(activations: list[str], gamma: float | tuple[float, ...], seed: int, draws: int) -> Tensor:
    """RMS of the pre-activations of each layer over `draws` networks of random widths.

    A Gaussian matrix times h is |h| times a Gaussian vector: one input needs no matrix.
    """
    stream = generator("gains", seed)
    widths = torch.randint(256, 1025, (len(activations),), generator=stream).tolist()
    p = scheme("dp(1/2)")((16, *widths, 1), gamma)
    size, found = torch.full((draws, 1), 4.0), []  # |x| of 16 inputs of RMS 1
    for k, psi in enumerate(activations):
        noise = torch.randn(draws, widths[k], generator=stream)
        z = p.multipliers[k] * p.weight_stds[k] * size * noise
        found.append(z.square().mean().sqrt())
        size = activation(psi)(z).norm(dim=1, keepdim=True)
    return torch.stack(found)


def data(task: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets, 128 rows, centred, |y|^2 = 1 in the mean (digits: 0.9)."""
    if task == "diabetes":
        x, y = (torch.tensor(v[:128]).float() for v in load_diabetes(return_X_y=True))
        return (x - x.mean(0)) / x.std(0), ((y - y.mean()) / y.std())[:, None]
    problem = (reconstruct if task == "autoencoder" else small_digits)(128, 1)[0]
    return problem.inputs.mT, problem.targets.mT


def train(x: Tensor, y: Tensor, biases: str, rate: float, seed: int, config: Config) -> float:
    """Steps, with momentum 0.9, until the loss is `level` times that of f = 0; inf if never."""

    def build(n: int) -> nn.Sequential:
        widths = (x.shape[1], n, round(4 * n**0.5), n, y.shape[1])
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:], strict=False):
            linear = nn.Linear(a, b, bias=biases != "none")
            if biases != "none":
                nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    with torch.random.fork_rng():
        torch.manual_seed(generator("gains/biases", seed).initial_seed())
        scaled = parametrize(build, config.size, config.base, "dp(1/2)")
    factor = BIASES[biases] or round(4 * config.base**0.5)
    groups = scaled.param_groups(2.0**rate, biases=factor)
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    for step in range(config.steps + 1):
        loss = (scaled.model(x) - y).square().sum() / y.square().sum()
        if not config.level < loss < 1e4:
            return step if loss < 1 else math.inf
        optimizer.zero_grad()
        (loss * y.square().sum() / (2 * len(y))).backward()
        optimizer.step()
    return math.inf


def measure(config: Config) -> xr.Dataset:
    """The variables of `run`, computed anew: `quick()` in seconds, the whole in minutes."""
    stream = generator("gains/nets")
    nets = [["gelu"] * config.layers]
    while len(nets) < config.nets:
        picks = torch.randint(len(ACTIVATIONS), (config.layers,), generator=stream)
        nets.append([ACTIVATIONS[k] for k in picks])
    sizes = [
        torch.stack([rms(a, g, k, config.draws) for g in (gains(a), math.sqrt(2))])
        for k, a in enumerate(nets)
    ]
    shape = [len(v) for v in (config.tasks, BIASES, config.rates, config.seeds)]
    steps = np.empty(shape)
    for i, task in enumerate(config.tasks):
        for j, k, m in np.ndindex(*shape[1:]):
            steps[i, j, k, m] = train(
                *data(task), list(BIASES)[j], config.rates[k], config.seeds[m], config
            )
    return xr.Dataset(
        {
            "rms": (("net", "gains", "layer"), torch.stack(sizes).double().numpy()),
            "steps": (("task", "biases", "rate", "seed"), steps),
        },
        {
            "layer": range(1, config.layers + 1),
            "gains": ["by layer", "one"],
            "task": list(config.tasks),
            "biases": list(BIASES),
            "rate": list(map(float, config.rates)),
            "seed": list(config.seeds),
        },
        {"config": repr(config), "most": config.steps, **provenance()},
    )


def run(config: Config = Config()) -> xr.Dataset:
    """rms (net, gains, layer) with the gains of `scales.gains` and with sqrt(2) in all layers.

    steps (task, biases, rate, seed) : until the loss is `level` of its start, inf if never.
    """
    return read_record(config.record) if config.record else measure(config)


@claim("scales/gains", Config, run)
def gains_and_biases(result: xr.Dataset) -> Evidence:
    """measured : largest |RMS - 1| of a layer in any net. one : the same with sqrt(2) everywhere.

    groups, quarter, as_a_layer : steps (at most all) with biases over those without, each at its
    own best rate, by task.
    """
    off = abs(result.rms - 1).max(("net", "layer"))
    best = result.steps.mean("seed").min("rate").clip(max=result.attrs["most"])
    ratio = best / best.sel(biases="none")
    return Evidence(
        measured=off.sel(gains="by layer"),
        predicted=0.0,
        tolerance=0.1,
        seeds=result.seed,
        details={
            "one": off.sel(gains="one"),
            "groups": ratio.sel(biases="groups"),
            "quarter": ratio.sel(biases="a quarter"),
            "as_a_layer": ratio.sel(biases="as a layer"),
        },
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_record(str(Config().record), measure(Config()))
