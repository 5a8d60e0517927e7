"""A whole step of a linear, ReLU or leaky ReLU net in two passes, on a CPU.

With Z = W1 X, H = sigma(Z), residual R = l'(f) and P = sigma'(Z) * W2' R one step is

    W2' <- W2' - (eta/n) H R',        W1 <- W1 - (eta/n) P X'          (all weights old)

as in `kernels.DenseKernel`, but H, P and the five products never meet in memory: one pass
over the samples gives Z and f, the loss turns f into R, a second pass changes the weights
(`step_code`). A linear net goes through W = W2 W1 as in `kernels.ProductKernel`; its five
products stay in registers and in the fastest cache (`product_code`).
The code is compiled for m0, m2, the slope and the dtype when a shape is first met.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.losses import Loss
from learning_dynamics.runtime import address
from learning_dynamics.saddles.kernels import (
    Data,
    DenseKernel,
    ProductKernel,
    TwoLayerBuffers,
    residual_,
)

__all__ = ["FusedKernel", "FusedProductKernel", "TwoPasses", "largest", "runs_on"]

#: (name, tensor, shape that the compiled code takes it to have)
Given = tuple[str, Tensor, tuple[int, ...]]

#: Inputs and outputs of a linear net together beyond which library products win (measured).
LARGEST_PRODUCT = 96


def largest(registers: int) -> int:
    """Inputs and outputs together beyond which too little stays in registers (measured)."""
    return 8 + registers // 2


def runs_on(act: Activation, sizes: tuple[int, int, int, int], like: Tensor) -> bool:
    """Whether a kernel of this file can train such a net with weights like these here, fast."""
    if act.negative_slope is None or find_spec("llvmlite") is None:
        return False
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return False
    from learning_dynamics.code_writer import register_file

    file = register_file()
    if file is None:
        return False
    most = LARGEST_PRODUCT if act.negative_slope == 1 else largest(file[1])
    return sizes[0] + sizes[2] <= most


class TwoPasses(TwoLayerBuffers):
    """What the kernels share: samples padded to whole registers, the loss between two passes."""

    def __init__(
        self, code: Any, chunk: int, sizes: tuple[int, int, int, int], buffers: dict[str, int],
        like: Tensor,
    ) -> None:
        """code: `StepCode` or `ProductCode`. buffers: name -> rows of one number per sample."""
        self._code, self._sizes, self._dtype = code, sizes, like.dtype
        self._padded = -(-sizes[3] // code.lanes) * code.lanes
        super().__init__(chunk, {k: (rows, self._padded) for k, rows in buffers.items()}, like)

    def _tensors(self, x: Tensor, scale: Tensor) -> tuple[tuple[Given, ...], tuple[Given, ...]]:
        """What the two passes get, in order. x: (1 or runs, m0, padded), zero beyond n."""
        raise NotImplementedError

    def _given(self, scale: Tensor) -> dict[str, Given]:
        """What both kernels hand over in the same way."""
        runs, (m0, m1, m2, _) = len(scale), self._sizes
        given = (
            ("w1", self._w1, (runs, m1, m0)), ("w2", self._w2t, (runs, m1, m2)),
            ("f", self._f, (runs, m2, self._padded)), ("scale", scale, (runs, 1, 1)),
        )
        return {name: (name, *rest) for name, *rest in given}

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        self._cut(packed, data, loss, scale)
        m0, m1, _, n = self._sizes
        shared = data.inputs.ndim == 2
        x = data.inputs.new_zeros((1 if shared else len(scale), m0, self._padded))
        x[..., :n] = data.inputs
        numbers = len(scale), 0 if shared else m0 * self._padded, m1, self._padded
        self._kept = ahead, back = self._tensors(x, scale)
        self._outputs = self._f[..., :n]
        self._forward = *(address(*given, self._dtype) for given in ahead), *numbers
        self._backward = *(address(*given, self._dtype) for given in back), *numbers

    def outputs(self) -> Tensor:
        self._code.forward(*self._forward)
        self._fresh = True
        return self._outputs

    def advance(self, steps: int) -> None:
        f, y, loss, backward = self._outputs, self._data.targets, self._loss, self._code.backward
        for _ in range(steps):
            if not self._fresh:
                self.outputs()
            self._fresh = False
            residual_(f, y, loss)
            backward(*self._backward)


class FusedKernel(TwoPasses):
    """ReLU and leaky ReLU on a CPU: the operations of `DenseKernel` in two passes."""

    def __init__(
        self, chunk: int, sizes: tuple[int, int, int, int], act: Activation, like: Tensor
    ) -> None:
        from learning_dynamics.saddles.step_code import step_code

        m0, m1, m2, _ = sizes
        if act.negative_slope is None:
            raise ValueError(f"activation {act.name}: allowed are relu and leaky_relu")
        code = step_code(m0, m2, act.negative_slope, like.element_size())
        super().__init__(code, chunk, sizes, {"z": m1, "f": m2}, like)
        self._scratch = like.new_empty(m2 * self._padded)

    elements = staticmethod(DenseKernel.elements)
    flops = staticmethod(DenseKernel.flops)

    def _tensors(self, x: Tensor, scale: Tensor) -> tuple[tuple[Given, ...], tuple[Given, ...]]:
        # tile after tile: (runs, tiles, m0, lanes)
        lanes, (m0, m1, m2, _) = self._code.lanes, self._sizes
        tiles = x.unflatten(-1, (-1, lanes)).transpose(1, 2).contiguous()
        given = self._given(scale)
        both = (
            given["w1"], given["w2"],
            ("inputs", tiles, (len(x), self._padded // lanes, m0, lanes)),
            ("z", self._z, (len(scale), m1, self._padded)), given["f"],
        )
        scratch = "scratch", self._scratch, (m2 * self._padded,)
        return both, (*both, given["scale"], scratch)


class FusedProductKernel(TwoPasses):
    """Linear nets on a CPU: the operations of `ProductKernel` in two passes over the weights."""

    def __init__(
        self, chunk: int, sizes: tuple[int, int, int, int], act: Activation, like: Tensor
    ) -> None:
        from learning_dynamics.saddles.product_code import product_code

        m0, _, m2, _ = sizes
        if act.negative_slope != 1:
            raise ValueError(f"activation {act.name}: this kernel is for linear nets")
        code = product_code(m0, m2, like.element_size())
        super().__init__(code, chunk, sizes, {"f": m2}, like)
        self._scratch = like.new_empty(2 * m0 * m2)

    @staticmethod
    def elements(sizes: tuple[int, int, int, int]) -> int:
        """Numbers of working memory per run."""
        m0, m1, m2, n = sizes
        return m2 * n + m1 * (m0 + m2)

    flops = staticmethod(ProductKernel.flops)

    def _tensors(self, x: Tensor, scale: Tensor) -> tuple[tuple[Given, ...], tuple[Given, ...]]:
        given, (m0, _, m2, _) = self._given(scale), self._sizes
        w1, w2, f, eta = (given[name] for name in ("w1", "w2", "f", "scale"))
        scratch = "scratch", self._scratch, (2 * m0 * m2,)
        turned = "inputs", x.mT.contiguous(), (len(x), self._padded, m0)
        ahead = w1, w2, ("inputs", x, (len(x), m0, self._padded)), f, scratch
        return ahead, (w1, w2, turned, f, eta, scratch)
