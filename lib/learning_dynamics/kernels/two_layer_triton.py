"""Triton kernels, chosen on CUDA for long runs of nets whose weights fit the registers.

One program takes all steps of a run between two records; in device memory are only the data. Where
runs are few, several programs share the tiles of each and add up their gradients in every step.
Data come in tiles of `TILE` samples, padded with zeros, which add nothing: sigma(0) = 0 and
l'(0, 0) = 0 for all that is taken here. Activations and residuals are small functions handed in
when a kernel is compiled, accurate relative to their value down to the smallest arguments, so that
dormant units live. Products are taken in the weights' own precision, never in tf32.

Triton comes with PyTorch's builds for CUDA. With TRITON_INTERPRET=1 it runs on a CPU, for tests.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

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
    residual_of,
)
from learning_dynamics.losses import Loss

try:
    import triton
    import triton.language as tl
except ImportError:  # the functions below are then never called
    tl = SimpleNamespace(constexpr=None)


def jit(function: Any) -> Any:
    """`triton.jit` of the function as written, whatever checks types around it. What changes from
    call to call takes no compilation of its own."""
    if not hasattr(tl, "dot"):
        return function
    plain = inspect.unwrap(function)
    changing = {"steps", "m0", "m1", "m2"} & {*inspect.signature(plain).parameters}
    return triton.jit(plain, do_not_specialize=[*changing] or None)


__all__ = ["RESIDUALS", "LinearTriton", "SampleTriton", "kernel_for", "seconds", "why_not"]

TILE = 16
#: Weights of a run, padded, up to which the kernels keep to the registers, as `ptxas -v` says for
#: sm_90; float32 has no product in full precision but by single numbers, which takes more of them.
MOST = {torch.float64: 6144, torch.float32: 4096}
#: Operations on padded weights per second of one program and of a full card, measured on an H200:
#: in float64, whose exponentials are as dear as products, and in float32.
RATES = {
    "bent": (9e10, 2e13),
    "tanh": (6e10, 1.4e13),
    "smooth": (3.4e10, 1.0e13),
    "single": (9e10, 1.2e13),
}
#: Programs that may share a run, and about the seconds in which they wait for one another.
SHARE, WAIT = 8, 2e-6


# --- activations sigma(z, p) and cotangents b sigma'(z), given h = sigma(z); p: slope, threshold --


@jit
def linear(z, p):
    """sigma(z) = z."""
    return z


@jit
def linear_pull(b, z, h, p):
    """b sigma'(z)."""
    return b


@jit
def relu(z, p):
    """max(z, 0)."""
    return tl.where(z < 0, 0.0, z)  # NaN stays NaN


@jit
def relu_pull(b, z, h, p):
    """b sigma'(z)."""
    return tl.where(z <= 0, 0.0, b)


@jit
def leaky_relu(z, p):
    """z, or p z where z < 0."""
    return tl.where(z > 0, z, p * z)


@jit
def leaky_relu_pull(b, z, h, p):
    """b sigma'(z)."""
    return tl.where(z > 0, b, p * b)


@jit
def tanh(z, p):
    """tanh(z) = -u/(2 + u), u = expm1(-2|z|) accurate relative to its value."""
    # With -2|z| = k log 2 + r: u = 2^k expm1(r) + (2^k - 1). No branch and no division in float64:
    # else the elements of a thread wait for one another.
    a = tl.abs(z)
    t = -2.0 * tl.where(a > 20.0, 20.0, a)  # NaN stays NaN
    k = tl.floor(t * 1.4426950408889634 + 0.5)
    r = (t - k * 0.693359375) + k * 2.1219444005469058277e-4  # k times the first is exact
    s = r * (1.0 / 39916800 + r * (1.0 / 479001600 + r * (1.0 / 6227020800)))
    s = r * (1.0 / 40320 + r * (1.0 / 362880 + r * (1.0 / 3628800 + s)))
    s = r * (1.0 / 120 + r * (1.0 / 720 + r * (1.0 / 5040 + s)))
    s = r + r * (r * (0.5 + r * (1.0 / 6 + r * (1.0 / 24 + s))))
    if z.dtype == tl.float64:
        two = ((k.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        two = ((k.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    u = two * s + (two - 1.0)
    v = 2.0 + u
    f = (1.0 / v.to(tl.float32)).to(z.dtype)
    f = f * (2.0 - v * f)
    f = f * (2.0 - v * f)
    h = -u * f
    h = h + f * (-u - v * h)
    return tl.where(z < 0, -h, h)


@jit
def tanh_pull(b, z, h, p):
    """b sigma'(z)."""
    return b * (1.0 - h * h)


@jit
def gelu(z, p):
    """z Phi(z)."""
    return 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))


@jit
def gelu_pull(b, z, h, p):
    """b sigma'(z)."""
    cdf = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476))
    return b * (cdf + z * (0.3989422804014327 * tl.exp(-0.5 * z * z)))


