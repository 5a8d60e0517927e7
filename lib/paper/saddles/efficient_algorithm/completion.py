"""Low-rank recovery on real measurements: large start, small start, and no start at all.

A table of 40 patients and 30 features of cell nuclei (scikit-learn's breast-cancer data,
standardised) is seen at half its entries; a tenth validates, the rest tests. Each method's path is
stopped where the validation error is least.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.baselines.optimizers import gradient_descent
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.saddles.skipping.settings import Settings
from paper.claims import Evidence
from paper.fits import mean_interval

__all__ = ["Recovery", "measure_generalises", "recover", "table"]


@dataclass(frozen=True)
class Recovery:
    """Per seed: test error (relative to the zero map) and gradient evaluations until there.

    large, small : gradient descent from epsilon 0.3 and 1e-6. skip : the skipping algorithm.
    middle : gradient descent from 1e-2, the best of a few scales.
    """

    large: Float[Tensor, "seeds two"]
    middle: Float[Tensor, "seeds two"]
    small: Float[Tensor, "seeds two"]
    skip: Float[Tensor, "seeds two"]


def table(seed: int, patients: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values (features, patients) and the masks of training, validation and test entries."""
    from sklearn.datasets import load_breast_cancer

    values = load_breast_cancer().data
    values = torch.from_numpy((values - values.mean(0)) / values.std(0))
    draw = generator("skip/recovery", seed)
    chosen = values[torch.randperm(len(values), generator=draw)[:patients]].mT.contiguous()
    u = torch.rand(chosen.shape, generator=draw, dtype=torch.float64)
    return chosen, (u < 0.5).double(), ((u >= 0.5) & (u < 0.6)).double(), (u >= 0.6).double()


def recover(seeds: int, steps: int = 600) -> Recovery:
    """All methods on `seeds` tables. Step size: half of 1/sigma_1 of the gradient at the origin."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        values, seen, validation, test = table(seed)
        n = values.shape[1]
        problem, loss = Problem(torch.eye(n, dtype=torch.float64), values), squared(seen)
        step = 0.5 * n / float(torch.linalg.matrix_norm(seen * values, 2))
        paths = {
            name: gradient_descent(
                problem,
                width=30,
                generator=generator("skip/recovery/start", seed),
                step_size=step,
                init_scale=scale,
                loss=loss,
                max_steps=steps,
            )
            for name, scale in (("large", 0.3), ("middle", 1e-2), ("small", 1e-6))
        }
        paths["skip"] = skip_plateaus(
            problem,
            width=30,
            loss=loss,
            settings=Settings(max_stages=4, tolerance=0.1, max_steps=200),
        ).path
        for name, path in paths.items():
            missed = (path.outputs - values).square()
            at = int((validation * missed).sum((1, 2)).argmin())
            error = float((test * missed[at]).sum() / (test * values.square()).sum())
            rows.setdefault(name, []).append((error, float(path.evaluations[at])))
    return Recovery(**{k: torch.tensor(v, dtype=torch.float64) for k, v in rows.items()})


def measure_generalises(*, quick: bool = False) -> Evidence:
    """`saddles/skip-generalises`: paired over seeds, means of log ratios with 95 % intervals.

    measured: log(test error of the large start / of the small start), log(large / skip),
    log(evaluations of the small start / of skip). low, high: their intervals. worse:
    log(skip's error / small start's error), the interval in worse_low, worse_high.
    """
    seeds = 10 if quick else 24
    found = recover(seeds, steps=400 if quick else 600)
    ratios = (
        found.large[:, 0] / found.small[:, 0],
        found.large[:, 0] / found.skip[:, 0],
        found.small[:, 1] / found.skip[:, 1],
    )
    means, lows, highs = (
        list(v) for v in zip(*(mean_interval(r.log()) for r in ratios), strict=True)
    )
    worse = mean_interval((found.skip[:, 0] / found.small[:, 0]).log())
    middle = mean_interval((found.small[:, 0] / found.middle[:, 0]).log())
    return Evidence(
        measured=means,
        predicted=0.0,
        tolerance=0.0,
        seeds=list(range(seeds)),
        details={
            "low": lows,
            "high": highs,
            "worse": worse[0],
            "worse_low": worse[1],
            "worse_high": worse[2],
            "middle": middle[0],
            "errors": [
                float(np.mean(e[:, 0].numpy()))
                for e in (found.large, found.middle, found.small, found.skip)
            ],
            "evaluations": [
                float(e[:, 1].mean()) for e in (found.large, found.middle, found.small, found.skip)
            ],
        },
    )
