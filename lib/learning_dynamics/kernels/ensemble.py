"""Drives any two-layer kernel over an ensemble: chunks, threads, records, stops, divergence.

The steps are cut into blocks. Within a block nothing is read back from the device: records,
stop conditions and the finiteness of the loss stay tensors. Between blocks the driver looks
once, takes finished runs out of the batch and replays the block of a diverged run step by step
to find the exact step. On a CPU with several threads chunks run side by side, one thread each;
a chunk is as large as fits the cache.
"""

import queue
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.kernels.two_layer_torch import Data, Kernel, Sizes
from learning_dynamics.kernels.weights import State, Weights, state_of
from learning_dynamics.losses import Loss
from learning_dynamics.runtime import Diverged, Trajectory

__all__ = ["Ensemble", "Observable", "blocks", "worker_map"]

#: A function of a state, the names of its trailing dimensions, its unit.
Observable = tuple[Callable[[State], Tensor], tuple[str, ...], str]


def blocks(grid: Sequence[int], steps: int) -> Iterator[list[tuple[int, int | None]]]:
    """Lists of (step, record or None), each ending where the driver looks at the runs: after 256
    steps, then after twice as many each time, up to 4096. Most runs that diverge do so early."""
    record = {t: r for r, t in enumerate(grid)}
    looks, at, length = {steps}, 256, 256
    while at < steps:
        looks.add(at)
        length = min(4096, 2 * length)
        at += length
    block: list[tuple[int, int | None]] = []
    for t in sorted({*grid, *looks}):
        block.append((t, record.get(t)))
        if t in looks:
            yield block
            block = []


@contextmanager
def worker_map(count: int) -> Iterator[Callable]:
    """A `map` over `count` threads with one torch thread each; the plain `map` for one."""
    if count == 1:
        yield lambda f, items: list(map(f, items))
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # else OpenMP's own threads spin, idle, on the workers' cores
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield lambda f, items: list(pool.map(f, items))
    finally:
        torch.set_num_threads(threads)  # the workers changed the default of new threads


#: Bytes of working memory of a chunk: about the private cache of one core / room on a device.
CACHE, DEVICE_MEMORY = 3 << 19, 1 << 30


#: Operations per step below which a chunk is not worth a thread of its own.
THREAD_FLOPS = 1_000_000


class _LazyState(State):
    """A `State` whose gradients are computed only when an observable asks for them."""

    rest: Callable[[], State]

    @cached_property
    def gradients(self) -> Weights:
        """dL/dweights."""
        return self.rest().gradients


def _any(mask: Tensor) -> bool:
    """Whether any entry is set: the driver's one look per block (meta tensors have none)."""
    return not mask.is_meta and bool(mask.any())


