"""Everything public computes where its inputs are, with the same draws on every device."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_leaves

import learning_dynamics
from learning_dynamics import digits_pair, generator, saddles, scales
from learning_dynamics.scales import WidthFamily
from valid_calls import NAMES, rand, recorded
from valid_calls import P as PROBLEM

FAMILY = WidthFamily((0, 1, "1/2", 0), (4, 1, 1, 2))
#: The user's own factory says where its networks are.
FACTORY = {"coordinate_check", "parametrize"}
DEEP = saddles.initialise_deep((6, 5, 5, 4), 0.1, [generator("devices")])
#: Functions that check nothing, and those whose examples hold no tensor.
MORE = {
    "deep_forward": (saddles.deep_forward, {"weights": DEEP, "inputs": PROBLEM.inputs}),
    "gradient": (
        saddles.gradient,
        {"weights": saddles.Weights(rand(1, 5, 6), rand(1, 4, 5)), "problem": PROBLEM},
    ),
    "hidden": (
        scales.hidden,
        {"weights": list(DEEP), "multipliers": (1.0,) * 3, "inputs": PROBLEM.inputs[None]},
    ),
    "exponent_check": (
        lambda at: (
            scales.exponent_check(["ntk"], FAMILY, (16, 64), runs=2, device=at.device).values
        ),
        {"at": rand(1)},
    ),
    "digits_pair": (lambda: digits_pair(3, 8, source="sklearn").train, {}),
    "generator": (lambda: generator("one"), {}),
}
MORE["Weights"] = saddles.Weights, {"w1": rand(5, 6), "w2": rand(4, 5)}
EXAMPLES = [name for name in NAMES if name not in {*FACTORY, *MORE, "save", "load"}]


def called(name):
    """A function and its arguments."""
    if name in MORE:
        return MORE[name]
    function, bound = recorded()[name]
    few = {"steps": 30} if name == "linear_descent" else {}  # a step of it takes milliseconds
    return function, {**bound.arguments, **few}


#: Without a tensor.
PLAIN = {
    *[
        "Stop",
        "PRINTED",
        "SCHEMES",
        "Scheme",
        "dynamic",
        "load",
        "save",
        "Moments",
        "predict_exponents",
    ]
}


def moved(value, device):
    """`value` with copies of all its tensors on `device`, whatever they lie in; fresh streams."""
    if isinstance(value, torch.Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, torch.Generator):
        return torch.Generator(device).manual_seed(value.initial_seed())
    if isinstance(value, torch.nn.Module):
        return value.to(device)
    if isinstance(value, dict):
        return {k: moved(v, device) for k, v in value.items()}
    if isinstance(value, tuple | list):
        parts = [moved(v, device) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **moved(parts, device))
    return value


def tensors(value):
    """All tensors in a result."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    leaves = tree_leaves(value)
    inner = [v for v in leaves if dataclasses.is_dataclass(v)]
    found = [v for v in leaves if isinstance(v, torch.Tensor)]
    return found + [t for v in inner for t in tensors(v)]


def test_no_public_function_is_left_out():
    called = {*EXAMPLES, *MORE, *FACTORY}
    for module in (learning_dynamics, saddles, scales):
        missing = {n for n in module.__all__ if n not in PLAIN} - called
        assert not missing


@pytest.mark.parametrize("name", [*EXAMPLES, *MORE])
def test_nothing_is_made_on_another_device_than_the_inputs(as_users_run, name):
    """Without a GPU: tensors for which no device is named are made on `meta`, without numbers."""
    function, arguments = called(name)
    arguments = moved(arguments, "cpu")
    with torch.device("meta"):
        result = function(**arguments)
    assert not any(t.is_meta for t in tensors(result))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", [*EXAMPLES, *MORE])
@pytest.mark.parametrize("streams", ["cpu", "cuda"])
def test_a_gpu_gives_the_numbers_of_the_cpu(as_users_run, name, streams):
    """With generators on either device."""
    function, arguments = called(name)
    here, there = moved(arguments, "cpu"), moved(arguments, "cuda")
    if streams == "cpu":
        there = {k: here[k] if "generator" in k else v for k, v in there.items()}
        here = moved(here, "cpu")
    owner = getattr(function, "__self__", None)  # of a method: its tensors are an input too
    if dataclasses.is_dataclass(owner):
        function = getattr(type(owner), function.__name__)
        here, there = {"self": owner, **here}, {"self": moved(owner, "cuda"), **there}
        result = function(here.pop("self"), **here), function(there.pop("self"), **there)
    else:
        result = function(**here), function(**there)
    inputs = any(t.is_cuda for t in tensors(there))
    for a, b in zip(*map(tensors, result), strict=True):
        assert b.is_cuda or not inputs or b.dtype == torch.int64
        torch.testing.assert_close(
            b.cpu(), a, rtol=1e-9 if a.dtype == torch.float64 else 1e-4, atol=1e-9
        )
