"""Graph replay, chosen on CUDA where a Triton kernel does not fit or is slower.

There a step of torch's products on fixed memory is captured once and replayed: the card does not
wait for Python. So is the step of SGD of deep nets. `cuda_kernel` makes the choice.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from learning_dynamics import losses
from learning_dynamics.activations import ACTIVATIONS, Activation
from learning_dynamics.kernels.two_layer_torch import (
    Data,
    DenseKernel,
    Kernel,
    ProductKernel,
    Sizes,
    residual_,
    residual_of,
)
from learning_dynamics.losses import Loss

__all__ = ["GraphDense", "GraphProduct", "Replayed", "can_capture", "cuda_kernel"]

#: Steps of a graph; the rest of a block are replays of a graph of one step.
STEPS = 16
#: Seconds of a replayed step besides its operations, and operations per second (H200).
OVERHEAD, RATE = 2.5e-5, 2e12
#: Predicted seconds of graph replay from which a Triton kernel is compiled.
WORTH = 0.1
#: Chunks whose graphs a kernel keeps, with their memory.
CHUNKS = 4


def can_capture(act: Activation, loss: Loss) -> bool:
    """Whether activation and loss are this package's, which read nothing back from the device."""
    functions = residual_of(loss)[0], loss.value
    own = all(getattr(f, "__module__", "") == losses.__name__ for f in functions)
    return own and (act.negative_slope is not None or act == ACTIVATIONS.get(act.name))


def capture(step: Callable[[], object]) -> Callable[[], object]:
    """What repeats the operations of `step`, which are recorded here and not done."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay


class Replayed:
    """A step that works on fixed memory: replayed, from its third call on, where `on` is set.

    What it is given is copied to memory that is kept, for each combination of shapes.
    """

    def __init__(self, step: Callable[..., object], on: bool) -> None:
        self._step, self._on = step, on
        self._kept: dict[object, tuple[list[Tensor], Callable[[], object]] | None] = {}

    def __call__(self, *inputs: Tensor) -> None:
        shapes = tuple(t.shape for t in inputs)
        if not self._on or shapes not in self._kept:  # the first call sets up torch's libraries
            self._kept[shapes] = None
            self._step(*inputs)
            return
        kept = self._kept[shapes]
        if kept is None:
            held = [t.clone() for t in inputs]
            kept = self._kept[shapes] = held, capture(lambda: self._step(*held))
        for own, t in zip(kept[0], inputs, strict=True):
            own.copy_(t)
        kept[1]()


class _Graph(Kernel):
    """Steps replayed; graphs of the chunks that the kernel was last bound to are kept."""

    def __init__(self, chunk: int, sizes: Sizes, act: Activation, like: Tensor) -> None:
        super().__init__(chunk, sizes, act, like)
        self._known: list[tuple[tuple[Tensor, ...], dict[int, Replayed]]] = []

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        super().bind(packed, data, loss, scale)
        numbers = [a for a in residual_of(loss)[1] if isinstance(a, Tensor)]
        memory = (*packed, scale, *data, *numbers)
        for held, replayed in self._known:
            if all(a.is_set_to(b) for a, b in zip(held, memory, strict=True)):
                self._replayed = replayed
                return
        on = scale.is_cuda
        self._replayed = {k: Replayed(partial(self._steps, k), on) for k in (STEPS, 1)}
        self._known = [*self._known[1 - CHUNKS :], (memory, self._replayed)]

    def _steps(self, count: int) -> None:
        self._fresh = False  # a graph begins with the outputs
        super().advance(count)

    def advance(self, steps: int) -> None:
        for count, replayed in self._replayed.items():
            for _ in range(steps // count):
                replayed()
            steps %= count
        self._fresh = False


class GraphDense(_Graph, DenseKernel):
    """`DenseKernel` in fewer calls: cuBLAS takes transposed operands as they are."""

    def _steps(self, count: int) -> None:
        at, w1, w2t = self._at, self._w1, self._w2t
        squared, shift = self._loss.residual is losses.difference, at.ft.view_as(at.f)
        if squared:  # scaled in the call that subtracts the targets
            torch.mul(self._data.targets, self._scale, out=shift).neg_()
        for _ in range(count):
            self._hidden()
            torch.bmm(w2t.mT, at.h, out=at.f)
            if squared:
                torch.addcmul(shift, at.f, self._scale, out=at.f)
            else:
                residual_(at.f, self._data.targets, self._loss)
                at.f.mul_(self._scale)
            torch.bmm(w2t, at.f, out=at.b)
            self._pull()
            w2t.baddbmm_(at.h, at.f.mT, alpha=-1)
            w1.baddbmm_(at.b, self._xt, alpha=-1)


class GraphProduct(_Graph, ProductKernel):
    """`ProductKernel`, replayed."""


def cuda_kernel(
    act: Activation,
    loss: Loss,
    sizes: Sizes,
    like: Tensor,
    runs: int,
    steps: int,
    usual: type[Kernel],
    backend: str,
) -> tuple[type[Kernel], str] | None:
    """The kernel for such a run and its backend; None: the `usual` one, of torch.

    "auto" takes what is fastest by the times measured on an H200; Triton's where replaying graphs
    would need `WORTH` seconds. ValueError says why "triton" or "graph" is not possible.
    """
    here = like.is_cuda and backend == "auto"
    if here or backend == "triton":
        from learning_dynamics.kernels import two_layer_triton  # Triton takes long to import

        reason = two_layer_triton.why_not(act, loss, sizes, like)
        if backend == "triton" and reason:
            raise ValueError(f"backend = 'triton': {reason}")
        replay = OVERHEAD + runs * usual.flops(sizes) / RATE
        faster = not reason and two_layer_triton.seconds(act, loss, sizes, like, runs) < replay
        if backend == "triton" or (faster and steps * replay >= WORTH):
            return two_layer_triton.kernel_for(act, loss), "triton"
    possible = like.is_cuda and can_capture(act, loss)
    if backend == "graph" and not possible:
        given = f"{act.name}, {loss.name}, weights on {like.device.type}"
        allowed = "this package's activations and losses, on cuda"
        raise ValueError(f"backend = 'graph': {given}: allowed are {allowed}")
    if possible and backend in ("auto", "graph"):
        return GraphProduct if usual is ProductKernel else GraphDense, "graph"
    return None