@dataclass
class Ensemble:
    """One call of gradient descent: what runs, what is recorded, when a run ends.

    met : state -> (runs,) bool, the stop condition; None: there is none.
    observables : name -> (function of a state, trailing dimension names, unit).
    """

    kernel: type[Kernel]
    sizes: Sizes
    act: Activation
    loss: Loss
    data: Data
    step_size: Tensor
    steps: int
    grid: list[int]
    observables: Mapping[str, Observable]
    met: Callable[[State], Tensor] | None
    raising: bool
    progress: Callable[[int, int], None] | None

    @torch.no_grad()
    def run(self, weights: Weights) -> Trajectory:
        """Run all blocks from `weights` (not modified)."""
        self._start(weights)
        with worker_map(self._threads) as workers:
            for block in blocks(self.grid, self.steps):
                if len(self._active):
                    self._block(block, workers)
                for t, record in block:
                    if record is not None and self.progress is not None:
                        self.progress(t, self.steps)
        return self._result()

    # --- the ensemble's tensors; index = position among the active runs ---------------------

    def _start(self, weights: Weights) -> None:
        self._packed = self.kernel.pack(weights)
        like = self._like = self._packed[0]
        self._runs = runs = len(like)
        self._final = [torch.empty_like(p) for p in self._packed]
        eta = self.step_size.reshape(-1, 1, 1)
        self._scale = (eta / self.sizes[-1]).repeat(runs // len(eta), 1, 1)
        self._active = torch.arange(runs, device=like.device)
        self._active_data, self._active_loss = self.data, self.loss
        self._diverged = torch.full((runs,), -1, device=like.device)
        self._stopped = self._diverged.clone()
        self._history: dict[str, Tensor] = {}
        self._now = 0
        cpu = like.device.type == "cpu"
        room = CACHE if cpu else DEVICE_MEMORY
        chunk = max(1, room // (self.kernel.elements(self.sizes) * like.element_size()))
        worth = min(runs, runs * self.kernel.flops(self.sizes) // THREAD_FLOPS)
        self._threads = max(1, min(torch.get_num_threads(), worth)) if cpu else 1
        if self._threads > 1:  # equal shares
            rounds = -(-runs // (chunk * self._threads))
            chunk = -(-runs // (rounds * self._threads))
        self._chunk = min(chunk, runs)
        self._kernels: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(self._threads):
            self._kernels.put(self.kernel(self._chunk, self.sizes, self.act, like))
        one = slice(0, 1)  # whose observables have everyone's shapes
        weights = self.kernel.unpack([p[one] for p in self._packed])
        state = self._state(weights, self.data.select(one), self.loss.of_runs(one))
        for name, (observe, _, _) in self.observables.items():
            value = observe(state)
            shape = (runs, len(self.grid), *value.shape[1:])
            self._history[name] = value.new_full(shape, torch.nan)

    def _state(self, weights: Weights, data: Data, loss: Loss) -> State:
        return state_of(weights, data.inputs, data.targets, self.act, loss)

    def _slices(self) -> list[slice]:
        runs = len(self._active)
        return [slice(i, min(i + self._chunk, runs)) for i in range(0, runs, self._chunk)]

    def _bound(self, packed: Sequence[Tensor], scale: Tensor, part: slice) -> Kernel:
        kernel = self._kernels.get()
        kernel.bind(
            [p[part] for p in packed],
            self._active_data.select(part),
            self._active_loss.of_runs(part),
            scale[part],
        )
        return kernel

    # --- one block --------------------------------------------------------------------------

    def _block(self, block: list[tuple[int, int | None]], workers: Callable) -> None:
        start, began, scale = self._now, [p.clone() for p in self._packed], self._scale.clone()
        self._ok = torch.ones_like(self._active, dtype=torch.bool)
        self._frozen = torch.full_like(self._active, -1)
        parts = self._slices()
        workers(lambda part: self._advance(part, block), parts)
        self._now = block[-1][0]
        bad = ~self._ok
        if _any(bad):
            first = [self._first_bad(part, (began, scale), start) for part in parts]
            self._diverged[self._active] = torch.cat(first)
            if self.raising:
                run = int(self._active[bad][0])
                eta = float(self.step_size.reshape(-1).expand(self._runs)[run])
                raise Diverged(run, int(self._diverged[run]), eta)
        if self.met is not None:
            self._stopped[self._active] = self._frozen
        finished = bad | (self._frozen >= 0)
        if self._now == self.steps:
            finished = torch.ones_like(finished)
        if finished.is_meta or _any(finished):
            self._take_out(finished)

    def _advance(self, part: slice, block: list[tuple[int, int | None]]) -> None:
        """Advance a chunk over a block; runs in a worker thread."""
        with torch.no_grad():
            kernel = self._bound(self._packed, self._scale, part)
            data = self._active_data.select(part)
            loss = self._active_loss.of_runs(part)
            now, weights = self._now, self.kernel.unpack([p[part] for p in self._packed])
            for t, record in block:
                kernel.advance(t - now)
                now = t
                outputs = kernel.outputs()
                value = loss.value(outputs, data.targets)
                finite = torch.isfinite(value)
                self._ok[part] &= finite
                if record is None:
                    continue
                clean = _clean(weights, finite, self.observables)
                state = _LazyState._make((clean, outputs, None, value))
                state.rest = partial(self._state, clean, data, loss)
                self._record(part, record, state)
                if self.met is not None:
                    met = self.met(state)
                    frozen = self._frozen[part]
                    frozen.copy_(torch.where((frozen < 0) & met, t, frozen))
                    self._scale[part].mul_((frozen < 0).reshape(-1, 1, 1))
            self._kernels.put(kernel)

    def _record(self, part: slice, record: int, state: State) -> None:
        for name, (observe, _, _) in self.observables.items():
            self._history[name][self._active[part], record] = observe(state)

    def _first_bad(self, part: slice, began: tuple[list[Tensor], Tensor], start: int) -> Tensor:
        """Repeat a chunk's block step by step: each run's first step with a non-finite loss."""
        good = self._ok[part]
        first = torch.full_like(good, -1, dtype=torch.long)
        if not _any(~good):
            return first
        kernel = self._bound(*began, part)
        targets = self._active_data.select(part).targets
        loss = self._active_loss.of_runs(part)
        for t in range(start, self._now + 1):
            broken = ~torch.isfinite(loss.value(kernel.outputs(), targets))
            first = torch.where(broken & ~good & (first < 0), t, first)
            if not _any(~good & (first < 0)):
                break
            kernel.advance(1)
        self._kernels.put(kernel)
        return first

    def _take_out(self, finished: Tensor) -> None:
        """Store the finished runs' weights and close the ranks of the others."""
        if finished.is_meta:
            return
        keep = ~finished
        if len(keep) == self._runs and not _any(keep):
            self._final, self._active = self._packed, self._active[:0]
            return
        for final, packed in zip(self._final, self._packed, strict=True):
            final[self._active[finished]] = packed[finished]
        self._active_data = self._active_data.select(keep)
        self._active_loss = self._active_loss.of_runs(keep)
        self._packed = [p[keep] for p in self._packed]
        self._scale = self._scale[keep]
        self._active = self._active[keep]

    # --- the end ----------------------------------------------------------------------------

    def _result(self) -> Trajectory:
        device = self._like.device
        grid = torch.tensor(self.grid, device=device)
        lost = (self._diverged >= 0)[:, None] & (grid >= self._diverged[:, None])
        stopped = self._stopped
        if self.met is not None:  # a stopped run repeats its last record
            at = torch.where(stopped >= 0, torch.searchsorted(grid, stopped), len(grid) - 1)
            record = torch.minimum(torch.arange(len(grid), device=device), at[:, None])
            runs = torch.arange(self._runs, device=device)[:, None]
            self._history = {k: v[runs, record] for k, v in self._history.items()}
        for value in self._history.values():
            value[...] = value.masked_fill(
                lost.reshape(*lost.shape, *[1] * (value.ndim - 2)), torch.nan
            )
        return Trajectory(
            steps=grid,
            step_size=self.step_size,
            observables=self._history,
            dims={k: v[1] for k, v in self.observables.items()},
            diverged_at=self._diverged,
            stopped_at=self._stopped,
            final=self.kernel.unpack(self._final),
            units={k: v[2] for k, v in self.observables.items()},
        )


def _clean(weights: Weights, finite: Tensor, observables: Collection[str]) -> Weights:
    """Weights with those of broken runs set to zero: decompositions refuse NaN."""
    if set(observables) <= {"loss"}:
        return weights
    return Weights(*(torch.where(finite[:, None, None], w, 0.0) for w in weights))
