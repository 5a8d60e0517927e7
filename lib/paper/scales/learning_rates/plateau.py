"""How long a scheme waits before it starts to learn: the start-up plateau against width."""

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from learning_dynamics.data.images import Images, load
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.claims import Evidence
from paper.fits import fit_slope
from paper.records import read_record
from paper.scales.simulations.settings import bottleneck_widths, training_run
from paper.training_runs import train_all

__all__ = ["Plateau", "plateau_exponent", "plateau_lengths", "spectral_plateau"]


@dataclass(frozen=True)
class Plateau:
    """Full-batch descent on 64 images at one step size; the defaults are the record's.

    step_size : small against the scheme's stability limit, so that the length is set by the
                dynamics, not by the grid of steps.
    longest   : steps at the narrowest width; they grow with sqrt(n/m).
    """

    scheme: str = "spectral"
    widths: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    step_size: float = 0.25
    longest: int = 48
    prefactor: float = 8.0
    images: Images = Images(pool=4, train=32)


QUICK = Plateau(
    widths=(512, 1024, 2048, 4096),
    seeds=(0, 1, 2),
    longest=48,
    images=Images(source="sklearn", pool=1, train=32),
)


def plateau_lengths(
    config: Plateau, *, store: Path | str | None = None, executor: Executor | None = None
) -> xr.Dataset:
    """Steps until the loss has fallen half-way from |y|^2/2 = 0.5 to the best constant's, 0.25
    (NaN if it never does).

    Dimensions width and seed; `loss` (width, seed, record) at `at_step` (width, record). For
    two classes of equal size with one-hot targets f = 0 gives 0.5 and f = (1/2, 1/2) 0.25.
    store : folder of finished runs; None computes all runs here and keeps none.
    """
    train, _ = load(config.images)
    inputs, outputs = train.inputs.shape[0], train.targets.shape[0]
    nets = [
        bottleneck_widths(n, inputs, outputs, prefactor=config.prefactor) for n in config.widths
    ]
    ratio = [widths[1] / widths[2] for widths in nets]
    longest = [round(config.longest * (r / ratio[0]) ** 0.5) for r in ratio]
    records = min(32, config.longest + 1)
    steps = [np.linspace(0, last, records).round().astype(int).tolist() for last in longest]
    runs = [
        training_run(
            config.scheme,
            widths,
            step_size=config.step_size,
            seed=s,
            steps=last,
            images=config.images,
            batch_size=train.inputs.shape[1],
            records=at,
        )
        for widths, last, at in zip(nets, longest, steps, strict=True)
        for s in config.seeds
    ]
    results = train_all(runs, store=store, executor=executor, progress=True)
    size = (len(config.widths), len(config.seeds))
    loss = np.array([r.train_loss.values for r in results], dtype=float).reshape(*size, -1)
    level = torch.full((size[1], 1), 0.375, dtype=torch.float64)
    length = [
        crossing_steps(torch.from_numpy(curves), level, torch.tensor(at))[:, 0].numpy()
        for curves, at in zip(loss, steps, strict=True)
    ]
    dims = ("width", "seed")
    return xr.Dataset(
        {
            "length": (dims, length, {"units": "steps"}),
            "loss": ((*dims, "record"), loss),
            "at_step": (("width", "record"), np.array(steps)),
            "bottleneck": ("width", [widths[2] for widths in nets]),
        },
        coords={"width": list(config.widths), "seed": list(config.seeds)},
        attrs={
            "scheme": config.scheme,
            "step_size": config.step_size,
            "images": str(config.images),
            "prefactor": config.prefactor,
        },
    )


def plateau_exponent(lengths: xr.Dataset) -> tuple[float, float, float]:
    """Slope of log length in log n with the half-width of its 95 % interval, and the slope in
    log sqrt(n/m), 1 in theory. Raises ValueError if a run never left the plateau."""
    values = lengths.length.values
    if not np.isfinite(values).all():
        raise ValueError("a run never left the plateau: raise `longest`")
    n = np.repeat(lengths.width.values.astype(float), values.shape[1])
    m = np.repeat(lengths.bottleneck.values.astype(float), values.shape[1])
    y = np.log(values.ravel())
    in_width, in_ratio = fit_slope(np.log(n), y), fit_slope(0.5 * np.log(n / m), y)
    return float(in_width.slope), float(in_width.half_width), float(in_ratio.slope)


def spectral_plateau(*, quick: bool = False) -> Evidence:
    """Claim scales/spectral-plateau: the exponent of the plateau's length in n.

    quick measures widths to 4 096 on 8 x 8 digits; otherwise the committed record is read.
    """
    lengths = plateau_lengths(QUICK) if quick else read_record("simulations-plateau")
    slope, half, in_ratio = plateau_exponent(lengths)
    return Evidence(
        measured=slope,
        predicted=0.4,
        tolerance=0.1,
        seeds=[int(s) for s in lengths.seed],
        details={"half_width": half, "slope_in_sqrt_ratio": in_ratio},
    )
