"""The inner loop of gradient descent: one chunk of runs, buffers allocated once.

A kernel is bound to a chunk of runs (leading dimension c) and advances it by any number of
steps without allocating, without reading a number back and without a copy of the data.
With Z = W1 X, H = sigma(Z), residual R = l'(f) and C = (eta/n) R one step is

    W2' <- W2' - H C',        W1 <- W1 - (sigma'(Z) * W2' C) X'          (all weights old)

Layouts are chosen so that every product runs on row-major operands, the case in which batched
matrix products of small matrices are several times faster: W2' (c, m1, m2) and X' are stored
beside X, C is stored both ways.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.losses import Loss

__all__ = ["Data", "DenseKernel", "Kernel", "ProductKernel", "TwoLayerBuffers", "residual_"]


class Data(NamedTuple):
    """A problem as the kernels want it: X, X' and Y, shared (2-D) or one per run (3-D)."""

    inputs: Float[Tensor, "*runs m0 n"]
    transposed: Float[Tensor, "*runs n m0"]
    targets: Float[Tensor, "*runs m2 n"]

    def select(self, index: Tensor | slice) -> "Data":
        """The data of some runs; shared data are themselves."""
        return Data(*(t if t.ndim == 2 else t[index] for t in self))


@runtime_checkable
class Kernel(Protocol):
    """What the ensemble driver needs from a model.

    A kernel is made for `chunk` runs of `sizes` = (m0, m1, m2, n) and holds their buffers.
    `packed` is the model's state as tensors (runs, ...), updated in place.
    """

    def __init__(
        self, chunk: int, sizes: tuple[int, int, int, int], act: Activation, like: Tensor
    ) -> None: ...

    @staticmethod
    def elements(sizes: tuple[int, int, int, int]) -> int:
        """Numbers of working memory per run."""

    @staticmethod
    def flops(sizes: tuple[int, int, int, int]) -> int:
        """Floating-point operations of the matrix products, per run and step."""

    @staticmethod
    def pack(weights: Any) -> list[Tensor]:
        """A copy of the weights as the kernel wants them."""

    @staticmethod
    def unpack(packed: Sequence[Tensor]) -> Any:
        """The weights of a packed state, as views."""

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        """Work on this chunk from now on. scale: eta/n per run, (c, 1, 1); 0 freezes a run."""

    def outputs(self) -> Tensor:
        """f(X) of the current weights, (c, m2, n); valid until the next `advance`."""

    def advance(self, steps: int) -> None:
        """Take that many steps."""


def residual_(f: Tensor, y: Tensor, loss: Loss) -> None:
    """l'(f) written over f."""
    if loss.residual_ is not None:
        loss.residual_(f, y)
    else:
        f.copy_(loss.residual(f, y))


