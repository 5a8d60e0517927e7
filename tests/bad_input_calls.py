"""Valid calls of the public functions, from which `test_bad_inputs` makes bad ones.

Results of earlier calls and callables are taken as they are; only plain arguments are replaced.
One table with one entry a function, and therefore longer than a file of code.
"""

import torch

from learning_dynamics import activations, losses, problems
from learning_dynamics.kernels import weights
from learning_dynamics.problems import Moments, Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import deep_nets as layerwise
from learning_dynamics.saddles import two_layer
from learning_dynamics.saddles import two_layer as observables
from learning_dynamics.saddles.linear_nets import linear, modes, reductions
from learning_dynamics.saddles.skipping import algorithm as skipping
from learning_dynamics.saddles.theory import alignment as plateaus
from learning_dynamics.saddles.theory import extremal_directions as directions
from learning_dynamics.saddles.theory import growth_bound as descent
from learning_dynamics.saddles.theory import stages, staircase
from learning_dynamics.saddles.theory import stages as resting
from learning_dynamics.saddles.theory import unit_matrix as units
from learning_dynamics.scales import (
    applying,
    first_step,
    fluctuations,
    network,
    parametrizations,
    representations,
    requirements,
    training,
)
from learning_dynamics.scales import parametrizations as width_family
from learning_dynamics.scales.coordinate_check import fit_slope
from learning_dynamics.scales.first_step import spectral_norm

__all__ = ["ALLOWED", "CALLS", "ELSEWHERE", "WORDS"]


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=generator("bad inputs", *shape))


PROBLEM = linear_teacher(generator=generator("bad inputs"))
MOMENTS = PROBLEM.moments()
NET = weights.initialise((6, 5, 4), 0.1, [generator("bad inputs")])
UNITS = NET.units
STAIRCASE = staircase.predict_staircase(MOMENTS, 0.05)
DEEP = layerwise.initialise_deep((6, 5, 5, 4), 0.1, [generator("bad inputs")])
PATTERN = parametrizations.scheme("dp(1/2)")((6, 16, 4, 16, 3))
LOSSES = torch.linspace(1, 0.1, 30, dtype=torch.float64)
STEPS = torch.arange(30)
SHRINKING = torch.linspace(-10, 0, 20, dtype=torch.float64).exp()[:, None]
STREAM = generator("bad inputs")
SQUARED = {"activation": "relu", "loss": "squared"}

