"""Bottleneck networks of Utsunomiya's thesis on real data: which runs, what to read off."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from learning_dynamics.data.images import Images
from learning_dynamics.runtime import check_positive
from learning_dynamics.scales.parametrizations import scheme as find_scheme
from paper.training_runs import TrainingRun

__all__ = ["SCHEMES", "bottleneck_widths", "grid", "training_run"]

#: Compared schemes. Spectral stands for muP with the wide n everywhere (equal up to a constant
#: for these widths), "ntk" is DP(0).
SCHEMES = ("standard", "mup-fan-in", "mup-package", "spectral", "ntk", "dp(1/4)", "dp(1/2)")


def bottleneck_widths(
    n: int, inputs: int, outputs: int = 2, *, prefactor: float = 8.0
) -> tuple[int, ...]:
    """(n_0, n, m, n, m, n, n_6), m = prefactor n^(1/5), rounded; Utsunomiya's thesis has 150."""
    check_positive("prefactor", prefactor)
    m = max(1, round(prefactor * n**0.2))
    return (inputs, n, m, n, m, n, outputs)


def training_run(
    scheme: str,
    widths: Sequence[int],
    *,
    step_size: float,
    seed: int,
    steps: int,
    images: Images | None = None,
    batch_size: int = 64,
    records: Sequence[int] | None = None,
    **options: Any,
) -> TrainingRun:
    """The run of a scheme at given widths with one global step size.

    A scheme's layer-wise learning rates are turned into multipliers, which is the same run.
    options : further fields of `TrainingRun`.
    """
    scales = find_scheme(scheme)(tuple(widths)).with_unit_learning_rates()
    return TrainingRun(
        images=images or Images(),
        widths=tuple(widths),
        multipliers=scales.multipliers,
        init_stds=scales.weight_stds,
        step_size=float(step_size),
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        records=tuple(records) if records is not None else (0, steps),
        **options,
    )


def grid(base: TrainingRun, step_sizes: Iterable[float], seeds: Iterable[int]) -> list[TrainingRun]:
    """The run `base` at all step sizes and seeds; seeds vary fastest."""
    chosen = list(seeds)
    return [replace(base, step_size=float(s), seed=int(k)) for s in step_sizes for k in chosen]