@jit
def softplus(z, p):
    """log((1 + exp(z))/2)."""
    # Shifted by log 2: z / 2 + log cosh(z / 2), near z = 0 by its series, to 1e-17 at 0.2.
    q = 0.25 * z * z
    s = q * (31.0 / 14175 + q * (-691.0 / 935550))
    s = q * (0.5 + q * (-1.0 / 12 + q * (1.0 / 45 + q * (-17.0 / 2520 + s))))
    far = tl.where(z < 0, 0.0, z) + tl.log(0.5 + 0.5 * tl.exp(-tl.abs(z)))
    return tl.where(q < 0.01, 0.5 * z + s, far)


@jit
def softplus_pull(b, z, h, p):
    """b sigma'(z)."""
    return b / (1.0 + tl.exp(-z))


# --- residuals l'(f) of a tile (M2, TILE); w: weights of the squared loss; `row`: no padding ------


@jit
def squared(f, y, w, p, row):
    """l'(f) of the squared loss."""
    return f - y


@jit
def weighted(f, y, w, p, row):
    """l'(f) of the squared loss with weights w."""
    return w * (f - y)


@jit
def huber(f, y, w, p, row):
    """l'(f) of the Huber loss with threshold p."""
    u = f - y
    return tl.where(u > p, p, tl.where(u < -p, -p, u))


@jit
def logistic(f, y, w, p, row):
    """l'(f) of the logistic loss."""
    return -y / (1.0 + tl.exp(y * f))


@jit
def cross_entropy(f, y, w, p, row):
    """l'(f) of the cross-entropy."""
    top = tl.max(tl.where(row, f, float("-inf")), 0)
    e = tl.where(row, tl.exp(f - top[None, :]), 0.0)
    return e * (tl.sum(y, 0) / tl.sum(e, 0))[None, :] - y


# --- the steps; at the end rows and columns beyond m0, m1, m2 are padding -------------------------


@jit
def dot(a, b):
    """The product of two tiles, in their own precision."""
    return tl.dot(a, b, input_precision="ieee", out_dtype=a.dtype)


