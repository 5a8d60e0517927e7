"""No call of the package ends the process: each case runs in a child, which must live to say so."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hostile_calls import CRASHES, HOSTILE
from learning_dynamics.activations import ACTIVATIONS, Activation, leaky_relu
from learning_dynamics.kernels.two_layer_torch import DenseKernel
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import address, generator
from learning_dynamics.saddles.two_layer import choose_kernel, gradient_descent, initialise
from learning_dynamics.scales import training
from learning_dynamics.scales.training import sgd

LIB = Path(__file__).parent.parent / "lib" / "learning_dynamics"


def child(*words):
    """(exit status, what was printed) of `hostile_calls`."""
    command = [sys.executable, "-W", "ignore", Path(__file__).parent / "hostile_calls.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", CRASHES)
def test_what_once_ended_the_process_is_refused(name):
    status, told = child("crash", name)
    assert status == 0 and told.startswith("refused: "), told
    assert "allowed is torch.float" in told or re.search(r"shape .* has n\d = ", told)


@pytest.mark.parametrize("part", ["two layers", "kernels", "training"])
def test_random_calls_end_in_a_right_value_or_a_value_error(part):
    status, told = child("fuzz", part, "0", "100")
    assert status == 0, told
    assert all(
        int(told.partition(f"{word}': ")[2].split(",")[0].strip("}\n")) >= 10
        for word in ("right", "refused")
    ), told


def test_no_other_place_takes_an_address():
    places = {p.name: p.read_text().count("data_ptr") for p in LIB.rglob("*.py")}
    assert {k: n for k, n in places.items() if n} == {"runtime.py": 1}


@pytest.mark.parametrize("kind", [k for k in HOSTILE if k not in ("None", "numpy")])
def test_an_address_is_given_for_whole_plain_tensors_only(kind):
    like = torch.rand(2, 3, 4, dtype=torch.float64)
    given = HOSTILE[kind](like)
    harmless = ("torch.float64", "parameter", "NaN", "inf", "huge", "as it is")
    if kind in harmless:
        assert address("w", given, (2, 3, 4), torch.float64) == given.data_ptr()
    else:
        with pytest.raises(ValueError, match="^w: .*allowed|^w: .*given back"):
            address("w", given, (2, 3, 4), torch.float64)
    with pytest.raises(ValueError, match="allowed is torch.float16"):
        address("w", like.half(), (2, 3, 4), torch.float16)


def named(name, like):
    """An activation that calls itself something else."""
    a = ACTIVATIONS[like]
    return Activation(name, a.function, a.derivative, a.homogeneous)


@pytest.mark.parametrize("name", ["relu", "linear", "leaky_relu(0.1)", "tanh"])
@pytest.mark.parametrize("like", ["tanh", "relu", "square"])
def test_no_name_makes_one_activation_pass_for_another(name, like):
    wide = torch.empty(1, dtype=torch.float64)
    chosen = choose_kernel(named(name, like), (4, 20, 3, 13), wide, 1, 10**7, "auto")
    assert chosen == (DenseKernel, "torch")
    g = generator("names")
    p = Problem(*(torch.randn(k, 8, generator=g, dtype=torch.float64) for k in (4, 3)))
    w = initialise((4, 20, 3), 0.3, [generator("names, start")])
    ends = [
        gradient_descent(w, p, step_size=0.05, steps=40, activation=act)["loss"][0, -1]
        for act in (like, named(name, like))
    ]
    torch.testing.assert_close(*ends, rtol=1e-12, atol=0)
    start = training.initialise((4, 20, 3), (0.3, 0.3), [0], dtype=torch.float64)
    ends = [
        sgd(
            p,
            start.clone(),
            (1.0, 1.0),
            seeds=[0],
            step_size=0.05,
            steps=20,
            batch_size=4,
            activation=act,
        ).final.weights
        for act in (like, named(name, like))
    ]
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_a_copy_with_another_function_is_no_relu():
    plain = {"function": torch.tanh, "derivative": ACTIVATIONS["tanh"].derivative}
    for act in (ACTIVATIONS["relu"], ACTIVATIONS["linear"], leaky_relu(0.3)):
        assert act.negative_slope is not None and replace(act, name="x").negative_slope is None
        with pytest.raises(ValueError, match="(apply_|pull_) of .*: gives"):
            replace(act, **plain)
        assert replace(act, **plain, apply_=None, pull_=None).negative_slope is None
