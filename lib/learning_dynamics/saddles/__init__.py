"""Saddles: gradient descent from small initialisation, plateau by plateau (Arata's thesis)."""

from learning_dynamics.kernels.weights import Weights, forward, gradient, initialise
from learning_dynamics.saddles.deep_nets import (
    deep_forward,
    initialise_deep,
    layers_in_turn,
    layerwise_descent,
    rank_ratios,
)
from learning_dynamics.saddles.linear_nets.linear import linear_descent
from learning_dynamics.saddles.linear_nets.modes import follow_modes, stack_moments
from learning_dynamics.saddles.skipping.algorithm import certify, skip_plateaus
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.theory.alignment import escape, plateau_steps
from learning_dynamics.saddles.theory.extremal_directions import extremal_directions
from learning_dynamics.saddles.theory.growth_bound import growth_bound
from learning_dynamics.saddles.theory.stages import arrival_rate, find_drops, find_stages
from learning_dynamics.saddles.theory.staircase import levels, predict_staircase, rank_k_map
from learning_dynamics.saddles.theory.unit_matrix import unit_gradient, unit_matrix
from learning_dynamics.saddles.two_layer import Stop, geometric_grid, gradient_descent

__all__ = [
    "Settings",
    "Stop",
    "Weights",
    "arrival_rate",
    "certify",
    "deep_forward",
    "escape",
    "extremal_directions",
    "find_drops",
    "find_stages",
    "follow_modes",
    "forward",
    "geometric_grid",
    "gradient",
    "gradient_descent",
    "growth_bound",
    "initialise",
    "initialise_deep",
    "layers_in_turn",
    "layerwise_descent",
    "levels",
    "linear_descent",
    "plateau_steps",
    "predict_staircase",
    "rank_k_map",
    "rank_ratios",
    "skip_plateaus",
    "stack_moments",
    "unit_gradient",
    "unit_matrix",
]