@jit
def sample_steps(
    w1_ptr,
    w2_ptr,
    eta_ptr,
    x_ptr,
    y_ptr,
    w_ptr,
    p_ptr,
    sums_ptr,
    count_ptr,
    steps,
    n,
    m0,
    m1,
    m2,
    x_step,
    y_step,
    w_step,
    ACT: tl.constexpr,
    PULL: tl.constexpr,
    RESIDUAL: tl.constexpr,
    M0: tl.constexpr,
    M1: tl.constexpr,
    M2: tl.constexpr,
    TILE: tl.constexpr,
    PARTS: tl.constexpr,
):
    """All steps of one run between two records, from the samples; one of PARTS programs of it."""
    run, part = (tl.program_id(0) // PARTS).to(tl.int64), tl.program_id(0) % PARTS
    i, k, o = tl.arange(0, M1)[:, None], tl.arange(0, M0), tl.arange(0, M2)
    w1_ptr += run * m1 * m0 + i * m0 + k[None, :]
    w2_ptr += run * m1 * m2 + i * m2 + o[None, :]
    real1, real2 = (i < m1) & (k[None, :] < m0), (i < m1) & (o[None, :] < m2)
    w1, w2t = tl.load(w1_ptr, mask=real1, other=0.0), tl.load(w2_ptr, mask=real2, other=0.0)
    eta, slope, threshold = tl.load(eta_ptr + run), tl.load(p_ptr), tl.load(p_ptr + 1)
    x_ptr += run * x_step + k[:, None] * n + tl.arange(0, TILE)[None, :]
    at = o[:, None] * n + tl.arange(0, TILE)[None, :]
    y_ptr += run * y_step + at
    w_ptr += run * w_step + at
    for step in range(steps):
        d1, d2, w2 = tl.zeros_like(w1), tl.zeros_like(w2t), tl.trans(w2t)
        for j in range(part * TILE, n, PARTS * TILE):
            x, y, w = tl.load(x_ptr + j), tl.load(y_ptr + j), tl.load(w_ptr + j)
            z = dot(w1, x)
            h = ACT(z, slope)
            r = RESIDUAL(dot(w2, h), y, w, threshold, o[:, None] < m2)
            d2 += dot(h, tl.trans(r))
            d1 += dot(PULL(dot(w2t, r), z, h, slope), tl.trans(x))
        if PARTS > 1:
            # Two places take turns: no program writes one before all have read it. Loads pass the
            # caches of a multiprocessor by, which do not see what others write.
            here1 = sums_ptr + (2 * run + step % 2) * PARTS * M1 * (M0 + M2) + i * M0 + k[None, :]
            here2 = here1 - i * M0 - k[None, :] + PARTS * M1 * M0 + i * M2 + o[None, :]
            tl.store(here1 + part * M1 * M0, d1)
            tl.store(here2 + part * M1 * M2, d2)
            tl.debug_barrier()
            tl.atomic_add(count_ptr + run, 1, sem="acq_rel")
            while tl.atomic_add(count_ptr + run, 0, sem="acq_rel") < PARTS * (step + 1):
                pass
            tl.debug_barrier()
            d1, d2 = tl.zeros_like(w1), tl.zeros_like(w2t)
            for q in tl.static_range(PARTS):
                d1 += tl.load(here1 + q * M1 * M0, cache_modifier=".cg")
                d2 += tl.load(here2 + q * M1 * M2, cache_modifier=".cg")
        w1 -= eta * d1
        w2t -= eta * d2
    if part == 0:
        tl.store(w1_ptr, w1, mask=real1)
        tl.store(w2_ptr, w2t, mask=real2)


@jit
def moment_steps(
    w1_ptr,
    w2_ptr,
    eta_ptr,
    xx_ptr,
    yx_ptr,
    steps,
    m0,
    m1,
    m2,
    xx_step,
    yx_step,
    M0: tl.constexpr,
    M1: tl.constexpr,
    M2: tl.constexpr,
):
    """The same for a linear net, from its second moments."""
    run = tl.program_id(0).to(tl.int64)
    i, k, o = tl.arange(0, M1)[:, None], tl.arange(0, M0), tl.arange(0, M2)
    w1_ptr += run * m1 * m0 + i * m0 + k[None, :]
    w2_ptr += run * m1 * m2 + i * m2 + o[None, :]
    real1, real2 = (i < m1) & (k[None, :] < m0), (i < m1) & (o[None, :] < m2)
    w1, w2t = tl.load(w1_ptr, mask=real1, other=0.0), tl.load(w2_ptr, mask=real2, other=0.0)
    eta = tl.load(eta_ptr + run)
    xx = eta * tl.load(xx_ptr + run * xx_step + k[:, None] * M0 + k[None, :])
    yx = eta * tl.load(yx_ptr + run * yx_step + o[:, None] * M0 + k[None, :])
    for _ in range(steps):
        c = dot(dot(tl.trans(w2t), w1), xx) - yx
        d2 = dot(w1, tl.trans(c))
        w1 -= dot(w2t, c)
        w2t -= d2
    tl.store(w1_ptr, w1, mask=real1)
    tl.store(w2_ptr, w2t, mask=real2)


# --- the host side --------------------------------------------------------------------------------

SMOOTH = dict(tanh=(tanh, tanh_pull), gelu=(gelu, gelu_pull), softplus=(softplus, softplus_pull))
BENT = {1.0: (linear, linear_pull), 0.0: (relu, relu_pull)}
RESIDUALS = {
    losses.difference: squared,
    losses.weighted_difference: weighted,
    losses.clipped_difference: huber,
    losses.logistic_residual: logistic,
    losses.cross_entropy_residual: cross_entropy,
}


def _functions(act: Activation) -> tuple[Any, ...]:
    """sigma and its cotangent as this file has them; () for any other activation."""
    if act.negative_slope is not None:
        return BENT.get(act.negative_slope, (leaky_relu, leaky_relu_pull))
    return SMOOTH.get(act.name, ()) if act == ACTIVATIONS.get(act.name) else ()


def padded(sizes: Sizes) -> list[int]:
    """m0, m1, m2 as the kernels hold them: powers of two of at least 16."""
    return [max(16, 1 << (m - 1).bit_length()) for m in sizes[:3]]


def why_not(act: Activation, loss: Loss, sizes: Sizes, like: Tensor) -> str | None:
    """Why no kernel of this file takes such a net with weights like these; None: one does."""
    if not hasattr(tl, "dot"):
        return "Triton is not installed; it comes with PyTorch's builds for CUDA"
    if like.dtype not in MOST or not (like.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return f"weights are {like.dtype} on {like.device.type}: must be float32 or float64, cuda"
    if not _functions(act):
        return f"activation {act.name}: allowed are linear, relu, leaky_relu, {', '.join(SMOOTH)}"
    if residual_of(loss)[0] not in RESIDUALS:
        return f"loss {loss.name}: allowed are the losses of `learning_dynamics.losses`"
    (m0, m1, m2), most = padded(sizes), MOST[like.dtype]
    if m1 * (m0 + m2) > most:
        whole = f"m0, m1, m2 = {sizes[:3]}, padded ({m0}, {m1}, {m2})"
        return f"{whole}: m1 (m0 + m2) may be at most {most} in {like.dtype}"
    return None


def seconds(act: Activation, loss: Loss, sizes: Sizes, like: Tensor, runs: int) -> float:
    """About how long a step of all runs takes: one after the other, or all at the card's rate."""
    m0, m1, m2 = padded(sizes)
    parts, operations = 1, 6 * m0 * m1 * m2 + 2 * m0 * m0 * m2
    if kernel_for(act, loss) is SampleTriton:
        operations = DenseKernel.flops((m0, m1, m2, sizes[3]))
        parts = _parts(sizes, like, runs)
    kind = "bent" if act.negative_slope is not None else "tanh" if act.name == "tanh" else "smooth"
    alone, together = RATES["single" if like.dtype == torch.float32 else kind]
    alone = operations / alone / parts + WAIT * (parts > 1)
    return max(alone, runs * operations / together)


def kernel_for(act: Activation, loss: Loss) -> type[Kernel]:
    """Through moments where the net is linear and the loss squared, else from the samples."""
    moments = act.negative_slope == 1 and residual_of(loss)[0] is losses.difference
    return LinearTriton if moments else SampleTriton


def _processors(like: Tensor) -> int:
    """Multiprocessors of the card; 0 where programs are interpreted, one after the other."""
    card = torch.cuda.get_device_properties(like.device) if like.is_cuda else None
    return card.multi_processor_count if card else 0


def _parts(sizes: Sizes, like: Tensor, runs: int) -> int:
    """Programs of a run: as many as have a multiprocessor each, and two tiles or more."""
    return max(1, min(SHARE, -(-sizes[3] // (2 * TILE)), _processors(like) // runs))


def _warps(sizes: Sizes, like: Tensor, runs: int, samples: bool) -> int:
    """Warps of a program: more where it has a multiprocessor to itself, fewer where many share."""
    m0, m1, m2 = padded(sizes)
    here = _processors(like)
    each = 1024 if samples else 4096 if runs > 8 * here else 2048
    warps = -(-m1 * (m0 + m2) // each) * (1 + (runs <= here))
    return min(8, max(2 if samples else 1, 1 << (warps - 1).bit_length()))


def _pad(t: Tensor, rows: int, columns: int) -> tuple[Tensor, int]:
    """`t` with rows and columns of zeros behind it, and numbers from one run to the next."""
    wider = (0, columns - t.shape[-1], 0, rows - t.shape[-2])
    return torch.nn.functional.pad(t, wider).contiguous(), rows * columns * (t.ndim == 3)


class _Triton(Kernel):
    """What both share: the launch. The outputs between two launches are torch's."""

    _code: Any
    _held: tuple[Tensor, ...] = ()
    _runs = 0
    #: data, loss -> tensors of a launch besides weights and step sizes, its numbers, its constants
    _prepared: Callable[..., tuple[list[Tensor], list[int], dict[str, Any]]]

    def bind(self, packed: Sequence[Tensor], data: Data, loss: Loss, scale: Tensor) -> None:
        super().bind(packed, data, loss, scale)
        held = (data.inputs, data.targets, *(t for t in residual_of(loss)[1] if torch.is_tensor(t)))
        same = len(held) == len(self._held) and len(scale) == self._runs
        if not same or not all(a.is_set_to(b) for a, b in zip(held, self._held, strict=True)):
            self._runs, self._held = len(scale), held
            self._ready = self._prepared(data, loss)

    def advance(self, steps: int) -> None:
        if not steps:
            return
        data, numbers, constants = self._ready
        parts = constants.get("PARTS", 1)
        if parts > 1:
            data[-1].zero_()
        how = dict(zip(("M0", "M1", "M2"), padded(self._sizes), strict=True)) | constants
        how["num_warps"] = _warps(self._sizes, self._w1, self._runs, "PARTS" in constants)
        given = self._w1, self._w2t, self._scale, *data, steps, *numbers
        with torch.cuda.device_of(self._w1):
            self._code[(parts * self._runs,)](*given, enable_fp_fusion=True, **how)
        self._fresh = False


class SampleTriton(_Triton, DenseKernel):
    """Any net and loss of this file, from its samples."""

    _code = sample_steps

    def _prepared(self, data: Data, loss: Loss) -> tuple[list[Tensor], list[int], dict[str, Any]]:
        (m0, m1, m2), n = padded(self._sizes), -(-self._sizes[3] // TILE) * TILE
        function, given = residual_of(loss)
        (x, x_step), (y, y_step) = _pad(data.inputs, m0, n), _pad(data.targets, m2, n)
        w, w_step, threshold = y, y_step, 0.0
        if function is losses.weighted_difference:
            w, w_step = _pad(given[0].expand(*given[0].shape[:-2], *data.targets.shape[-2:]), m2, n)
        elif given:
            threshold = given[0]
        act, pull = _functions(self._act)
        parts = _parts(self._sizes, x, self._runs)
        sums = x.new_empty(2 * self._runs * parts * m1 * (m0 + m2) if parts > 1 else 1)
        count = torch.zeros(self._runs, dtype=torch.int32, device=x.device)
        how = {"ACT": act, "PULL": pull, "RESIDUAL": RESIDUALS[function]}
        how |= {"TILE": TILE, "PARTS": parts}
        if parts > 1:  # they wait for one another: all must run
            how["launch_cooperative_grid"] = True
        return (
            [x, y, w, x.new_tensor([self._act.negative_slope or 0.0, threshold]), sums, count],
            [n, *self._sizes[:3], x_step, y_step, w_step],
            how,
        )


class LinearTriton(_Triton, ProductKernel):
    """Linear nets with the squared loss, from the moments X X' and Y X'."""

    _code = moment_steps

    def _prepared(self, data: Data, loss: Loss) -> tuple[list[Tensor], list[int], dict[str, Any]]:
        m0, _, m2 = padded(self._sizes)
        xx, xx_step = _pad(data.inputs @ data.transposed, m0, m0)
        yx, yx_step = _pad(data.targets @ data.transposed, m2, m0)
        return [xx, yx], [*self._sizes[:3], xx_step, yx_step], {}
