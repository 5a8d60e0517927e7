"""Compute a record of polar steps: `python -m paper.together.polar_steps.compute NAME`."""

import sys

import torch

from paper.records import provenance, write_record
from paper.together.polar_steps import autoencoder, factors

__all__ = ["RECORDS"]

#: Name of the record -> its module.
RECORDS = {"polar-factors": factors, "polar-autoencoder": autoencoder}


if __name__ == "__main__":
    torch.set_num_threads(1)
    name = sys.argv[1]
    config = RECORDS[name].Config()
    command = f"python -m paper.together.polar_steps.compute {name}"
    labels = {"config": repr(config), "command": command, **provenance()}
    write_record(name, RECORDS[name].measure(config).assign_attrs(labels))
