"""Parametrizations: each layer's multiplier, initial deviation and learning rate by widths.

Layer l of a network with widths n_0, ..., n_L computes g_l W_l h_{l-1} from weights
W_l ~ N(0, (gamma_l sigma_l)^2) that move with learning rate eta eta_l. A *scheme* says how g_l,
sigma_l and eta_l depend on the widths. Every scheme is a product of powers, minima and maxima of
widths, so one rule serves twice: fed with log n_l it gives the numbers (`Parametrization`), fed
with growth exponents alpha_l (n_l ~ n^alpha_l) it gives their exponents (`Exponents`), exactly.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from learning_dynamics.activations import Activation, activation
from learning_dynamics.runtime import check_choice, check_integer, check_positive, fractions

__all__ = [
    "SCHEMES",
    "Exponents",
    "Parametrization",
    "Scheme",
    "WidthFamily",
    "dynamic",
    "gains",
    "mup",
    "scheme",
]

Number = float | int | Fraction


Rule = Callable[[Sequence[Number]], tuple[list[Number], list[Number], list[Number]]]


HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Parametrization:
    """The numbers of one scheme at given widths; entry l-1 of each tuple belongs to layer l.

    widths         : (n_0, ..., n_L), L >= 2.
    multipliers    : g_l > 0.
    init_stds      : sigma_l > 0, without the gain.
    learning_rates : eta_l > 0, relative: the layer moves with eta_l times the global rate.
    gains          : gamma_l > 0; weights start with standard deviation gamma_l sigma_l.
    """

    name: str
    widths: tuple[int, ...]
    multipliers: tuple[float, ...]
    init_stds: tuple[float, ...]
    learning_rates: tuple[float, ...]
    gains: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_widths(self.widths)
        for field in ("multipliers", "init_stds", "learning_rates", "gains"):
            self._check_layers(field, getattr(self, field))

    @property
    def depth(self) -> int:
        """L, the number of weight matrices."""
        return len(self.widths) - 1

    @property
    def weight_stds(self) -> tuple[float, ...]:
        """gamma_l sigma_l, the standard deviation the weights start with."""
        return tuple(c * s for c, s in zip(self.gains, self.init_stds, strict=True))

    @property
    def effective_learning_rates(self) -> tuple[float, ...]:
        """g_l^2 eta_l: what the matrix g_l W_l, which the network really uses, moves with."""
        return tuple(g * g * e for g, e in zip(self.multipliers, self.learning_rates, strict=True))

    def rescaled(self, factors: Sequence[float]) -> "Parametrization":
        """The same training run in another gauge: (theta g, sigma/theta, eta/theta^2) per layer.

        factors : theta_l > 0, one per layer. f is the same at every step of plain SGD
        (the "abc symmetry", {cite}`yanghu2021`).
        """
        self._check_layers("factors", factors)
        return replace(
            self,
            multipliers=tuple(g * t for g, t in zip(self.multipliers, factors, strict=True)),
            init_stds=tuple(s / t for s, t in zip(self.init_stds, factors, strict=True)),
            learning_rates=tuple(
                e / t**2 for e, t in zip(self.learning_rates, factors, strict=True)
            ),
        )

    def with_unit_multipliers(self) -> "Parametrization":
        """The gauge g_l = 1: an ordinary network with one learning rate per layer."""
        return self.rescaled([1 / g for g in self.multipliers])

    def with_unit_learning_rates(self) -> "Parametrization":
        """The gauge eta_l = 1: one global learning rate, as in Utsunomiya's thesis."""
        return self.rescaled([math.sqrt(e) for e in self.learning_rates])

    def _check_layers(self, name: str, values: Sequence[float]) -> None:
        if len(values) != self.depth:
            raise ValueError(f"{name}: {len(values)} values, one per layer ({self.depth}) needed")
        for value in values:
            check_positive(name, value)


@dataclass(frozen=True)
class Exponents:
    """Exponents in n of widths, multipliers, deviations and learning rates (exact fractions).

    widths : (alpha_0, ..., alpha_L); the others have one entry per layer 1..L.
    """

    widths: tuple[Fraction, ...]
    multipliers: tuple[Fraction, ...]
    init_stds: tuple[Fraction, ...]
    learning_rates: tuple[Fraction, ...]


