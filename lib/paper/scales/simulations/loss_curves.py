"""Loss curves of DP and Spectral, as set in Utsunomiya's figures 3.4 to 3.7 and tuned."""

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from learning_dynamics.data.images import Images, load
from learning_dynamics.runtime import generator
from paper.claims import Evidence
from paper.records import read_record
from paper.scales.simulations.settings import training_run
from paper.training_runs import train_all

__all__ = [
    "THESIS",
    "LossCurves",
    "epochs_to",
    "loss_curves",
    "loss_curves_claim",
    "mean_interval",
    "tuned",
]


@dataclass(frozen=True)
class LossCurves:
    """Momentum SGD on a pair of classes; the defaults are the record's.

    The thesis: n = 10 000, m = 500, 2000 images of 3072 values, batch 64, momentum 0.9, step
    size 0.1, 200 epochs, 100 trials. The record keeps m/n = 1/20, which sets Spectral's
    plateau, the batch, the momentum and the step size, and shrinks the rest.
    """

    schemes: tuple[str, ...] = ("dp(1/2)", "spectral")
    n: int = 1000
    m: int = 50
    step_sizes: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 100
    batch_size: int = 64
    momentum: float = 0.9
    images: Images = Images(pool=4)
    dtype: str = "float32"


#: Exactly the thesis's setting, for a machine with a GPU and the folder of CIFAR-10.
THESIS = LossCurves(
    n=10_000,
    m=500,
    step_sizes=(0.1,),
    seeds=tuple(range(100)),
    epochs=200,
    images=Images(source="cifar10", classes=("airplane", "automobile"), pool=1, level=None),
)

QUICK = LossCurves(
    n=200,
    m=10,
    step_sizes=(0.1, 0.2, 0.4, 0.8),
    epochs=40,
    images=Images(source="sklearn", classes=(3, 8), pool=1),
    dtype="float64",  # a printed end of an interval hangs on the last digits of a run in single
)


def loss_curves(
    config: LossCurves,
    *,
    store: Path | str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Train and test loss after each epoch: dimensions scheme, step_size, seed, epoch.

    An epoch is one pass over all training images. +inf where a run has diverged.
    store : folder of finished runs; None computes all runs here and keeps none.
    """
    train, _ = load(config.images)
    widths = (train.inputs.shape[0], *(config.n, config.m) * 2, config.n, train.targets.shape[0])
    per_epoch = -(-train.inputs.shape[1] // config.batch_size)
    steps = per_epoch * config.epochs
    runs = [
        training_run(
            scheme,
            widths,
            step_size=eta,
            seed=seed,
            steps=steps,
            images=config.images,
            batch_size=config.batch_size,
            momentum=config.momentum,
            dtype=config.dtype,
            records=range(0, steps + 1, per_epoch),
        )
        for scheme in config.schemes
        for eta in config.step_sizes
        for seed in config.seeds
    ]
    results = train_all(runs, store=store, executor=executor, progress=progress)
    dims = ("scheme", "step_size", "seed", "epoch")
    size = (len(config.schemes), len(config.step_sizes), len(config.seeds), -1)
    data = {
        name: (dims, np.array([r[name].values for r in results], dtype=float).reshape(size))
        for name in ("train_loss", "test_loss", "test_accuracy")
    }
    return xr.Dataset(
        data,
        coords={
            "scheme": list(config.schemes),
            "step_size": list(config.step_sizes),
            "seed": list(config.seeds),
            "epoch": range(config.epochs + 1),
        },
        attrs={
            "n": config.n,
            "m": config.m,
            "batch_size": config.batch_size,
            "momentum": config.momentum,
            "images": str(config.images),
        },
    )


def epochs_to(level: float, losses: xr.DataArray) -> xr.DataArray:
    """First epoch whose training loss is below `level`; +inf where none is."""
    below = losses < level
    return xr.where(below.any("epoch"), losses.epoch[below.argmax("epoch")], np.inf)


def mean_interval(values: np.ndarray, *, resamples: int = 2000) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over seeds; +inf if any run is (never dropped)."""
    if not np.isfinite(values).all():
        return np.inf, np.inf, np.inf
    pick = torch.randint(
        len(values), (resamples, len(values)), generator=generator("mean interval")
    ).numpy()
    low, high = np.quantile(values[pick].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def tuned(curves: xr.Dataset, scheme: str, *, level: float = 0.01) -> float:
    """The step size with the fewest epochs to `level`, mean over seeds; ties and schemes that
    never get there: the smallest final training loss."""
    own = curves.sel(scheme=scheme)
    epochs = epochs_to(level, own.train_loss).mean("seed").values
    final = own.train_loss.isel(epoch=-1).mean("seed").values
    order = np.lexsort((final, epochs))
    return float(own.step_size[order[0]])


def loss_curves_claim(*, quick: bool = False) -> Evidence:
    """Claim scales/loss-curves: epochs to train loss 0.01 and test loss, as set and tuned.

    measured: mean epochs until train loss 0.2 at step size 0.1, DP(1/2) and Spectral, then until
    0.01 at each scheme's best step size. details: for DP and Spectral, at step size 0.1 and tuned,
    (mean, low, high) of the epochs to 0.01 and of the test loss at the end, and how many seeds
    reach 0.01; where not all do, the mean is infinite.
    """
    curves = loss_curves(QUICK) if quick else read_record("simulations-loss-curves")
    numbers: dict[str, list[float]] = {}
    for kind in ("thesis", "tuned"):
        epochs: list[float] = []
        test: list[float] = []
        for scheme in ("dp(1/2)", "spectral"):
            eta = 0.1 if kind == "thesis" else tuned(curves, scheme)
            own = curves.sel(scheme=scheme, step_size=eta)
            reached = epochs_to(0.01, own.train_loss).values
            epochs += mean_interval(reached)
            test += mean_interval(own.test_loss.isel(epoch=-1).values)
            numbers.setdefault(f"{kind}_step_size", []).append(eta)
            numbers.setdefault(f"{kind}_arrived", []).append(int(np.isfinite(reached).sum()))
        numbers[f"{kind}_epochs"], numbers[f"{kind}_test_loss"] = epochs, test
    early = [
        float(epochs_to(0.2, curves.train_loss.sel(scheme=s, step_size=0.1)).mean())
        for s in ("dp(1/2)", "spectral")
    ]
    return Evidence(
        measured=[*early, numbers["tuned_epochs"][0], numbers["tuned_epochs"][3]],
        predicted=[0.0] * 4,
        tolerance=[0.0] * 4,
        seeds=[int(s) for s in curves.seed],
        details=numbers,
    )
