"""Compute the records of the simulations: `python -m paper.scales.simulations.compute`.

Finished runs stay in a store, so a stopped command goes on where it was when called again.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
import xarray as xr

from paper.records import RESULTS, provenance, write_record
from paper.scales.learning_rates.plateau import Plateau, plateau_lengths
from paper.scales.learning_rates.transfer import BETWEEN, LARGE, Transfer, learning_rate_sweep
from paper.training_runs import TRAINING
from paper.workers import worker

__all__ = ["RECORDS", "main"]

Compute = Callable[..., xr.Dataset]

#: Name of the record -> function and configuration.
RECORDS: dict[str, tuple[Compute, Plateau | Transfer]] = {
    "simulations-plateau": (plateau_lengths, Plateau()),
    "simulations-transfer": (learning_rate_sweep, Transfer()),
    "simulations-transfer-large": (learning_rate_sweep, LARGE),
    "simulations-transfer-between": (learning_rate_sweep, BETWEEN),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compute the named records, write them under results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(RECORDS), help="records to compute")
    parser.add_argument("--store", type=Path, default=Path(".cache/runs"), help="finished runs")
    parser.add_argument("--workers", type=int, default=1, help="processes (one thread each)")
    parser.add_argument("--seeds", type=int, help="number of seeds, instead of the record's")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where records go")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pool: AbstractContextManager[Executor | None] = nullcontext()
    if options.workers > 1:
        pool = ProcessPoolExecutor(
            options.workers, initializer=worker, mp_context=get_context("spawn")
        )
    with pool as executor:
        for name in options.names:
            compute, config = RECORDS[name]
            if options.seeds is not None:
                config = replace(config, seeds=tuple(range(options.seeds)))
            _record(name, compute, config, options.store, executor, options.folder)


def _record(
    name: str,
    compute: Compute,
    config: object,
    store: Path,
    executor: Executor | None,
    folder: Path,
) -> None:
    started = time.perf_counter()
    result = compute(config, store=store, executor=executor)
    labels = {
        "config": repr(config),
        "version": TRAINING.version,
        "wall_minutes": round((time.perf_counter() - started) / 60, 2),
        "command": f"python -m paper.scales.simulations.compute {name}",
        **provenance(),
    }
    path = write_record(name, result.assign_attrs(labels), folder=folder)
    print(f"{name}: {labels['wall_minutes']} min, written to {path.name}")


if __name__ == "__main__":
    main()
