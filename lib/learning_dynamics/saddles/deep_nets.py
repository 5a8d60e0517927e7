"""Deep nets f(X) = W_L sigma(W_{L-1} ... sigma(W_1 X)) and three schedules of gradient descent.

*cyclic*: one sweep takes one step of W_1, then of W_2 with the new W_1, ... up to W_L, which is
layer-wise gradient descent; *simultaneous*: all layers step at once, ordinary gradient descent;
*in turn*: one layer alone until its gradient is gone, then the next. The leading dimension of
every tensor is the run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.kernels.mlp_torch import deltas
from learning_dynamics.kernels.weights import starting_scale
from learning_dynamics.losses import Loss, check_fits
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import (
    Trajectory,
    as_positive,
    check_alive,
    check_choice,
    check_instance,
    check_integer,
    check_positive,
    check_shapes,
    check_share,
    check_tensors,
    normal,
    on_inputs,
)
from learning_dynamics.saddles.two_layer import record_grid

__all__ = [
    "SCHEDULES",
    "InTurn",
    "deep_forward",
    "flow_until",
    "initialise_deep",
    "layer_gradient",
    "layer_size",
    "layers_in_turn",
    "layerwise_descent",
    "limit_of_first_layer",
    "rank_ratios",
]

SCHEDULES = ("cyclic", "simultaneous")
Layers = tuple[Tensor, ...]


def initialise_deep(
    widths: Sequence[int],
    init_scale: float | Float[Tensor, " runs"],
    generators: Sequence[torch.Generator],
    *,
    dtype: torch.dtype = torch.float64,
) -> Layers:
    """W_1 ... W_L, each (runs, m_l, m_{l-1}), entries epsilon times Gaussian of variance 1/m_{l-1}.

    widths : (m_0, ..., m_L), L >= 2; one generator per run; init_scale : one or one per run.
    Equal generators give equal directions, so that runs can differ in scale alone.

    >>> from learning_dynamics import generator
    >>> [tuple(w.shape) for w in initialise_deep((6, 8, 8, 4), 0.1, [generator(0)])]
    [(1, 8, 6), (1, 8, 8), (1, 4, 8)]
    """
    if len(widths) < 3:
        raise ValueError(f"widths = {tuple(widths)}: needs m_0, ..., m_L with L >= 2")
    for m in widths:
        check_integer("widths", m, least=1)
    scale = starting_scale(init_scale, generators, dtype).to(generators[0].device)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    draws = [[normal(*s, generator=g, dtype=dtype) for s in shapes] for g in generators]
    return tuple(
        scale * torch.stack(layer) / fan_in**0.5
        for layer, (_, fan_in) in zip(zip(*draws, strict=True), shapes, strict=True)
    )


def deep_forward(
    weights: Layers, inputs: Float[Tensor, "... m0 n"], activation: str | Activation = "linear"
) -> Float[Tensor, "... m n"]:
    """f(X), no activation after the last layer.

    >>> import torch
    >>> deep_forward((torch.ones(1, 2, 2), torch.ones(1, 2, 2), torch.ones(1, 1, 2)), torch.eye(2))
    tensor([[[4., 4.]]])
    """
    act = find_activation(activation)
    check_shapes(**_named(weights), inputs=(inputs, "... m0 n"))
    h = inputs
    for w in weights[:-1]:
        h = act(w @ h)
    return weights[-1] @ h


def layer_gradient(
    weights: Sequence[Tensor],
    below: Tensor,
    layer: int,
    y: Tensor,
    act: Activation,
    criterion: Loss,
) -> Tensor:
    """dL/dW_layer (layer from 0) given the output `below` of the layer underneath."""
    linear = act.negative_slope == 1
    h, slopes = below, []
    for w in weights[layer:-1]:
        z = w @ h
        slopes.append(None if linear else act.derivative(z))
        h = z if linear else act(z)
    top = criterion.gradient(weights[-1] @ h, y)
    return deltas(weights[layer:], slopes, top)[0][0] @ below.mT


def rank_ratios(weights: Layers) -> Float[Tensor, "runs layer"]:
    """sigma_2(W_l) / sigma_1(W_l) of every layer; 0 of one row, one column, or zero.

    >>> import torch
    >>> rank_ratios((torch.diag(torch.tensor([2.0, 1.0]))[None], torch.ones(1, 1, 2)))
    tensor([[0.5000, 0.0000]])
    """
    check_tensors(**_named(weights))
    ratios = []
    for w in weights:
        s = torch.linalg.svdvals(w)
        second = s[..., 1] if s.shape[-1] > 1 else torch.zeros_like(s[..., 0])
        ratios.append(torch.where(s[..., 0] > 0, second / s[..., 0], 0.0))
    return torch.stack(ratios, dim=-1)


def limit_of_first_layer(weights: Layers, moments: Moments) -> Float[Tensor, "*runs m1 m0"]:
    """Where W_1 of a linear net converges if it alone is trained: W_1 + A^+ (W* - A W_1).

    weights : the start, W_1 ... W_L, L >= 2. A = W_L ... W_2 stays fixed, W* is the regression
    Sigma_yx Sigma_xx^-1. Steps move W_1 within the row space of A, and A W_1 goes to the part of
    W* that A can reach; what W_1 does with directions that no input has stays. Range: step size
    below 2/(|A|^2 |Sigma_xx|).
    """
    check_tensors(**_named(weights), xx=(moments.xx, "... m0 m0"))
    if len(weights) < 2:
        raise ValueError(f"weights has {len(weights)} matrices: needs W_1, ..., W_L with L >= 2")
    above = weights[1]
    for w in weights[2:]:
        above = w @ above
    inverse = torch.linalg.pinv(moments.xx, hermitian=True)
    missing = (moments.yx - above @ weights[0] @ moments.xx) @ inverse
    return weights[0] + torch.linalg.pinv(above) @ missing


def _named(weights: Layers) -> dict[str, tuple[Tensor, str]]:
    return {f"W_{k}": (w, f"*runs m{k} m{k - 1}") for k, w in enumerate(weights, 1)}


def _check(
    weights: Layers, problem: Problem, step_size: float | Tensor, loss: Loss
) -> tuple[int, Float[Tensor, "_ 1 1"]]:
    """How many runs, and their step sizes."""
    if not weights:
        raise ValueError("weights is empty: needs W_1, ..., W_L")
    check_instance("problem", problem, Problem)
    x, y = problem.inputs, problem.targets
    check_tensors(
        **{f"W_{k}": (w, f"runs m{k} m{k - 1}") for k, w in enumerate(weights, 1)},
        inputs=(x, "... m0 n"),
        targets=(y, f"... m{len(weights)} n"),
    )
    sizes = torch.stack([w.abs().amax((-2, -1)).double() for w in weights])
    lost = (sizes > 0).all(0) & (sizes.log().sum(0) < math.log(torch.finfo(x.dtype).tiny))
    if bool(lost.any()):
        raise ValueError(
            f"weights: of run {int(lost.nonzero()[0])} the largest entries multiply to less than "
            f"the numbers of {x.dtype} can hold: every gradient would be lost; start larger"
        )
    runs = len(weights[0])
    if tuple(x.shape[:-2]) not in ((), (1,), (runs,)):
        raise ValueError(f"inputs: {len(x)} problems for {runs} runs: pass one, or one per run")
    check_fits(loss, x.new_empty(runs, *y.shape[-2:]), y)
    return runs, as_positive("step_size", step_size, runs, x.dtype, x.device).reshape(-1, 1, 1)


@torch.no_grad()
def layerwise_descent(
    weights: Layers,
    problem: Problem,
    *,
    step_size: float | Float[Tensor, " runs"],
    sweeps: int,
    schedule: str = "cyclic",
    layers: Sequence[int] | None = None,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    stop_loss: float | Float[Tensor, " runs"] | None = None,
    record_at: Int[Tensor, " records"] | Sequence[int] | None = None,
) -> Trajectory:
    """Layer-wise or simultaneous gradient descent; the trajectory's steps are sweeps.

    weights   : W_1 ... W_L, (runs, m_l, m_{l-1}), not modified.
    schedule  : "cyclic" or "simultaneous". layers : those that are trained, from 0 (default all).
    stop_loss : > 0; a run freezes at the first sweep that begins with a loss at or below this; the
                call returns early once all runs are frozen (later records repeat the end).
    record_at : increasing sweeps; default about 200 evenly spaced.
    Observables: loss, rank_ratio (layer). A diverging run raises with sweep and step size.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> start = saddles.initialise_deep((6, 8, 8, 4), 0.3, [generator(1)])
    >>> run = saddles.layerwise_descent(start, problem, step_size=0.05, sweeps=300)
    >>> bool(run["loss"][0, -1] < 0.1 * run["loss"][0, 0])
    True
    """
    act, criterion = find_activation(activation), find_loss(loss)
    check_choice("schedule", schedule, SCHEDULES)
    check_integer("sweeps", sweeps)
    runs, eta = _check(weights, problem, step_size, criterion)
    trained = tuple(range(len(weights))) if layers is None else tuple(layers)
    for layer in trained:
        check_integer("layers", layer)
    if not trained or list(trained) != sorted(set(trained) & set(range(len(weights)))):
        raise ValueError(f"layers = {layers}: must increase within 0..{len(weights) - 1}")
    grid = record_grid(record_at, sweeps, most=200)
    w = list(weights)
    x, y = problem.inputs, problem.targets
    level = x.new_tensor(-torch.inf)
    if stop_loss is not None:
        level = as_positive("stop_loss", stop_loss, runs, x.dtype, x.device)
    stopped_at = torch.full((runs,), -1, dtype=torch.long, device=x.device)
    losses, ratios, wanted = [], [], set(grid)
    for t in range(sweeps + 1):
        value = criterion.value(deep_forward(tuple(w), x, act), y)
        stopped_at = torch.where((stopped_at < 0) & (value <= level), t, stopped_at)
        if t in wanted:
            check_alive(value, t, eta)
            losses.append(value)
            ratios.append(rank_ratios(tuple(w)))
            if bool((stopped_at >= 0).all()):
                break
        if t == sweeps:
            break
        move = eta if stop_loss is None else (stopped_at < 0).reshape(-1, 1, 1) * eta
        below, old = x, tuple(w)
        for layer in range(trained[-1] + 1):
            source = w if schedule == "cyclic" else old
            if layer in trained:
                g = layer_gradient(source, below, layer, y, act, criterion)
                w[layer] = w[layer] - move * g
            below = act((w if schedule == "cyclic" else old)[layer] @ below)
    while len(losses) < len(grid):
        losses.append(losses[-1])
        ratios.append(ratios[-1])
    return Trajectory(
        steps=torch.tensor(grid, device=x.device),
        step_size=step_size,
        observables={"loss": torch.stack(losses, 1), "rank_ratio": torch.stack(ratios, 1)},
        dims={"rank_ratio": ("layer",)},
        diverged_at=torch.full_like(stopped_at, -1),
        stopped_at=stopped_at,
        final=tuple(w),
        units={"loss": "loss", "rank_ratio": "1"},
    )


def layer_size(weights: Sequence[Tensor]) -> Float[Tensor, " *runs"]:
    """Geometric mean of the layers' Frobenius norms, the `size` of `flow_until`.

    >>> import torch
    >>> layer_size((torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 8.0)))
    tensor([4.])
    """
    norms = [w.square().sum((-2, -1)).sqrt() for w in weights]
    return torch.stack(norms).log().mean(0).exp()


@on_inputs
def flow_until(
    weights: Layers,
    problem: Problem,
    size: float | Float[Tensor, " runs"],
    *,
    speeds: Sequence[float] | None = None,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    fineness: float = 0.1,
    most: int = 20000,
) -> tuple[Layers, Float[Tensor, " runs"]]:
    """Gradient flow from small weights until `layer_size` is `size`: the weights, and the time.

    A step of gradient descent is one of the flow up to eta |W|^(L-2), so that the long part of a
    plateau, on which this is tiny, need not be stepped through: `layerwise_descent` goes on from
    the end. Steps of the Runge-Kutta method of order 4 are counted along |W|^(L-2) dt, so that a
    start of 1e-14 takes little longer than one of 1e-6.

    size     : above that of the start, one or one per run; met to 1e-9, relative.
    speeds   : factors of the layers' velocities (default 1): 2 for one that steps twice a sweep.
    fineness : relative change of the velocity in a step; the error of a step is of its 5th order.
    Raises ValueError if a run needs more than `most` steps, or has a layer without gradient.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> start = saddles.initialise_deep((6, 8, 8, 4), 1e-9, [generator(1)])
    >>> end, time = flow_until(start, problem, 1e-3)
    >>> bool(saddles.rank_ratios(end).max() < 1e-5)  # rank one, as 1e-9 is to 1e-3
    True
    """
    check_integer("most", most, least=1)
    act, criterion = find_activation(activation), find_loss(loss)
    runs, _ = _check(weights, problem, 1.0, criterion)
    x, y, depth = problem.inputs, problem.targets, len(weights)
    factors = [1.0] * depth if speeds is None else list(speeds)
    if len(factors) != depth:
        raise ValueError(f"speeds = {speeds}: needs {depth}, one a layer")
    check_positive("speeds", torch.tensor(factors))
    check_positive("fineness", fineness)
    goal = as_positive("size", size, runs, x.dtype, x.device).expand(runs)
    if not bool((layer_size(weights) < goal).all()):
        raise ValueError(f"size = {size}: must be above {layer_size(weights).tolist()}")

    def velocity(w: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """dW/d theta of every layer, and dt/d theta."""
        below, slopes = [x], []
        for v in w[:-1]:
            z = v @ below[-1]
            slopes.append(act.derivative(z))
            below.append(act(z))
        errors, _ = deltas(w, slopes, criterion.gradient(w[-1] @ below[-1], y))
        rate = layer_size(w) ** (2 - depth)
        parts = zip(factors, errors, below, strict=True)
        return [-f * rate[:, None, None] * (e @ h.mT) for f, e, h in parts], rate

    def moved(w: Sequence[Tensor], moves: Sequence[Tensor], h: Tensor) -> list[Tensor]:
        return [v + h[:, None, None] * m for v, m in zip(w, moves, strict=True)]

    w, time = list(weights), torch.zeros_like(goal)
    h = largest = torch.full_like(goal, 1e-3)
    for _ in range(most):
        left = (goal / layer_size(w)).log()
        if bool((left.abs() < 1e-9).all()):
            return tuple(w), time
        one, rate_1 = velocity(w)
        sizes = torch.stack([m.abs().amax((1, 2)) for m in one])
        still = (~torch.isfinite(sizes) | (sizes == 0)).any(0)
        if bool(still.any()):
            run = int(still.nonzero()[0])
            raise ValueError(f"weights: a layer of run {run} has no gradient: it cannot grow")
        pairs = zip(w, one, strict=True)
        pace = sum((v * m).sum((1, 2)) / v.square().sum((1, 2)) for v, m in pairs) / depth
        step = torch.where(h * pace > left, left / pace, h)
        two, rate_2 = velocity(moved(w, one, step / 2))
        three, rate_3 = velocity(moved(w, two, step / 2))
        four, rate_4 = velocity(moved(w, three, step))
        w = moved(w, one, step / 6)
        for moves, part in ((two, 3), (three, 3), (four, 6)):
            w = moved(w, moves, step / part)
        time = time + step / 6 * (rate_1 + 2 * rate_2 + 2 * rate_3 + rate_4)
        pairs = zip(four, one, strict=True)
        changes = [(a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)) for a, b in pairs]
        change = torch.stack(changes).amax(0) / step.abs().clamp_min(1e-12) * h
        # On a kink of the activation no step is fine enough: it is stepped over.
        largest = torch.maximum(largest, h)
        h = torch.maximum(h * (fineness / change).clamp(0.5, 1.2), 0.3 * largest)
    short = float(left.exp().max())
    raise ValueError(f"most = {most}: too few steps, size is still {short:.3g} times larger")


@dataclass(frozen=True)
class InTurn:
    """One layer at a time: what each layer's training did.

    steps   : (runs, turns), steps of that layer. losses : (runs, turns), at its end.
    rank_ratio : (runs, turns, layer), sigma_2 / sigma_1 of every layer then.
    final   : the weights at the end.
    """

    steps: Int[Tensor, "runs turns"]
    losses: Float[Tensor, "runs turns"]
    rank_ratio: Float[Tensor, "runs turns layer"]
    final: Layers


@torch.no_grad()
def layers_in_turn(
    weights: Layers,
    problem: Problem,
    *,
    step_size: float | Float[Tensor, " runs"],
    most_steps: int,
    order: Sequence[int],
    tolerance: float = 1e-3,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
) -> InTurn:
    """Train the layers of `order` (from 0) one after the other, each until it has converged.

    A run's layer has converged when the norm of its gradient is at most `tolerance` times the
    largest it has had; at most `most_steps` steps a layer. step_size : one or one per run.

    >>> from learning_dynamics import generator, linear_teacher, saddles
    >>> problem = linear_teacher(generator=generator(0))
    >>> start = saddles.initialise_deep((6, 8, 4), 0.3, [generator(1)])
    >>> done = saddles.layers_in_turn(start, problem, step_size=0.05, most_steps=500, order=(0, 1))
    >>> done.losses.shape  # one loss a layer trained
    torch.Size([1, 2])
    """
    act, criterion = find_activation(activation), find_loss(loss)
    runs, eta = _check(weights, problem, step_size, criterion)
    check_integer("most_steps", most_steps, least=1)
    check_share("tolerance", tolerance)
    order = tuple(order)
    for layer in order:
        check_integer("order", layer)
    if not order or not set(order) <= set(range(len(weights))):
        raise ValueError(f"order = {order}: layers are 0..{len(weights) - 1}")
    w = list(weights)
    x, y = problem.inputs, problem.targets
    steps, losses, ratios = [], [], []
    for layer in order:
        below = x
        for lower in w[:layer]:
            below = act(lower @ below)
        taken = torch.full((runs,), most_steps, device=x.device)
        largest = x.new_zeros(runs)
        for t in range(most_steps):
            g = layer_gradient(w, below, layer, y, act, criterion)
            norm = g.square().sum((-2, -1)).sqrt()
            largest = torch.maximum(largest, norm)
            done = norm <= tolerance * largest
            taken = torch.where(done & (taken == most_steps), t, taken)
            if t % 50 == 0 and bool((taken < most_steps).all()):
                break
            w[layer] = w[layer] - (taken == most_steps).reshape(-1, 1, 1) * eta * g
        value = criterion.value(deep_forward(tuple(w), x, act), y)
        check_alive(value, t, eta)
        steps.append(taken)
        losses.append(value)
        ratios.append(rank_ratios(tuple(w)))
    return InTurn(torch.stack(steps, 1), torch.stack(losses, 1), torch.stack(ratios, 1), tuple(w))
