"""Bad arguments to the public functions: a ValueError or TypeError that names the argument.

One valid call of each function; then one argument at a time is replaced by what a user may pass by
mistake: another type, NaN, infinity, a negative or broken number, whole numbers where real ones are
needed, a tensor without dimensions or with nothing in it.
"""

import math

import pytest
import torch

from bad_input_calls import ALLOWED, CALLS, ELSEWHERE, WORDS
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.problems import Moments, Problem


def replacements(value):
    """(kind, replacement) of one valid value."""
    if isinstance(value, torch.Tensor):
        yield from (("string", "nonsense"), ("None", None))
        if value.is_floating_point():
            for kind, number in (("nan", math.nan), ("inf", math.inf)):
                broken = value.clone()
                broken.view(-1)[-1] = number
                yield kind, broken
            yield "integers", value.long()
        yield from (("scalar", value.flatten()[0]), ("empty", value[..., :0]))
    elif isinstance(value, int):
        yield from (("negative", -1), ("half", 2.5), ("string", "x"), ("nan", math.nan))
    elif isinstance(value, float):
        yield from (("nan", math.nan), ("inf", math.inf), ("negative", -1.0), ("string", "x"))
    elif isinstance(value, str):
        yield from (("nonsense", "nonsense"), ("number", 3.5))
    elif isinstance(value, tuple | list) and value and isinstance(value[0], int | float):
        size = len(value)
        yield from (("empty", ()), ("negative", (-1,) * size), ("nan", (math.nan,) * size))
        yield "strings", ("x",) * size
    elif isinstance(value, Problem | Moments):
        yield "string", "x"
    elif isinstance(value, Weights):
        yield "nan", Weights(value.w1 * math.nan, value.w2)
        yield "shape", Weights(value.w1[:, :-1], value.w2)


CASES = [
    (name, argument, kind, replacement)
    for name, (_, arguments) in CALLS.items()
    for argument, value in arguments.items()
    for kind, replacement in replacements(value)
    if (name, argument, kind) not in ALLOWED and (name, argument) not in ELSEWHERE
]


@pytest.mark.parametrize("name", list(CALLS))
def test_the_call_is_valid_as_it_stands(as_users_run, name):
    function, arguments = CALLS[name]
    function(**arguments)


def named(error, argument):
    return any(word in str(error) for word in (argument, *WORDS.get(argument, ())))


@pytest.mark.parametrize("name", list(CALLS))
def test_a_bad_argument_is_named(as_users_run, name):
    function, arguments = CALLS[name]
    wrong = []
    for _, argument, kind, replacement in (case for case in CASES if case[0] == name):
        try:
            function(**{**arguments, argument: replacement})
        except (ValueError, TypeError) as error:
            if not named(error, argument):
                wrong.append(f"{argument} ({kind}) is not named: {error}")
        except Exception as error:
            wrong.append(f"{argument} ({kind}): {type(error).__name__}: {error}")
        else:
            wrong.append(f"{argument} ({kind}) passes in silence")
    assert not wrong, "\n".join(wrong)


def test_there_are_many_cases():
    assert len(CASES) > 700


def test_tensors_that_do_not_fit_together_are_named(as_users_run):
    function, arguments = CALLS["saddles.descent.growth_bound"]
    with pytest.raises(ValueError, match="projector.*coordinate = 3.*update has 10"):
        function(**{**arguments, "projector": torch.eye(3, dtype=torch.float64)})
    with pytest.raises(TypeError, match="growth_bound.*missing.*projector"):
        function(update=arguments["update"])
