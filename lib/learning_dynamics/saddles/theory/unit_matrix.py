"""The unit-wise form of gradient descent (Lemma 1 of Arata's thesis)."""

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.activations import Activation
from learning_dynamics.activations import activation as find_activation
from learning_dynamics.losses import Loss, check_labels
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_choice, check_integer, check_tensors
from learning_dynamics.saddles.two_layer import Weights, gradient

__all__ = ["FORMS", "from_units", "unit_error", "unit_gradient", "unit_matrix"]

#: Which slope stands in the lower left block of M_i.
FORMS = ("secant", "printed")


def from_units(units: Float[Tensor, "*runs m1 coordinate"], inputs: int) -> Weights:
    """The weights whose units w_i (rows) are given; the first `inputs` coordinates are W1."""
    check_tensors(units=(units, "*runs m1 coordinate"))
    check_integer("inputs", inputs, least=1)
    size = units.shape[-1]
    if not 0 < inputs < size:
        raise ValueError(f"inputs = {inputs}: must lie strictly between 0 and {size}")
    return Weights(units[..., :inputs], units[..., inputs:].mT)


def unit_matrix(
    weights: Weights,
    problem: Problem,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    form: str = "secant",
) -> Float[Tensor, "*runs m1 coordinate coordinate"]:
    """M_i with w_i(t+1) = (I - eta M_i) w_i(t), one matrix per unit, (*runs, m1, m0+m2, m0+m2).

        M_i = [[0, X D_i G'], [(X E_i G')', 0]],   D_i = diag sigma'(z_i),   z_i = w_i1 X.

    form : "secant": E_i = diag(sigma(z_i)/z_i), exact for every activation with sigma(0) = 0;
           "printed": E_i = D_i, as Arata's thesis has it; exact where sigma(z) = z sigma'(z), that
           is for positively 1-homogeneous activations (linear, ReLU, leaky ReLU).
    M_i depends on t through G and, unless sigma is linear, on the unit through D_i.

    >>> import torch
    >>> from learning_dynamics import Problem, saddles
    >>> problem = Problem(torch.eye(2), torch.ones(1, 2))
    >>> weights = saddles.Weights(torch.zeros(3, 2), torch.zeros(1, 3))
    >>> unit_matrix(weights, problem)[0]  # M = -[[0, R'], [R, 0]] at the origin
    tensor([[ 0.0000,  0.0000, -0.5000],
            [ 0.0000,  0.0000, -0.5000],
            [-0.5000, -0.5000,  0.0000]])
    """
    check_choice("form", form, FORMS)
    check_tensors(weights=(weights, Weights), problem=(problem, Problem))
    act, criterion = find_activation(activation), find_loss(loss)
    check_labels(criterion, problem.targets)
    z = weights.w1 @ problem.inputs
    g = criterion.gradient(weights.w2 @ act(z), problem.targets)
    slope = act.derivative(z)
    secant = slope if form == "printed" else act.secant(z)
    if not bool(torch.isfinite(secant).all()):
        raise ValueError(
            f"activation = {act.name!r}: sigma(0) is not 0 and a unit has z = 0, where sigma(z)/z "
            "does not exist; form='printed' has no such quotient"
        )
    x, g = problem.inputs[..., None, :, :], g[..., None, :, :]  # a dimension for the unit
    # The law's own matrix, not a gradient: what is claimed is that it gives the gradient.
    upper = (x * slope[..., None, :]) @ g.mT  # (*runs, m1, m0, m2)
    lower = g @ (x * secant[..., None, :]).mT  # (*runs, m1, m2, m0)
    m0, m2 = upper.shape[-2:]
    top = torch.cat([upper.new_zeros(*upper.shape[:-1], m0), upper], dim=-1)
    bottom = torch.cat([lower, lower.new_zeros(*lower.shape[:-1], m2)], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def unit_gradient(
    weights: Weights,
    problem: Problem,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
) -> Float[Tensor, "*runs m1 coordinate"]:
    """dL/dw_i, the gradient of L arranged by units, from the kernel.

    >>> import torch
    >>> from learning_dynamics import Problem, saddles
    >>> problem = Problem(torch.eye(2), torch.ones(1, 2))
    >>> unit_gradient(saddles.Weights(torch.zeros(3, 2), torch.ones(1, 3)), problem)[0]
    tensor([-0.5000, -0.5000,  0.0000])
    """
    check_tensors(weights=(weights, Weights), problem=(problem, Problem))
    return gradient(weights, problem, activation=activation, loss=loss).gradients.units


def unit_error(
    weights: Weights,
    problem: Problem,
    *,
    activation: str | Activation = "linear",
    loss: str | Loss = "squared",
    form: str = "secant",
) -> Float[Tensor, " *runs"]:
    """Relative error of one step in unit-wise form: max over units |M_i w_i - dL/dw_i|/|dL/dw_i|.

    It does not depend on the step size. Units with zero gradient count as exact if M_i w_i = 0.
    """
    m = unit_matrix(weights, problem, activation=activation, loss=loss, form=form)
    step = (m @ weights.units[..., None])[..., 0]
    truth = unit_gradient(weights, problem, activation=activation, loss=loss)
    gap, size = (step - truth).norm(dim=-1), truth.norm(dim=-1)
    return torch.where(gap == 0, gap, gap / size).amax(-1)
