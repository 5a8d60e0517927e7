"""What a run can record, and when: named observables, uniform and geometric grids."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from learning_dynamics.runtime import check_integer
from learning_dynamics.saddles.weights import State

__all__ = ["OBSERVABLES", "geometric_grid", "gradient_norm", "uniform_grid"]


def gradient_norm(s: State) -> Tensor:
    """The Euclidean norm of the gradient with respect to all weights, (runs,)."""
    return (
        s.gradients.w1.square().sum((-2, -1)) + s.gradients.w2.square().sum((-2, -1))
    ).sqrt()


#: Named observables: what can be recorded, with the names of their trailing dimensions.
OBSERVABLES: Mapping[str, tuple[Callable[[State], Tensor], tuple[str, ...], str]] = {
    "loss": (lambda s: s.loss, (), "loss"),
    "gradient_norm": (gradient_norm, (), "loss/weight"),
    "w1": (lambda s: s.weights.w1, ("unit", "input"), "1"),
    "w2": (lambda s: s.weights.w2, ("output", "unit"), "1"),
    "units": (lambda s: s.weights.units, ("unit", "coordinate"), "1"),
    "unit_norms": (lambda s: s.weights.units.norm(dim=-1), ("unit",), "1"),
    "unit_singular_values": (
        lambda s: torch.linalg.svdvals(s.weights.units),
        ("mode",),
        "1",
    ),
    "product": (lambda s: s.weights.product, ("output", "input"), "1"),
    "product_singular_values": (
        lambda s: torch.linalg.svdvals(s.weights.product),
        ("mode",),
        "1",
    ),
}


def uniform_grid(steps: int, every: int) -> Int[Tensor, " records"]:
    """Steps 0, every, 2 every, ..., and the last step."""
    check_integer("steps", steps, least=0)
    check_integer("every", every, least=1)
    return torch.unique(torch.cat([torch.arange(0, steps + 1, every), torch.tensor([steps])]))


def geometric_grid(steps: int, records: int) -> Int[Tensor, " records"]:
    """About `records` distinct steps from 0 to `steps`, evenly spaced in the logarithm."""
    check_integer("steps", steps, least=1)
    check_integer("records", records, least=2)
    grid = torch.logspace(0, torch.tensor(float(steps)).log10(), records - 1, dtype=torch.float64)
    return torch.unique(torch.cat([torch.tensor([0, steps]), grid.round().long()]))