@dataclass(frozen=True)
class Scheme:
    """A rule from widths to parametrizations; call it with widths, ask it for `exponents`.

    rule : (log n_0, ..., log n_L) -> logs of (g_l), (sigma_l), (eta_l), in any ordered field.

    >>> from learning_dynamics import scales
    >>> [str(a) for a in scales.scheme("ntk").exponents((0, 1, 1, 0)).multipliers]
    ['0', '-1/2', '-1/2']
    """

    name: str
    label: str
    rule: Rule

    def __call__(
        self, widths: Sequence[int], hidden_gain: float | Sequence[float] = math.sqrt(2)
    ) -> Parametrization:
        """The parametrization at `widths` = (n_0, ..., n_L).

        hidden_gain : gamma_l of layers 1..L-1: sqrt(2) preserves the RMS through ReLU layers, 1
        through linear ones; gamma_L = 1. Or gamma_1..gamma_L, such as `gains` of unlike layers.
        """
        _check_widths(widths)
        if isinstance(hidden_gain, Sequence) and not isinstance(hidden_gain, str):
            gammas = tuple(hidden_gain)
        else:
            check_positive("hidden_gain", hidden_gain)
            gammas = (hidden_gain,) * (len(widths) - 2) + (1.0,)
        logs = self.rule([math.log(n) for n in widths])
        g, sigma, eta = (tuple(math.exp(float(v)) for v in part) for part in logs)
        return Parametrization(self.name, tuple(widths), g, sigma, eta, gammas)

    def exponents(self, width_exponents: Sequence[int | Fraction | str]) -> Exponents:
        """Exponents of g_l, sigma_l, eta_l for n_l ~ n^alpha_l, as exact fractions.

        width_exponents : (alpha_0, ..., alpha_L), each >= 0, e.g. (0, 1, "1/5", 1, 0).
        """
        alpha = fractions("width_exponents", width_exponents)
        if len(alpha) < 3 or min(alpha) < 0:
            raise ValueError(
                f"width_exponents = {width_exponents}: at least three numbers >= 0 are needed"
            )
        parts = self.rule(alpha)
        return Exponents(alpha, *(tuple(Fraction(v) for v in part) for part in parts))


def _check_widths(widths: Sequence[int]) -> None:
    if len(widths) < 3:
        raise ValueError(
            f"widths = {tuple(widths)}: input, at least one hidden layer and output are needed"
        )
    for n in widths:
        check_integer("width", n, least=1)


def _standard(n: Sequence[Number]) -> tuple[list[Number], list[Number], list[Number]]:
    """g = 1, sigma = fan_in^-1/2, eta = 1."""
    layers = range(1, len(n))
    return (
        [0 * n[k] for k in layers],
        [-HALF * n[k - 1] for k in layers],
        [0 * n[k] for k in layers],
    )


def _mup_wide(n: Sequence[Number]) -> tuple[list[Number], list[Number], list[Number]]:
    """muP of equal widths N with N the widest hidden layer, whatever the layer."""
    wide, last = max(n[1:-1]), len(n) - 1
    g = [HALF * (wide - n[0])] + [0 * wide] * (last - 2) + [-HALF * wide]
    return g, [-HALF * wide] * last, [0 * wide] * last


def _mup_fan_in(n: Sequence[Number]) -> tuple[list[Number], list[Number], list[Number]]:
    """muP with each layer's fan-in in place of N (the input layer: its fan-out)."""
    last = len(n) - 1
    g = [HALF * (n[1] - n[0])] + [0 * n[0]] * (last - 2) + [-HALF * n[last - 1]]
    sigma = [-HALF * n[1]] + [-HALF * n[k - 1] for k in range(2, last + 1)]
    return g, sigma, [0 * n[0]] * last


def _mup_package(n: Sequence[Number]) -> tuple[list[Number], list[Number], list[Number]]:
    """What the `mup` package does with SGD: fan-in deviation, layer rate fan_out/fan_in."""
    last = len(n) - 1
    g = [0 * n[0]] * (last - 1) + [-n[last - 1]]
    sigma = [-HALF * n[k - 1] for k in range(1, last)] + [0 * n[0]]
    eta = [n[k] - n[k - 1] for k in range(1, last)] + [n[last - 1]]
    return g, sigma, eta


def _spectral(n: Sequence[Number]) -> tuple[list[Number], list[Number], list[Number]]:
    """g = sqrt(fan_out/fan_in), sigma = max(fan_in, fan_out)^-1/2 (yangsimonbernstein2023)."""
    layers = range(1, len(n))
    g = [HALF * (n[k] - n[k - 1]) for k in layers]
    return g, [-HALF * max(n[k - 1], n[k]) for k in layers], [0 * n[k] for k in layers]


