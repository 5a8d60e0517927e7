"""The settings of the skipping algorithm: thresholds are relative, to the scales named beside."""

from dataclasses import dataclass

from learning_dynamics.runtime import check_choice, check_integer, check_positive, check_share

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How `skip_plateaus` descends, chooses and stops.

    phase      : "fast", or "gradient_descent" with `step_size`, the thesis's own.
    step_size  : eta; also used in the finite-step growth log(1 + eta r)/eta that decides which unit
                 becomes active (None: that of the flow, r).
    choice     : piecewise linear activations: activate the unit that "gradient_descent" activates
                 first, or the "best" one over all starts.
    jump       : size of the activated unit in units of the balance size (`dormant_units.balance`).
    tolerance  : a descent ends when |gradient| <= tolerance * rate * size, the gradient that
                 the unit had when it became active being about rate * size.
    rate_tolerance : rates and curvatures below this share of sigma_1(X) |R| (the largest rate that
                 is possible at the same residual) are taken for zero.
    dormant_tolerance : units with an output below this share of the largest are removed.
    max_stages : stop after so many descents. max_steps : per descent.
    Raises ValueError for values that are not allowed.

    >>> Settings(phase="gradient_descent", step_size=0.05).jump
    1.0
    """

    phase: str = "fast"
    step_size: float | None = None
    choice: str = "gradient_descent"
    jump: float = 1.0
    tolerance: float = 1e-5
    rate_tolerance: float = 1e-6
    dormant_tolerance: float = 1e-6
    max_stages: int | None = None
    max_steps: int = 10_000

    def __post_init__(self) -> None:
        check_choice("phase", self.phase, ("gradient_descent", "fast"))
        check_choice("choice", self.choice, ("gradient_descent", "best"))
        check_positive("jump", self.jump)
        for name in ("tolerance", "rate_tolerance", "dormant_tolerance"):
            check_share(name, getattr(self, name))
        check_integer("max_steps", self.max_steps, least=1)
        if self.max_stages is not None:
            check_integer("max_stages", self.max_stages)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        elif self.phase == "gradient_descent":
            raise ValueError("step_size = None: phase 'gradient_descent' needs a number > 0")
