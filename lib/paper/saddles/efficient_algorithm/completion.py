"""Low-rank recovery on real measurements: large start, small start, and no start at all.

A table of 40 patients and 30 features of cell nuclei (scikit-learn's breast-cancer data,
standardised) is seen at half its entries; a tenth validates, the rest tests. Each method's path is
stopped where the validation error is least.
"""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.baselines.optimizers import gradient_descent
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.saddles.skipping.settings import Settings
from paper.claims import Evidence, claim
from paper.fits import mean_interval
from paper.records import write_record

__all__ = ["Config", "measure_generalises", "run", "table"]

#: Starts of gradient descent; the middle one is the best of a few.
SCALES = {"large": 0.3, "middle": 1e-2, "small": 1e-6}


@dataclass(frozen=True)
class Config:
    """seeds : tables drawn. steps : of gradient descent."""

    seeds: int = 24
    steps: int = 600

    def quick(self) -> "Config":
        return Config(10, 400)


def table(seed: int, patients: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values (features, patients) and the masks of training, validation and test entries."""
    from sklearn.datasets import load_breast_cancer

    values = load_breast_cancer().data
    values = torch.from_numpy((values - values.mean(0)) / values.std(0))
    draw = generator("skip/recovery", seed)
    chosen = values[torch.randperm(len(values), generator=draw)[:patients]].mT.contiguous()
    u = torch.rand(chosen.shape, generator=draw, dtype=torch.float64)
    return chosen, (u < 0.5).double(), ((u >= 0.5) & (u < 0.6)).double(), (u >= 0.6).double()


def run(config: Config = Config()) -> xr.Dataset:
    """error, evaluations (seed, method) : on test entries, relative to the zero map, where the
    validation error is least, and gradient evaluations until there.

    method : gradient descent from the large, middle and small start, and "skip". Step size: half
    of 1/sigma_1 of the gradient at the origin.
    """
    found = []
    for seed in range(config.seeds):
        values, seen, validation, test = table(seed)
        n = values.shape[1]
        problem, loss = Problem(torch.eye(n, dtype=torch.float64), values), squared(seen)
        step = 0.5 * n / float(torch.linalg.matrix_norm(seen * values, 2))
        paths = [
            gradient_descent(
                problem,
                width=30,
                generator=generator("skip/recovery/start", seed),
                step_size=step,
                init_scale=scale,
                loss=loss,
                max_steps=config.steps,
            )
            for scale in SCALES.values()
        ]
        settings = Settings(max_stages=4, tolerance=0.1, max_steps=200)
        paths.append(skip_plateaus(problem, width=30, loss=loss, settings=settings).path)
        for path in paths:
            missed = (path.outputs - values).square()
            at = int((validation * missed).sum((1, 2)).argmin())
            error = float((test * missed[at]).sum() / (test * values.square()).sum())
            found.append((error, float(path.evaluations[at])))
    rows = np.array(found).reshape(config.seeds, len(SCALES) + 1, 2)
    return xr.Dataset(
        {"error": (("seed", "method"), rows[..., 0])}
        | {"evaluations": (("seed", "method"), rows[..., 1])},
        coords={"seed": range(config.seeds), "method": [*SCALES, "skip"]},
    )


@claim("saddles/skip-generalises", Config, run)
def measure_generalises(result: xr.Dataset) -> Evidence:
    """Paired over seeds, means of log ratios with 95 % intervals.

    measured: log(test error of the large start / of the small start), log(large / skip),
    log(evaluations of the small start / of skip). low, high: their intervals. worse:
    log(skip's error / small start's error), the interval in worse_low, worse_high.
    """
    error, spent = (
        dict(zip(result.method.values, torch.from_numpy(v.values.T.copy()), strict=True))
        for v in (result.error, result.evaluations)
    )
    ratios = (
        error["large"] / error["small"],
        error["large"] / error["skip"],
        spent["small"] / spent["skip"],
    )
    means, lows, highs = zip(*(mean_interval(r.log()) for r in ratios), strict=True)
    worse, worse_low, worse_high = mean_interval((error["skip"] / error["small"]).log())
    details = {
        "low": lows,
        "high": highs,
        "worse": worse,
        "worse_low": worse_low,
        "worse_high": worse_high,
        "middle": mean_interval((error["small"] / error["middle"]).log())[0],
        "errors": result.error.mean("seed"),
        "evaluations": result.evaluations.mean("seed"),
    }
    return Evidence(means, 0.0, 0.0, result.seed, details)


if __name__ == "__main__":
    attributes = {"computed by": "paper.saddles.efficient_algorithm.completion"}
    write_record("completion", run().assign_attrs(attributes))
