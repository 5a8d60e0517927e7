"""One training run as an experiment: scales given as numbers, so that only the kernel matters."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
import xarray as xr

from learning_dynamics.data.images import Images, load
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import Trajectory, check_choice
from learning_dynamics.scales.training import initialise, sgd
from paper.sweep import Experiment, sweep

__all__ = ["TRAINING", "TrainingRun", "device", "train_all"]

#: Batching several runs is faster below this many weights a run (CPU, GPU).
BATCHED_BELOW = {"cpu": 100_000, "cuda": 50_000_000}


def device() -> str:
    """Where runs are computed: the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class TrainingRun:
    """One network trained once.

    widths, multipliers, init_stds : n_0..n_L; g_l; gamma_l sigma_l.
    steps, batch_size, momentum, step_size, loss, seed : of the SGD run, see `training.sgd`.
    records   : steps at which the whole training and test set are evaluated.
    dtype     : "float32", or "float64" from the same draws, for numbers that repeat on every
                processor.
    """

    images: Images
    widths: tuple[int, ...]
    multipliers: tuple[float, ...]
    init_stds: tuple[float, ...]
    step_size: float
    seed: int
    steps: int
    batch_size: int
    records: tuple[int, ...]
    momentum: float = 0.0
    loss: str = "squared"
    dtype: str = "float32"

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(a * b for a, b in zip(self.widths, self.widths[1:], strict=False))


def _group(config: TrainingRun) -> TrainingRun | None:
    """Runs that differ in seed and step size alone are batched, if small."""
    if config.weights > BATCHED_BELOW[device()]:
        return None
    return replace(config, seed=0, step_size=1.0)


def _train(configs: Sequence[TrainingRun]) -> Trajectory:
    """All runs of one group at once."""
    shared, where = configs[0], device()
    check_choice("loss", shared.loss, ("squared", "cross_entropy"))
    check_choice("dtype", shared.dtype, ("float32", "float64"))
    dtype = getattr(torch, shared.dtype)
    train, test = (
        Problem(p.inputs.to(dtype), p.targets.to(dtype)) for p in load(shared.images, where)
    )
    seeds = [c.seed for c in configs]
    state = initialise(
        shared.widths, shared.init_stds, seeds, momentum=shared.momentum != 0, device=where
    ).to(dtype)
    return sgd(
        train,
        state,
        shared.multipliers,
        seeds=seeds,
        step_size=torch.tensor([c.step_size for c in configs]),
        steps=shared.steps,
        batch_size=shared.batch_size,
        momentum=shared.momentum,
        loss=shared.loss,
        evaluate={"train": train, "test": test},
        record=shared.records,
    )


def run_many(configs: Sequence[TrainingRun]) -> list[xr.Dataset]:
    """The results of one group, in order; `wall_seconds` is each one's share of the time."""
    started = perf_counter()
    whole = _train(configs).to_dataset()
    share = (perf_counter() - started) / len(configs)
    whole = whole.assign_attrs(device=device(), wall_seconds=share)
    return [whole.isel(run=i, drop=True) for i in range(len(configs))]


def run(config: TrainingRun) -> xr.Dataset:
    """One run: loss and accuracy on the whole training and test set at the recorded steps."""
    return run_many([config])[0]


#: `version` is to be raised when a change of the code above, or of what it calls, changes numbers.
TRAINING = Experiment("training", run, version=1, run_many=run_many, group=_group, largest=40)


def train_all(
    runs: Sequence[TrainingRun],
    *,
    store: Path | str | None,
    executor: Executor | None,
    progress: bool,
) -> list[xr.Dataset]:
    """The results of `runs`, in order, by `sweep`; without a store all are computed here."""
    if store is not None:
        return sweep(TRAINING, runs, store=store, executor=executor, progress=progress)
    results: dict[TrainingRun, xr.Dataset] = {}
    for batch in TRAINING.batches(runs):
        results.update(zip(batch, run_many(batch), strict=True))
    return [results[r] for r in runs]
