"""Stochastic gradient descent on f(x) = g_L W_L h_{L-1}, h_l = psi(g_l W_l h_{l-1}), h_0 = x.

The leading dimension of every tensor is the run: runs of equal widths may differ in seed and
step size. No biases; one multiplier g_l per layer, as in Utsunomiya's thesis.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.files import write_atomically
from learning_dynamics.kernels.graph import Replayed, can_capture
from learning_dynamics.kernels.mlp_torch import Passes, hidden
from learning_dynamics.losses import Loss, check_fits, check_labels, classified
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import (
    Trajectory,
    all_finite,
    as_positive,
    check_held,
    check_instance,
    check_integer,
    check_shapes,
    check_tensor,
    generator,
    standard_normal,
)

__all__ = ["State", "batch_order", "check_state", "initialise", "load", "save", "sgd"]

#: A run whose loss exceeds this many times that of zero outputs, or is not a number, has diverged.
LOSS_LIMIT = 1e4
#: What reading a damaged archive may raise.
BROKEN = (ValueError, LookupError, EOFError, TypeError, AttributeError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class State:
    """Where a run stands: all that is needed to go on, bit for bit.

    weights     : W_l (runs, n_l, n_{l-1}) for l = 1..L; `sgd` updates them in place.
    velocities  : the same shapes, or None for plain SGD.
    step        : number of updates made.
    diverged_at : (runs,) int64, first step with a loss above the limit, -1 if none.
    """

    weights: tuple[Float[Tensor, "runs _ _"], ...]
    velocities: tuple[Float[Tensor, "runs _ _"], ...] | None
    step: int
    diverged_at: Int[Tensor, " runs"]

    def to(self, dtype: torch.dtype) -> "State":
        """The same numbers in another precision."""
        copy = None if self.velocities is None else tuple(v.to(dtype) for v in self.velocities)
        return replace(self, weights=tuple(w.to(dtype) for w in self.weights), velocities=copy)

    def clone(self) -> "State":
        """A copy that later updates leave alone."""
        copy = None if self.velocities is None else tuple(v.clone() for v in self.velocities)
        weights = tuple(w.clone() for w in self.weights)
        return State(weights, copy, self.step, self.diverged_at.clone())


def check_state(state: State) -> None:
    """Raise ValueError unless all layers fit: shapes, dtype, device, finite (if not diverged)."""
    named = {f"weights[{i}]": w for i, w in enumerate(state.weights)}
    moving = {f"velocities[{i}]": v for i, v in enumerate(state.velocities or ())}
    if not named or (state.velocities is not None and len(moving) != len(named)):
        raise ValueError(f"state: {len(named)} weights, {len(moving)} velocities: not as many")
    words = [f"runs n{k + 1} n{k}" for k in range(len(named))]
    tensors = [*zip(named.items(), words, strict=True), *zip(moving.items(), words, strict=False)]
    check_shapes(**{name: (w, dims) for (name, w), dims in tensors})
    runs, w = len(state.weights[0]), state.weights[0]
    check_integer("step", state.step)
    there = state.diverged_at
    given = (getattr(there, part, None) for part in ("shape", "dtype", "device"))
    if (*given,) != (wanted := ((runs,), torch.int64, w.device)):
        raise ValueError(f"diverged_at: {type(there).__name__}: allowed is a tensor with {wanted}")
    check_held("diverged_at", there)
    gone = (there >= 0)[:, None, None]
    for name, w in (named | moving).items():
        if not w.is_contiguous() or w.requires_grad:
            raise ValueError(
                f"{name}: strides {w.stride()}, requires_grad = {w.requires_grad}: it "
                "is updated in place and must be contiguous and detached"
            )
        if not all_finite(w):
            check_tensor(name, w.masked_fill(gone, 0))


def initialise(
    widths: Sequence[int],
    init_stds: Sequence[float],
    seeds: Sequence[int],
    *,
    momentum: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> State:
    """W_l i.i.d. Gaussian with standard deviation `init_stds`[l-1] (the ReLU gain included).

    widths : n_0..n_L. seeds : one per run. Equal seeds and widths give equal draws up to the
    standard deviation, on every device, so that schemes are compared on the same noise.

    >>> state = initialise((3, 16, 2), (1.0, 1.0), [0, 1])
    >>> [tuple(w.shape) for w in state.weights]
    [(2, 16, 3), (2, 2, 16)]
    """
    for i, width in enumerate(widths):
        check_integer(f"widths[{i}]", width, least=1)
    if len(widths) < 2 or len(init_stds) != len(widths) - 1:
        raise ValueError(
            f"init_stds has {len(init_stds)} values: one per layer, {len(widths) - 1}, is needed"
        )
    for std in init_stds:
        as_positive("init_stds", std, 1, dtype)
    if not seeds:
        raise ValueError("seeds is empty: pass one seed per run")
    weights = []
    for layer, std in enumerate(init_stds):
        shape = (widths[layer + 1], widths[layer])
        w = torch.empty(len(seeds), *shape, dtype=dtype, device="cpu")
        drawn: dict[int, int] = {}
        for run, seed in enumerate(seeds):
            if seed in drawn:
                w[run] = w[drawn[seed]]
            else:
                draws = standard_normal(w[run].numel(), generator("weights", seed, layer), dtype)
                w[run] = (std * draws).view(w[run].shape)
                drawn[seed] = run
        weights.append(w.to(device))
    velocities = tuple(torch.zeros_like(w) for w in weights) if momentum else None
    return State(tuple(weights), velocities, 0, torch.full((len(seeds),), -1, device=device))


def batch_order(seed: int, epoch: int, samples: int) -> Int[Tensor, " samples"]:
    """The order in which pass number `epoch` visits the samples: each exactly once.

    A function of (seed, epoch) alone, so a resumed run sees the same batches.
    """
    check_integer("samples", samples, least=1)
    return torch.randperm(samples, generator=generator("batches", seed, epoch), device="cpu")


def _batches(
    seeds: Sequence[int],
    samples: int,
    batch_size: int,
    start: int,
    steps: int,
    device: torch.device,
) -> Iterator[Int[Tensor, "runs batch"]]:
    """Sample indices of steps start..steps-1; the last batch of a pass may be smaller."""
    per_pass = -(-samples // batch_size)
    epoch, orders = -1, torch.empty(0, device="cpu")
    for step in range(start, steps):
        if step // per_pass != epoch:
            epoch = step // per_pass
            drawn = {s: batch_order(s, epoch, samples) for s in set(seeds)}
            orders = torch.stack([drawn[s] for s in seeds]).to(device)
        first = (step % per_pass) * batch_size
        yield orders[:, first : first + batch_size]


def _check(problems: Mapping[str, Problem], state: State, runs: int) -> None:
    check_state(state)
    first, last = state.weights[0], state.weights[-1]
    for name, one in problems.items():
        check_instance(name, one, Problem)
        data = {f"{name}.inputs": (one.inputs, "n0 n"), f"{name}.targets": (one.targets, "nL n")}
        layers = {"weights[0]": (first, "_ _ n0"), "weights[-1]": (last, "_ nL _")}
        check_shapes(**layers, **data)
    if len(first) != runs:
        raise ValueError(f"seeds has {runs} values: the state holds {len(first)} runs")


def _per_layer(name: str, values: Sequence[float], like: Sequence[Tensor]) -> tuple[float, ...]:
    most = torch.finfo(like[0].dtype).max
    if len(values) != len(like):
        raise ValueError(f"{name} has {len(values)} values: one per layer, {len(like)}, is needed")
    for value in values:
        if not isinstance(value, Real | Tensor) or not abs(float(value)) <= most:
            raise ValueError(f"{name} = {values!r}: allowed are finite numbers up to {most:.3g}")
    return tuple(map(float, values))


def _wanted(record: Sequence[int], first: int, last: int) -> set[int]:
    for step in record:
        check_integer("record", step, least=first)
    if len(set(record)) < len(record) or max(record, default=last) > last:
        raise ValueError(f"record = {record!r}: allowed is each step once, within {first}..{last}")
    return set(record)


def sgd(
    problem: Problem,
    state: State,
    multipliers: Sequence[float],
    *,
    seeds: Sequence[int],
    step_size: float | Float[Tensor, " runs"],
    steps: int,
    batch_size: int,
    step_ratios: Sequence[float] | None = None,
    momentum: float = 0.0,
    loss: str | Loss = "squared",
    activation: str | Activation = "relu",
    evaluate: Mapping[str, Problem] | None = None,
    record: Sequence[int] = (),
    observe: Callable[[State], Mapping[str, Tensor]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """SGD from `state` until `steps` updates are made in all.

    problem     : training set, inputs (n_0, N), targets (n_L, N), on the device of the weights.
    multipliers : g_l, one per layer. step_ratios : step size of layer l = step_size * ratio_l.
    seeds       : one per run, the order of its batches; every pass visits each sample once.
    momentum    : mu in [0, 1), v <- mu v + gradient, W <- W - step_size v; needs velocities.
    evaluate    : name -> whole set on which loss ("<name>_loss") and accuracy
                  ("<name>_accuracy": share of samples that are right, see `losses.classified`;
                  none where the targets name no classes) are recorded at the steps in `record`,
                  each in state.step..steps.
    observe     : further observables of the state, each (runs, ...), at the same steps.
    progress    : called with the step at each record.
    Returns a Trajectory; `final` is the state reached. A run has diverged when the loss on a batch
    exceeds 10^4 times that of zero outputs (10^4 where that is below 1) or is not a number: its
    losses are +inf from there on (never NaN, which means would skip), its accuracies 0. Going on
    from `final` continues bit for bit.
    Raises ValueError for shapes that do not fit.

    >>> from learning_dynamics import digits_pair, scales
    >>> import torch
    >>> data = digits_pair(3, 8, source="sklearn", dtype=torch.float32).train
    >>> p = scales.scheme("dp(1/2)")((64, 96, 12, 2))
    >>> state = scales.initialise(p.widths, p.weight_stds, [0])
    >>> run = scales.sgd(data, state, p.multipliers, seeds=[0], step_size=0.5, steps=40,
    ...                  batch_size=32, evaluate={"train": data}, record=(0, 40))
    >>> bool(run["train_loss"][0, -1] < run["train_loss"][0, 0])
    True
    """
    runs, losses, psi = len(seeds), find_loss(loss), find_activation(activation)
    _check(
        {"problem": problem, **{f"evaluate[{k!r}]": p for k, p in (evaluate or {}).items()}},
        state,
        runs,
    )
    multipliers = _per_layer("multipliers", multipliers, state.weights)
    ratios = (1.0,) * len(multipliers) if step_ratios is None else step_ratios
    ratios = _per_layer("step_ratios", ratios, state.weights)
    check_integer("batch_size", batch_size, least=1)
    check_integer("steps", steps, least=state.step)
    wanted = _wanted(record, state.step, steps)
    if not isinstance(momentum, Real) or not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum!r}: allowed are numbers >= 0 and < 1")
    if (momentum != 0) != (state.velocities is not None):
        raise ValueError(
            f"momentum = {momentum}: state must hold velocities exactly if it is not 0"
        )
    for whole in (problem, *(evaluate or {}).values()):
        check_labels(losses, whole.targets)
        # A loss with weights for certain samples does not know those of a batch.
        check_fits(losses, 0 * whole.targets[:, :1], whole.targets[:, :1])
    limit = LOSS_LIMIT * max(1.0, float(losses.value(0 * problem.targets, problem.targets)))
    weights = state.weights
    device, dtype = weights[0].device, weights[0].dtype
    eta = as_positive("step_size", step_size, runs, dtype, device)
    biggest = [float(eta.max()) * abs(g * r) for g, r in zip(multipliers, ratios, strict=True)]
    _per_layer("step_size * multipliers * step_ratios", biggest, weights)
    eta = float(eta) if runs == 1 else eta.expand(runs)[:, None, None]
    diverged_at = state.diverged_at.clone()
    rows, targets = problem.inputs.mT.contiguous(), problem.targets.mT.contiguous()
    taken: list[int] = []
    seen: dict[str, list[Tensor]] = {}
    passes = Passes(weights, state.velocities, multipliers, ratios, psi, eta, momentum)
    sound, lasted = diverged_at < 0, torch.zeros_like(diverged_at)  # a graph keeps Python's numbers

    def update(index: Tensor) -> None:
        f, y = passes.forward(rows[index]).mT, targets[index].mT
        sound.logical_and_(losses.value(f, y) <= limit)
        lasted.add_(sound)
        passes.backward(losses.gradient(f, y).mT)

    def settle() -> None:
        broken = ~sound & (diverged_at < 0)
        diverged_at.copy_(torch.where(broken, state.step + lasted, diverged_at))

    take_step = Replayed(update, device.type == "cuda" and can_capture(psi, losses))

    def look(step: int) -> None:
        taken.append(step)
        settle()
        gone = diverged_at >= 0
        found = {}
        for name, whole in (evaluate or {}).items():
            f = hidden(weights, multipliers, whole.inputs[None], psi)[-1]
            value = losses.value(f, whole.targets.expand_as(f))
            right = classified(f, whole.targets)
            gone = gone | ~(value <= limit)
            found[f"{name}_loss"] = value.masked_fill(gone, torch.inf)
            if right is not None:
                found[f"{name}_accuracy"] = right.to(dtype).mean(-1).masked_fill(gone, 0.0)
        diverged_at[(diverged_at < 0) & gone] = step
        sound.logical_and_(~gone)
        if observe is not None:
            now = replace(state, step=step, diverged_at=diverged_at)
            for name, value in observe(now).items():
                if name in found:
                    raise ValueError(f"observe: {name!r} is the name of what `evaluate` records")
                found[name] = torch.where(
                    gone.reshape(-1, *(1,) * (value.ndim - 1)), torch.nan, value
                )
        for name, value in found.items():
            seen.setdefault(name, []).append(value)
        if progress is not None:
            progress(step)

    step = state.step
    if step in wanted:
        look(step)
    for index in _batches(seeds, len(rows), batch_size, state.step, steps, device):
        take_step(index)
        step += 1
        if step in wanted:
            look(step)
            if bool((diverged_at >= 0).all()):
                break
    settle()
    every = sorted(wanted)  # records missed because every run had diverged repeat the last one
    observables = {
        name: torch.stack(values + [values[-1]] * (len(every) - len(taken)), dim=1)
        for name, values in seen.items()
    }
    return Trajectory(
        steps=torch.tensor(every, dtype=torch.int64, device=diverged_at.device),
        step_size=step_size,
        observables=observables,
        dims={
            name: tuple(f"{name}_{i}" for i in range(v.ndim - 2)) for name, v in observables.items()
        },
        diverged_at=diverged_at,
        stopped_at=torch.full_like(diverged_at, -1),
        final=replace(state, step=step, diverged_at=diverged_at),
        units={name: "loss" if name.endswith("_loss") else "1" for name in observables},
    )


def save(state: State, path: Path | str) -> None:
    """Write weights, velocities, step and divergences of `state` to `path`.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(initialise((3, 16, 2), (1.0, 1.0), [0]), Path(folder) / "state.pt")
    ...     load(Path(folder) / "state.pt").step
    0
    """
    arrays = {f"weights_{i}": w for i, w in enumerate(state.weights)}
    arrays |= {f"velocities_{i}": v for i, v in enumerate(state.velocities or ())}
    arrays |= {"diverged_at": state.diverged_at, "step": torch.tensor(state.step)}
    file = io.BytesIO()
    numbers: dict[str, Any] = {name: t.detach().cpu().numpy() for name, t in arrays.items()}
    np.savez(file, **numbers)
    write_atomically(Path(path), file.getvalue())


def load(path: Path | str, device: torch.device | str = "cpu") -> State:
    """The state that `save` wrote. Raises ValueError if the file is no whole checkpoint, or its
    layers do not fit each other.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(initialise((3, 16, 2), (1.0, 1.0), [0]), Path(folder) / "state.pt")
    ...     len(load(Path(folder) / "state.pt").weights)
    2
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as archive:
            arrays = {
                name: torch.from_numpy(archive[name]).contiguous().to(device)
                for name in archive.files
            }
        weights, velocities = (
            tuple(arrays[f"{what}_{i}"] for i in range(sum(what in name for name in arrays)))
            for what in ("weights", "velocities")
        )
        state = State(weights, velocities or None, int(arrays["step"]), arrays["diverged_at"])
        check_state(state)
        return state
    except (*BROKEN, OverflowError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"path = {str(path)!r}: not a checkpoint, or cut short: {error}") from None
