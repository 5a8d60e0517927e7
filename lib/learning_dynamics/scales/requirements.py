"""Which multipliers and deviations meet given requirements: exact solution over the rationals.

The unknowns are the exponents A_l of g_l and S_l of sigma_l, the learning rate is Theta(1). A
requirement compares an `Order` with zero. Orders are maxima of affine forms, so the solutions are
a finite union of polyhedra; each is returned as an affine family with its inequalities, and every
bound carries the names of the requirements it comes from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import cast

from learning_dynamics.runtime import check_choice, fractions
from learning_dynamics.scales.orders import Form, Order, orders

__all__ = [
    "PRINTED",
    "REQUIREMENTS",
    "THESIS",
    "Bound",
    "Family",
    "Requirement",
    "solve_requirements",
]

Orders = dict[str, list[Order]]


@dataclass(frozen=True)
class Requirement:
    """`name` in words; `terms` gives (layer, order) pairs, each to be `relation` zero.

    relation : "=", "<=" or ">=".
    """

    name: str
    relation: str
    terms: Callable[[Orders, Sequence[Fraction]], list[tuple[int, Order]]]

    def __post_init__(self) -> None:
        check_choice("relation", self.relation, ("=", "<=", ">="))


def _layers(quantity: str, first: int, last: int) -> Callable:
    """Layers first..L+last of a quantity; a `first` of 0 or less is counted from L as well."""

    def terms(found: Orders, widths: Sequence[Fraction]) -> list[tuple[int, Order]]:
        depth = len(widths) - 1
        start = first if first > 0 else depth + first
        return [(k, found[quantity][k - 1]) for k in range(start, depth + last + 1)]

    return terms


def _same_total_norm(found: Orders, widths: Sequence[Fraction]) -> list[tuple[int, Order]]:
    norms = found["change_norm"]
    return [(k + 1, norms[k] - norms[0]) for k in range(1, len(norms) - 1)]


def _printed_gradient(found: Orders, widths: Sequence[Fraction]) -> list[tuple[int, Order]]:
    norms = found["change_norm"]
    roots = [Order.constant(a / 2, len(norms[0].forms[0]) - 1) for a in widths]
    return [(k, norms[k - 1] - roots[k - 1]) for k in range(2, len(norms))]


#: Requirements by name: the precise ones, then the ones Utsunomiya's thesis prints.
REQUIREMENTS: dict[str, Requirement] = {
    "forward": Requirement(
        "hidden pre-activations of order one", "=", _layers("preactivation_rms", 1, -1)
    ),
    "own contribution": Requirement(
        "own weights of every layer lower the loss by order one",
        "=",
        _layers("own_contribution", 1, 0),
    ),
    "gradient": Requirement(
        "backward, the update does not outweigh the weights",
        "<=",
        _layers("backward_update_ratio", 1, -1),
    ),
    "output": Requirement(
        "the initial output does not diverge", "<=", _layers("preactivation_rms", 0, 0)
    ),
    "forward everywhere": Requirement(
        "all pre-activations of order one, output included", "=", _layers("preactivation_rms", 1, 0)
    ),
    "total contribution": Requirement(
        "the total change lowers the loss by order one", "=", _layers("contribution", 1, 0)
    ),
    "output change": Requirement(
        "the output changes by order one", "=", _layers("change_norm", 0, 0)
    ),
    "equal norms": Requirement("all hidden |Delta h~_l| of one order", "=", _same_total_norm),
    "printed gradient": Requirement("|Delta h~_l| = O(sqrt(n_{l-1}))", "<=", _printed_gradient),
    "last change": Requirement("|Delta h~_{L-1}| = Omega(1)", ">=", _layers("change_norm", -1, -1)),
}

#: Utsunomiya's thesis made precise: their solution is Dynamic Parametrization.
THESIS = ("forward", "own contribution", "gradient", "output")
#: The requirements as printed on the slides.
PRINTED = (
    "forward everywhere",
    "total contribution",
    "output change",
    "printed gradient",
    "last change",
)


@dataclass(frozen=True)
class Bound:
    """A bound of a linear functional, with the requirements (name, layer) that make it."""

    value: Fraction
    because: frozenset[tuple[str, int]]


Row = tuple[Form, frozenset[tuple[str, int]]]  # form <= 0 (or = 0) and its reasons


@dataclass(frozen=True)
class Family:
    """One polyhedron of solutions in the unknowns (A_1..A_L, S_1..S_L).

    widths       : alpha_0..alpha_L.
    equalities   : forms that vanish, reduced; inequalities: forms that are <= 0.
    """

    widths: tuple[Fraction, ...]
    equalities: tuple[Row, ...]
    inequalities: tuple[Row, ...]

    @property
    def depth(self) -> int:
        """L."""
        return len(self.widths) - 1

    @cached_property
    def free(self) -> tuple[int, ...]:
        """Indices 1..2L of the unknowns that remain free (S_1 first choice)."""
        pivots = {_pivot(form) for form, _ in self.equalities}
        return tuple(i for i in range(1, 2 * self.depth + 1) if i not in pivots)

    @property
    def dimension(self) -> int:
        """How many exponents can be chosen freely (within the inequalities)."""
        return len(self.free)

    def expressed(self, form: Form) -> Form:
        """`form` in terms of the free unknowns."""
        return _reduce(form, self.equalities)

    def multiplier(self, layer: int) -> Form:
        """A_l as an affine form in the free unknowns (constant first)."""
        return self.expressed(_unit(layer, 2 * self.depth))

    def init_std(self, layer: int) -> Form:
        """S_l as an affine form in the free unknowns."""
        return self.expressed(_unit(self.depth + layer, 2 * self.depth))

    def bounds(self, form: Form) -> tuple[Bound | None, Bound | None]:
        """Smallest and largest value of `form` over the family, None where unbounded."""
        target = (*(-c for c in self.expressed(form)), Fraction(1))  # z - form = 0
        rows = [((*f, Fraction(0)), why) for f, why in self.inequalities]
        rows += [(target, frozenset()), (tuple(-c for c in target), frozenset())]
        for index in self.free:
            rows = _eliminate(rows, index)
        low = high = None
        for f, why in rows:
            slope, value = f[-1], f[0]
            if slope > 0 and (high is None or -value / slope < high.value):
                high = Bound(-value / slope, why)
            if slope < 0 and (low is None or -value / slope > low.value):
                low = Bound(-value / slope, why)
        return low, high

    def richness(self) -> tuple[Bound | None, Bound | None]:
        """Bounds of r, where sigma_1 = Theta(n_min^-r)."""
        smallest = min(self.widths[1:-1])
        form = tuple(-c / smallest for c in _unit(self.depth + 1, 2 * self.depth))
        return self.bounds(form)

    def contains(self, multipliers: Sequence[Fraction], init_stds: Sequence[Fraction]) -> bool:
        """Whether given exponents of g_l and sigma_l belong to the family."""
        point = (Fraction(1), *multipliers, *init_stds)

        def at(form: Form) -> Fraction:
            return sum((c * x for c, x in zip(form, point, strict=True)), Fraction(0))

        return all(at(f) == 0 for f, _ in self.equalities) and all(
            at(f) <= 0 for f, _ in self.inequalities
        )


def _unit(index: int, unknowns: int) -> Form:
    return tuple(Fraction(int(k == index)) for k in range(unknowns + 1))


def _pivot(form: Form) -> int:
    """The unknown an equality is solved for: A before S, high layers before low."""
    depth = (len(form) - 1) // 2
    order = [*range(depth, 0, -1), *range(2 * depth, depth, -1)]
    return next((i for i in order if form[i]), 0)


def _reduce(form: Form, equalities: Sequence[Row]) -> Form:
    for other, _ in equalities:
        factor = form[_pivot(other)]
        if factor:
            form = tuple(a - factor * b for a, b in zip(form, other, strict=True))
    return form


def _with_equality(rows: tuple[Row, ...], form: Form, why: frozenset) -> tuple[Row, ...] | None:
    """Reduced equalities with one more; None if they contradict each other."""
    form = _reduce(form, rows)
    pivot = _pivot(form)
    if not pivot:
        return rows if form[0] == 0 else None
    form = tuple(a / form[pivot] for a in form)
    kept = tuple((_reduce(f, [(form, why)]), w) for f, w in rows)
    return (*kept, (form, why))


def _eliminate(rows: Sequence[Row], index: int) -> list[Row]:
    """Fourier-Motzkin: the inequalities (form <= 0) left when one unknown may take any value."""
    up = [r for r in rows if r[0][index] > 0]
    down = [r for r in rows if r[0][index] < 0]
    kept = {r[0]: r[1] for r in rows if r[0][index] == 0}
    for f, a in up:
        for h, b in down:
            new = tuple(x * -h[index] + y * f[index] for x, y in zip(f, h, strict=True))
            if any(new[1:]) or new[0] > 0:
                scale = next((abs(c) for c in new[1:] if c), Fraction(1))
                new = tuple(c / scale for c in new)
                kept.setdefault(new, a | b)
    return list(kept.items())


def _feasible(family: Family) -> bool:
    rows: list[Row] = list(family.inequalities)
    for index in family.free:
        rows = _eliminate(rows, index)
    return all(f[0] <= 0 for f, _ in rows)


def _branches(family: Family, order: Order, relation: str, why: frozenset) -> list[Family]:
    """The family cut by one requirement on one order; several where a maximum must be attained."""
    if relation == "<=":
        choices: list[Form | None] = [None]
    elif relation == "=":
        reduced = {f: _reduce(f, family.equalities) for f in order.forms}
        met = [f for f, r in reduced.items() if not any(r)]
        choices = [None] if met else [f for f, r in reduced.items() if any(r[1:])]
    else:
        choices = list(order.forms)
    found = []
    for chosen in choices:
        equalities: tuple[Row, ...] | None = family.equalities
        extra = [] if relation == ">=" else list(order.forms)
        if chosen is not None and relation == "=":
            equalities = _with_equality(family.equalities, chosen, why)
        elif chosen is not None:
            extra = [tuple(-c for c in chosen)]
        if equalities is None:
            continue
        rows: dict[Form, frozenset] = {}
        for f, w in [*family.inequalities, *((f, why) for f in extra)]:
            r = _reduce(f, equalities)
            if any(r[1:]) or r[0] > 0:
                rows.setdefault(r, w)
        cut = Family(family.widths, equalities, tuple(rows.items()))
        if _feasible(cut):
            found.append(cut)
    return found


def solve_requirements(
    width_exponents: Sequence[int | Fraction | str],
    requirements: Sequence[str | Requirement] = THESIS,
) -> list[Family]:
    """All (g, sigma), as exponents in n, that meet the requirements; [] if none does.

    width_exponents : alpha_0..alpha_L, the hidden ones > 0 (hidden widths grow).
    requirements    : names in `REQUIREMENTS` or `Requirement`s.
    The families together are the whole solution set.

    >>> len(solve_requirements((0, 1, "1/2", 1, 0)))
    1
    """
    widths = fractions("width_exponents", width_exponents)
    if len(widths) < 3 or min(widths[1:-1]) <= 0:
        raise ValueError(f"width_exponents = {width_exponents}: hidden widths must grow (> 0)")
    depth = len(widths) - 1
    number = 2 * depth
    quantities = orders(
        widths,
        [Order.unknown(k, number) for k in range(1, depth + 1)],
        [Order.unknown(depth + k, number) for k in range(1, depth + 1)],
        [Order.constant(0, number)] * depth,
    )
    found = cast(Orders, quantities)  # requirements read layers where their quantity exists
    families = [Family(widths, (), ())]
    for item in requirements:
        if not isinstance(item, Requirement):
            check_choice("requirement", item, REQUIREMENTS)
            item = REQUIREMENTS[item]
        for layer, order in item.terms(found, widths):
            why = frozenset([(item.name, layer)])
            families = [c for f in families for c in _branches(f, order, item.relation, why)]
    return families
