"""C++ kernels, chosen for long runs of linear, ReLU and leaky ReLU nets with few inputs on a CPU.

One call takes many steps of a chunk of runs, one run after the other, so that all of a run stays
in the fastest cache. A linear net with the squared loss takes them through the moments of its data
(`two_layer_linear.cpp`), all others through the samples (`two_layer_relu.cpp`), with the residuals
of this package's losses. The outputs between two calls are torch's.
"""

import ctypes
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from learning_dynamics import losses
from learning_dynamics.activations import Activation
from learning_dynamics.kernels import compiler
from learning_dynamics.kernels.two_layer_torch import (
    Data,
    DenseKernel,
    Kernel,
    ProductKernel,
    Sizes,
    residual_of,
)
from learning_dynamics.losses import Loss
from learning_dynamics.runtime import address

__all__ = ["LinearNative", "ReluNative", "kernel_for", "native_kernel", "why_not"]

#: Inputs and outputs together beyond which large products win (measured).
LARGEST = 128
#: Predicted seconds of PyTorch from which a shape is compiled, which takes about one second.
WORTH = 2.0
#: Seconds of a step of one chunk in PyTorch besides its operations, and operations per second.
OVERHEAD, RATE = 5e-5, 1e10

#: The losses, in the order of their numbers in `two_layer_relu.cpp`.
KNOWN = [
    losses.difference,
    losses.weighted_difference,
    losses.clipped_difference,
    losses.logistic_residual,
    losses.cross_entropy_residual,
]
REALS = {torch.float32: "float", torch.float64: "double"}


def why_not(act: Activation, loss: Loss, sizes: Sizes, like: Tensor) -> str | None:
    """Why no kernel of this file takes such a net with weights like these; None: one does."""
    if act.negative_slope is None or act.negative_slope < 0:
        return f"activation {act.name}: allowed are linear, relu and leaky_relu with slope >= 0"
    if residual_of(loss)[0] not in KNOWN:
        return f"loss {loss.name}: allowed are the losses of `learning_dynamics.losses`"
    if like.device.type != "cpu" or like.dtype not in REALS:
        return f"weights are {like.dtype} on {like.device.type}: must be float32 or float64, cpu"
    if sizes[0] + sizes[2] > LARGEST:
        return f"m0 + m2 = {sizes[0] + sizes[2]}: at most {LARGEST} are allowed"
    return None


def native_kernel(
    act: Activation, loss: Loss, sizes: Sizes, like: Tensor, runs: int, steps: int, backend: str
) -> type[Kernel] | None:
    """The kernel for such a run, None for PyTorch's.

    "auto" takes it where PyTorch would need `WORTH` seconds. What is in the cache does not count:
    the same call takes the same code, so that its bits do not depend on what ran before.
    ValueError says why "native" is not possible.
    """
    reason: str | ctypes.CDLL | None = why_not(act, loss, sizes, like)
    short = steps * (OVERHEAD + runs * DenseKernel.flops(sizes) / RATE) < WORTH
    if backend == "torch" or (backend == "auto" and (short or reason)):
        return None
    kernel = kernel_for(act, loss)
    reason = reason or kernel.library(act, sizes, like)
    if isinstance(reason, ctypes.CDLL):
        return kernel
    if backend == "native":
        raise ValueError(f"backend = 'native': {reason}")
    _say_once(reason)
    return None


@functools.lru_cache
def _say_once(reason: str) -> None:
    logging.getLogger(__name__).warning("%s. Runs take the kernels of PyTorch, slower.", reason)


