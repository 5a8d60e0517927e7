"""The torch kernels, chosen wherever `native` is not: any net on any device, and short runs.

A kernel is bound to a chunk of runs (leading dimension c) and advances it by any number of
steps without allocating, without reading a number back and without a copy of the data.
With Z = W1 X, H = sigma(Z), residual R = l'(f) and C = (eta/n) R one step is

    W2' <- W2' - H C',        W1 <- W1 - (sigma'(Z) * W2' C) X'          (all weights old)

Layouts are chosen so that every product runs on row-major operands, the case in which batched
matrix products of small matrices are several times faster: W2' (c, m1, m2) and X' are stored
beside X, C is stored both ways.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.losses import Loss

__all__ = ["Data", "DenseKernel", "Kernel", "ProductKernel", "Sizes", "residual_", "residual_of"]

#: m0, m1, m2, n.
Sizes = tuple[int, int, int, int]


class Data(NamedTuple):
    """A problem as the kernels want it: X, X' and Y, shared (2-D) or one per run (3-D)."""

    inputs: Float[Tensor, "*runs m0 n"]
    transposed: Float[Tensor, "*runs n m0"]
    targets: Float[Tensor, "*runs m2 n"]

    def select(self, index: Tensor | slice) -> "Data":
        """The data of some runs; shared data are themselves."""
        return Data(*(t if t.ndim == 2 else t[index] for t in self))


def residual_of(loss: Loss) -> tuple[Any, tuple[Any, ...]]:
    """The function that gives l'(f), by which compiled kernels know a loss, and its parameters."""
    return getattr(loss.residual, "func", loss.residual), getattr(loss.residual, "args", ())


def residual_(f: Tensor, y: Tensor, loss: Loss) -> None:
    """l'(f) written over f."""
    if loss.residual_ is not None:
        loss.residual_(f, y)
    else:
        f.copy_(loss.residual(f, y))


class Kernel:
    """A chunk of runs: W1 and W2' side by side, updated in place; buffers cut to the chunk at hand.

    A kernel is made for `chunk` runs of `sizes` = (m0, m1, m2, n). Subclasses say how to step:
    shapes : sizes -> name -> shape of each buffer, per run.
    flops  : sizes -> floating-point operations of the matrix products, per run and step.
    outputs : f(X) of the current weights, (c, m2, n); valid until the next `advance`.
    advance : takes that many steps.
    """

    shapes: Callable[[Sizes], dict[str, tuple[int, int]]]
    flops: Callable[[Sizes], int]
    outputs: Callable[..., Tensor]
    advance: Callable[..., None]

    def __init__(self, chunk: int, sizes: Sizes, act: Activation, like: Tensor) -> None:
        self._sizes, self._act = sizes, act
        self._buffers = {k: like.new_empty(chunk, *s) for k, s in type(self).shapes(sizes).items()}

    @classmethod
    def elements(cls, sizes: Sizes) -> int:
        """Numbers of a run: weights and buffers."""
        m0, m1, m2, _ = sizes
        return m1 * (m0 + m2) + sum(a * b for a, b in cls.shapes(sizes).values())

    @staticmethod
    def pack(weights: Weights) -> list[Tensor]:
        """A copy of the weights as the kernels want them: W1 and W2', row-major."""
        rows = weights.w1.detach(), weights.w2.detach().mT
        return [w.clone(memory_format=torch.contiguous_format) for w in rows]

    @staticmethod
    def unpack(packed: Sequence[Tensor]) -> Weights:
        """The weights of a packed state, as views."""
        return Weights(packed[0], packed[1].mT)

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        """Work on this chunk from now on. scale: eta/n per run, (c, 1, 1); 0 freezes a run."""
        self._w1, self._w2t = packed
        self._data, self._loss, self._scale = data, loss, scale
        self._at = SimpleNamespace(**{k: b[: len(scale)] for k, b in self._buffers.items()})
        self._fresh = False  # whether the outputs belong to the current weights


