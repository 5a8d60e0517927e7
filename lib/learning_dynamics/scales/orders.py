"""Exponent calculus: the order in n of everything at initialisation and in the first step.

Widths n_l ~ n^alpha_l, multipliers g_l ~ n^A_l, deviations sigma_l ~ n^S_l and relative learning
rates eta_l ~ n^E_l go in; exponents come out, as exact fractions. An `Order` is the exponent of a
sum of monomials, hence a maximum of affine forms; its coefficients may refer to unknown exponents,
so that the same recursion predicts (all known) and is solved (`requirements.solve_requirements`).

Range: Gaussian independent weights, bias-free network with an activation that keeps the order of
its input, ||x||^2 ~ n_0, fixed batch, residual dL/df of given order, n -> infinity.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from learning_dynamics.scales.parametrizations import Exponents

__all__ = ["QUANTITIES", "Order", "maximum", "orders", "predict_exponents"]

Form = tuple[Fraction, ...]


@dataclass(frozen=True)
class Order:
    """max_i (c_i0 + c_i1 x_1 + c_i2 x_2 + ...): the exponent of a sum of positive monomials.

    forms : the affine forms, as coefficient tuples (constant first) of one length.
    """

    forms: tuple[Form, ...]

    @staticmethod
    def constant(value: int | Fraction, unknowns: int = 0) -> "Order":
        """The exponent `value`."""
        return Order(((Fraction(value), *[Fraction(0)] * unknowns),))

    @staticmethod
    def unknown(index: int, unknowns: int) -> "Order":
        """The unknown exponent x_index, index = 1..unknowns."""
        return Order((tuple(Fraction(int(k == index)) for k in range(unknowns + 1)),))

    def __add__(self, other: "Order") -> "Order":
        return Order(
            _pruned(
                tuple(a + b for a, b in zip(f, g, strict=True))
                for f in self.forms
                for g in other.forms
            )
        )

    def __mul__(self, factor: int | Fraction) -> "Order":
        if factor < 0 and len(self.forms) > 1:
            raise ValueError("the negative of a maximum is not a maximum")
        return Order(tuple(tuple(factor * a for a in f) for f in self.forms))

    def __sub__(self, other: "Order") -> "Order":
        return self + other * -1

    @property
    def value(self) -> Fraction:
        """The exponent, when nothing is unknown."""
        if len(self.forms) > 1 or any(self.forms[0][1:]):
            raise ValueError("this order still depends on unknown exponents")
        return self.forms[0][0]


def _pruned(forms: Iterable[Form]) -> tuple[Form, ...]:
    """Distinct forms; of those that differ in their constant alone, the largest."""
    best: dict[Form, Fraction] = {}
    for form in forms:
        best[form[1:]] = max(form[0], best.get(form[1:], form[0]))
    return tuple((c, *rest) for rest, c in best.items())


def maximum(*terms: Order) -> Order:
    """The exponent of a sum: the largest of the exponents of its terms."""
    return Order(_pruned(f for term in terms for f in term.forms))


#: Quantity -> what it is. Entry l-1 belongs to layer l. h~_l is the pre-activation of one input,
#: delta_l = dL/dh~_l, Delta the first-order change in the first step per unit learning rate.
QUANTITIES: dict[str, str] = {
    "preactivation_rms": "RMS of h~_l",
    "backward_norm": "|delta_l|",
    "own_change_norm": "|g_l dW_l h_{l-1}|, the part of Delta h~_l from the layer's own weights",
    "upstream_change_norm": "|g_l W_l Delta h_{l-1}|, the part from layers before (none: l = 1)",
    "change_norm": "|Delta h~_l|",
    "change_rms": "RMS of Delta h~_l, the change per neuron",
    "own_contribution": "|<delta_l, own part>| = eta_l |dL/dW_l|^2, the loss layer l removes",
    "contribution": "|<delta_l, Delta h~_l>|, the loss layers 1..l remove",
    "cosine": "|cos| of the angle between delta_l and Delta h~_l",
    "gradient_norm": "Frobenius norm of dL/dW_l",
    "weight_norm": "spectral norm of g_l W_l",
    "update_norm": "spectral norm of g_l dW_l",
    "backward_update_ratio": "|g_{l+1} dW_{l+1}' delta_{l+1}| / |delta_l| (none: l = L)",
}


def orders(
    widths: Sequence[Fraction],
    multipliers: Sequence[Order],
    init_stds: Sequence[Order],
    learning_rates: Sequence[Order],
    residual: int | Fraction = 0,
) -> dict[str, list[Order | None]]:
    """Order of every quantity in `QUANTITIES` and layer (None where the quantity does not exist).

    widths   : alpha_0..alpha_L; the other sequences have one entry per layer.
    residual : exponent of |dL/df|.

    Two facts carry the recursion (chapter "Order analysis"). For W with deviation sigma and a fixed
    v, |W v| ~ sigma sqrt(fan_out) |v|. And for u = W'd, W v splits into the part along d, of size
    <u, v>/|d|, and an independent rest of size sigma sqrt(fan_out) |v|.
    """
    depth = len(multipliers)
    unknowns = len(multipliers[0].forms[0]) - 1
    half = Fraction(1, 2)

    def number(value: int | Fraction) -> Order:
        return Order.constant(value, unknowns)

    g, sigma, eta = multipliers, init_stds, learning_rates
    root = [number(half * a) for a in widths]  # sqrt(n_l)

    rms = [number(0)]  # of h_l; the input has RMS 1
    for k in range(depth):
        rms.append(rms[k] + g[k] + sigma[k] + root[k])
    norm = [a + b for a, b in zip(rms, root, strict=True)]  # |h_l|

    delta: list[Order] = [number(residual)]
    for k in range(depth - 1, 0, -1):
        delta.insert(0, delta[0] + g[k] + sigma[k] + root[k])

    own = [eta[k] + g[k] * 2 + norm[k] * 2 + delta[k] for k in range(depth)]
    share = [own[k] + delta[k] for k in range(depth)]
    total, below, contribution = [own[0]], share[0], [share[0]]
    upstream: list[Order | None] = [None]
    for k in range(1, depth):
        passed = maximum(below - delta[k], g[k] + sigma[k] + root[k + 1] + total[k - 1])
        upstream.append(passed)
        total.append(maximum(own[k], passed))
        below = maximum(below, share[k])
        contribution.append(below)

    layers = range(depth)
    wide = [number(half * max(a, b)) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    result: dict[str, list[Order | None]] = {
        "preactivation_rms": list(rms[1:]),
        "backward_norm": list(delta),
        "own_change_norm": list(own),
        "upstream_change_norm": upstream,
        "change_norm": list(total),
        "change_rms": [total[k] - root[k + 1] for k in layers],
        "own_contribution": list(share),
        "contribution": list(contribution),
        "gradient_norm": [g[k] + norm[k] + delta[k] for k in layers],
        "weight_norm": [g[k] + sigma[k] + wide[k] for k in layers],
        "update_norm": [eta[k] + g[k] * 2 + norm[k] + delta[k] for k in layers],
        "backward_update_ratio": [
            *(share[k + 1] - norm[k + 1] - delta[k] for k in range(depth - 1)),
            None,
        ],
    }
    if not unknowns:  # a quotient of maxima has an order only when both are known
        result["cosine"] = [contribution[k] - delta[k] - total[k] for k in layers]
    return result


def predict_exponents(
    exponents: Exponents, residual: int | Fraction = 0
) -> dict[str, tuple[Fraction | None, ...]]:
    """Predicted exponent in n of every quantity, one per layer, for a scheme's `Exponents`.

    exponents : from `Scheme.exponents(alpha)`; any depth, any pattern of widths.
    residual  : exponent of |dL/df|; 0 means of order one (as it is when f(x) = O(1)).

    >>> from learning_dynamics import scales
    >>> exponents = scales.scheme("dp(1/2)").exponents((0, 1, "1/2", 0))
    >>> [str(a) for a in predict_exponents(exponents)["change_norm"]]
    ['1/4', '1/4', '0']
    """
    g, sigma, eta = (
        [Order.constant(v) for v in part]
        for part in (exponents.multipliers, exponents.init_stds, exponents.learning_rates)
    )
    found = orders(exponents.widths, g, sigma, eta, residual)
    return {name: tuple(None if o is None else o.value for o in found[name]) for name in QUANTITIES}
