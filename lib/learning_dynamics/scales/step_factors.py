"""Factors by which optimizers stretch a layer's step, and what they do to unequal widths.

Muon's step of a layer with fan-in i and fan-out o is eta c(o, i) times a polar factor, which has
spectral norm one. Public optimizers differ in c. From Spectral's start the layer's own norm is
sqrt(o/i), so a step changes it by the share eta e, e = c sqrt(i/o) its *excess*. One eta for all
layers is limited by the largest excess; a layer whose excess is smaller moves by less, in
proportion.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from learning_dynamics.runtime import check_integer, fractions
from learning_dynamics.scales.parametrizations import HALF, Number

__all__ = ["FACTORS", "Factor", "StepExponents", "sign_step_sizes"]


@dataclass(frozen=True)
class StepExponents:
    """Exponents in n of the best global rate, and of each layer's own relative change at it."""

    rate: Fraction
    changes: tuple[Fraction, ...]


@dataclass(frozen=True)
class Factor:
    """c(o, i), by its rule on logarithms (log o, log i) -> log c, up to the `constant`.

    label : in the mathematics of the book. source : who uses it.

    >>> [round(e, 3) for e in FACTORS["original"].excess((64, 1024, 16, 64))]
    [1.0, 8.0, 1.0]
    """

    label: str
    source: str
    rule: Callable[[Number, Number], Number]
    constant: float = 1.0

    def __call__(self, fan_out: int, fan_in: int) -> float:
        """c(o, i) > 0."""
        check_integer("fan_out", fan_out, least=1)
        check_integer("fan_in", fan_in, least=1)
        return self.constant * math.exp(float(self.rule(math.log(fan_out), math.log(fan_in))))

    def excess(self, widths: Sequence[int]) -> tuple[float, ...]:
        """e_l = c(n_l, n_{l-1}) sqrt(n_{l-1}/n_l), one per layer."""
        pairs = zip(widths[1:], widths, strict=False)
        return tuple(self(o, i) * math.sqrt(i / o) for o, i in pairs)

    def exponents(self, width_exponents: Sequence[int | Fraction | str]) -> StepExponents:
        """Of the best rate and of the layers' changes, for n_l ~ n^alpha_l from Spectral's start.

        >>> found = FACTORS["original"].exponents((0, 1, 0, 1, 0))
        >>> str(found.rate), [str(a) for a in found.changes]
        ('-1/2', ['-1/2', '0', '-1/2', '0'])
        """
        alpha = fractions("width_exponents", width_exponents)
        if len(alpha) < 2 or min(alpha) < 0:
            raise ValueError(f"width_exponents = {width_exponents}: allowed are two or more >= 0")
        pairs = zip(alpha[1:], alpha, strict=False)
        own = [Fraction(self.rule(o, i)) - HALF * (o - i) for o, i in pairs]
        return StepExponents(-max(own), tuple(e - max(own) for e in own))


#: The factors of public implementations, by name; the last two are those of `torch.optim.Muon`.
FACTORS: dict[str, Factor] = {
    "spectral": Factor(
        r"$\sqrt{o/i}$", "{cite}`yangsimonbernstein2023`", lambda o, i: HALF * (o - i)
    ),
    "original": Factor(
        r"$\sqrt{\max(1, o/i)}$", "{cite}`jordan2024`", lambda o, i: HALF * max(0 * o, o - i)
    ),
    "match_rms_adamw": Factor(
        r"$0.2\sqrt{\max(o, i)}$", "{cite}`liu2025muon`", lambda o, i: HALF * max(o, i), 0.2
    ),
}


def sign_step_sizes(widths: Sequence[int]) -> tuple[float, ...]:
    """eta_l = 1/sqrt(n_{l-1} n_l): equal budgets of layers under sign steps, from DP's start.

    A sign step of length eta_l lowers the loss by eta_l |dL/dW_l|_1, and the l1 norm of an outer
    product of generic vectors is sqrt(n_{l-1} n_l) times its Frobenius norm, which layer balance
    makes equal. A law of the first step, for Adam's as well.

    >>> sign_step_sizes((4, 16, 1))
    (0.125, 0.25)
    """
    for n in widths:
        check_integer("width", n, least=1)
    return tuple((i * o) ** -0.5 for i, o in zip(widths, widths[1:], strict=False))
