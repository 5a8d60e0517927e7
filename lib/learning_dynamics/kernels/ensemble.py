"""Drives any two-layer kernel over an ensemble: chunks, threads, records, stops, divergence.

The steps are cut into blocks. Within a block nothing is read back from the device: records,
stop conditions and the finiteness of the loss stay tensors. Between blocks the driver looks
once, takes finished runs out of the batch and replays the block of a diverged run step by step
to find the exact step. On a CPU with several threads chunks run side by side, one thread each;
a chunk is as large as fits the cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

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


def _any(mask: Tensor) -> bool:
    """Whether any entry is set: the driver's one look per block (meta tensors have none)."""
    return not mask.is_meta and bool(mask.any())


class Chunk(NamedTuple):
    """Runs that take their steps together: which, and what is theirs.

    packed : their weights, as the kernel wants them. scale : eta/n, 0 where a run is frozen.
    good   : whether all losses were finite.
    """

    runs: Tensor | slice
    packed: list[Tensor]
    scale: Tensor
    data: Data
    loss: Loss
    good: Tensor


@dataclass
class Ensemble:
    """One call of gradient descent: what runs, what is recorded, when a run ends.

    met : state -> (runs,) bool, the stop condition; None: there is none.
    observables : name -> (function of a state, trailing dimension names, unit).
    gradients : whether observables or the stop condition look at gradients.
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
    gradients: bool
    met: Callable[[State], Tensor] | None
    raising: bool
    progress: Callable[[int, int], None] | None

    @torch.no_grad()
    def run(self, weights: Weights) -> Trajectory:
        """Run all blocks from `weights` (not modified)."""
        self._packed = self.kernel.pack(weights)
        like, runs = self._packed[0], len(self._packed[0])
        self._scale = self.step_size.reshape(-1, 1, 1).expand(runs, 1, 1) / self.sizes[-1]
        self._diverged = torch.full((runs,), -1, device=like.device)
        self._stopped = self._diverged.clone()
        size, threads = self._shares(like, runs)
        self._kernels = [self.kernel(size, self.sizes, self.act, like) for _ in range(threads)]
        (one,) = self._chunks([slice(0, 1)])
        state = state_of(self.kernel.unpack(one.packed), *one.data[::2], self.act, one.loss)
        self._history: dict[str, Tensor] = {}
        for name, (observe, _, _) in self.observables.items():  # one run has everyone's shapes
            value = observe(state)
            shape = (runs, len(self.grid), *value.shape[1:])
            self._history[name] = value.new_full(shape, torch.nan)
        active, self._now = torch.arange(runs, device=like.device), 0
        chunks = self._chunks([slice(i, min(i + size, runs)) for i in range(0, runs, size)])
        with worker_map(threads) as workers:
            for block in blocks(self.grid, self.steps):
                workers(partial(self._block, block), chunks)
                self._now = block[-1][0]
                bad, done = self._diverged[active] >= 0, self._stopped[active] >= 0
                if self.raising and _any(bad):
                    run = int(active[bad][0])
                    eta = float(self.step_size.reshape(-1).expand(runs)[run])
                    raise Diverged(run, int(self._diverged[run]), eta)
                if _any(bad | done):
                    self._put_back(chunks)
                    active = active[~(bad | done)]
                    chunks = self._chunks([part for part in active.split(size) if len(part)])
                for t, record in block:
                    if record is not None and self.progress is not None:
                        self.progress(t, self.steps)
        self._put_back(chunks)
        return self._result()

    def _shares(self, like: Tensor, runs: int) -> tuple[int, int]:
        """Runs of a chunk, and threads: in equal shares, where each has enough to do."""
        cpu = like.device.type == "cpu"
        room = (CACHE if cpu else DEVICE_MEMORY) // like.element_size()
        chunk = max(1, room // self.kernel.elements(self.sizes))
        worth = min(runs, runs * self.kernel.flops(self.sizes) // THREAD_FLOPS)
        threads = max(1, min(torch.get_num_threads(), worth)) if cpu else 1
        if threads > 1:
            rounds = -(-runs // (chunk * threads))
            chunk = -(-runs // (rounds * threads))
        return min(chunk, runs), threads

    def _chunks(self, parts: Sequence[Tensor | slice]) -> list[Chunk]:
        """These runs; the weights are views where a part is a slice, else copies."""
        scales = [self._scale[runs].clone() for runs in parts]
        return [
            Chunk(
                runs,
                [p[runs] for p in self._packed],
                scale,
                self.data.select(runs),
                self.loss.of_runs(runs),
                scale.flatten() > 0,
            )
            for runs, scale in zip(parts, scales, strict=True)
        ]

    def _put_back(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if not isinstance(chunk.runs, slice):
                for whole, part in zip(self._packed, chunk.packed, strict=True):
                    whole[chunk.runs] = part

    @torch.no_grad()
    def _block(self, block: list[tuple[int, int | None]], chunk: Chunk) -> None:
        """Advance a chunk over a block, and look for broken runs; runs in a worker thread."""
        kernel, began = self._kernels.pop(), [p.clone() for p in chunk.packed]
        kernel.bind(chunk.packed, chunk.data, chunk.loss, chunk.scale)
        self._advance((kernel, chunk), block)
        bad = ~chunk.good
        if _any(bad):  # repeat the block step by step: each run's first step with a broken loss
            end = block[-1][0]
            first = torch.where(bad, end, -1)
            kernel.bind(began, chunk.data, chunk.loss, self._scale[chunk.runs])
            for t in range(self._now, end):
                broken = ~torch.isfinite(chunk.loss.value(kernel.outputs(), chunk.data.targets))
                first = torch.where(broken & (first == end), t, first)
                if not _any(first == end):
                    break
                kernel.advance(1)
            self._diverged[chunk.runs] = first
        self._kernels.append(kernel)

    def _advance(self, bound: tuple[Kernel, Chunk], block: list[tuple[int, int | None]]) -> None:
        """Steps and records of a block: nothing is read back from the device."""
        (kernel, chunk), now = bound, self._now
        weights, (x, _, y) = self.kernel.unpack(chunk.packed), chunk.data
        frozen = self._stopped[chunk.runs]
        for t, record in block:
            kernel.advance(t - now)
            now, outputs = t, kernel.outputs()
            value = chunk.loss.value(outputs, y)
            finite = torch.isfinite(value)
            chunk.good.logical_and_(finite)
            if record is None:
                continue
            clean = weights
            if not set(self.observables) <= {"loss"}:  # decompositions refuse NaN
                clean = Weights(*(torch.where(finite[:, None, None], w, 0.0) for w in weights))
            state = State._make((clean, outputs, None, value))
            if self.gradients:
                found = state_of(clean, x, y, self.act, chunk.loss)
                state = found._replace(outputs=outputs, loss=value)
            for name, (observe, _, _) in self.observables.items():
                self._history[name][chunk.runs, record] = observe(state)
            if self.met is not None:
                frozen = torch.where((frozen < 0) & self.met(state), t, frozen)
                chunk.scale.mul_((frozen < 0).reshape(-1, 1, 1))
        self._stopped[chunk.runs] = frozen

    def _result(self) -> Trajectory:
        device = self._diverged.device
        grid = torch.tensor(self.grid, device=device)
        lost = (self._diverged >= 0)[:, None] & (grid >= self._diverged[:, None])
        if self.met is not None:  # a stopped run repeats its last record
            at = torch.searchsorted(grid, self._stopped)
            at = torch.where(self._stopped >= 0, at, len(grid) - 1)
            record = torch.minimum(torch.arange(len(grid), device=device), at[:, None])
            runs = torch.arange(len(lost), device=device)[:, None]
            self._history = {k: v[runs, record] for k, v in self._history.items()}
        for value in self._history.values():
            value.masked_fill_(lost.reshape(*lost.shape, *[1] * (value.ndim - 2)), torch.nan)
        return Trajectory(
            steps=grid,
            step_size=self.step_size,
            observables=self._history,
            dims={k: v[1] for k, v in self.observables.items()},
            diverged_at=self._diverged,
            stopped_at=self._stopped,
            final=self.kernel.unpack(self._packed),
            units={k: v[2] for k, v in self.observables.items()},
        )
