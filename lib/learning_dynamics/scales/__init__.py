"""Scales: multipliers and initial scales for networks of unequal widths (Utsunomiya's thesis)."""

from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.scales.applying import parametrize
from learning_dynamics.scales.coordinate_check import coordinate_check
from learning_dynamics.scales.exponent_check import exponent_check
from learning_dynamics.scales.first_step import first_step
from learning_dynamics.scales.fluctuations import tangent_kernel_spread
from learning_dynamics.scales.network import MLP
from learning_dynamics.scales.orders import predict_exponents
from learning_dynamics.scales.parametrizations import (
    SCHEMES,
    Scheme,
    WidthFamily,
    dynamic,
    gains,
    scheme,
)
from learning_dynamics.scales.representations import effective_rank, linear_probe
from learning_dynamics.scales.requirements import PRINTED, solve_requirements
from learning_dynamics.scales.training import initialise, load, save, sgd

__all__ = [
    "MLP",
    "PRINTED",
    "SCHEMES",
    "Scheme",
    "WidthFamily",
    "coordinate_check",
    "dynamic",
    "effective_rank",
    "exponent_check",
    "first_step",
    "gains",
    "hidden",
    "initialise",
    "linear_probe",
    "load",
    "parametrize",
    "predict_exponents",
    "save",
    "scheme",
    "sgd",
    "solve_requirements",
    "tangent_kernel_spread",
]