def _dynamic(r: Fraction) -> Rule:
    def rule(n: Sequence[Number]) -> tuple[list[Number], list[Number], list[Number]]:
        last, gain = len(n) - 1, r * min(n[1:-1])
        g = [gain - HALF * n[k - 1] for k in range(1, last)] + [-HALF * n[last - 1]]
        return g, [-gain] * last, [0 * gain] * last

    return rule


def dynamic(r: float | int | Fraction | str, *, any_r: bool = False) -> Scheme:
    """DP(r) of Utsunomiya's thesis: g = n_min^r/sqrt(fan_in), sigma = n_min^-r.

    n_min is the smallest *hidden* width; the output layer has g_L = fan_in^-1/2.
    r     : richness in [0, 1/2], 0 lazy (= NTK), 1/2 rich (= muP when all widths are equal).
    any_r : admit r outside [0, 1/2] (to show what then fails).

    >>> dynamic("1/4").name
    'dp(1/4)'
    """
    try:
        value = Fraction(r).limit_denominator(10**6)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        raise ValueError(f"r = {r!r}: must be a number in [0, 1/2]") from None
    if not any_r and not 0 <= value <= HALF:
        raise ValueError(f"r = {r!r}: must lie in [0, 1/2] (any_r=True admits others)")
    name = "ntk" if value == 0 else f"dp({value})"
    label = "NTK = DP(0)" if value == 0 else f"DP({value})"
    return Scheme(name, label, _dynamic(value))


def mup(reading: str) -> Scheme:
    """muP for unequal widths, which its source defines for equal ones only; three readings.

    reading : "wide"    every layer uses the widest hidden width,
              "fan-in"  each layer uses its own fan-in (the input layer its fan-out),
              "package" what the Python package `mup` does with SGD.
    On equal hidden widths the three are the same training run up to gauge ({cite}`yanghu2021`).
    """
    readings = {"wide": _mup_wide, "fan-in": _mup_fan_in, "package": _mup_package}
    check_choice("reading", reading, readings)
    return Scheme(f"mup-{reading}", f"muP, {reading}", readings[reading])


#: The schemes of the book, by name. `scheme("dp(1/4)")` makes further members of the DP family.
SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("standard", "standard", _standard),
        dynamic(0),
        mup("wide"),
        mup("fan-in"),
        mup("package"),
        Scheme("spectral", "Spectral", _spectral),
        dynamic(HALF),
    )
}


def scheme(name: str | Scheme) -> Scheme:
    """The scheme called `name`; "dp(r)" with r in [0, 1/2], e.g. "dp(1/4)" or "dp(0.3)".

    A `Scheme` is passed through. Raises ValueError that lists the known names.

    >>> round(scheme("dp(1/2)")((784, 1024, 32, 10)).init_stds[0], 6)  # n_min^-1/2, n_min = 32
    0.176777
    """
    if isinstance(name, Scheme):
        return name
    if not isinstance(name, str):
        raise ValueError(f"name = {name!r}: must be a scheme or its name")
    match = re.fullmatch(r"dp\(([^)]*)\)", name)
    if match:
        return dynamic(match[1])
    check_choice("scheme", name, [*SCHEMES, "dp(r)"])
    return SCHEMES[name]


def gains(
    activations: Sequence[str | Activation | Callable[[Tensor], Tensor]],
) -> tuple[float, ...]:
    """gamma_1..gamma_L that keep the RMS of pre-activations, for psi_1..psi_{L-1} in hidden layers.

    A layer's gain belongs to the activation that feeds it: 1 for the raw input, then
    (E psi(z)^2)^(-1/2) of a standard normal z. Raises ValueError where this is not a number > 0.

    >>> [round(gamma, 3) for gamma in gains(["relu", "linear", "tanh"])]
    [1.0, 1.414, 1.0, 1.593]
    """
    z = torch.linspace(-12, 12, 40001, dtype=torch.float64, device="cpu")
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    found = [1.0]
    for psi in activations:
        square = float(torch.trapezoid(activation(psi)(z).square() * density, z))
        check_positive(f"mean square of {psi}", square)
        found.append(square**-0.5)
    return tuple(found)


@dataclass(frozen=True)
class WidthFamily:
    """Widths that grow together: n_l = round(c_l n^alpha_l).

    exponents  : alpha_0..alpha_L >= 0; strings such as "1/5" are welcome.
    prefactors : c_0..c_L > 0 (input and output: their sizes when alpha = 0).

    >>> WidthFamily((0, 1, "1/2", 0), (784, 1, 4, 10))(256)
    (784, 256, 64, 10)
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