class _Native(Kernel):
    """What the two share: the library and its call."""

    _source: str

    def __init__(self, chunk: int, sizes: Sizes, act: Activation, like: Tensor) -> None:
        super().__init__(chunk, sizes, act, like)
        library = self.library(act, sizes, like)
        if isinstance(library, str):
            raise ValueError(library)
        self._steps, self._lanes = library.steps, library.lanes()

    @classmethod
    def library(cls, act: Activation, sizes: Sizes, like: Tensor) -> ctypes.CDLL | str:
        """The code for such a net, or why there is none."""
        if reason := why_not(act, losses.squared(), sizes, like):
            return reason
        macros = {"M0": sizes[0], "M2": sizes[2], "REAL": REALS[like.dtype]}
        macros["LEAKY"] = int(act.negative_slope != 0)
        source = Path(__file__).with_name(cls._source)
        return compiler.build(source, tuple(macros.items()), compiler.march())

    def _arguments(self, data: dict[str, Tensor]) -> tuple[dict[str, Tensor], list]:
        """The data as the code reads them, and its last numbers."""
        raise NotImplementedError

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        super().bind(packed, data, loss, scale)
        (m0, m1, m2, n), runs, dtype = self._sizes, len(scale), packed[0].dtype
        function, given = residual_of(loss)
        named, shapes = data._asdict(), {"inputs": (m0, n), "transposed": (n, m0)}
        if function is losses.weighted_difference:
            named["omega"] = given[0].to(dtype).expand(*given[0].shape[:-2], m2, n)
        for name, t in named.items():
            own = shapes.get(name, (m2, n))
            if t.shape not in (own, (runs, *own)) or t.dtype != dtype:
                raise ValueError(f"{name}: {tuple(t.shape)}, {t.dtype}: must be {own}, {dtype}")
        limit = given[0] if function is losses.clipped_difference else 0.0
        self._read, numbers = self._arguments(named)
        whole = {"w1": (runs, m1, m0), "w2t": (runs, m1, m2), "eta": (runs, 1, 1)}
        tensors = dict(zip(whole, (*packed, scale), strict=True)) | self._read
        pointers = [address(k, t, whole.get(k, t.shape), dtype) for k, t in tensors.items()]
        steps = [t[0].numel() if t.ndim == 3 else 0 for t in self._read.values()]
        kind = KNOWN.index(function)
        self._call = [
            *map(ctypes.c_void_p, pointers),
            *map(ctypes.c_long, (*steps, runs, m1, *numbers, kind)),
            ctypes.c_double(limit),
            ctypes.c_double(self._act.negative_slope or 0.0),
        ]

    def advance(self, steps: int) -> None:
        self._steps(*self._call, ctypes.c_long(steps))
        self._fresh &= not steps


class ReluNative(_Native, DenseKernel):
    """Nets of any slope and loss: the operations of `DenseKernel`."""

    _source = "two_layer_relu.cpp"

    def _arguments(self, data: dict[str, Tensor]) -> tuple[dict[str, Tensor], list]:
        """Rows of whole vectors, not all in one set of the cache; the last sample is repeated."""
        vectors = -(-self._sizes[3] // self._lanes)
        row = self._lanes * (vectors + (vectors % 8 == 0))
        names = {"x": "inputs", "y": "targets", "omega": "omega" if "omega" in data else "targets"}
        read = {}
        for name, of in names.items():
            t = data[of]
            last = t[..., -1:].expand(*t.shape[:-1], row - t.shape[-1])
            read[name] = torch.cat([t, last], -1).contiguous()
        return read, [self._sizes[3], row]


class LinearNative(_Native, ProductKernel):
    """Linear nets with the squared loss, from the moments X X' and Y X'."""

    _source = "two_layer_linear.cpp"

    def _arguments(self, data: dict[str, Tensor]) -> tuple[dict[str, Tensor], list]:
        wide = (0, -self._sizes[0] % self._lanes)  # rows of whole vectors
        moments = {"xx": data["inputs"], "yx": data["targets"]}
        return {k: pad(t @ data["transposed"], wide).contiguous() for k, t in moments.items()}, []


def kernel_for(act: Activation, loss: Loss) -> type[_Native]:
    """Through moments where the net is linear and the loss squared, else from the samples."""
    moments = act.negative_slope == 1 and residual_of(loss)[0] is losses.difference
    return LinearNative if moments else ReluNative
