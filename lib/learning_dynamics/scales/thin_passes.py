"""Both passes of a step of SGD for one large ReLU net on a CPU, in code compiled for its batches.

The operations of `passes.Passes`; what happens to a layer is in `thin_code`. Threads share the
rows of W in the pass ahead and its columns in the pass back: results do not depend on them.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.runtime import address

__all__ = ["ThinPasses", "thin_passes"]

#: Measured: the code is faster up to 100 samples, not from 256 on; for smaller nets, whose steps
#: are short, the seconds of compiling weigh more than the gain.
LEAST_WEIGHTS, LARGEST_BATCH = 1 << 20, 128


def thin_passes(
    weights: Sequence[Tensor], velocities: Sequence[Tensor] | None, multipliers: Sequence[float],
    ratios: Sequence[float], psi: Activation, eta: float | Tensor, batch: int,
) -> "ThinPasses | None":
    """`ThinPasses` where they can train this net, and fast; else None.

    The choice depends on the net and the machine only, so that a run goes on as it began.
    """
    first = weights[0]
    fits = (
        psi.negative_slope == 0 and velocities is None and isinstance(eta, float)
        and first.device.type == "cpu" and first.dtype in (torch.float32, torch.float64)
        and all(len(w) == 1 and w.is_contiguous() for w in weights)
        and sum(w.numel() for w in weights) >= LEAST_WEIGHTS and batch <= LARGEST_BATCH
    )
    if not fits or find_spec("llvmlite") is None:
        return None
    from learning_dynamics.code_writer import register_file

    return ThinPasses(weights, multipliers, ratios, eta, batch) if register_file() else None


class ThinPasses:
    """One run of plain SGD: weights (1, n_l, n_{l-1}), contiguous, on the CPU; ReLU."""

    def __init__(
        self, weights: Sequence[Tensor], multipliers: Sequence[float], ratios: Sequence[float],
        eta: float, batch: int,
    ) -> None:
        from learning_dynamics.scales.thin_code import thin_code
        from learning_dynamics.scales.thin_layout import COLUMNS, ROWS

        first, self.batch, self._dtype = weights[0], batch, weights[0].dtype
        self._weights, self._columns, self._rows = weights, COLUMNS, ROWS
        self._code = code = thin_code(batch, first.element_size())
        self._sizes = sizes = code.sizes
        self._widths = [first.shape[2], *(w.shape[1] for w in weights)]
        self._rounded = rounded = [-(-n // sizes.lanes) * sizes.lanes for n in self._widths]
        self._h = [first.new_zeros(n, sizes.padded) for n in rounded]
        self._rest = [first.new_zeros(sizes.rest, n) for n in rounded]
        self._delta = first.new_zeros(rounded[-1], sizes.padded)
        self._scales = [
            first.new_tensor([g, -eta * ratio * g])
            for g, ratio in zip(multipliers, ratios, strict=True)
        ]
        self._threads = torch.get_num_threads()
        self._scratch = [first.new_empty(sizes.scratch) for _ in range(self._threads)]
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1))

    def _share(self, length: int, unit: int, work: Callable[[Tensor, int, int], None]) -> None:
        """work(scratch, first, last) for range(length), cut at multiples of a unit."""
        if length < 4 * self._threads * unit:
            unit = self._sizes.lanes
        units = -(-length // unit)
        cuts = [min(length, units * k // self._threads * unit) for k in range(self._threads + 1)]
        own, *others = zip(self._scratch, cuts, cuts[1:], strict=False)
        waiting = [self._pool.submit(work, *share) for share in others]
        work(*own)
        for share in waiting:
            share.result()

    def _at(self, name: str, tensor: Tensor, *shape: int) -> int:
        return address(name, tensor, shape, self._dtype)

    def _h_at(self, layer: int, tensor: Tensor) -> int:
        return self._at(f"h_{layer}", tensor, self._rounded[layer], self._sizes.padded)

    def _w_at(self, layer: int) -> int:
        n = self._widths
        return self._at(f"weights[{layer}]", self._weights[layer], 1, n[layer + 1], n[layer])

    def forward(self, rows: Tensor) -> Tensor:
        """f (1, batch, n_L) of samples (1, batch, n_0); what `backward` needs is kept."""
        code, h, rest = self._code, self._h, self._rest
        inputs = rows[0].contiguous()
        source = self._at("inputs", inputs, self.batch, self._widths[0])
        code.turn(source, self._h_at(0, h[0]), self._widths[0])
        rest[0][:, : self._widths[0]] = inputs[self._sizes.filled :]
        for layer in range(len(self._weights)):
            places = [self._w_at(layer)]
            for k in (layer, layer + 1):
                places.append(self._h_at(k, h[k]))
                places.append(self._at("rest", rest[k], self._sizes.rest, self._rounded[k]))
            sizes = self._widths[layer : layer + 2]
            scales = self._at("scales", self._scales[layer], 2)
            bend = int(layer < len(self._weights) - 1)

            def ahead(scratch: Tensor, first: int, last: int) -> None:
                code.forward(*places, scales, *sizes, first, last, bend)

            self._share(sizes[1], self._rows, ahead)
        return h[-1][None, : self._widths[-1], : self.batch].mT

    def backward(self, delta: Tensor) -> None:
        """Every weight takes its step. delta: dloss/df, (1, batch, n_L)."""
        code, above = self._code, self._delta
        above[: self._widths[-1], : self.batch] = delta[0].mT
        for layer in reversed(range(len(self._weights))):
            h = self._h[layer]
            places = self._w_at(layer), self._h_at(layer + 1, above), self._h_at(layer, h)
            sizes = self._widths[layer : layer + 2]
            scales = self._at("scales", self._scales[layer], 2)
            run = code.backward if layer else code.update

            def back(scratch: Tensor, first: int, last: int) -> None:
                place = self._at("scratch", scratch, self._sizes.scratch)
                for start in range(first, last, self._columns):
                    stop = min(start + self._columns, last)
                    run(*places, place, scales, *sizes, start, stop)

            self._share(sizes[0], self._sizes.strip, back)
            above = h  # which now holds delta
