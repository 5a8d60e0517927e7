"""The exponent check: the calculus of `orders` against the first step of bias-free networks.

For the schemes of the book and any pattern of widths it measures all thirteen quantities, splits
changes into own and upstream parts, and fits slopes with confidence intervals, so that it can say
"agrees" or "differs". For a network and an optimizer of one's own: `coordinate_check`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Tensor

from learning_dynamics.activations import Activation, slopes_at_zero
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.runtime import check_choices, check_integer, check_positive, generator
from learning_dynamics.scales.first_step import first_step, spectral_norm
from learning_dynamics.scales.orders import QUANTITIES, predict_exponents
from learning_dynamics.scales.parametrizations import Scheme, WidthFamily
from learning_dynamics.scales.parametrizations import scheme as find_scheme

__all__ = ["Check", "Line", "WidthFamily", "exponent_check", "fit_slope"]


@dataclass(frozen=True)
class Line:
    """One verdict: quantity `quantity` in layer `layer` under scheme `scheme`.

    slope +- interval : fitted d log(mean)/d log n with its 95 % half-width.
    verdict           : "agrees" if |slope - predicted| <= interval + tolerance, else "differs";
                        "unclear" if the interval exceeds 0.25, whatever the slope.
    """

    scheme: str
    quantity: str
    layer: int
    predicted: Fraction
    slope: float
    interval: float
    verdict: str


@dataclass(frozen=True)
class Check:
    """What an exponent check measured and concluded.

    sizes  : n, as checked. values : scheme -> quantity -> (size, run, layer).
    lines  : one per scheme, quantity and layer for which the quantity exists.
    """

    sizes: tuple[int, ...]
    values: Mapping[str, Mapping[str, Tensor]]
    lines: tuple[Line, ...]

    @property
    def agrees(self) -> bool:
        """Whether every verdict is "agrees"."""
        return all(line.verdict == "agrees" for line in self.lines)

    def select(self, **which: object) -> tuple[Line, ...]:
        """Lines with given fields, e.g. `select(scheme="spectral", quantity="contribution")`."""
        return tuple(
            line
            for line in self.lines
            if all(getattr(line, key) == value for key, value in which.items())
        )

    def table(self, **which: object) -> str:
        """The (selected) lines as text, one row per scheme and quantity, one column per layer.

        A cell reads `slope (predicted)`, with `!` where it differs and `?` where it is unclear.
        """
        marks = {"agrees": " ", "differs": "!", "unclear": "?"}
        rows: dict[tuple[str, str], dict[int, str]] = {}
        for line in self.select(**which):
            cell = f"{line.slope:+.2f} ({float(line.predicted):+.2f}){marks[line.verdict]}"
            rows.setdefault((line.scheme, line.quantity), {})[line.layer] = cell
        if not rows:
            return "no lines selected"
        depth = max(max(cells) for cells in rows.values())
        head = f"{'scheme':12s} {'quantity':22s}" + "".join(
            f"{k:>17d}" for k in range(1, depth + 1)
        )
        body = [
            f"{s:12s} {q:22s}" + "".join(f"{cells.get(k, '-'):>17s}" for k in range(1, depth + 1))
            for (s, q), cells in rows.items()
        ]
        return "\n".join([head, *body])

    def to_dataset(self) -> xr.Dataset:
        """The measured values with dimensions scheme, size, run and layer."""
        names = list(self.values)
        data = {
            q: (
                ("scheme", "size", "run", "layer"),
                np.stack([self.values[s][q].numpy() for s in names]),
                {"description": text},
            )
            for q, text in QUANTITIES.items()
            if q in self.values[names[0]]
        }
        depth = next(iter(data.values()))[1].shape[-1]
        return xr.Dataset(
            data, coords={"scheme": names, "size": list(self.sizes), "layer": range(1, depth + 1)}
        )


def fit_slope(sizes: Sequence[int], values: Tensor) -> tuple[float, float]:
    """Least-squares slope of log(mean over runs) against log n, and its 95 % half-width.

    values : (size, run), positive. The half-width propagates the spread between runs (delta
    method, t quantile); it does not cover curvature of the law itself.
    """
    for n in sizes:
        check_positive("sizes", n)
    if not isinstance(values, Tensor) or values.ndim != 2:
        raise ValueError("values: must be a tensor (sizes, runs)")
    x = np.log(np.asarray(sizes, dtype=float))
    v = values.double().cpu().numpy()
    if len(x) < 2 or v.shape[0] != len(x) or v.shape[1] < 2:
        raise ValueError(f"values: shape {v.shape} must be (sizes, runs) with at least two of each")
    mean = v.mean(1)
    if not (np.all(np.isfinite(mean)) and np.all(mean > 0)):
        raise ValueError("values: must be positive numbers, or their logarithm has no slope")
    weight = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    error = v.std(1, ddof=1) / (mean * math.sqrt(v.shape[1]))
    quantile = float(stats.t.ppf(0.975, v.shape[1] - 1))
    return float(weight @ np.log(mean)), quantile * float(np.sqrt((weight**2 * error**2).sum()))


def _judge(
    schemes: Sequence[Scheme],
    exponents: Sequence[Fraction | int | str],
    sizes: Sequence[int],
    values: Mapping[str, Mapping[str, Tensor]],
    tolerance: float,
) -> tuple[Line, ...]:
    check_positive("tolerance", tolerance, zero=True)
    lines = []
    for s in schemes:
        predicted = predict_exponents(s.exponents(exponents))
        for quantity, measured in values[s.name].items():
            for k, exponent in enumerate(predicted[quantity]):
                if exponent is None:
                    continue
                slope, interval = fit_slope(sizes, measured[..., k])
                close = abs(slope - float(exponent)) <= interval + tolerance
                verdict = "unclear" if interval > 0.25 else "agrees" if close else "differs"
                lines.append(Line(s.name, quantity, k + 1, exponent, slope, interval, verdict))
    return tuple(lines)


def _draws(
    widths: tuple[int, ...], runs: int, seed: tuple[int | str, ...], options: Mapping[str, Any]
) -> Iterator[list[Tensor]]:
    """Chunks of runs as stacked Z_1..Z_L, then the inputs; each run has its own stream."""
    numbers = sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True))
    chunk = max(1, min(runs, 2_000_000 // numbers))
    for first in range(0, runs, chunk):
        size = min(chunk, runs - first)
        shapes = [*zip(widths[1:], widths[:-1], strict=True), (widths[0], options["samples"])]
        parts = [torch.empty(size, *s, dtype=options["dtype"], device="cpu") for s in shapes]
        for k in range(size):
            g = generator(*seed, first + k)
            for part in parts:
                part[k].normal_(generator=g)
        parts[-1] *= widths[0] ** 0.5 / parts[-1].norm(dim=-2, keepdim=True)
        yield [part.to(options["device"]) for part in parts]  # the same draws on every device


def exponent_check(
    schemes: Sequence[str | Scheme],
    family: WidthFamily,
    sizes: Sequence[int],
    *,
    runs: int = 8,
    seed: int | str = "coordinate check",
    activation: str | Activation = "relu",
    samples: int = 1,
    step_size: float | None = None,
    quantities: Sequence[str] = tuple(QUANTITIES),
    tolerance: float = 0.05,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Check:
    """Measure every quantity at every size in one pass, fit its exponent, compare with theory.

    schemes         : names or `Scheme`s; all see the same standard normal draws.
    family, sizes   : the widths; at least two sizes.
    runs            : independent draws per size, >= 2; run k at size n has a stream of its own.
    samples         : inputs in the batch, each uniform on the sphere of RMS 1; dL/df is the same
                      for all its entries, of norm 1.
    step_size       : None for the derivative (no size of step can blow up), or a real step.
    tolerance       : what the verdict allows beyond the interval (finite-size corrections).
    Raises ValueError for an activation that hands small signals on otherwise than in proportion
    (psi(0) != 0, such as sigmoid; or psi'(0) = 0) where a scheme lets the signals vanish.

    >>> from learning_dynamics import scales
    >>> family = scales.WidthFamily((0, 1, 1, 0), (8, 1, 1, 2))
    >>> check = scales.exponent_check(["spectral"], family, [64, 128, 256], runs=4)
    >>> check.sizes
    (64, 128, 256)
    """
    chosen = [find_scheme(s) for s in schemes]
    check_choices("schemes", [s.name for s in chosen], [s.name for s in chosen])
    check_choices("quantities", quantities, QUANTITIES)
    check_integer("runs", runs, least=2)
    check_integer("samples", samples, least=1)
    if len(set(sizes)) < max(2, len(sizes)):
        raise ValueError(f"sizes = {tuple(sizes)}: needs at least two different sizes, each once")
    if not chosen or not quantities:
        raise ValueError(f"schemes = {schemes!r}, quantities = {quantities!r}: nothing to check")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype = {dtype}: allowed are torch.float32 and torch.float64")
    for s in chosen:
        _refuse_offset(s, family, activation)
    found: dict[str, dict[str, list[Tensor]]]
    found = {s.name: {q: [] for q in quantities} for s in chosen}
    options = {"samples": samples, "dtype": dtype, "device": device}
    for n in sizes:
        widths = family(n)
        parts: dict[str, dict[str, list[Tensor]]] = {
            s.name: {q: [] for q in quantities} for s in chosen
        }
        for *draw, inputs in _draws(widths, runs, (seed, n), options):
            need = "weight_norm" in quantities
            zero = torch.zeros((), dtype=dtype, device=device)
            norms = [spectral_norm(z) if need else zero for z in draw]
            for s in chosen:
                step = first_step(
                    draw,
                    s(widths),
                    inputs,
                    _unit_residual,
                    activation=activation,
                    step_size=step_size,
                    drawn=True,
                    norms=norms,
                )
                for q in quantities:
                    parts[s.name][q].append(step[q])
        for s in chosen:
            for q in quantities:
                found[s.name][q].append(torch.cat(parts[s.name][q]).double().cpu())
    values = {s: {q: torch.stack(v) for q, v in table.items()} for s, table in found.items()}
    return Check(tuple(sizes), values, _judge(chosen, family.exponents, sizes, values, tolerance))


def _refuse_offset(s: Scheme, family: WidthFamily, activation: str | Activation) -> None:
    psi = find_activation(activation)
    value = float(psi(torch.zeros(1, dtype=torch.float64, device="cpu")))
    signals = predict_exponents(s.exponents(family.exponents))["preactivation_rms"][:-1]
    vanish = any(e is not None and e < 0 for e in signals)
    if vanish and (value or not any(slopes_at_zero(psi))):
        raise ValueError(
            f"activation = {psi.name}: psi(0) = {value:.3g} with slopes {slopes_at_zero(psi)}, and "
            f"under {s.name} hidden signals vanish with these widths: their orders hold where psi "
            "hands small signals on in proportion; subtract psi(0), or take another activation"
        )


def _unit_residual(outputs: Tensor) -> Tensor:
    return torch.full_like(outputs, (outputs.shape[-1] * outputs.shape[-2]) ** -0.5)
