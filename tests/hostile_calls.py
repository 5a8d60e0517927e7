"""Calls that once ended the process, and random ones of the same kind; run in a process of its own.

    python hostile_calls.py crash NAME            one call that must be refused by a ValueError
    python hostile_calls.py fuzz PART SEED COUNT  random calls: a ValueError, or the value of torch

Exits with 0 if all is as it should be. A signal is what `test_no_crash` is there to notice.
"""

import random
import sys
import tempfile
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from learning_dynamics.activations import activation
from learning_dynamics.kernels.native import LinearNative, ReluNative
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import Weights, gradient_descent, initialise
from learning_dynamics.scales import training
from learning_dynamics.scales.training import load, save, sgd

BATCH, WIDTHS = 4, (6, 9, 5, 3)


def mixed_weights():
    weights = initialise((6, 64, 4), 0.1, [generator("hostile")])
    problem = linear_teacher(generator=generator("hostile"))
    gradient_descent(
        Weights(weights.w1, weights.w2.float()), problem, step_size=0.05, steps=50, observables=()
    )


def large(change):
    """A net of more than 2^20 weights; `change` takes its middle layer."""
    state = training.initialise((1000, 1000, 1000, 3), (0.03,) * 3, [0])
    first, middle, last = state.weights
    problem = Problem(torch.rand(1000, 16), torch.rand(3, 16))
    return problem, replace(state, weights=(first, change(middle), last))


def train_large(change):
    problem, state = large(change)
    sgd(problem, state, (1.0,) * 3, seeds=[0], step_size=0.1, steps=2, batch_size=16)


def checkpoint(change):
    with tempfile.TemporaryDirectory() as folder:
        save(large(change)[1], Path(folder) / "run.npz")
        load(Path(folder) / "run.npz")


CRASHES = {
    "weights of two dtypes": mixed_weights,
    "a narrow middle layer": lambda: train_large(lambda w: w[:, :, :500].contiguous()),
    "a low middle layer": lambda: train_large(lambda w: w[:, :10].contiguous()),
    "a double middle layer": lambda: train_large(lambda w: w.double()),
    "a checkpoint with a narrow layer": lambda: checkpoint(lambda w: w[:, :, :500].contiguous()),
    "a checkpoint with a double layer": lambda: checkpoint(lambda w: w.double()),
}


def filled(t, value):
    t = t.clone()
    t.view(-1)[-1:] = value
    return t


def misaligned(t):
    content = bytearray(b"0" + t.contiguous().numpy().tobytes())
    return torch.frombuffer(content, dtype=t.dtype, offset=1).reshape(t.shape)


def without_memory(t):
    t = t.clone()
    t.untyped_storage().resize_(0)
    return t


#: What a tensor may be replaced by.
HOSTILE = {
    **{
        str(d): (lambda t, d=d: t.to(d))
        for d in (
            torch.float32,
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.int32,
            torch.int64,
            torch.bool,
            torch.complex64,
            torch.float8_e4m3fn,
        )
    },
    "a row less": lambda t: t[..., :-1, :].clone(),
    "a column less": lambda t: t[..., :-1].clone(),
    "a column more": lambda t: torch.cat([t, t[..., :1]], -1),
    "runs twice": lambda t: torch.cat([t, t]),
    "no run": lambda t: t[:0],
    "nothing in a row": lambda t: t[..., :0],
    "a dimension more": lambda t: t[None],
    "a dimension less": lambda t: t[0],
    "one number": lambda t: t.flatten()[0],
    "transposed": lambda t: t.mT.contiguous(),
    "a transposed view": lambda t: t.mT.contiguous().mT,
    "every second": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda t: t[..., :1, :].expand(t.shape),
    "expanded everywhere": lambda t: t.flatten()[0].expand(t.shape),
    "negative view": torch._neg_view,
    "misaligned": misaligned,
    "without memory": without_memory,
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
    "parameter": torch.nn.Parameter,
    "numpy": lambda t: t.numpy(),
    "None": lambda t: None,
    "NaN": lambda t: filled(t, torch.nan),
    "inf": lambda t: filled(t, torch.inf),
    "huge": lambda t: filled(t, 1e30),
    "as it is": lambda t: t,
}
NUMBERS = (0.05, 1, 0.0, -1.0, float("nan"), float("inf"), 1e-60, 1e300, "0.1", None, True)


def hostile(tensors, draw, spared=()):
    """The tensors with up to two replaced; a copy of all."""
    kinds = [kind for kind in HOSTILE if kind not in spared]
    tensors = [t.clone() for t in tensors]
    for _ in range(draw.choice((0, 1, 1, 2))):
        i = draw.randrange(len(tensors))
        if isinstance(tensors[i], torch.Tensor):
            try:
                tensors[i] = HOSTILE[draw.choice(kinds)](tensors[i])
            except (RuntimeError, NotImplementedError, TypeError, IndexError, ValueError):
                pass  # there is no such tensor
    return tensors


def number(draw, usual):
    return draw.choice(NUMBERS) if draw.random() < 0.05 else usual


