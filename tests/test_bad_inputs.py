"""Bad arguments to the public functions: a ValueError or TypeError that names the argument.

A valid call of each function is the first one that the documented examples make. Then one argument
at a time is replaced by what a user may pass by mistake: another type, NaN, infinity, a negative or
broken number, whole numbers where real ones are needed, a tensor without dimensions or entries.
"""

import math

import pytest
import torch

import valid_calls
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.scales.training import State


def replacements(value):
    """(kind, replacement) of one valid value."""
    if isinstance(value, torch.Tensor):
        yield from (("string", "nonsense"), ("None", None))
        if value.is_floating_point() and value.numel():
            for kind, number in (("nan", math.nan), ("inf", math.inf)):
                broken = value.detach().clone()
                broken[(-1,) * value.ndim] = number
                yield kind, broken
            yield from (("integers", value.long()), ("scalar", value.flatten()[0]))
        yield "empty", value[..., :0] if value.ndim else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from (("nan", math.nan), ("negative", -1), ("string", "x"))
        yield ("half", 2.5) if isinstance(value, int) else ("inf", math.inf)
    elif isinstance(value, str):
        yield from (("nonsense", "nonsense"), ("number", 3.5))
    elif isinstance(value, tuple | list) and value and isinstance(value[0], int | float):
        size = len(value)
        yield from (("empty", ()), ("negative", (-1,) * size), ("nan", (math.nan,) * size))
        yield "strings", ("x",) * size
    elif isinstance(value, Weights):
        yield "nan", Weights(value.w1 * math.nan, value.w2)
        yield "shape", Weights(value.w1[:, :-1], value.w2)


#: Argument -> other words by which a message may name it.
WORDS = {
    "weights": ("w1", "w2", "W_", "u:", "v:"),
    "widths": ("m0", "m1", "width", "init_stds has"),
}
WORDS |= {"name": ("activation =", "loss =", "scheme ="), "observables": ("observable",)}
WORDS |= {"seeds": ("seed",), "epoch": ("seed",), "hidden_widths": ("hidden width",)}
WORDS |= {"requirements": ("requirement",), "a": ("classes",), "b": ("classes",)}
#: Functions without checks: called at every step, also on weights that have diverged.
FAST = ("gradient", "hidden", "deep_forward")
#: What looks bad and is not, or is refused by PyTorch: function and argument, and perhaps the kind.
ALLOWED = """leaky_relu negative_slope negative; squared weights None;
linear_teacher input_spectrum strings; linear_teacher input_spectrum empty;
linear_teacher target_spectrum strings; linear_teacher target_spectrum empty; generator device;
exponent_check seed nonsense; exponent_check activation number; exponent_check device;
coordinate_check seed nonsense; coordinate_check batch; certify weights nan; first_step activation number; predict_exponents residual;
load device; sgd multipliers negative; sgd seeds negative; sgd seeds strings; sgd record empty"""
ALLOWED = {tuple(entry.split()) for entry in ALLOWED.split(";")}
NAMES = [name for name in valid_calls.NAMES if name not in FAST]


def fresh(value):
    """A training state is changed by the run that it is handed to."""
    return value.clone() if isinstance(value, State) else value


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_argument_is_named(as_users_run, name):
    function, valid = valid_calls.recorded()[name]
    wrong = []
    for argument, value in valid.arguments.items():
        for kind, replacement in replacements(value):
            changed = valid.signature.bind_partial()
            changed.arguments |= {n: fresh(v) for n, v in valid.arguments.items()}
            changed.arguments[argument] = replacement
            if {(name, argument), (name, argument, kind)} & ALLOWED:
                continue
            place = f"{name}, {argument}, {kind}"
            try:
                function(*changed.args, **changed.kwargs)
            except (ValueError, TypeError) as error:
                if not any(word in str(error) for word in (argument, *WORDS.get(argument, ()))):
                    wrong.append(f"{place} is not named: {error}")
            except Exception as error:
                wrong.append(f"{place}: {type(error).__name__}: {error}")
            else:
                wrong.append(f"{place} passes in silence")
    assert not wrong, "\n".join(wrong)
