"""Compute the records of polar steps: `python -m paper.together.polar_steps.compute`.

Finished cells stay in a store, so a stopped command goes on where it was when called again.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from paper.records import RESULTS, provenance, write_record
from paper.sweep import Experiment, sweep
from paper.together.polar_steps import autoencoder, factors

__all__ = ["RECORDS", "main"]

#: Name of the record -> experiment, its cells, and how they are joined.
RECORDS: dict[str, tuple[Experiment, Sequence[Any], Callable[..., xr.Dataset], Any]] = {
    "polar-factors": (factors.RELU, factors.relu_cells(), factors.join_cells, factors.Config()),
    "polar-autoencoder": (
        autoencoder.AUTOENCODERS,
        autoencoder.cells(),
        autoencoder.join_cells,
        autoencoder.Config(),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compute the named records, write them under results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(RECORDS), help="records to compute")
    parser.add_argument("--store", type=Path, default=Path(".cache/runs"), help="finished cells")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where records go")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.names:
        experiment, cells, join, config = RECORDS[name]
        result = join(config, sweep(experiment, cells, store=options.store))
        labels = {
            "config": repr(config),
            "version": experiment.version,
            "command": f"python -m paper.together.polar_steps.compute {name}",
            **provenance(),
        }
        write_record(name, result.assign_attrs(labels), folder=options.folder)


if __name__ == "__main__":
    main()
