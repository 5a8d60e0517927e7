"""Machine code of one step of a linear net through W = W2 W1, written at run time for its shape.

The five small products of `kernels.ProductKernel` have the same form, C[a,b] = sum_k A[k,a] B[k,b]
with the index b contiguous. Here a block of C stays in registers while k runs: rows of B are
loaded as vectors, entries of A are spread over them. All matrices of a run fit the fastest cache:

* forward: W = W2 W1, then f = W X;
* backward: C = (eta/n) R X' and its transpose, then by blocks of units W2' <- W2' - W1 C' and
  W1 <- W1 - W2' C, both from the old weights.

The order of all sums depends on the shape and the width of a register only.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir

from learning_dynamics.code_writer import INT, Pieces, Writer, compiled, registers

__all__ = ["ProductCode", "product_code"]

#: Registers that hold a row of B at a time; units or columns taken together at most.
ACROSS, TOGETHER = 4, 8


class ProductCode(NamedTuple):
    """Compiled code; integers are sizes, pointers are addresses of contiguous numbers.

    forward (w1, w2t, x, f, scratch, runs, x_stride, m1, padded)
    backward(w1, w2t, xt, r, scale, scratch, runs, x_stride, m1, padded)
    lanes: numbers in a register; `padded` is n rounded up to it. x: (m0, padded), xt: its
    transpose. x_stride: numbers from one run's X to the next (0: shared). scratch: 2 m0 m2
    numbers. engine: keeps the code alive.
    """

    forward: Any
    backward: Any
    lanes: int
    engine: Any


def _pieces(width: int, lanes: int) -> Pieces:
    """A row of `width` numbers as vectors of at most `lanes`, each a power of two."""
    pieces, at = [], 0
    while at < width:
        count = min(lanes, 1 << (width - at).bit_length() - 1)
        pieces.append((at, count))
        at += count
    return pieces


def _equal(total: int, most: int) -> Iterator[range]:
    """range(total) in runs of nearly equal length, at most `most`."""
    parts = -(-total // max(1, most))
    size = -(-total // parts)
    return (range(i, min(i + size, total)) for i in range(0, total, size))


def _write_forward(w: Writer, m0: int, m2: int, room: int) -> None:
    w1, w2t, x, f, scratch, runs, x_stride, m1, padded = w.arguments
    zero = INT(0)
    with w.loop(zero, runs, 1) as (r, _, _):
        first, inputs = w.times(r, m1), w.at(x, (r, x_stride))
        units1, units2 = w.at(w1, (first, m0)), w.at(w2t, (first, m2))
        outputs = w.at(f, (w.times(r, m2), padded))
        row = _pieces(m0, w.lanes)
        for group in _equal(len(row), ACROSS):  # W = W2 W1
            pieces = [row[i] for i in group]
            for some in _equal(m2, room // len(group) - 1):
                rows = [w.at(units2, j) for j in some]
                sums = w.block(m1, pieces, rows, m2, units1, m0)
                for j, line in zip(some, sums, strict=True):
                    for (at, _), value in zip(pieces, line, strict=True):
                        w.store(value, w.at(scratch, j * m0 + at))
        for some in _equal(m2, room // 2 - 1):  # f = W X
            rows = [w.at(scratch, j * m0) for j in some]
            wide = max(1, min(TOGETHER, room // (len(rows) + 1))) * w.lanes
            whole = w.times(w.build.sdiv(padded, INT(wide)), wide)
            for start, stop, count in ((zero, whole, wide), (whole, padded, w.lanes)):
                with w.loop(start, stop, count) as (t, _, _):
                    pieces = _pieces(count, w.lanes)
                    sums = w.block(INT(m0), pieces, rows, 1, w.at(inputs, t), padded)
                    for j, line in zip(some, sums, strict=True):
                        for (at, _), value in zip(pieces, line, strict=True):
                            w.store(value, w.at(outputs, (padded, j), t, at))


def _write_backward(w: Writer, m0: int, m2: int, room: int) -> None:
    w1, w2t, xt, residual, scale, scratch, runs, x_stride, m1, padded = w.arguments
    zero, row, column = INT(0), _pieces(m0, w.lanes), _pieces(m2, w.lanes)
    turned = w.at(scratch, m0 * m2)

    def less(address: ir.Value, value: ir.Value) -> ir.Value:
        return w.build.fsub(w.load(address, value.type.count), value)

    with w.loop(zero, runs, 1) as (r, _, _):
        first, inputs, eta = w.times(r, m1), w.at(xt, (r, x_stride)), w.at(scale, r)
        units1, units2 = w.at(w1, (first, m0)), w.at(w2t, (first, m2))
        errors = w.at(residual, (w.times(r, m2), padded))
        for group in _equal(len(row), ACROSS):  # C = (eta/n) R X'
            pieces = [row[i] for i in group]
            for some in _equal(m2, room // len(group) - 1):
                rows = [w.at(errors, (padded, j)) for j in some]
                sums = w.block(padded, pieces, rows, 1, inputs, m0)
                for j, line in zip(some, sums, strict=True):
                    for (at, count), value in zip(pieces, line, strict=True):
                        scaled = w.build.fmul(value, w.spread(eta, count))
                        w.store(scaled, w.at(scratch, j * m0 + at))
        with w.loop(zero, INT(m0), 1) as (k, _, _):
            for j in range(m2):
                one = w.load(w.at(scratch, k, j * m0), 1)
                w.store(one, w.at(turned, (k, m2), j))
        across = max(len(g) for g in _equal(len(row), ACROSS))
        most = (room - max(across, len(column))) // (across + len(column))
        together = max(1, min(TOGETHER, most))
        whole = w.times(w.build.sdiv(m1, INT(together)), together)
        for start, stop, count in ((zero, whole, together), (whole, m1, 1)):
            with w.loop(start, stop, count) as (i, _, _):
                units = [w.build.add(i, INT(u)) for u in range(count)]
                rows1 = [w.at(units1, (unit, m0)) for unit in units]
                rows2 = [w.at(units2, (unit, m2)) for unit in units]
                changes = w.block(INT(m0), column, rows1, 1, turned, m2)
                for group in _equal(len(row), ACROSS):  # W2' is still the old one
                    pieces = [row[k] for k in group]
                    sums = w.block(INT(m2), pieces, rows2, 1, scratch, m0)
                    for unit, line in zip(rows1, sums, strict=True):
                        for (at, _), value in zip(pieces, line, strict=True):
                            address = w.at(unit, at)
                            w.store(less(address, value), address)
                for unit, line in zip(rows2, changes, strict=True):
                    for (at, _), value in zip(column, line, strict=True):
                        address = w.at(unit, at)
                        w.store(less(address, value), address)


@lru_cache(maxsize=256)
def product_code(m0: int, m2: int, size: int) -> ProductCode:
    """Code for m0 inputs, m2 outputs and numbers of `size` bytes."""
    width, count = registers()
    lanes = width // size
    code = compiled(
        {
            "forward": (5, 4, lambda w: _write_forward(w, m0, m2, count - 2)),
            "backward": (6, 4, lambda w: _write_backward(w, m0, m2, count - 2)),
        },
        size,
        lanes,
    )
    return ProductCode(code["forward"], code["backward"], lanes, code["engine"])