#: Module and name -> the function and arguments of a valid call.
CALLS = {
    "activations.activation": (activations.activation, {"name": "relu"}),
    "activations.leaky_relu": (activations.leaky_relu, {"negative_slope": 0.1}),
    "losses.loss": (losses.loss, {"name": "squared"}),
    "losses.huber": (losses.huber, {"threshold": 1.0}),
    "losses.squared": (losses.squared, {"weights": rand(4, 9)}),
    "problems.random_orthogonal": (problems.random_orthogonal, {"size": 3, "generator": STREAM}),
    "problems.Problem": (Problem, {"inputs": rand(6, 9), "targets": rand(4, 9)}),
    "problems.Moments": (Moments, {"xx": MOMENTS.xx, "yx": MOMENTS.yx, "yy": MOMENTS.yy}),
    "problems.linear_teacher": (
        linear_teacher,
        {
            "generator": STREAM,
            "samples": 40,
            "output_dim": 4,
            "noise": 0.1,
            "covariance": "generic",
        },
    ),
    "saddles.weights.initialise": (
        weights.initialise,
        {"widths": (6, 5, 4), "init_scale": 0.1, "generators": [STREAM]},
    ),
    "saddles.weights.forward": (
        weights.forward,
        {"weights": NET, "inputs": PROBLEM.inputs, "activation": "relu"},
    ),
    # weights.gradient is left out: it is called at every step, also on weights that have diverged
    "saddles.two_layer.gradient_descent": (
        two_layer.gradient_descent,
        {
            "weights": NET,
            "problem": PROBLEM,
            "step_size": 0.05,
            "steps": 5,
            **SQUARED,
            "on_divergence": "raise",
        },
    ),
    "saddles.linear.linear_descent": (
        linear.linear_descent,
        {"weights": NET, "problem": PROBLEM, "step_size": 0.05, "steps": 5, "tolerance": 1e-10},
    ),
    "saddles.reductions.compress": (reductions.compress, {"problem": PROBLEM}),
    "saddles.reductions.gaussian_narrow": (
        reductions.gaussian_narrow,
        {"widths": (6, 50, 4), "init_scale": 0.1, "generator": STREAM},
    ),
    "saddles.reductions.narrow": (reductions.narrow, {"weights": NET}),
    "saddles.modes.follow_modes": (
        modes.follow_modes,
        {
            "moments": modes.stack_moments([MOMENTS]),
            "units": UNITS,
            "step_size": 0.05,
            "steps": 4,
            "every": 2,
            "rotate_every": 20,
        },
    ),
    "saddles.modes.stack_moments": (modes.stack_moments, {"batch": [MOMENTS], "repeat": 2}),
    "saddles.observables.uniform_grid": (observables.uniform_grid, {"steps": 10, "every": 2}),
    "saddles.observables.geometric_grid": (
        observables.geometric_grid,
        {"steps": 100, "records": 10},
    ),
    "saddles.plateaus.correlation": (
        plateaus.correlation,
        {"inputs": rand(6, 9), "gradient": rand(4, 9)},
    ),
    "saddles.plateaus.escape": (plateaus.escape, {"residual": MOMENTS.yx}),
    "saddles.plateaus.update_matrix": (
        plateaus.update_matrix,
        {"residual": MOMENTS.yx, "step_size": 0.1},
    ),
    "saddles.plateaus.worst_angle": (
        plateaus.worst_angle,
        {"units": UNITS, "direction": rand(1, 10)},
    ),
    "saddles.plateaus.modes_at_escape": (
        plateaus.modes_at_escape,
        {
            "modes": (SHRINKING * torch.tensor([1.0, 0.1, 0.01]))[None],
            "escape_number": 1,
            "threshold": 0.1,
        },
    ),
    "saddles.plateaus.plateau_steps": (
        plateaus.plateau_steps,
        {"moments": MOMENTS, "units": 1e-6 * UNITS[0], "step_size": 0.05, "threshold": 0.1},
    ),
    "saddles.staircase.finite_step_rate": (
        staircase.finite_step_rate,
        {"rates": rand(3), "step_size": 0.1},
    ),
    "saddles.staircase.commutes": (staircase.commutes, {"moments": MOMENTS, "tolerance": 1e-10}),
    "saddles.staircase.rank_k_map": (staircase.rank_k_map, {"moments": MOMENTS, "k": 2}),
    "saddles.staircase.rank_k_optimum": (staircase.rank_k_optimum, {"moments": MOMENTS, "k": 2}),
    "saddles.staircase.residual_correlation": (
        staircase.residual_correlation,
        {"moments": MOMENTS, "k": 2},
    ),
    "saddles.staircase.levels": (staircase.levels, {"moments": MOMENTS}),
    "saddles.staircase.recursion": (
        staircase.recursion,
        {"rates": STAIRCASE.rates, "step_size": 0.05, "spare": 2},
    ),
    "saddles.staircase.predict_staircase": (
        staircase.predict_staircase,
        {"moments": MOMENTS, "step_size": 0.05},
    ),
    "saddles.staircase.Staircase.drop_steps": (STAIRCASE.drop_steps, {"init_scale": 1e-8}),
    "saddles.resting.arrival_rate": (
        resting.arrival_rate,
        {"moments": MOMENTS, "k": 1, "step_size": 0.05},
    ),
    "saddles.resting.log_excess": (
        resting.log_excess,
        {"moments": MOMENTS, "staircase": STAIRCASE, "k": 1, "init_scale": 1e-8},
    ),
    "saddles.stages.find_stages": (
        stages.find_stages,
        {
            "losses": LOSSES[None],
            "levels": torch.tensor([[1.0, 0.5, 0.2]]).double(),
            "steps": STEPS,
        },
    ),
    "saddles.stages.crossing_steps": (
        stages.crossing_steps,
        {"values": LOSSES[None], "thresholds": torch.tensor([[0.5]]).double(), "steps": STEPS},
    ),
    "saddles.stages.find_drops": (
        stages.find_drops,
        {"losses": LOSSES, "steps": STEPS, "prominence": 1.0},
    ),
    "saddles.descent.growth_bound": (
        descent.growth_bound,
        {"update": rand(10, 10), "projector": rand(10, 10)},
    ),
    "saddles.descent.leading_projector": (descent.leading_projector, {"units": UNITS, "k": 1}),
    "saddles.descent.outside_norm": (
        descent.outside_norm,
        {"units": UNITS, "projector": rand(1, 10, 10)},
    ),
    "saddles.units.unit_matrix": (
        units.unit_matrix,
        {"weights": NET, "problem": PROBLEM, **SQUARED, "form": "secant"},
    ),
    "saddles.units.unit_error": (
        units.unit_error,
        {"weights": NET, "problem": PROBLEM, **SQUARED, "form": "secant"},
    ),
    "saddles.units.unit_gradient": (
        units.unit_gradient,
        {"weights": NET, "problem": PROBLEM, **SQUARED},
    ),
    "saddles.units.from_units": (units.from_units, {"units": UNITS, "inputs": 6}),
    "saddles.layerwise.initialise_deep": (
        layerwise.initialise_deep,
        {"widths": (6, 5, 5, 4), "init_scale": 0.1, "generators": [STREAM]},
    ),
    "saddles.layerwise.layerwise_descent": (
        layerwise.layerwise_descent,
        {
            "weights": DEEP,
            "problem": PROBLEM,
            "step_size": 0.05,
            "sweeps": 3,
            "schedule": "cyclic",
            **SQUARED,
        },
    ),
    "saddles.layerwise.layers_in_turn": (
        layerwise.layers_in_turn,
        {
            "weights": DEEP,
            "problem": PROBLEM,
            "step_size": 0.05,
            "most_steps": 3,
            "order": (0, 1),
            "tolerance": 1e-3,
        },
    ),
    "saddles.directions.extremal_directions": (
        directions.extremal_directions,
        {
            "inputs": rand(2, 5),
            "residual": rand(1, 5),
            "activation": "relu",
            "starts": 4,
            "generator": STREAM,
            "iterations": 5,
            "tolerance": 1e-6,
        },
    ),
    "saddles.directions.distinct_directions": (
        directions.distinct_directions,
        {"units": UNITS[0], "angle": 5.0, "floor": 0.01},
    ),
    "saddles.skipping.skip_plateaus": (
        skipping.skip_plateaus,
        {
            "problem": PROBLEM,
            "width": 10,
            **SQUARED,
            "activation": "linear",
            "architecture": "dense",
        },
    ),
    "saddles.skipping.Settings": (
        skipping.Settings,
        {
            "phase": "fast",
            "choice": "best",
            "jump": 1.0,
            "tolerance": 1e-4,
            "rate_tolerance": 1e-3,
        },
    ),
    "scales.parametrizations.dynamic": (parametrizations.dynamic, {"r": "1/2"}),
    "scales.parametrizations.mup": (parametrizations.mup, {"reading": "wide"}),
    "scales.parametrizations.scheme": (parametrizations.scheme, {"name": "dp(1/2)"}),
    "scales.parametrizations.Scheme": (
        parametrizations.scheme("spectral"),
        {"widths": (6, 16, 4, 16, 3), "hidden_gain": 1.0},
    ),
    "scales.parametrizations.Scheme.exponents": (
        parametrizations.scheme("spectral").exponents,
        {"width_exponents": (0, 1, "1/5", 1, 0)},
    ),
    "scales.requirements.solve_requirements": (
        requirements.solve_requirements,
        {"width_exponents": (0, 1, "1/5", 1, 0), "requirements": ("forward",)},
    ),
    "scales.width_family.WidthFamily": (
        width_family.WidthFamily,
        {"exponents": (0, 1, 0), "prefactors": (8, 1, 2)},
    ),
    "scales.applying.gain": (applying.gain, {"function": torch.relu}),
    "scales.coordinate_check.fit_slope": (
        fit_slope,
        {"sizes": (10, 20, 40), "values": 1 + rand(3, 4)},
    ),
    "scales.first_step.first_step": (
        first_step,
        {
            "weights": network.initial_weights(PATTERN, STREAM),
            "parametrization": PATTERN,
            "inputs": rand(6, 2),
            "output_gradient": lambda f: f - 1,
            "activation": "relu",
            "step_size": 0.1,
        },
    ),
    "scales.first_step.spectral_norm": (spectral_norm, {"matrix": rand(5, 4), "steps": 4}),
    "scales.fluctuations.contributions": (
        fluctuations.contributions,
        {"hidden_widths": (5, 3), "draws": 4, "generator": STREAM, "chunk": 1000},
    ),
    "scales.fluctuations.inverse_width_sum": (
        fluctuations.inverse_width_sum,
        {"hidden_widths": (5, 3)},
    ),
    "scales.fluctuations.last_layer_spread": (
        fluctuations.last_layer_spread,
        {"hidden_widths": (5, 3)},
    ),
    "scales.fluctuations.tangent_kernel_spread": (
        fluctuations.tangent_kernel_spread,
        {"hidden_widths": (5, 3)},
    ),
    "scales.fluctuations.spread": (fluctuations.spread, {"values": rand(9)}),
    "scales.representations.effective_rank": (
        representations.effective_rank,
        {"features": rand(1, 4, 9)},
    ),
    "scales.representations.linear_alignment": (
        representations.linear_alignment,
        {"a": rand(1, 4, 9), "b": rand(1, 3, 9)},
    ),
    "scales.representations.linear_probe": (
        representations.linear_probe,
        {
            "features": rand(1, 4, 9),
            "targets": rand(2, 9),
            "test_features": rand(1, 4, 7),
            "test_targets": rand(2, 7),
            "ridge": 1e-3,
        },
    ),
    "scales.training.batch_order": (training.batch_order, {"seed": 0, "epoch": 1, "samples": 9}),
    "scales.training.initialise": (
        training.initialise,
        {"widths": (6, 8, 3), "init_stds": (1.0, 1.0), "seeds": [0]},
    ),
    "scales.training.sgd": (
        training.sgd,
        {
            "problem": Problem(rand(6, 12).float(), rand(3, 12).float()),
            "state": training.initialise((6, 8, 3), (1.0, 1.0), [0]),
            "multipliers": (1.0, 1.0),
            "seeds": [0],
            "step_size": 0.1,
            "steps": 2,
            "batch_size": 4,
            "momentum": 0.0,
            **SQUARED,
        },
    ),
}