class TwoLayerBuffers:
    """Buffers for the largest chunk, cut to the chunk at hand; W1 and W2' side by side."""

    def __init__(self, chunk: int, shapes: dict[str, tuple[int, int]], like: Tensor) -> None:
        self._buffers = {k: like.new_empty((chunk, *shape)) for k, shape in shapes.items()}

    @staticmethod
    def pack(weights: Weights) -> list[Tensor]:
        return [
            torch.empty_like(w, memory_format=torch.contiguous_format).copy_(w)
            for w in (weights.w1.detach(), weights.w2.detach().mT)
        ]

    @staticmethod
    def unpack(packed: Sequence[Tensor]) -> Weights:
        return Weights(packed[0], packed[1].mT)

    def _cut(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        self._w1, self._w2t = packed
        self._data, self._loss, self._scale = data, loss, scale
        for name, buffer in self._buffers.items():
            setattr(self, "_" + name, buffer[: len(scale)])
        self._fresh = False  # whether the outputs belong to the current weights


class DenseKernel(TwoLayerBuffers):
    """Any activation: 2 m1 n (2 m0 + 3 m2) floating-point operations per run and step."""

    def __init__(
        self, chunk: int, sizes: tuple[int, int, int, int], act: Activation, like: Tensor
    ) -> None:
        m0, m1, m2, n = sizes
        self._act = act
        shapes = {
            "z": (m1, n),
            "b": (m1, n),
            "f": (m2, n),
            "ft": (n, m2),
            "w2": (m2, m1),
            "d1": (m1, m0),
            "d2": (m1, m2),
        }
        if act.apply_ is None:  # sigma'(z) is computed from z, so keep z beside sigma(z)
            shapes["h"] = (m1, n)
        super().__init__(chunk, shapes, like)

    @staticmethod
    def elements(sizes: tuple[int, int, int, int]) -> int:
        """Numbers of working memory per run."""
        m0, m1, m2, n = sizes
        return 2 * m1 * n + 2 * m2 * n + 2 * m1 * (m0 + m2)

    @staticmethod
    def flops(sizes: tuple[int, int, int, int]) -> int:
        """Floating-point operations of the matrix products, per run and step."""
        m0, m1, m2, n = sizes
        return 2 * m1 * n * (2 * m0 + 3 * m2)

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        self._cut(packed, data, loss, scale)
        self._x = data.inputs.expand(len(scale), -1, -1)
        self._xt = data.transposed.expand(len(scale), -1, -1)
        if self._act.apply_ is not None:
            self._h = self._z

    def outputs(self) -> Tensor:
        torch.bmm(self._w1, self._x, out=self._z)
        if self._act.apply_ is None:
            self._h.copy_(self._act.function(self._z))
        else:
            self._act.apply_(self._z)
        self._w2.copy_(self._w2t.mT)
        torch.bmm(self._w2, self._h, out=self._f)
        self._fresh = True
        return self._f

    def advance(self, steps: int) -> None:
        act, loss, y, scale = self._act, self._loss, self._data.targets, self._scale
        z, b, f, ft, h = self._z, self._b, self._f, self._ft, self._h
        d1, d2, w1, w2t, fm = self._d1, self._d2, self._w1, self._w2t, self._f.mT
        xt = self._xt
        for _ in range(steps):
            if not self._fresh:
                self.outputs()
            self._fresh = False
            residual_(f, y, loss)
            f.mul_(scale)
            ft.copy_(fm)
            torch.bmm(h, ft, out=d2)
            torch.bmm(w2t, f, out=b)
            if act.pull_ is None:
                b.mul_(act.derivative(z))
            else:
                act.pull_(b, z)
            w2t.sub_(d2)
            torch.bmm(b, xt, out=d1)
            w1.sub_(d1)


class ProductKernel(TwoLayerBuffers):
    """Linear nets through W = W2 W1: with C = (eta/n) R X' one step is
    W2' <- W2' - W1 C', W1 <- W1 - W2' C. No matrix of size m1 n is ever formed.
    """

    def __init__(
        self, chunk: int, sizes: tuple[int, int, int, int], act: Activation, like: Tensor
    ) -> None:
        m0, m1, m2, n = sizes
        shapes = {"w": (m2, m0), "f": (m2, n), "c": (m2, m0), "ct": (m0, m2), "d2": (m1, m2)}
        super().__init__(chunk, shapes, like)

    @staticmethod
    def elements(sizes: tuple[int, int, int, int]) -> int:
        """Numbers of working memory per run."""
        m0, m1, m2, n = sizes
        return m2 * n + m1 * (m0 + 2 * m2) + 3 * m0 * m2

    @staticmethod
    def flops(sizes: tuple[int, int, int, int]) -> int:
        """Floating-point operations of the matrix products, per run and step."""
        m0, m1, m2, n = sizes
        return 6 * m0 * m1 * m2 + 4 * m0 * m2 * n

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        self._cut(packed, data, loss, scale)
        # shared inputs: one tall product for the whole chunk
        self._times = torch.bmm if data.inputs.ndim == 3 else torch.mm
        flat = (lambda t: t) if data.inputs.ndim == 3 else (lambda t: t.flatten(0, 1))
        self._tall = [flat(t) for t in (self._w, self._f, self._c)]

    def outputs(self) -> Tensor:
        torch.bmm(self._w2t.mT, self._w1, out=self._w)
        self._times(self._tall[0], self._data.inputs, out=self._tall[1])
        self._fresh = True
        return self._f

    def advance(self, steps: int) -> None:
        loss, y, scale, f = self._loss, self._data.targets, self._scale, self._f
        c, ct, d2, w1, w2t, cm = self._c, self._ct, self._d2, self._w1, self._w2t, self._c.mT
        times, xt, (_, tall_f, tall_c) = self._times, self._data.transposed, self._tall
        for _ in range(steps):
            if not self._fresh:
                self.outputs()
            self._fresh = False
            residual_(f, y, loss)
            times(tall_f, xt, out=tall_c)
            c.mul_(scale)
            ct.copy_(cm)
            torch.bmm(w1, ct, out=d2)
            w1.baddbmm_(w2t, c, alpha=-1)
            w2t.sub_(d2)
