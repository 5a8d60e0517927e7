"""A valid call of each public function, and of some that are public in their modules alone.

The call that its documented example makes, which ends there; recorded once a process, when a test asks.
"""

import doctest
import inspect
import sys
from functools import cache

import torch

from learning_dynamics import activations, losses
from learning_dynamics.kernels.weights import Weights
from learning_dynamics.problems import linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import theory
from learning_dynamics.saddles.linear_nets import reductions
from learning_dynamics.scales import fluctuations, parametrizations, representations
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
    (theory.growth_bound.outside_norm, UNITS, theory.growth_bound.leading_projector(UNITS)),
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


#: A `Scheme` is made by who writes its rule, in no example.
WITHOUT = {*TABLES, "learning_dynamics.scales.Scheme"}
FUNCTIONS = {name: PUBLIC[name] for name in sorted(set(PUBLIC) - WITHOUT)}
CODE = {n: inspect.unwrap(f.__init__ if inspect.isclass(f) else f) for n, f in FUNCTIONS.items()}
CODE = {name: f.__code__ for name, f in CODE.items() if inspect.isfunction(f)}
NAMES = (*dict.fromkeys(f.__name__ for f in (*map(PUBLIC.get, CODE), *(f for f, *_ in MORE))),)


class Recorded(Exception):
    """Ends an example as soon as it has called its function."""


@cache
def recorded():
    """Name -> (function, arguments of a valid call)."""
    calls = {f.__name__: (f, inspect.signature(f).bind(*a)) for f, *a in MORE}
    for _, bound in calls.values():
        bound.apply_defaults()
    for name, code in CODE.items():
        bound = inspect.signature(FUNCTIONS[name]).bind_partial()

        def hook(frame, event, _):
            if event == "call" and frame.f_code is code:
                bound.arguments |= {n: frame.f_locals[n] for n in bound.signature.parameters}
                raise Recorded

        sys.setprofile(hook)
        try:
            run_example(name, doctest.DebugRunner)
            raise AssertionError(f"{name}: not called by its example")
        except doctest.UnexpectedException as end:
            assert end.exc_info[0] is Recorded, name
        finally:
            sys.setprofile(None)
        calls.setdefault(FUNCTIONS[name].__name__, (FUNCTIONS[name], bound))
    return calls
