"""A family of networks: widths that grow with one size n."""

from dataclasses import dataclass
from fractions import Fraction

from learning_dynamics.runtime import check_integer, check_positive, fractions

__all__ = ["WidthFamily"]


@dataclass(frozen=True)
class WidthFamily:
    """Widths that grow together: n_l = round(c_l n^alpha_l).

    exponents  : alpha_0..alpha_L >= 0; strings such as "1/5" are welcome.
    prefactors : c_0..c_L > 0 (input and output: their sizes when alpha = 0).
    """

    exponents: tuple[Fraction | int | str, ...]
    prefactors: tuple[float | int, ...]

    def __post_init__(self) -> None:
        exponents = fractions("exponents", self.exponents)
        object.__setattr__(self, "exponents", exponents)
        if len(exponents) != len(self.prefactors) or len(exponents) < 3:
            raise ValueError(
                f"exponents and prefactors: {len(exponents)} and {len(self.prefactors)} given; one "
                "of each per width is needed, at least three"
            )
        if min(exponents) < 0:
            raise ValueError(f"exponents = {self.exponents}: must be >= 0")
        for value in self.prefactors:
            check_positive("prefactors", value)

    def __call__(self, n: int) -> tuple[int, ...]:
        """(n_0, ..., n_L) at the size n."""
        check_integer("n", n, least=1)
        return tuple(
            max(1, round(c * n ** float(a)))
            for c, a in zip(self.prefactors, self.exponents, strict=True)
        )
