"""A valid call of each public function, and of some that are public in their modules alone.

The first call that the documented examples make; they run once a process, when a test asks.
"""

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


FUNCTIONS = {name: PUBLIC[name] for name in sorted(set(PUBLIC) - TABLES)}
CODE = {f: inspect.unwrap(f.__init__ if inspect.isclass(f) else f) for f in FUNCTIONS.values()}
CODE = {g.__code__: f for f, g in CODE.items() if inspect.isfunction(g)}
NAMES = tuple({f.__name__: None for f in (*CODE.values(), *(f for f, *_ in MORE))})


@cache
def recorded():
    """Name -> (function, arguments of a valid call)."""
    calls = {}

    def hook(frame, event, _):
        function = CODE.get(frame.f_code) if event == "call" else None
        if function is not None and function.__name__ not in calls:
            bound = inspect.signature(function).bind_partial()
            bound.arguments |= {n: frame.f_locals[n] for n in bound.signature.parameters}
            calls[function.__name__] = function, bound

    for name in FUNCTIONS:
        sys.setprofile(hook)
        try:
            run_example(name)
        finally:
            sys.setprofile(None)
    more = {f.__name__: (f, inspect.signature(f).bind(*a)) for f, *a in MORE}
    for _, bound in more.values():
        bound.apply_defaults()
    return calls | more