def normal(*shape, dtype=torch.float64):
    g = generator("hostile", *shape)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def two_layers(draw):
    """(compiled, plain): the same call of `gradient_descent`."""
    dtype, runs = draw.choice((torch.float32, torch.float64)), draw.choice((1, 3))
    given = hostile(
        [
            0.3 * normal(runs, 7, 3, dtype=dtype),
            0.3 * normal(runs, 2, 7, dtype=dtype),
            normal(3, 9, dtype=dtype),
            normal(2, 9, dtype=dtype),
            torch.full((runs,), 0.05, dtype=dtype),
        ],
        draw,
    )
    act, own = draw.choice(("linear", "relu", "leaky_relu")), draw.random() < 0.5
    eta, steps = (given[4] if own else number(draw, 0.05)), draw.choice((0, 1, 70))
    omega = draw.choice(
        (
            *[None] * 6,
            normal(2, 9, dtype=dtype).abs(),
            normal(2, 9).abs(),
            normal(1, 8, dtype=dtype).abs(),
        )
    )
    names = draw.choice((("loss",), (), ("loss",), ("units", "loss"), ("loss", "loss")))

    def call(compiled):
        run = gradient_descent(
            Weights(*given[:2]),
            Problem(*given[2:4]),
            step_size=eta,
            steps=steps,
            activation=act,
            loss=squared(omega),
            observables=names,
            backend="native" if compiled else "torch",
        )
        return [*run.final, *run.observables.values()]

    return call


def kernels(draw):
    """A kernel bound by hand: where addresses are taken nothing was checked before."""
    dtype = draw.choice((torch.float32, torch.float64))
    given = hostile(
        [
            normal(2, 7, 3, dtype=dtype),
            normal(2, 7, 2, dtype=dtype),
            normal(3, 9, dtype=dtype),
            normal(2, 9, dtype=dtype),
            torch.full((2, 1, 1), 0.01, dtype=dtype),
        ],
        draw,
        ("without memory",),
    )
    act, kind = draw.choice((("relu", ReluNative), ("linear", LinearNative)))

    def call(compiled):
        kernel = (kind if compiled else DenseKernel)(
            2, (3, 7, 2, 9), activation(act), torch.empty(1, dtype=dtype)
        )
        try:
            with torch.no_grad():
                own, (x, y, scale) = [w.clone() for w in given[:2]], given[2:]
                kernel.bind(own, Data(x, x.mT.contiguous(), y), squared(), scale)
                kernel.advance(3)
                return [kernel.outputs().clone()]
        except (RuntimeError, AttributeError, TypeError) as error:  # torch's own refusal
            raise ValueError(f"torch: {error}") from None

    return call


def training_runs(draw):
    dtype = draw.choice((torch.float32, torch.float64))
    shapes = list(zip(WIDTHS[1:], WIDTHS, strict=False))
    first = [
        *(0.5 * normal(1, *s, dtype=dtype) for s in shapes),
        normal(6, 10, dtype=dtype),
        normal(3, 10, dtype=dtype),
        torch.full((1,), -1),
    ]
    given = hostile(first, draw)
    scales = [number(draw, 1.0) for _ in shapes]
    usual = draw.random() < 0.7
    options = {
        "seeds": [0] * (1 if usual else 2),
        "step_size": number(draw, 0.05),
        "steps": draw.choice((0, 5)),
        "batch_size": BATCH,
        "momentum": number(draw, 0.0),
        "step_ratios": None if usual else draw.choice(((1.0,) * 4, (float("nan"),) * 3)),
        "record": (0,) if usual else draw.choice(((0, 99), (0, 0), (2.7,), ("0",), ())),
    }
    through_a_file = draw.random() < 0.3

    def call(compiled):
        state = training.State(
            tuple(
                deepcopy(w) if isinstance(w, torch.Tensor) and not w.is_neg() else w
                for w in given[:3]
            ),
            None,
            0,
            given[5],
        )
        problem = Problem(*given[3:5])
        if through_a_file:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "run.npz"
                try:
                    save(state, path)
                except (AttributeError, TypeError, RuntimeError, NotImplementedError):
                    raise ValueError("nothing was saved") from None
                state = load(path)
        return list(sgd(problem, state, scales, evaluate={"all": problem}, **options).final.weights)

    return call


PARTS = {"two layers": two_layers, "kernels": kernels, "training": training_runs}


def outcome(call, compiled):
    """(value, None), or (None, what the ValueError says)."""
    try:
        with np.errstate(all="ignore"):
            return call(compiled), None
    except ValueError as error:
        return None, str(error)


def judge(call):
    """ "right" or "refused"; an AssertionError for all else."""
    ours, refusal = outcome(call, True)
    if refusal is not None and "diverged at" not in refusal:
        return "refused"
    theirs, other = outcome(call, False)
    if refusal is not None:
        assert other is not None and "diverged at" in other, f"false divergence: {refusal}"
        return "refused"
    assert theirs is not None, f"a value, where torch says {other}"
    for a, b in zip(ours, theirs, strict=True):
        rtol, atol = (1e-10, 1e-12) if a.dtype == torch.float64 else (2e-4, 1e-5)
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)
    return "right"


def main(kind, name, *numbers):
    torch.set_num_threads(1)
    if kind == "crash":
        try:
            CRASHES[name]()
        except ValueError as error:
            print("refused:", error)
            return 0
        print("passed in silence")
        return 1
    seed, count = map(int, numbers)
    counts, wrong = Counter(), 0
    for i in range(seed, seed + count):
        call = PARTS[name](random.Random(i))
        try:
            counts[judge(call)] += 1
        except Exception as error:
            wrong += 1
            print(f"{name} {i}: {type(error).__name__}: {str(error)[:300]}")
    print(dict(counts))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
