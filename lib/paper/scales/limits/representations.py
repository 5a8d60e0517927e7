"""What the bottlenecks learn, scheme by scheme: effective rank, linear probe, alignment."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from learning_dynamics.data.images import Images, load
from paper.claims import Evidence
from paper.records import read_record
from paper.scales.simulations.settings import bottleneck_widths, geometric_steps, training_run
from paper.training_runs import train_all

__all__ = ["Representations", "representation_claim", "representations"]

#: Step sizes near each scheme's best at the record's width (see the sweep over widths).
STEP_SIZES: Mapping[str, float] = {
    "standard": 2.0**-6,
    "mup-fan-in": 2.0**-3,
    "mup-package": 2.0**-3,
    "spectral": 2.0**-1,
    "ntk": 2.0**1,
    "dp(1/4)": 2.0**0,
    "dp(1/2)": 2.0**-1,
}


@dataclass(frozen=True)
class Representations:
    """Which runs; the defaults are the record's. Each scheme at a step size near its best."""

    schemes: tuple[str, ...] = tuple(STEP_SIZES)
    n: int = 512
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 300
    records: int = 8
    batch_size: int = 32
    prefactor: float = 8.0
    images: Images = Images(classes=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), pool=4)


QUICK = Representations(
    schemes=("spectral", "ntk", "dp(1/2)"),
    n=128,
    seeds=(0, 1, 2),
    steps=150,
    records=5,
    images=Images(source="sklearn", classes=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), pool=1),
)


def representations(
    config: Representations,
    *,
    store: Path | str | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Losses, rank, probe and alignment during training: dimensions scheme, seed, step.

    rank, probe (.., layer) of the bottlenecks 2 and 4; alignment (.., pair) of layers 2 and 4,
    of layer 4 with the inputs, of layer 4 with the targets.
    """
    train, _ = load(config.images)
    widths = bottleneck_widths(
        config.n, train.inputs.shape[0], train.targets.shape[0], prefactor=config.prefactor
    )
    records = geometric_steps(config.steps, config.records)
    runs = [
        training_run(
            scheme,
            widths,
            step_size=STEP_SIZES[scheme],
            seed=seed,
            steps=config.steps,
            images=config.images,
            batch_size=config.batch_size,
            records=records,
            represent=True,
        )
        for scheme in config.schemes
        for seed in config.seeds
    ]
    results = train_all(runs, store=store, executor=executor, progress=progress)
    size, dims = (len(config.schemes), len(config.seeds)), ("scheme", "seed", "step")
    last = {
        "train_loss": (),
        "test_accuracy": (),
        "rank": ("layer",),
        "probe": ("layer",),
        "alignment": ("pair",),
    }
    data = {}
    for name, extra in last.items():
        values = np.array([r[name].values for r in results], dtype=float)
        data[name] = ((*dims, *extra), values.reshape(*size, *values.shape[1:]))
    return xr.Dataset(
        data,
        coords={
            "scheme": list(config.schemes),
            "seed": list(config.seeds),
            "step": list(records),
            "layer": [2, 4],
            "pair": ["layers 2 and 4", "layer 4 and inputs", "layer 4 and targets"],
        },
        attrs={"n": config.n, "widths": str(widths), "images": str(config.images)},
    )


def representation_claim(*, quick: bool = False) -> Evidence:
    """Claim scales/representations: effective rank and probe accuracy at the second bottleneck.

    measured: what training adds to the probe accuracy at layer 4, mean over seeds, for DP(1/2),
    Spectral and NTK = DP(0); details: effective rank of layer 2 after over before training, and
    probe accuracy and alignment of layer 4 with the targets after training.
    """
    found = representations(QUICK) if quick else read_record("simulations-representations")
    mean = found.mean("seed")
    chosen = ["dp(1/2)", "spectral", "ntk"]

    def of(values: xr.DataArray) -> list[float]:
        return [float(values.sel(scheme=s)) for s in chosen]

    probe, rank = mean.probe.sel(layer=4), mean["rank"].sel(layer=2)
    aligned = mean.alignment.sel(pair="layer 4 and targets")
    return Evidence(
        measured=of(probe.isel(step=-1) - probe.isel(step=0)),
        predicted=[0.0] * 3,
        tolerance=[0.0] * 3,
        seeds=[int(s) for s in found.seed],
        details={
            "rank_ratio": of(rank.isel(step=-1) / rank.isel(step=0)),
            "probe_after": of(probe.isel(step=-1)),
            "aligned_after": of(aligned.isel(step=-1)),
        },
    )
