"""Predicates on measured numbers: what may be written, its truth, and whether it says anything."""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

__all__ = ["evaluate", "vacuous"]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.BitAnd: np.logical_and,
    ast.BitOr: np.logical_or,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "all": np.all,
    "any": np.any,
    "max": np.max,
    "min": np.min,
    "sum": np.sum,
    "mean": np.mean,
    "diff": np.diff,
}
LONGEST_PREDICATE = 1000  # characters; the longest of the book has half as many
LARGEST_CONSTANT = 1e6  # no bound of the book is above 50


def evaluate(expression: str, numbers: Mapping[str, Any]) -> bool:
    """The truth of a predicate such as `all(abs(measured - predicted) <= tolerance)`.

    Names are those in `numbers`; + - * /, comparisons, and/or/not, indexing by an integer and
    abs, all, any, max, min, sum, mean, diff are allowed. Anything else is a ValueError.
    """

    def walk(node: ast.AST) -> Any:
        match node:
            case ast.Expression(body=body):
                return walk(body)
            case ast.Constant(value=int() | float() as value) if value <= LARGEST_CONSTANT:
                return np.float64(value)
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
                sides = [walk(left), *map(walk, rights)]
                links = zip(ops, sides, sides[1:], strict=False)
                truths = [_COMPARE[type(op)](a, b) for op, a, b in links]
                return truths[0] if len(truths) == 1 else np.logical_and.reduce(truths)
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

    try:
        with np.errstate(all="ignore"):
            return bool(np.all(walk(_parsed(expression))))
    except (TypeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"predicate {expression!r}: {error}") from None


@cache
def _parsed(expression: str) -> ast.Expression:
    if not isinstance(expression, str) or len(expression) > LONGEST_PREDICATE:
        raise ValueError(f"predicate {expression!r:.80}: at most {LONGEST_PREDICATE} characters")
    try:
        return ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"predicate {expression!r:.80}: {error}") from None


@cache
def vacuous(expression: str) -> str | None:
    """Why a predicate decides nothing, None if it decides.

    It must name a measured number, some numbers must make it false, and each of its comparisons
    must be true for some numbers and false for others: `1 < 2`, `measured == measured` and
    `0 * measured <= 1` are not. The numbers tried are drawn anew for each name.
    """
    try:
        tree = _parsed(expression)
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - set(_CALLS)
        comparisons = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Compare)]
        if not comparisons or not names - {"predicted", "tolerance"}:
            return "compares no measured number"
        tried = list(_draws(tree, sorted(names)))
        for part in comparisons:
            if not all(any(evaluate(part, n) is truth for n in tried) for truth in (True, False)):
                return f"{part!r} comes out the same whatever is measured"
        if all(evaluate(expression, numbers) for numbers in tried):
            return "is true whatever is measured"
        if "[" not in expression and "diff" not in expression:  # so it may be of single numbers
            single = ({name: value[0] for name, value in numbers.items()} for numbers in tried)
            if all(evaluate(expression, numbers) for numbers in single):
                return "is true whatever single numbers are measured"
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return str(error)
    return None


def _draws(tree: ast.AST, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Numbers to try a predicate with: level, rising and falling ones, near its constants too."""
    values = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    constants = {value for value in values if isinstance(value, int | float)}
    shapes = np.ones(16), np.linspace(-1, 1, 16), np.linspace(1, -1, 16)
    levels = sorted({0.0, 1.0, 1e-30, 1e6} | {c for c in constants if c < 1e3})
    pool = [sign * level * shape for level in levels for shape in shapes for sign in (1, -1)]
    draw = np.random.default_rng(0)
    for _ in range(200):
        yield {name: pool[draw.integers(len(pool))] for name in names}