class DenseKernel(Kernel):
    """Any activation: 2 m1 n (2 m0 + 3 m2) floating-point operations per run and step."""

    @staticmethod
    def shapes(sizes: Sizes) -> dict[str, tuple[int, int]]:
        m0, m1, m2, n = sizes
        shapes = {"z": (m1, n), "b": (m1, n), "f": (m2, n), "ft": (n, m2)}
        return shapes | {"w2": (m2, m1), "d1": (m1, m0), "d2": (m1, m2)}

    @staticmethod
    def flops(sizes: Sizes) -> int:
        m0, m1, m2, n = sizes
        return 2 * m1 * n * (2 * m0 + 3 * m2)

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        super().bind(packed, data, loss, scale)
        self._x = data.inputs.expand(len(scale), -1, -1)
        self._xt = data.transposed.expand(len(scale), -1, -1)

    def _hidden(self) -> None:
        """Z and H = sigma(Z), in one place where sigma'(Z) can be told from H."""
        at, act = self._at, self._act
        torch.bmm(self._w1, self._x, out=at.z)
        at.h = act.function(at.z) if act.apply_ is None else at.z
        if act.apply_ is not None:
            act.apply_(at.z)

    def _pull(self) -> None:
        """B <- B * sigma'(Z)."""
        at, act = self._at, self._act
        if act.pull_ is None:
            at.b.mul_(act.derivative(at.z))
        else:
            act.pull_(at.b, at.z)

    def outputs(self) -> Tensor:
        at = self._at
        self._hidden()
        at.w2.copy_(self._w2t.mT)
        torch.bmm(at.w2, at.h, out=at.f)
        self._fresh = True
        return at.f

    def advance(self, steps: int) -> None:
        loss, y, scale, at = self._loss, self._data.targets, self._scale, self._at
        b, f, ft, d1, d2, fm = at.b, at.f, at.ft, at.d1, at.d2, at.f.mT
        w1, w2t, xt = self._w1, self._w2t, self._xt
        for _ in range(steps):
            if not self._fresh:
                self.outputs()
            self._fresh = False
            residual_(f, y, loss)
            f.mul_(scale)
            ft.copy_(fm)
            torch.bmm(at.h, ft, out=d2)
            torch.bmm(w2t, f, out=b)
            self._pull()
            w2t.sub_(d2)
            torch.bmm(b, xt, out=d1)
            w1.sub_(d1)


class ProductKernel(Kernel):
    """Linear nets through W = W2 W1: with C = (eta/n) R X' one step is
    W2' <- W2' - W1 C', W1 <- W1 - W2' C. No matrix of size m1 n is ever formed.
    """

    @staticmethod
    def shapes(sizes: Sizes) -> dict[str, tuple[int, int]]:
        m0, m1, m2, n = sizes
        return {"w": (m2, m0), "f": (m2, n), "c": (m2, m0), "ct": (m0, m2), "d2": (m1, m2)}

    @staticmethod
    def flops(sizes: Sizes) -> int:
        m0, m1, m2, n = sizes
        return 6 * m0 * m1 * m2 + 4 * m0 * m2 * n

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        super().bind(packed, data, loss, scale)
        # shared inputs: one tall product for the whole chunk
        shared, at = data.inputs.ndim == 2, self._at
        self._times = torch.mm if shared else torch.bmm
        self._tall = [t.flatten(0, 1) if shared else t for t in (at.w, at.f, at.c)]

    def outputs(self) -> Tensor:
        torch.bmm(self._w2t.mT, self._w1, out=self._at.w)
        self._times(self._tall[0], self._data.inputs, out=self._tall[1])
        self._fresh = True
        return self._at.f

    def advance(self, steps: int) -> None:
        loss, y, scale, at = self._loss, self._data.targets, self._scale, self._at
        f, c, ct, d2, cm = at.f, at.c, at.ct, at.d2, at.c.mT
        w1, w2t, xt = self._w1, self._w2t, self._data.transposed
        times, (_, tall_f, tall_c) = self._times, self._tall
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