#: Argument -> other words by which a message may name it.
WORDS = {
    "weights": ("w1", "w2", "W_", "u:", "v:"),
    "widths": ("m0", "m1", "width", "init_stds has"),
    "name": ("activation =", "loss =", "scheme ="),
    "observables": ("observable",),
    "seeds": ("seed",),
    "epoch": ("seed",),
    "hidden_widths": ("hidden width",),
    "requirements": ("requirement",),
}

#: What looks bad and is not: (function, argument, kind).
ALLOWED = {
    ("losses.squared", "weights", "None"),  # no weights
    ("activations.leaky_relu", "negative_slope", "negative"),  # a kink like any other
    ("scales.coordinate_check.fit_slope", "values", "integers"),  # any positive numbers
    ("scales.training.sgd", "multipliers", "negative"),  # a sign only turns the output
    # a seed may be any integer or word
    ("scales.training.batch_order", "seed", "negative"),
    ("scales.training.batch_order", "seed", "string"),
    ("scales.training.batch_order", "epoch", "negative"),
    ("scales.training.batch_order", "epoch", "string"),
    ("scales.training.initialise", "seeds", "negative"),
    ("scales.training.initialise", "seeds", "strings"),
    ("scales.training.sgd", "seeds", "negative"),
    ("scales.training.sgd", "seeds", "strings"),
    ("scales.first_step.first_step", "activation", "number"),  # read as one per layer
}

#: Arguments whose checks are those of another function or test: (function, argument).
ELSEWHERE = {
    ("scales.training.sgd", "problem"),
    ("scales.training.sgd", "multipliers"),
    ("saddles.layerwise.layerwise_descent", "problem"),
    ("saddles.layerwise.layers_in_turn", "problem"),
    ("saddles.layerwise.layers_in_turn", "order"),
    ("saddles.skipping.skip_plateaus", "problem"),
}
