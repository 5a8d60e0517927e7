"""C++ kernels, chosen for long runs of linear, ReLU and leaky ReLU nets with few inputs on a CPU.

One call takes many steps of a chunk of runs, one run after the other, so that all of a run stays
in the fastest cache. The residuals of the built-in losses are computed inside
(`two_layer_relu.cpp`, `two_layer_linear.cpp`); for others each step is two calls with PyTorch's
residual between them.
"""

import ctypes
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learning_dynamics import losses
from learning_dynamics.activations import Activation
from learning_dynamics.kernels import compiler
from learning_dynamics.kernels.two_layer_torch import (
    Data,
    DenseKernel,
    Kernel,
    ProductKernel,
    Sizes,
    residual_,
)
from learning_dynamics.losses import Loss
from learning_dynamics.runtime import address

__all__ = ["LinearNative", "ReluNative", "native_kernel", "torch_seconds", "why_not"]

#: Inputs and outputs together beyond which large products win (measured).
LARGEST = 128
#: Predicted seconds of PyTorch from which a shape is compiled, which takes about one second.
WORTH = 2.0
#: Seconds of a step of one chunk in PyTorch besides its operations, and operations per second.
OVERHEAD, RATE = 5e-5, 1e10

#: Residual -> its number in `vectors.hpp`. GIVEN: the caller has written l' over the outputs.
GIVEN, SQUARED, WEIGHTED, HUBER, LOGISTIC, CROSS_ENTROPY, MOMENTS = range(7)
KINDS = {
    losses.difference: SQUARED,
    losses.weighted_difference: WEIGHTED,
    losses.clipped_difference: HUBER,
    losses.logistic_residual: LOGISTIC,
    losses.cross_entropy_residual: CROSS_ENTROPY,
}
REALS = {torch.float32: "float", torch.float64: "double"}

_POINTERS = ("w1", "w2t", "f", "work", "eta", "x", "xt", "y", "omega")
_NUMBERS = ("runs", "m1", "n", "x_step", "xt_step", "y_step", "omega_step", "loss")


