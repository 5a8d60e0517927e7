"""Compiled code is reached with whole plain tensors only: a right value, or a ValueError."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_dynamics.activations import ACTIVATIONS, Activation, activation, leaky_relu
from learning_dynamics.kernels import compiler
from learning_dynamics.kernels.native import LinearNative, ReluNative
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import address, generator
from learning_dynamics.saddles.two_layer import Weights, choose_kernel, gradient_descent, initialise

LIB = Path(__file__).parent.parent / "lib" / "learning_dynamics"
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64]
DTYPES += [torch.bool, torch.complex64, torch.float8_e4m3fn]


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
HOSTILE = {str(d): (lambda t, d=d: t.to(d)) for d in DTYPES} | {
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
    "NaN": lambda t: filled(t, torch.nan),
    "inf": lambda t: filled(t, torch.inf),
    "huge": lambda t: filled(t, 1e30),
    "as it is": lambda t: t,
}
HARMLESS = ("torch.float64", "parameter", "NaN", "inf", "huge", "as it is")


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_address_is_given_for_whole_plain_tensors_only(kind):
    like = torch.rand(2, 3, 4, dtype=torch.float64)
    given = HOSTILE[kind](like)
    if kind in HARMLESS:
        assert address("w", given, (2, 3, 4), torch.float64) == given.data_ptr()
    else:
        with pytest.raises(ValueError, match="^w: .*allowed|^w: .*given back"):
            address("w", given, (2, 3, 4), torch.float64)
    with pytest.raises(ValueError, match="allowed is torch.float16"):
        address("w", like.half(), (2, 3, 4), torch.float16)


def test_no_other_place_takes_an_address():
    places = {p.name: p.read_text().count("data_ptr") for p in LIB.rglob("*.py")}
    assert {k: n for k, n in places.items() if n} == {"runtime.py": 1}


def two_layers(draw, given, eta, act):
    """A call of `gradient_descent`, by compiled code or not."""
    flat = eta.flatten() if eta.layout == torch.strided else eta
    options = {"step_size": flat if draw.random() < 0.5 else 0.05, "activation": act}
    options |= {"steps": draw.choice((0, 1, 70)), "loss": squared(draw.choice((None, OMEGA)))}
    options |= {"observables": draw.choice((("loss",), (), ("units", "loss"), ("loss", "loss")))}

    def call(kind, backend):
        w = Weights(given[0], given[1])
        run = gradient_descent(w, Problem(*given[2:]), backend=backend, **options)
        return [*run.final, *run.observables.values()]

    return call


def kernels(draw, given, eta, act):
    """A kernel bound by hand: where addresses are taken nothing was checked before."""

    def call(kind, backend):
        kernel = kind(2, (3, 7, 2, 9), activation(act), torch.empty(1, dtype=eta.dtype))
        try:
            with torch.no_grad():
                own, (x, y) = [w.clone() for w in given[:2]], given[2:]
                kernel.bind(own, Data(x, x.mT.contiguous(), y), squared(), eta)
                kernel.advance(3)
                return [kernel.outputs().clone()]
        except (RuntimeError, AttributeError, TypeError, UserWarning) as error:  # torch's own
            raise ValueError(f"torch: {error}") from None

    return call


OMEGA = torch.rand(2, 9, generator=generator("hostile"), dtype=torch.float64)
SHAPES = ((2, 7, 3), (2, 7, 2), (3, 9), (2, 9))


def attempt(call, *how):
    """(value, None), or (None, what the ValueError says)."""
    try:
        with np.errstate(all="ignore"):
            return call(*how), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.skipif(not compiler.command(), reason="no C++ compiler on this machine")
@pytest.mark.parametrize("part", [two_layers, kernels])
def test_random_calls_end_in_a_right_value_or_a_value_error(part, as_users_run):
    counts = Counter()
    for seed in range(100):
        draw = random.Random(seed)
        g, dtype = generator("hostile", seed), draw.choice((torch.float32, torch.float64))
        shapes = SHAPES if part is kernels else ((2, 7, 3), (2, 2, 7), *SHAPES[2:])
        given = [0.3 * torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes]
        given.append(torch.full((2, 1, 1), 0.01, dtype=dtype))
        for i in draw.sample(range(5), draw.choice((0, 1, 1, 2))):
            try:
                given[i] = HOSTILE[draw.choice([k for k in HOSTILE if k != "without memory"])](
                    given[i]
                )
            except (RuntimeError, IndexError):
                pass  # there is no such tensor
        act, kind = draw.choice((("relu", ReluNative), ("linear", LinearNative)))
        call = part(draw, given[:4], given[4], act)
        ours, refusal = attempt(call, kind, "native")
        theirs, other = attempt(call, DenseKernel, "torch")
        if refusal is not None:
            assert "diverged at" not in refusal or "diverged at" in str(other), (seed, refusal)
            counts["refused"] += 1
            continue
        assert theirs is not None, f"{seed}: a value, where torch says {other}"
        for a, b in zip(ours, theirs, strict=True):
            rtol, atol = (1e-10, 1e-12) if a.dtype == torch.float64 else (2e-4, 1e-5)
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)
        counts["right"] += 1
    assert min(counts["refused"], counts["right"]) >= 10, counts


@pytest.mark.parametrize("name", ["relu", "linear", "leaky_relu(0.1)", "tanh"])
@pytest.mark.parametrize("like", ["tanh", "relu", "square"])
def test_no_name_makes_one_activation_pass_for_another(name, like):
    a, wide = ACTIVATIONS[like], torch.empty(1, dtype=torch.float64)
    named = Activation(name, a.function, a.derivative, a.homogeneous)
    assert choose_kernel(named, (4, 20, 3, 13), wide, 1, 10**7, "auto") == (DenseKernel, "torch")
    g = generator("names")
    p = Problem(*(torch.randn(k, 8, generator=g, dtype=torch.float64) for k in (4, 3)))
    w = initialise((4, 20, 3), 0.3, [generator("names, start")])
    runs = [gradient_descent(w, p, step_size=0.05, steps=40, activation=x) for x in (like, named)]
    torch.testing.assert_close(*(run["loss"][0, -1] for run in runs), rtol=1e-12, atol=0)


def test_a_copy_with_another_function_is_no_relu():
    plain = {"function": torch.tanh, "derivative": ACTIVATIONS["tanh"].derivative}
    for act in (ACTIVATIONS["relu"], ACTIVATIONS["linear"], leaky_relu(0.3)):
        assert act.negative_slope is not None and replace(act, name="x").negative_slope is None
        with pytest.raises(ValueError, match="(apply_|pull_) of .*: gives"):
            replace(act, **plain)
        assert replace(act, **plain, apply_=None, pull_=None).negative_slope is None
