"""The ledger: what is claimed, what was measured, what the predicate says.

`claims.yml` holds one entry per claim; each names a function that measures it. The verdict is
computed from the measured numbers and never typed.
"""

import ast
import importlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

__all__ = [
    "STATUSES",
    "Claim",
    "Evidence",
    "evaluate",
    "measure",
    "moved",
    "read_claims",
    "record",
    "verdict",
]

STATUSES = ("proved", "derived", "observed", "conditional", "conjectured", "refuted")
Numbers = float | list[float]


@dataclass(frozen=True)
class Evidence:
    """What one measurement of a claim returns.

    measured, predicted, tolerance : a number or a list of numbers of equal length.
    seeds   : the seeds used (empty for a deterministic computation).
    details : further named numbers (or lists of them) that the predicate may use.
    """

    measured: Numbers
    predicted: Numbers
    tolerance: Numbers
    seeds: list[int] = field(default_factory=list)
    details: Mapping[str, Numbers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.numbers().items():
            if not np.all(np.isfinite(np.asarray(value, dtype=float))):
                raise ValueError(f"evidence {name} = {value}: must be finite numbers")

    def numbers(self) -> dict[str, np.ndarray]:
        """All named numbers, as arrays."""
        named = {"measured": self.measured, "predicted": self.predicted,
                 "tolerance": self.tolerance, **self.details}
        return {k: np.asarray(v, dtype=float) for k, v in named.items()}


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger.

    id        : wing/name. thesis: "000", "002" or "ours" (whose claim it is).
    statement : in our words. label: theorem or section of the book that states it.
    status    : one of STATUSES. range: where it was tested. refuted_by: what would refute it.
    measure   : "module:function"; called as function(quick=bool) -> Evidence.
    predicate : expression over `measured`, `predicted`, `tolerance` and the details.
    printed   : optional predicate of the statement as the thesis prints it.
    reproduce : relative tolerance within which a rerun must give the recorded numbers.
    reproduce_absolute : absolute tolerance beside it, for numbers that are mere rounding.
    tests, figures : evidence by name: pytest ids and figure labels.
    audit     : too slow for `make test`; re-measured by `make audit`.
    """

    id: str
    thesis: str
    statement: str
    label: str
    status: str
    range: str
    refuted_by: str
    measure: str
    predicate: str
    tests: list[str]
    figures: list[str]
    printed: str | None = None
    reproduce: float = 1e-6
    reproduce_absolute: float = 1e-9
    audit: bool = False

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"{self.id}: status = {self.status!r}: allowed are {STATUSES}")
        if self.thesis not in ("000", "002", "ours"):
            raise ValueError(f"{self.id}: thesis = {self.thesis!r}: allowed are 000, 002, ours")


def read_claims(path: Path) -> list[Claim]:
    """The claims in `claims.yml`, in order. Raises ValueError for unknown, missing or double ids."""
    entries = yaml.safe_load(path.read_text())
    claims = []
    for entry in entries:
        try:
            claims.append(Claim(**entry))
        except TypeError as error:
            raise ValueError(f"{path.name}, claim {entry.get('id')}: {error}") from None
    ids = [c.id for c in claims]
    if len(ids) != len(set(ids)):
        double = sorted({i for i in ids if ids.count(i) > 1})
        raise ValueError(f"{path.name}: ids used twice: {', '.join(double)}")
    return claims


def measure(claim: Claim, *, quick: bool = False) -> Evidence:
    """Run the measurement that the claim names."""
    module, _, function = claim.measure.partition(":")
    return getattr(importlib.import_module(module), function)(quick=quick)


_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.BitAnd: np.logical_and, ast.BitOr: np.logical_or,
}
_COMPARE = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}
_CALLS = {
    "abs": np.abs, "all": np.all, "any": np.any, "max": np.max, "min": np.min,
    "sum": np.sum, "mean": np.mean, "len": np.size, "diff": np.diff,
}


def evaluate(expression: str, numbers: Mapping[str, Any]) -> bool:
    """The truth of a predicate such as `all(abs(measured - predicted) <= tolerance)`.

    Names are those in `numbers`; arithmetic, comparisons, and/or/not, indexing by an integer and
    abs, all, any, max, min, sum, mean, len, diff are allowed. Anything else is a ValueError.
    """

    def walk(node: ast.AST) -> Any:
        match node:
            case ast.Expression(body=body):
                return walk(body)
            case ast.Constant(value=int() | float() as value):
                return value
            case ast.Name(id=name) if name in numbers:
                return numbers[name]
            case ast.BinOp(left=a, op=op, right=b) if type(op) in _BINARY:
                return _BINARY[type(op)](walk(a), walk(b))
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return -walk(a)
            case ast.UnaryOp(op=ast.Not(), operand=a):
                return not np.all(walk(a))
            case ast.BoolOp(op=op, values=values):
                parts = [bool(np.all(walk(v))) for v in values]
                return all(parts) if isinstance(op, ast.And) else any(parts)
            case ast.Compare(left=left, ops=ops, comparators=rights) if all(
                type(op) in _COMPARE for op in ops
            ):
                values = [walk(left), *map(walk, rights)]
                parts = [
                    _COMPARE[type(op)](a, b)
                    for op, a, b in zip(ops, values, values[1:], strict=False)
                ]
                return parts[0] if len(parts) == 1 else np.logical_and.reduce(parts)
            case ast.Subscript(value=value, slice=ast.Constant(value=int() as index)):
                return walk(value)[index]
            case ast.Subscript(
                value=value,
                slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as index)),
            ):
                return walk(value)[-index]
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CALLS:
                return _CALLS[name](*map(walk, args))
        raise ValueError(f"predicate {expression!r}: cannot use {ast.unparse(node)!r}")

    return bool(np.all(walk(ast.parse(expression, mode="eval"))))


def verdict(claim: Claim, evidence: Evidence) -> str:
    """`holds`, `holds-corrected` or `fails`, computed.

    With a `printed` predicate: holds if the printed statement passes, holds-corrected if only
    ours does.
    """
    numbers = evidence.numbers()
    ours = evaluate(claim.predicate, numbers)
    if claim.printed is None:
        return "holds" if ours else "fails"
    if evaluate(claim.printed, numbers):
        return "holds"
    return "holds-corrected" if ours else "fails"


def record(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    """The ledger's record of one measured claim, ready for JSON."""
    return {
        "id": claim.id,
        "thesis": claim.thesis,
        "status": claim.status,
        "verdict": verdict(claim, evidence),
        **asdict(evidence),
    }


def moved(
    old: Mapping[str, Any], new: Mapping[str, Any], rtol: float, atol: float = 0.0
) -> Sequence[str]:
    """Names of the numbers that differ between two records by more than atol + rtol |old|."""
    names = []
    flat_old = {**old, **old.get("details", {})}
    flat_new = {**new, **new.get("details", {})}
    keys = (set(flat_old) | set(flat_new)) - {"details", "id", "thesis"}
    for key in sorted(keys):
        a, b = flat_old.get(key), flat_new.get(key)
        try:
            x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        except (TypeError, ValueError):
            if a != b:
                names.append(key)
            continue
        if x.shape != y.shape or not np.allclose(y, x, rtol=rtol, atol=atol):
            names.append(key)
    return names