class _Arguments(ctypes.Structure):
    """`Arguments` of vectors.hpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_long) for name in _NUMBERS),
        ("parameter", ctypes.c_double),
        ("slope", ctypes.c_double),
    ]


def why_not(act: Activation, sizes: Sizes, like: Tensor) -> str | None:
    """Why no kernel of this file takes such a net with weights like these; None: one does."""
    if act.negative_slope is None or act.negative_slope < 0:
        return f"activation {act.name}: allowed are linear, relu and leaky_relu with slope >= 0"
    if like.device.type != "cpu" or like.dtype not in REALS:
        return f"weights are {like.dtype} on {like.device.type}: must be float32 or float64, cpu"
    if sizes[0] + sizes[2] > LARGEST:
        return f"m0 + m2 = {sizes[0] + sizes[2]}: at most {LARGEST} are allowed"
    return None


def _code(act: Activation, sizes: Sizes, like: Tensor) -> ctypes.CDLL | str:
    """The library for such a net, or why there is none."""
    if reason := why_not(act, sizes, like):
        return reason
    slope, (m0, _, m2, _) = act.negative_slope, sizes
    source = Path(__file__).with_name(f"two_layer_{'linear' if slope == 1 else 'relu'}.cpp")
    macros = {"M0": m0, "M2": m2, "REAL": REALS[like.dtype], "LEAKY": int(slope != 0)}
    library = compiler.build(source, tuple(macros.items()), compiler.march())
    if isinstance(library, ctypes.CDLL):
        library.outputs.argtypes, library.outputs.restype = [ctypes.c_void_p], None
        library.steps.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
        library.steps.restype = None
        library.room.argtypes, library.room.restype = [ctypes.c_long] * 3, ctypes.c_long
    return library


def torch_seconds(sizes: Sizes, runs: int, steps: int) -> float:
    """About how long the steps would take in PyTorch, by the size of the run alone."""
    return steps * (OVERHEAD + runs * DenseKernel.flops(sizes) / RATE)


def native_kernel(
    act: Activation, sizes: Sizes, like: Tensor, runs: int, steps: int, backend: str
) -> type[Kernel] | None:
    """The kernel for such a run, None for PyTorch's.

    "auto" takes it where PyTorch would need `WORTH` seconds. What is in the cache does not count:
    the same call takes the same code, so that its bits do not depend on what ran before.
    ValueError says why "native" is not possible.
    """
    short = torch_seconds(sizes, runs, steps) < WORTH
    if backend == "torch" or (backend == "auto" and (short or why_not(act, sizes, like))):
        return None
    code = _code(act, sizes, like)
    if isinstance(code, ctypes.CDLL):
        return LinearNative if act.negative_slope == 1 else ReluNative
    if backend == "native":
        raise ValueError(f"backend = 'native': {code}")
    _say_once(code)
    return None


@functools.lru_cache
def _say_once(reason: str) -> None:
    logging.getLogger(__name__).warning("%s. Runs take the kernels of PyTorch, slower.", reason)


def _padded(t: Tensor, length: int) -> Tensor:
    """The columns of t, the last one repeated up to a length."""
    last = t[..., -1:].expand(*t.shape[:-1], length - t.shape[-1])
    return torch.cat([t, last], -1).contiguous()


class _Native(Kernel):
    """What the two share: arguments for the code, and a step of any loss."""

    def __init__(self, chunk: int, sizes: Sizes, act: Activation, like: Tensor) -> None:
        code = _code(act, sizes, like)
        if isinstance(code, str):
            raise ValueError(code)
        self._code, self._slope, self._lanes = code, act.negative_slope, code.lanes()
        self._padded = -(-sizes[3] // self._lanes) * self._lanes
        self._work = like.new_empty(code.room(chunk, sizes[1], sizes[3]))
        super().__init__(chunk, sizes, act, like)

    def _shapes(self) -> dict[str, tuple[int, int]]:
        return {"f": (self._sizes[2], self._padded)}

    def _samples(self, x: Tensor, y: Tensor, data: Data, kind: int) -> tuple[int, dict]:
        """The loss's number and name -> (numbers, rows and columns as the code reads them).

        x, y: padded samples.
        """
        raise NotImplementedError

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        super().bind(packed, data, loss, scale)
        (m0, m1, m2, n), runs, dtype = self._sizes, len(scale), packed[0].dtype
        for name, t, own in zip(data._fields, data, ((m0, n), (n, m0), (m2, n)), strict=True):
            if t.shape not in (own, (runs, *own)) or t.dtype != dtype:
                raise ValueError(f"{name}: {tuple(t.shape)}, {t.dtype}: must be {own}, {dtype}")
        kind = KINDS.get(getattr(loss.residual, "func", loss.residual), GIVEN)
        given: Any = getattr(loss.residual, "args", (0.0,))[0]  # of WEIGHTED and HUBER
        x, y = _padded(data.inputs, self._padded), _padded(data.targets, self._padded)
        number, read = self._samples(x, y, data, kind)
        if kind == WEIGHTED:
            omega = given.to(dtype).expand(*given.shape[:-2], m2, n)
            read["omega"] = _padded(omega, self._padded), (m2, self._padded)
        parameter = given if kind == HUBER else 0.0
        arguments = _Arguments(
            runs=runs, m1=m1, n=n, loss=number, parameter=parameter, slope=self._slope
        )
        arguments.work = address("work", self._work, self._work.shape, dtype)
        for name, tensor, whole in (
            ("w1", packed[0], (runs, m1, m0)),
            ("w2t", packed[1], (runs, m1, m2)),
            ("eta", scale, (runs, 1, 1)),
            ("f", self._at.f, (runs, m2, self._padded)),
        ):
            setattr(arguments, name, address(name, tensor, whole, dtype))
        for name, (tensor, shape) in read.items():
            if own := tensor.ndim == 3:  # else all runs share it
                setattr(arguments, f"{name}_step", tensor.shape[-2:].numel())
            setattr(arguments, name, address(name, tensor, (runs, *shape) if own else shape, dtype))
        self._kept, self._arguments, self._given = read, arguments, kind == GIVEN
        self._call = ctypes.addressof(arguments)

    def outputs(self) -> Tensor:
        self._code.outputs(self._call)
        self._fresh = True
        return self._at.f[..., : self._sizes[3]]

    def advance(self, steps: int) -> None:
        if not self._given:
            if steps:
                self._code.steps(self._call, steps, int(self._fresh))
                self._fresh = False
            return
        for _ in range(steps):
            residual_(self.outputs(), self._data.targets, self._loss)
            self._code.steps(self._call, 1, 1)
            self._fresh = False


class ReluNative(_Native):
    """ReLU and leaky ReLU: the operations of `DenseKernel`."""

    elements = staticmethod(DenseKernel.elements)
    flops = staticmethod(DenseKernel.flops)

    def _samples(self, x: Tensor, y: Tensor, data: Data, kind: int) -> tuple[int, dict]:
        m0, _, m2, _ = self._sizes
        tiles = x.unflatten(-1, (-1, self._lanes)).transpose(-3, -2)  # one vector of samples each
        rows = m0 * self._padded // self._lanes
        return kind, {
            "x": (tiles.flatten(-3, -2).contiguous(), (rows, self._lanes)),
            "y": (y, (m2, self._padded)),
        }


class LinearNative(_Native):
    """Linear nets: the operations of `ProductKernel`, with the squared loss through moments."""

    flops = staticmethod(ProductKernel.flops)

    @staticmethod
    def elements(sizes: Sizes) -> int:
        """Numbers of working memory per run."""
        m0, m1, m2, n = sizes
        return m2 * n + m1 * (m0 + m2)

    def _samples(self, x: Tensor, y: Tensor, data: Data, kind: int) -> tuple[int, dict]:
        m0, _, m2, n = self._sizes
        wide = -(-m0 // self._lanes) * self._lanes  # rows of m0 numbers are padded to vectors

        def whole(t: Tensor) -> Tensor:
            return torch.nn.functional.pad(t, (0, wide - m0)).contiguous()

        read = {"x": (x, (m0, self._padded))}
        if kind == SQUARED and 2 * n > m0:  # through moments, which take fewer operations
            xx, yx = data.inputs @ data.transposed, data.targets @ data.transposed
            return MOMENTS, read | {"xt": (whole(xx), (m0, wide)), "y": (whole(yx), (m2, wide))}
        read |= {"xt": (whole(data.transposed), (n, wide)), "y": (y, (m2, self._padded))}
        return kind, read
