"""Bad arguments to the public functions: a ValueError or TypeError that names the argument.

A valid call of each function is the first one that the documented examples make. Then one argument
at a time is replaced by what a user may pass by mistake: another type, NaN, infinity, a negative or
broken number, whole numbers where real ones are needed, a tensor without dimensions or entries.
"""

import inspect
import math
import sys

import pytest
import torch

from learning_dynamics import activations, losses
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import theory
from learning_dynamics.saddles.linear_nets import reductions
from learning_dynamics.scales import fluctuations, parametrizations, representations
from learning_dynamics.scales.training import State
from test_examples import PUBLIC, TABLES, run_example


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=generator("bad inputs", *shape))


DRAW, UNITS, P = generator("bad inputs"), rand(1, 5, 10), linear_teacher(generator=generator("bad"))
NET, MOMENTS = Weights(UNITS[..., :6].contiguous(), UNITS[..., 6:].mT.contiguous()), P.moments()
FALLING = torch.linspace(-10, 0, 20).double().exp()[:, None] * torch.tensor([1, 0.1, 0.01])
#: Calls of functions that are public in their modules alone.
MORE = [
    (activations.leaky_relu, 0.1),
    (losses.huber, 1.0),
    (losses.squared, rand(4, 9)),
    (reductions.gaussian_narrow, (6, 50, 4), 0.1, DRAW),
    (theory.alignment.correlation, rand(6, 9), rand(4, 9)),
    (theory.alignment.escape, MOMENTS.yx),
    (theory.alignment.update_matrix, MOMENTS.yx, 0.1),
    (theory.alignment.worst_angle, UNITS, rand(1, 10)),
    (theory.alignment.modes_at_escape, FALLING[None], 1, 0.1),
    (theory.growth_bound.leading_projector, UNITS, 1),
    (theory.growth_bound.outside_norm, UNITS, rand(1, 10, 10)),
    (theory.staircase.finite_step_rate, rand(3), 0.1),
    (theory.staircase.recursion, rand(1, 3), 0.05, 2),
    (theory.staircase.rank_k_optimum, MOMENTS, 2),
    (theory.staircase.residual_correlation, MOMENTS, 2),
    (theory.stages.log_excess, MOMENTS, theory.staircase.predict_staircase(MOMENTS, 0.05), 1, 1e-8),
    (theory.unit_matrix.unit_error, NET, P),
    (theory.unit_matrix.from_units, UNITS, 6),
    (theory.extremal_directions.distinct_directions, UNITS[0]),
    (fluctuations.contributions, (5, 3), 4, DRAW),
    (fluctuations.spread, rand(9)),
    (fluctuations.inverse_width_sum, (5, 3)),
    (fluctuations.last_layer_spread, (5, 3)),
    (parametrizations.dynamic, "1/2"),
    (parametrizations.mup, "wide"),
    (representations.linear_alignment, rand(1, 4, 9), rand(1, 3, 9)),
]


def recorded():
    """Name -> (function, arguments of a valid call): the first one within the examples, and MORE."""
    public = {name: PUBLIC[name] for name in sorted(set(PUBLIC) - TABLES)}
    inner = {f: inspect.unwrap(f.__init__ if inspect.isclass(f) else f) for f in public.values()}
    functions = {g.__code__: f for f, g in inner.items() if inspect.isfunction(g)}
    calls = {}

    def hook(frame, event, _):
        function = functions.get(frame.f_code) if event == "call" else None
        if function is not None and function.__name__ not in calls:
            bound = inspect.signature(function).bind_partial()
            bound.arguments |= {n: frame.f_locals[n] for n in bound.signature.parameters}
            calls[function.__name__] = function, bound

    for name in public:
        sys.setprofile(hook)
        try:
            run_example(name)
        finally:
            sys.setprofile(None)
    more = {f.__name__: (f, inspect.signature(f).bind(*a)) for f, *a in MORE}
    for _, bound in more.values():
        bound.apply_defaults()
    return calls | more


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
ALLOWED = """leaky_relu negative_slope negative; squared weights None; Scheme name; Scheme label;
linear_teacher input_spectrum strings; linear_teacher input_spectrum empty;
linear_teacher target_spectrum strings; linear_teacher target_spectrum empty; generator device;
exponent_check seed nonsense; exponent_check activation number; exponent_check device;
coordinate_check seed nonsense; coordinate_check batch; certify weights nan; first_step activation number; predict_exponents residual;
load device; sgd multipliers negative; sgd seeds negative; sgd seeds strings; sgd record empty"""
ALLOWED = {tuple(entry.split()) for entry in ALLOWED.split(";")}
CALLS = {name: call for name, call in recorded().items() if name not in FAST}


def fresh(value):
    """A training state is changed by the run that it is handed to."""
    return value.clone() if isinstance(value, State) else value


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_argument_is_named(as_users_run, name):
    function, valid = CALLS[name]
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
