"""Deep nets from tiny weights: rank one first, the direction later, and how long it takes.

Draws of one depth differ in sizes and are padded with zeros, which gradients leave zero, so that
they run side by side. What is long and smooth is followed as a flow (`flow_until`), the rest in
steps of gradient descent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.problems import Problem, random_orthogonal
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.deep_nets import (
    SCHEDULES,
    flow_until,
    initialise_deep,
    layer_size,
    layerwise_descent,
    limit_of_first_layer,
    rank_ratios,
)
from paper.claims import Evidence, claim
from paper.records import read_record

__all__ = [
    "Config",
    "Draw",
    "alone",
    "by_scale",
    "direction",
    "draw",
    "escape_time",
    "leading_direction",
    "power",
    "rank_one",
    "recorded",
    "recorded_relu",
    "relu",
    "run",
    "scaled_steps",
    "stacked",
]

KINDS = ("generic", "commuting", "white")
MOST, WIDEST, SAMPLES = 8, 10, 16  # of inputs and outputs, of hidden units, n


@dataclass(frozen=True)
class Config:
    """draws : per depth, every fifth with a tie s_1 = s_2. scales : epsilon, falling.

    early   : |W|^L at which the direction is read, |W| the geometric mean of the layers' norms.
    escaped : loss gone at the escape, in units of what the leading direction alone can take.
    relu    : draws per depth of `relu`, with at least 6 hidden units, because a narrower layer of
        ReLU units is often dead at the start. alone : scales of `alone`.
    scaled  : draws per depth and eta s_1 of `scaled_steps`.
    """

    draws: int = 22
    depths: tuple[int, ...] = (3, 4, 5)
    scales: tuple[float, ...] = (1e-9, 1e-10, 1e-11, 1e-12, 1e-13)
    early: float = 1e-16
    escaped: float = 0.1
    relu: int = 4
    alone: tuple[float, ...] = (1e-3, 1e-5, 1e-7)
    scaled: tuple[int, float] = (6, 0.6)

    def quick(self) -> "Config":
        return replace(
            self, draws=10, depths=(3,), scales=self.scales[::2], relu=5, scaled=(2, 0.6)
        )


@dataclass(frozen=True)
class Draw:
    """One problem and one start of scale 1, padded with zeros; or several, the run in front.

    s : two largest singular values of Sigma_yx; left, right : their singular vectors, as rows.
    scale : s_1/(v' Sigma_xx v), where the leading direction alone would come to rest.
    step : eta s_1 scale^((L-2)/L), from 0.05 to 0.6.
    """

    problem: Problem
    start: tuple[Tensor, ...]
    s: Tensor
    left: Tensor
    right: Tensor
    scale: Tensor
    step: Tensor


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    return torch.nn.functional.pad(matrix, (0, columns - matrix.shape[1], 0, rows - len(matrix)))


def draw(depth: int, index: int, narrowest: int = 2) -> Draw:
    """m0, m2 from 2 to 8, hidden widths from `narrowest` to 10, rank from 2 to min(m0, m2),
    singular values of Sigma_yx log-uniform in 0.5 .. 3, eigenvalues of Sigma_xx in 0.3 .. 3,
    inputs of the three kinds in turn, every fifth problem with s_1 = s_2. No draw is passed over.
    """
    g = generator("deep/draw", depth, index)

    def between(low: int, high: int, count: int) -> list[int]:
        return torch.randint(low, high + 1, (count,), generator=g).tolist()

    def uniform(count: int) -> Tensor:
        return torch.rand(count, generator=g, dtype=torch.float64)

    (m0, m2), hidden = between(2, MOST, 2), between(narrowest, WIDEST, depth - 1)
    s = (0.5 * 6 ** uniform(*between(2, min(m0, m2), 1))).sort(descending=True).values
    if index % 5 == 4:
        s[1] = s[0]
    left, right, basis = (random_orthogonal(m, g) for m in (m2, m0, m0))
    kind, spectrum = KINDS[index % 3], 0.3 * 10 ** uniform(m0)
    basis = right if kind == "commuting" else basis
    spectrum = torch.ones_like(spectrum) if kind == "white" else spectrum
    white = SAMPLES**0.5 * random_orthogonal(SAMPLES, g)[:m0]
    inputs = basis * spectrum.sqrt() @ basis.mT @ white
    left, right = left[:, : len(s)], right[:, : len(s)]
    targets = left * s @ right.mT @ (basis / spectrum) @ basis.mT @ inputs
    problem = Problem(_padded(inputs, MOST, SAMPLES), _padded(targets, MOST, SAMPLES))
    start = initialise_deep((m0, *hidden, m2), 1.0, [g])
    sizes = (MOST, *[WIDEST] * (depth - 1), MOST)
    shapes = zip(sizes[1:], sizes[:-1], strict=True)
    v = right[:, 0]
    scale = s[0] / (v @ (basis * spectrum) @ basis.mT @ v)
    return Draw(
        problem,
        tuple(_padded(w[0], *shape) for w, shape in zip(start, shapes, strict=True)),
        s[:2],
        _padded(left[:, :2].mT, 2, MOST),
        _padded(right[:, :2].mT, 2, MOST),
        scale,
        0.05 * 12 ** uniform(1)[0],
    )


def leading_direction(
    weights: tuple[Tensor, ...], left: Tensor, right: Tensor
) -> tuple[Float[Tensor, "runs side"], Float[Tensor, "runs side"]]:
    """Leading directions of W_1 and W_L: how far they lie from v_1, u_1 along v_2, u_2, and in all.

    Both as tangents of an angle, dimension side ("input", "output").
    """
    v = torch.linalg.svd(weights[0])[2][:, 0]
    u = torch.linalg.svd(weights[-1])[0][:, :, 0]
    second, whole = [], []
    for direction, basis in ((v, right), (u, left)):
        first, other = (basis @ direction[..., None])[..., 0].unbind(-1)
        second.append((other / first).abs())
        whole.append((direction - first[:, None] * basis[:, 0]).norm(dim=-1) / first.abs())
    return torch.stack(second, -1), torch.stack(whole, -1)


def stacked(draws: list[Draw], scales: Sequence[float]) -> Draw:
    """All draws at all scales, run = draw * len(scales) + scale."""

    def rows(parts: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(parts)).repeat_interleave(len(scales), 0)

    factor = torch.tensor(scales, dtype=torch.float64).repeat(len(draws))[:, None, None]
    layers = zip(*(d.start for d in draws), strict=True)
    return Draw(
        Problem(*(rows(getattr(d.problem, n) for d in draws) for n in ("inputs", "targets"))),
        tuple(factor * rows(w) for w in layers),
        *(rows(getattr(d, n) for d in draws) for n in ("s", "left", "right", "scale", "step")),
    )


def by_scale(values: Tensor, scales: Sequence[float], *dims: str) -> tuple[tuple[str, ...], Tensor]:
    """A variable (draw, scale, ...) of the runs of `stacked`."""
    return ("draw", "scale", *dims), values.unflatten(0, (-1, len(scales)))


def _ratios(weights: tuple[Tensor, ...], config: Config) -> tuple[tuple[str, ...], Tensor]:
    """sigma_2/sigma_1 (draw, scale, layer), NaN above L."""
    missing = (0, max(config.depths) - len(weights))
    ratios = torch.nn.functional.pad(rank_ratios(weights), missing, value=torch.nan)
    return by_scale(ratios, config.scales, "layer")


def run(config: Config = Config()) -> xr.Dataset:
    """Every draw from every scale to its escape, by cyclic sweeps and by simultaneous steps.

    Variables have the dimensions depth, draw and, where they are not fits, scale; side is the
    leading direction of W_1 ("input") or of W_L ("output").

    early (..., side) : tangent of the side against the first singular vector of Sigma_yx, along the
    second, where |W|^L = `early`; angle (..., side) : the whole tangent there.
    late (schedule, ..., side) : as `early`, at the escape. size (schedule, ...) : |W| there.
    ratio (schedule, ..., layer) : sigma_2/sigma_1 of W_l there, NaN above L.
    sweeps (schedule, ...) : until the escape.
    step (depth, draw) : eta s_1 a^(L-2), a^L the map at which the leading direction would rest.
    tied, turns (draw) : 1 if s_1 = s_2; 1 for generic inputs, whose direction turns.
    early_power, time_power : fitted powers of epsilon; late_power, ratio_power : of epsilon/|W|.
    predicted : p = 1 - s_2/s_1. error (..., side) : how far the power of `early` lies from p
    because |W| counts what lies beside the first direction: p/2 log(1 + angle^2), from the first
    to the last scale, per log epsilon.
    """
    parts, scales = [], config.scales
    for depth in config.depths:
        many = stacked([draw(depth, i) for i in range(config.draws)], config.scales)
        problem, s, sides = many.problem, many.s, (many.left, many.right)
        a = many.scale ** (1 / depth)
        eta = many.step / s[:, 0] / a ** (depth - 2)
        weights, time = flow_until(many.start, problem, config.early ** (1 / depth))
        early, angle = leading_direction(weights, *sides)
        # In steps from where one changes the weights by 3 %, or 1 % of the map is learned.
        switch = (0.03 / many.step) ** (1 / (depth - 2))
        switch = a * switch.clamp_max(0.01 ** (1 / depth))
        weights, more = flow_until(weights, problem, switch)
        initial = 0.5 * problem.targets.square().sum(1).mean(1)
        gain = 0.5 * s[:, 0] * many.scale
        found = []
        for schedule in SCHEDULES:
            track = layerwise_descent(
                weights,
                problem,
                step_size=eta,
                sweeps=2000,
                schedule=schedule,
                stop_loss=initial - config.escaped * gain,
                record_at=torch.arange(0, 2001, 50),
            )
            if int(track.stopped_at.min()) < 1:
                raise ValueError(f"escaped = {config.escaped}: not passed in 1 to 2000 sweeps")
            variables = {
                "ratio": _ratios(track.final, config),
                "size": by_scale(layer_size(track.final), scales),
                "late": by_scale(leading_direction(track.final, *sides)[0], scales, "side"),
                "sweeps": by_scale((time + more) / eta + track.stopped_at, scales),
            }
            found.append(xr.Dataset(variables, {"schedule": schedule}))
        parts.append(
            xr.concat(found, "schedule").assign(
                early=by_scale(early, scales, "side"),
                angle=by_scale(angle, scales, "side"),
                step=("draw", many.step[:: len(scales)]),
                predicted=("draw", 1 - (s[:, 1] / s[:, 0])[:: len(scales)]),
            )
        )
    result = xr.concat(parts, "depth").assign_coords(
        depth=list(config.depths), scale=list(scales), side=["input", "output"]
    )
    index = np.arange(config.draws)
    result["tied"] = "draw", (index % 5 == 4).astype(int)
    result["turns"] = "draw", (index % 3 == 0).astype(int)
    x = np.log(result.scale)
    result["early_power"] = power(x, result.early)
    result["time_power"] = power(x, result.sweeps)
    beside = np.log1p(result.angle[..., [0, -1], :] ** 2).diff("scale").squeeze("scale")
    result["error"] = abs(0.5 * result.predicted * beside / (x[-1] - x[0]))
    for name in ("late", "ratio"):
        # Steps are finite: runs stop at slightly different sizes, which are divided out.
        result[f"{name}_power"] = power(x - np.log(result["size"]), result[name])
    return result


def power(x: xr.DataArray, y: xr.DataArray) -> xr.DataArray:
    """Slope of log y on x along `scale`, for x that may differ from fit to fit."""
    dx = x - x.mean("scale")
    return (dx * xr.apply_ufunc(np.log, y)).sum("scale", skipna=False) / (dx**2).sum("scale")


def alone(config: Config = Config()) -> xr.Dataset:
    """W_1 of a linear net trained alone to its end, which is known without a step.

    ratio (depth, draw, scale) : its sigma_2/sigma_1 at the end; time : eta times the steps until
    half of what it can gain is gone. ratio_power, time_power : powers of epsilon.
    """
    parts = []
    for depth in config.depths:
        many = stacked([draw(depth, i) for i in range(config.draws)], config.alone)
        moments = many.problem.moments()
        end = limit_of_first_layer(many.start, moments)
        above = reduce(lambda below, w: w @ below, many.start[1:])
        u, a, _ = torch.linalg.svd(above)
        lam, basis = torch.linalg.eigh(moments.xx)
        error = moments.yx @ torch.linalg.pinv(moments.xx) - above @ many.start[0]
        # Component (i, j) of the error decays as exp(-a_i^2 lambda_j t).
        part = (u.mT @ error @ basis).square() * lam[:, None]
        rate = a.square()[..., None] * lam[:, None]
        fastest = rate.amax((1, 2), keepdim=True)
        part = torch.where(rate > 1e-9 * fastest, part, 0.0)
        low, high = -fastest.log() - 10, -fastest.log() + 40
        for _ in range(60):  # bisection for the logarithm of the time
            middle = (low + high) / 2
            left = (part * (-2 * rate * middle.exp()).exp()).sum((1, 2), keepdim=True)
            early = left > part.sum((1, 2), keepdim=True) / 2
            low, high = torch.where(early, middle, low), torch.where(early, high, middle)
        variables = {"ratio": rank_ratios((end,))[:, 0], "time": low.exp()[:, 0, 0]}
        parts.append(xr.Dataset({n: by_scale(v, config.alone) for n, v in variables.items()}))
    return _with_powers(parts, config.depths, config.alone)


def _with_powers(parts: list[xr.Dataset], depths: tuple, scales: tuple) -> xr.Dataset:
    """All depths, with the powers of epsilon in `ratio` and `time`."""
    coords = {"depth": list(depths), "scale": list(scales)}
    result = xr.concat(parts, "depth").assign_coords(coords)
    x = np.log(result.scale)
    return result.assign({f"{n}_power": power(x, result[n]) for n in ("ratio", "time")})


def scaled_steps(config: Config = Config()) -> xr.Dataset:
    """The control: steps of size h/(s_1 |W|^(L-2)), which are never small beside the weights.

    measured (depth, draw) : power of 1/|W| with which the part of W_1's leading direction along the
    second singular vector falls. finite : 1 - log(1 + h s_2/s_1)/log(1 + h); flow : 1 - s_2/s_1.
    """
    count, h = config.scaled
    parts = []
    for depth in config.depths:
        # Draws with a tie have nothing to tell apart.
        draws = [draw(depth, i) for i in range(2 * count) if i % 5 < 4][:count]
        many = stacked(draws, config.scales[-1:])
        weights, s = many.start, many.s
        goal, astray, sizes = config.early ** (1 / depth), [], []
        while float(layer_size(weights).min()) < goal:
            size = layer_size(weights)
            moving = (size < goal).double() + 1e-12  # a run at its goal stays there
            eta = moving * h / s[:, 0] / size ** (depth - 2)
            weights = layerwise_descent(
                weights, many.problem, step_size=eta, sweeps=1, schedule="simultaneous"
            ).final
            sizes.append(layer_size(weights).log())
            astray.append(leading_direction(weights, many.left, many.right)[0][:, 0].log())
        x, y = torch.stack(sizes), torch.stack(astray)
        # The last three decades, where the layers have become rank one.
        late = (x > x[-1] - 3 * np.log(10)).double()
        dx = late * (x - (late * x).sum(0) / late.sum(0))
        ratio = s[:, 1] / s[:, 0]
        variables = {
            "measured": ("draw", -(dx * y).sum(0) / dx.square().sum(0)),
            "finite": ("draw", 1 - torch.log1p(h * ratio) / np.log1p(h)),
            "flow": ("draw", 1 - ratio),
        }
        parts.append(xr.Dataset(variables))
    return xr.concat(parts, "depth").assign_coords(depth=list(config.depths))


def relu(config: Config = Config()) -> xr.Dataset:
    """ReLU nets, followed as a flow until |W|^L = 1e-4, still on the plateau.

    ratio (depth, draw, scale, layer) : sigma_2/sigma_1 there, NaN above L.
    time (depth, draw, scale) : until then, eta times the sweeps.
    ratio_power, time_power : powers of epsilon.
    """
    parts = []
    for depth in config.depths:
        many = stacked([draw(depth, i, 6) for i in range(config.relu)], config.scales)
        size = 1e-4 ** (1 / depth)
        # Kinks bend the flow anyway: it is followed less finely.
        weights, time = flow_until(many.start, many.problem, size, activation="relu", fineness=0.3)
        lasted = by_scale(time, config.scales)
        parts.append(xr.Dataset({"ratio": _ratios(weights, config), "time": lasted}))
    return _with_powers(parts, config.depths, config.scales)


def recorded(config: Config = Config()) -> xr.Dataset:
    """`run`, of the default configuration from results/deep.nc."""
    return read_record("deep") if config == Config() else run(config)


def recorded_relu(config: Config = Config()) -> xr.Dataset:
    """`relu`, of the default configuration from results/deep_relu.nc."""
    return read_record("deep_relu") if config == Config() else relu(config)


@claim("saddles/deep-direction", Config, recorded, scaled_steps)
def direction(result: xr.Dataset, scaled: xr.Dataset) -> Evidence:
    """Power of epsilon in the angle of W_1 and of W_L, early on the plateau.

    tolerance : 0.0005 and twice the error that the theory itself foresees.
    late_error : powers at the escape, after finite steps, for inputs that do not turn.
    scaled_error, scaled_from_flow : steps that stay large, against 1 - g and 1 - s_2/s_1.
    """
    straight = result.where(result.turns == 0, drop=True)
    late = abs(straight.late_power - straight.predicted)
    details = {
        "draws": result.early_power.size / 2,
        "tied_power": abs(result.early_power.where(result.tied == 1)).max(),
        "late_error": late.max(["draw", "side"]),
        "late_step": [straight.step.min(), straight.step.max()],
        "ratio_error": abs(result.ratio_power - 1).max(["draw", "layer"]),
        "scaled_error": abs(scaled.measured - scaled.finite).max(),
        "scaled_from_flow": abs(scaled.measured - scaled.flow).median(),
    }
    predicted = result.predicted.broadcast_like(result.early_power)
    tolerance = 5e-4 + 2 * result.error
    return Evidence(result.early_power, predicted, tolerance, range(result.sizes["draw"]), details)


@claim("saddles/deep-rank-one", Config, recorded, recorded_relu, alone)
def rank_one(linear: xr.Dataset, relu: xr.Dataset, alone: xr.Dataset) -> Evidence:
    """Power of epsilon in sigma_2/sigma_1 at the escape, the least and the largest of each depth.

    relu_upper : the same for layers 2 to L of ReLU nets; relu_first : the least, median and
    largest of their first layers. alone_power, alone_least : W_1 alone, trained to its end.
    """

    def ends(values: xr.DataArray) -> xr.DataArray:
        dims = [d for d in values.dims if d != "depth"]
        return xr.concat([values.min(dims), values.max(dims)], "end")

    first = relu.ratio_power.isel(layer=0)
    details = {
        "draws": linear.predicted.size,
        "relu_draws": relu.time_power.size,
        "relu_upper": ends(relu.ratio_power.isel(layer=slice(1, None))),
        "relu_first": [first.min(), first.median(), first.max()],
        "alone_power": abs(alone.ratio_power).max(),
        "alone_least": alone.ratio.min(),
    }
    seeds = range(linear.sizes["draw"])
    return Evidence(ends(linear.ratio_power), 1.0, 0.001, seeds, details)


@claim("saddles/deep-escape-time", Config, recorded, recorded_relu, alone)
def escape_time(linear: xr.Dataset, relu: xr.Dataset, alone: xr.Dataset) -> Evidence:
    """Powers of epsilon in the number of sweeps, every depth, draw and schedule."""
    error = [abs(r.time_power + r.depth - 2) for r in (linear, relu)]
    details = {
        "draws": linear.predicted.size,
        "relu_draws": relu.time_power.size,
        "alone_error": abs(alone.time_power + 2 * (alone.depth - 1)).max(),
    }
    worst = [e.max([d for d in e.dims if d != "depth"]) for e in error]
    measured = np.array([float(e) for e in np.ravel(worst)])
    return Evidence(measured, 0.0, 0.001, range(linear.sizes["draw"]), details)
