"""Nets, losses and problems on which all kernels for two layers must agree."""

import torch

from learning_dynamics.activations import activation, leaky_relu
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel
from learning_dynamics.losses import cross_entropy, huber, logistic, squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import Weights, initialise

NAMES = ("linear", "relu", "tanh", "gelu", "softplus")
ACTIVATIONS = {name: activation(name) for name in NAMES} | {"leaky": leaky_relu(0.2)}
LOSSES = ("squared", "weighted", "weighted by run", "huber", "logistic", "cross_entropy")
FROZEN = 1


def random(*shape):
    return torch.randn(shape, generator=generator("kernels", *shape), dtype=torch.float64)


def case(sizes, loss="squared", *, runs=5, own=False, scale=0.5, dtype=torch.float64, at="cpu"):
    """Weights, a problem (one per run if `own`) and a loss of these sizes."""
    m0, m1, m2, n = sizes
    lead = (runs,) if own else ()
    x, y = random(*lead, m0, n), random(*lead, m2, n)
    y = {"logistic": y.sign(), "cross_entropy": y.softmax(-2)}.get(loss, y)
    starts = [generator("kernels, start", i) for i in range(runs)]
    w = Weights(*(t.to(at, dtype) for t in initialise((m0, m1, m2), scale, starts)))
    omega = random(*(runs,) * ("run" in loss), m2, n).abs().to(at, dtype)
    criterion = {
        "squared": squared,
        "huber": lambda: huber(0.3),
        "logistic": logistic,
        "cross_entropy": cross_entropy,
    }.get(loss, lambda: squared(omega))()
    return w, Problem(x.to(at, dtype), y.to(at, dtype)), criterion


def stepped(kind, act, weights, problem, loss, looks=(0, 1, 2, 9)):
    """First outputs, weights and last outputs; run FROZEN is frozen, looks fall between steps."""
    x, (runs, *_) = problem.inputs, weights.w1.shape
    sizes = (*weights.w1.shape[:0:-1], *problem.targets.shape[-2:])
    packed = DenseKernel.pack(weights)
    kernel = kind(runs, sizes, act, packed[0])
    scale = torch.linspace(0.02, 0.05, runs, dtype=x.dtype, device=x.device) / sizes[-1]
    scale[FROZEN] = 0
    data = Data(x, x.mT.contiguous(), problem.targets)
    kernel.bind(packed, data, loss, scale.reshape(-1, 1, 1))
    first = kernel.outputs().clone()
    for count in looks:
        kernel.advance(count)
    for got, given in zip(packed, DenseKernel.pack(weights), strict=True):
        assert torch.equal(got[FROZEN], given[FROZEN]) or not given[FROZEN].isfinite().all()
    return [t.cpu().double() for t in (first, *packed, kernel.outputs().clone())]


def difference(one, other):
    """Largest difference of each run over its largest entry, the worst run and tensor."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        a, b = a.double().flatten(1), b.double().flatten(1)
        worst = max(worst, float(((a - b).abs().amax(1) / b.abs().amax(1).clamp_min(1e-300)).max()))
    return worst
