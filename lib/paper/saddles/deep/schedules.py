"""Deep nets from small weights: time to the first escape, and how close to rank 1 each layer is.

Runs of one seed share problem and starting directions and differ in the initial scale alone, so
that every exponent is fitted within a seed; the spread over seeds gives its interval.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.deep_nets import (
    initialise_deep,
    layerwise_descent,
    limit_of_first_layer,
    rank_ratios,
)
from paper.claims import Evidence
from paper.records import write_record
from paper.saddles.random_linear import stack_problems

__all__ = [
    "NETS",
    "Deep",
    "DeepScaling",
    "alone_limits",
    "from_dataset",
    "main",
    "measure_escape_time",
    "measure_rank_one",
    "run",
    "to_dataset",
]


@dataclass(frozen=True)
class Deep:
    """One kind of deep net, started at several scales.

    depth      : L, number of weight matrices; hidden layers have `width` units.
    schedule   : "cyclic", "simultaneous", or "alone" (only W_1 is trained).
    scales     : epsilon, a falling geometric sequence; entries of W_l have standard deviation
                 epsilon gain / sqrt(m_{l-1}), gain = sqrt(2) for ReLU, 1 otherwise.
    escaped    : the run has escaped once it has lost this share of the initial loss.
    """

    depth: int = 3
    activation: str = "linear"
    schedule: str = "cyclic"
    scales: tuple[float, ...] = (0.04, 0.012, 0.0036)
    seeds: int = 10
    width: int = 6
    step_size: float = 0.2
    escaped: float = 0.05
    most_sweeps: int = 40000


#: What the chapter shows: depth 3 to 5, linear and ReLU, and W_1 trained alone.
_SCALES = {3: (0.04, 0.012, 0.0036), 4: (0.12, 0.0696, 0.040368), 5: (0.12, 0.09, 0.0675)}
#: Scales of the limits of W_1 alone, which are exact and cost no steps.
_LIMIT_SCALES = (0.5, 0.05, 0.005)
NETS: tuple[Deep, ...] = (
    *(Deep(d, "linear", "cyclic", _SCALES[d]) for d in (3, 4, 5)),
    *(Deep(d, "relu", "cyclic", _SCALES[d]) for d in (3, 4, 5)),
    *(Deep(d, "linear", "simultaneous", _SCALES[d]) for d in (3, 4, 5)),
    Deep(3, "linear", "alone", (0.5, 0.375, 0.28125), escaped=0.5, step_size=0.3),
    Deep(4, "linear", "alone", (0.64, 0.512, 0.4096), escaped=0.5, step_size=0.3),
)


@dataclass(frozen=True)
class DeepScaling:
    """What the runs of one kind of net gave.

    sweeps : (seeds, scales), sweep at which the run had escaped.
    ratios : (seeds, scales, layer), sigma_2 / sigma_1 of every W_l then.
    """

    config: Deep
    sweeps: Float[Tensor, "seeds scales"]
    ratios: Float[Tensor, "seeds scales layer"]

    @property
    def plain_exponents(self) -> Float[Tensor, " seeds"]:
        """Slope of log sweeps against log epsilon, per seed."""
        return self._slopes(self.sweeps[..., None])[:, 0]

    @property
    def time_exponents(self) -> Float[Tensor, " seeds"]:
        """The same for the sweeps *added* from one scale to the next.

        Theory: sweeps = A epsilon^-p - C with C independent of epsilon; differences between
        scales in geometric sequence keep p and lose C.
        """
        return self._slopes(self.sweeps.diff(dim=1)[..., None])[:, 0]

    @property
    def corrected_exponents(self) -> Float[Tensor, " seeds"]:
        """`time_exponents` without the (L - 1)/2 log(1/epsilon) that simultaneous steps add."""
        x = torch.tensor(self.config.scales[: self.sweeps.shape[1]], dtype=torch.float64).log()
        less = self.sweeps + 0.5 * (self.config.depth - 1) * x
        return self._slopes(less.diff(dim=1)[..., None])[:, 0]

    @property
    def rank_exponents(self) -> Float[Tensor, "seeds layer"]:
        """Slope of log (sigma_2 / sigma_1) against log epsilon, per seed and layer."""
        return self._slopes(self.ratios)

    def _slopes(self, values: Tensor) -> Tensor:
        x = torch.tensor(self.config.scales[: values.shape[1]], dtype=torch.float64).log()
        dx = (x - x.mean())[None, :, None]
        return (values.double().log() * dx).sum(1) / dx.square().sum()


def problem(seed: int, samples: int = 8) -> Problem:
    """Generic inputs in 4 dimensions, 3 outputs, singular values 2, 1.2, 0.6 of the teacher."""
    return linear_teacher(
        generator=generator("deep/problem", seed),
        input_spectrum=(2.0, 1.2, 0.8, 0.5),
        target_spectrum=(2.0, 1.2, 0.6),
        output_dim=3,
        samples=samples,
    )


def run(config: Deep) -> DeepScaling:
    """Train every seed at every scale until it has escaped its first plateau."""
    scales = len(config.scales)
    together, _ = stack_problems([problem(s) for s in range(config.seeds) for _ in range(scales)])
    gain = 2**0.5 if config.activation == "relu" else 1.0
    weights = initialise_deep(
        (4, *[config.width] * (config.depth - 1), 3),
        gain * torch.tensor(config.scales, dtype=torch.float64).repeat(config.seeds),
        [generator("deep/start", s) for s in range(config.seeds) for _ in range(scales)],
    )
    initial = 0.5 * together.targets.square().sum(1).mean(1)
    trajectory = layerwise_descent(
        weights,
        together,
        step_size=config.step_size,
        sweeps=config.most_sweeps,
        schedule="cyclic" if config.schedule == "alone" else config.schedule,
        layers=(0,) if config.schedule == "alone" else None,
        activation=config.activation,
        stop_loss=(1 - config.escaped) * initial,
    )
    if bool((trajectory.stopped_at < 0).any()):
        raise ValueError(
            f"most_sweeps = {config.most_sweeps}: too few for a run of depth {config.depth} "
            f"to escape from scale {min(config.scales)}"
        )
    shape = (config.seeds, scales)
    return DeepScaling(
        config,
        trajectory.stopped_at.reshape(shape).double(),
        rank_ratios(trajectory.final).reshape(*shape, config.depth),
    )


def alone_limits(
    depth: int, scales: tuple[float, ...] = _LIMIT_SCALES, seeds: int = 10, width: int = 6
) -> Float[Tensor, "seeds scales"]:
    """sigma_2/sigma_1 of W_1 of a linear net after W_1 alone has converged; starts as in `run`."""
    found = []
    for seed in range(seeds):
        draws = [generator("deep/start", seed) for _ in scales]
        weights = initialise_deep(
            (4, *[width] * (depth - 1), 3), torch.tensor(scales, dtype=torch.float64), draws
        )
        limit = limit_of_first_layer(weights, problem(seed).moments())
        found.append(rank_ratios((limit,))[:, 0])
    return torch.stack(found)


def to_dataset(results: list[DeepScaling]) -> xr.Dataset:
    """Results of several nets in one dataset; missing layers are NaN."""
    depth = max(r.config.depth for r in results)
    pad = [
        torch.nn.functional.pad(r.ratios, (0, depth - r.config.depth), value=torch.nan)
        for r in results
    ]
    return xr.Dataset(
        {
            "sweeps": (("net", "seed", "scale"), torch.stack([r.sweeps for r in results]).numpy()),
            "ratio": (("net", "seed", "scale", "layer"), torch.stack(pad).numpy()),
            "epsilon": (("net", "scale"), np.array([r.config.scales for r in results])),
            "depth": ("net", np.array([r.config.depth for r in results])),
        },
        coords={
            "net": [f"{r.config.activation}/{r.config.schedule}/{r.config.depth}" for r in results]
        },
        attrs={"computed by": "paper.saddles.deep.schedules"},
    )


def from_dataset(data: xr.Dataset) -> dict[str, DeepScaling]:
    """The results in a record, by the name "activation/schedule/depth"."""
    found = {}
    for i, name in enumerate(data["net"].values.tolist()):
        activation, schedule, depth = name.split("/")
        one = data.isel(net=i)
        config = Deep(
            int(depth),
            activation,
            schedule,
            tuple(one["epsilon"].values.tolist()),
            seeds=one.sizes["seed"],
        )
        found[name] = DeepScaling(
            config,
            torch.from_numpy(one["sweeps"].values.astype(float)),
            torch.from_numpy(one["ratio"].values[..., : int(depth)].copy()),
        )
    return found


def main() -> None:
    """Run everything in `NETS` and write results/deep.nc (about a minute)."""
    write_record("deep", to_dataset([run(c) for c in NETS]))


def _small(config: Deep, quick: bool) -> Deep:
    if not quick:
        return config
    shorter = {3: (0.04, 0.02, 0.01), 4: (0.144, 0.108, 0.081), 5: (0.22, 0.176, 0.1408)}
    if config.schedule == "alone":
        shorter = {3: (0.5, 0.4, 0.32), 4: (0.7, 0.63, 0.567)}
    return replace(config, seeds=3, scales=shorter[config.depth])


def measure_rank_one(*, quick: bool = False) -> Evidence:
    """`saddles/deep-rank-one`: exponents of sigma_2/sigma_1 in epsilon at the escape.

    measured: linear nets, depth 3 and 4 (and 5): mean over seeds, then the least and the largest
    of the layers. relu_upper: the same for layers 2 to L of ReLU nets, relu_first: their first
    layer; relu_least: the least of any problem in layers 2 to L. alone_limit: linear nets of
    depth 3 and 4 of which W_1 alone is trained to convergence, exponent of its ratio there, per
    seed; alone_ratio: the least and the largest such ratio.
    """
    seeds = 3 if quick else 10
    linear, upper, first, least = [], [], [], []
    for depth in (3, 4) if quick else (3, 4, 5):
        config = _small(Deep(depth, "linear", "cyclic", _SCALES[depth]), quick)
        mean = run(config).rank_exponents.mean(0)
        linear += [float(mean.min()), float(mean.max())]
    for depth in (3, 4):
        config = _small(Deep(depth, "relu", "cyclic", _SCALES[depth]), quick)
        exponents = run(config).rank_exponents
        mean = exponents.mean(0)
        upper += [float(mean[1:].min()), float(mean[1:].max())]
        first.append(float(mean[0]))
        least.append(float(exponents[:, 1:].min()))
    limits = [alone_limits(depth, seeds=seeds) for depth in (3, 4)]
    span = np.log(_LIMIT_SCALES[-1] / _LIMIT_SCALES[0])
    slopes = [s for r in limits for s in ((r[:, -1] / r[:, 0]).log() / span).tolist()]
    return Evidence(
        measured=linear,
        predicted=1.0,
        tolerance=0.1,
        seeds=list(range(seeds)),
        details={
            "relu_upper": upper,
            "relu_first": first,
            "relu_least": least,
            "alone_limit": slopes,
            "alone_ratio": [
                min(r.min().item() for r in limits),
                max(r.max().item() for r in limits),
            ],
        },
    )


def measure_escape_time(*, quick: bool = False) -> Evidence:
    """`saddles/deep-escape-time`: exponents of the number of sweeps in epsilon.

    measured: mean over seeds for cyclic sweeps, linear depth 3, 4, 5, then ReLU depth 3, 4;
    spread: largest distance of a seed from the prediction. simultaneous: linear, depth 3 and 4;
    corrected: the same without the finite-step term (L - 1)/2 log(1/epsilon).
    alone: W_1 alone (no constant C there), depth 3 and 4, predicted -2(L-1).
    """
    kinds = [(d, "linear") for d in (3, 4, 5)] + [(d, "relu") for d in (3, 4)]
    measured, spread = [], []
    for depth, name in kinds:
        config = _small(Deep(depth, name, "cyclic", _SCALES[depth]), quick)
        exponents = run(config).time_exponents
        measured.append(float(exponents.mean()))
        spread.append(float((exponents + depth - 2).abs().max()))
    others = [c for c in NETS if c.schedule != "cyclic" and c.depth < 5]
    results = [run(_small(c, quick)) for c in others]
    means = [
        float((r.plain_exponents if r.config.schedule == "alone" else r.time_exponents).mean())
        for r in results
    ]
    return Evidence(
        measured=measured,
        predicted=[-float(d - 2) for d, _ in kinds],
        tolerance=0.05,
        seeds=list(range(3 if quick else 10)),
        details={
            "spread": spread,
            "simultaneous": means[:2],
            "corrected": [float(r.corrected_exponents.mean()) for r in results[:2]],
            "alone": means[2:],
        },
    )
