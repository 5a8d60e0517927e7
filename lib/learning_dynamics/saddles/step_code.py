"""Machine code of one step of a ReLU or leaky ReLU net, written at run time for its shape.

A processor reaches its peak only while operands stay in registers. Library products cannot do
that here: their inner dimensions are m0 and m2, five or ten numbers, so that every entry of an
m1 x n matrix is stored and read again after a few operations. The code below passes once over
the samples, a tile of them (as many as one register holds) at a time:

* forward, tile by tile: the m0 registers of X' stay; for each unit z = sum_k W1[i,k] X[k] is
  summed, stored, and h = sigma(z) goes straight into the m2 sums f[k] += W2[k,i] h;
* backward, two units at a time, which share what is read of X and R: z is read once;
  p = sigma'(z) sum_k W2[k,i] R[k] and h go straight into the sums over samples of p X' and h R',
  which change the weights in place.

X and R lie tile after tile, so that a tile is one run of memory. The order of all sums depends
on the shape and the width of a register only: results do not depend on threads or chunks.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir

from learning_dynamics.code_writer import INT, Writer, compiled, registers

__all__ = ["StepCode", "step_code"]

#: Units whose sums are interleaved, so that loads are shared and latencies hidden: groups of the
#: first size, then of the next where too few are left.
FORWARD, BACKWARD = (6, 2, 1), (2, 1)


class StepCode(NamedTuple):
    """Compiled code; integers are sizes, pointers are addresses of contiguous numbers.

    forward (w1, w2t, x, z, f, runs, x_stride, m1, padded)
    backward(w1, w2t, x, z, r, scale, scratch, runs, x_stride, m1, padded): z is used up.
    lanes: samples per tile; `padded` is n rounded up to it. x_stride: numbers from one run's X
    to the next (0: shared). scratch: m2 * padded numbers. engine: keeps the code alive.
    """

    forward: Any
    backward: Any
    lanes: int
    engine: Any


def _write_forward(w: Writer, m0: int, m2: int, slope: float) -> None:
    w1, w2, x, z, f, runs, x_stride, m1, padded = w.arguments
    zero, lanes = INT(0), w.lanes
    nothing = [ir.Constant(w.vector(lanes), None)] * m2
    groups = w.groups(zero, m1, FORWARD)
    with w.loop(zero, runs, 1) as (r, _, _):
        first, inputs = w.times(r, m1), w.at(x, (r, x_stride))
        rows1, rows2 = w.at(w1, (first, m0)), w.at(w2, (first, m2))
        rows, outputs = w.at(z, (first, padded)), w.at(f, (w.times(r, m2), padded))
        with w.loop(zero, padded, lanes) as (j, _, _):
            tile = [w.load(w.at(inputs, (j, m0), k * lanes), lanes) for k in range(m0)]
            sums = nothing
            for start, stop, count in groups:
                with w.loop(start, stop, count, sums) as (i, sums, new):
                    units, total = [w.build.add(i, INT(u)) for u in range(count)], list(sums)
                    values: list[ir.Value | None] = [None] * count
                    for k in range(m0):  # units take turns: sums that do not wait for each other
                        for u, unit in enumerate(units):
                            weight = w.spread(w.at(rows1, (unit, m0), k), lanes)
                            values[u] = w.plus(values[u], weight, tile[k])
                    for unit, value in zip(units, values, strict=True):
                        w.store(value, w.at(rows, (unit, padded), j))
                    hidden = [w.bend(value, value, slope) for value in values]
                    for unit, h in zip(units, hidden, strict=True):
                        for k in range(m2):
                            weight = w.spread(w.at(rows2, (unit, m2), k), lanes)
                            total[k] = w.plus(total[k], weight, h)
                    new += total
            for k in range(m2):
                w.store(sums[k], w.at(outputs, (padded, k), j))


def _write_backward(w: Writer, m0: int, m2: int, slope: float, room: int) -> None:
    w1, w2, x, z, f, scale, scratch, runs, x_stride, m1, padded = w.arguments
    zero, lanes = INT(0), w.lanes
    nothing = ir.Constant(w.vector(lanes), None)
    def change(row: ir.Value, sums: Sequence[ir.Value], eta: ir.Value) -> None:
        """row -= eta * sums, in vectors as long as fit."""
        k = 0
        while k < len(sums):
            count = min(lanes, 1 << (len(sums) - k).bit_length() - 1)
            at, rate = w.at(row, k), w.spread(eta, count)
            step = w.plus(w.load(at, count), w.build.fneg(rate), w.totals(sums[k : k + count]))
            w.store(step, at)
            k += count

    def step(numbers: Sequence[ir.Value], inputs: ir.Value, eta: ir.Value) -> None:
        """Sums over samples for some units at once, which share what is read of X and R."""
        # as many sums in one pass as there are registers; the others take p from where z was
        count = len(numbers)
        ends = [min(m0, max(0, (room - m2) // count - 2 * m2))]
        while ends[-1] < m0:
            ends.append(min(m0, ends[-1] + room // count))
        rows = [w.at(z, (unit, padded)) for unit in numbers]
        weights = [
            [w.spread(w.at(w2, (unit, m2), k), lanes) for k in range(m2)] for unit in numbers
        ]
        size = m2 + ends[0]
        with w.loop(zero, padded, lanes, [nothing] * (count * size)) as (j, old, new):
            back = [w.load(w.at(scratch, (j, m2), k * lanes), lanes) for k in range(m2)]
            bent = []
            for row, weight in zip(rows, weights, strict=True):
                value, p = w.load(w.at(row, j), lanes), None
                for k in range(m2):
                    p = w.plus(p, weight[k], back[k])
                p, h = w.bend(value, p, slope), w.bend(value, value, slope)
                if len(ends) > 1:
                    w.store(p, w.at(row, j))
                bent.append((p, h))
            tiles = [w.load(w.at(inputs, (j, m0), k * lanes), lanes) for k in range(ends[0])]
            for u, (p, h) in enumerate(bent):
                mine = old[u * size : (u + 1) * size]
                new += [w.plus(mine[k], h, back[k]) for k in range(m2)]
                new += [w.plus(mine[m2 + k], p, tile) for k, tile in enumerate(tiles)]
        for u, unit in enumerate(numbers):
            change(w.at(w2, (unit, m2)), old[u * size : u * size + m2], eta)
            change(w.at(w1, (unit, m0)), old[u * size + m2 : (u + 1) * size], eta)
        for begin, end in zip(ends, ends[1:], strict=False):
            size = end - begin
            with w.loop(zero, padded, lanes, [nothing] * (count * size)) as (j, old, new):
                tiles = [
                    w.load(w.at(inputs, (j, m0), k * lanes), lanes) for k in range(begin, end)
                ]
                for u, row in enumerate(rows):
                    p = w.load(w.at(row, j), lanes)
                    new += [w.plus(old[u * size + k], p, tile) for k, tile in enumerate(tiles)]
            for u, unit in enumerate(numbers):
                change(w.at(w1, (unit, m0), begin), old[u * size : (u + 1) * size], eta)

    with w.loop(zero, runs, 1) as (r, _, _):
        first, inputs, eta = w.times(r, m1), w.at(x, (r, x_stride)), w.at(scale, r)
        outputs = w.at(f, (w.times(r, m2), padded))
        with w.loop(zero, padded, lanes) as (j, _, _):  # residuals tile after tile
            for k in range(m2):
                value = w.load(w.at(outputs, (padded, k), j), lanes)
                w.store(value, w.at(scratch, (j, m2), k * lanes))
        for start, stop, count in w.groups(zero, m1, BACKWARD):
            with w.loop(start, stop, count) as (i, _, _):
                step([w.add(first, i, u) for u in range(count)], inputs, eta)


@lru_cache(maxsize=256)
def step_code(m0: int, m2: int, slope: float, size: int) -> StepCode:
    """Code for m0 inputs, m2 outputs, sigma(z) = slope * z for z <= 0, numbers of `size` bytes."""
    width, count = registers()
    lanes = width // size
    code = compiled(
        {
            "forward": (5, 4, lambda w: _write_forward(w, m0, m2, slope)),
            "backward": (7, 4, lambda w: _write_backward(w, m0, m2, slope, count - 4)),
        },
        size,
        lanes,
    )
    return StepCode(code["forward"], code["backward"], lanes, code["engine"])
