"""Machine code of one layer of a ReLU net, written at run time for the size of a batch.

A layer larger than the caches meets a batch of a hundred: thin products, in which a library reaches
two thirds of its rate for large ones (page Performance). Here W is read where it lies, once for the
pass ahead and once for pass back and update together, and a block of the result stays in registers
(`Writer.block`):

* forward  : h = psi(g W h_below), by groups of rows of W, samples along the registers;
* backward : delta_below = psi'(h_below) * (g W' delta) and W <- W + s delta h_below', by groups of
  columns of W, which lie along the registers.

Samples that do not fill a register are multiplied with features along it. What the next product
needs one feature a row ("turned") is written so. The order of all sums depends on the shape and
the width of a register only.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir

from learning_dynamics.code_writer import INT, Pieces, compiled, registers
from learning_dynamics.scales.thin_layout import (
    BACKWARD_DEPTH,
    COLUMNS,
    FORWARD_DEPTH,
    MANY_ROWS,
    ROWS,
    TOGETHER,
    Layer,
    Sizes,
    near_equal,
)

__all__ = ["ThinCode", "thin_code"]


class ThinCode(NamedTuple):
    """Compiled code; integers are sizes, pointers are addresses of contiguous numbers.

    turn    (source, target, columns): the transpose of source (batch, columns).
    forward (w, h, rest of h, next, rest of next, scales, n_in, n_out, first, last, bend):
            features first..last - 1 of next; bend = 1 for ReLU, 0 for none.
    backward(w, delta, h, scratch, scales, n_in, n_out, first, last): columns first..last - 1 of W
            (at most COLUMNS) take their step, and those features of delta below take h's place.
    update  : the same without delta below; h stays.
    scales  : (g, s). h, next, delta are turned: (features rounded up to `lanes`, padded samples),
            zero where there is none. The rest are the samples from `filled` on, one a row, also
            padded. first is a multiple of `lanes`.
    engine  : keeps the code alive.
    """

    turn: Any
    forward: Any
    backward: Any
    update: Any
    sizes: Sizes
    engine: Any


def _write_turn(w: Layer) -> None:
    source, target, columns = w.arguments
    with w.loop(INT(0), columns, w.lanes) as (j, _, _):
        left = w.build.sub(columns, j)
        for b in range(0, w.padded, w.lanes):
            rows = [
                w.load_part(w.at(source, (columns, b + i), j), left, w.lanes)
                if b + i < w.batch else w.zero(w.lanes)
                for i in range(w.lanes)
            ]
            for i, column in enumerate(w.transposed(rows)):
                w.store(column, w.at(target, (w.add(j, i), w.padded), b))


def _write_forward(w: Layer) -> None:
    weights, turned, rest, turned_next, rest_next, scales, *numbers = w.arguments
    n_in, n_out, first, last, bend = numbers
    stride, stride_next = (w.whole(w.add(n, w.lanes - 1), w.lanes) for n in (n_in, n_out))
    samples = range(w.sizes.rest)
    few = min(w.lanes, TOGETHER, 16 >> (len(samples) - 1).bit_length()) if samples else 1
    strips = [
        (start, size)
        for a, b, size in near_equal(w.filled // w.lanes, w.sizes.across)
        for start in range(a * w.lanes, b * w.lanes, size * w.lanes)
    ]
    relu = w.build.icmp_signed("!=", bend, INT(0))

    def bent(z: ir.Value) -> ir.Value:
        z = w.build.fmul(w.spread(scales, z.type.count), z)
        return w.build.select(relu, w.bend(z, z, 0.0), z)

    def tile(i: ir.Value, size: int, k: ir.Value, length: ir.Value) -> None:
        """Terms k to k + length of the sums that begin at 0 and are bent in the end."""
        new, ready = (w.build.icmp_signed("==", a, b)
                      for a, b in ((k, INT(0)), (w.add(k, length), n_in)))

        def begun(place: ir.Value, lanes: int) -> ir.Value:
            return w.build.select(new, w.zero(lanes), w.load(place, lanes))

        def keep(value: ir.Value, place: ir.Value) -> None:
            w.store(w.build.select(ready, bent(value), value), place)

        rows = [w.at(weights, (w.add(i, m), n_in), k) for m in range(size)]
        for start, across in strips:
            pieces, b = w.pieces(across), w.at(turned, (k, w.padded), start)
            places = [w.at(turned_next, (w.add(i, m), w.padded), start + at)
                      for m in range(size) for at, _ in pieces]
            before = [begun(place, w.lanes) for place in places]
            sums = w.block(length, pieces, rows, 1, b, w.padded, before)
            for place, value in zip(places, (v for line in sums for v in line), strict=True):
                keep(value, place)
        for m in range(0, size, few) if samples else ():
            sums = remainder(rows[m : m + few], k, length)
            for b, total in zip(samples, sums, strict=True):
                place = w.at(rest_next, (stride_next, b), w.add(i, m))
                keep(w.build.fadd(begun(place, total.type.count), total), place)

    def remainder(rows: Sequence[ir.Value], k: ir.Value, length: ir.Value) -> list[ir.Value]:
        """For every sample its sums, one for each of 2^k rows."""
        sums = [w.zero(w.lanes) for _ in samples for _ in rows]
        whole = w.whole(length, w.lanes)
        for start, stop in ((INT(0), whole), (whole, length)):
            with w.loop(start, stop, w.lanes, sums) as (t, sums, new):
                inputs = [w.load(w.at(rest, (stride, b), k, t), w.lanes) for b in samples]
                if stop is whole:
                    lines = [w.load(w.at(row, t), w.lanes) for row in rows]
                else:
                    left = w.build.sub(length, t)
                    lines = [w.load_part(w.at(row, t), left, w.lanes) for row in rows]
                pairs = ((line, x) for x in inputs for line in lines)
                new.extend(w.plus(old, *pair) for old, pair in zip(sums, pairs, strict=True))
        return [w.totals(sums[b * len(rows) : (b + 1) * len(rows)]) for b in samples]

    def turn(i: ir.Value) -> None:
        """The last samples of `lanes` features, also one feature a row."""
        columns = [w.load(w.at(rest_next, (stride_next, b), i), w.lanes) for b in samples]
        columns += [w.zero(w.lanes)] * (w.lanes - len(columns))
        for m, row in enumerate(w.transposed(columns)):
            w.store(row, w.at(turned_next, (w.add(i, m), w.padded), w.filled))

    parts = w.build.sdiv(w.add(n_in, FORWARD_DEPTH - 1), INT(FORWARD_DEPTH))
    depth = w.whole(w.add(w.build.sdiv(w.build.sub(n_in, INT(1)), parts), w.lanes), w.lanes)
    group = w.build.select(w.build.icmp_signed("==", parts, INT(1)), INT(ROWS), INT(MANY_ROWS))
    with w.loop(first, last, group) as (i0, _, _):
        end = w.least(w.add(i0, group), last)
        with w.loop(INT(0), n_in, depth) as (k, _, _):
            length = w.least(depth, w.build.sub(n_in, k))
            w.tiles(i0, end, TOGETHER, lambda i, size: tile(i, size, k, length))
    if samples:
        with w.loop(first, last, w.lanes) as (i, _, _):
            turn(i)


def _write_backward(w: Layer, back: bool) -> None:
    weights, turned, h, scratch, scales, n_in, n_out, first, last = w.arguments
    inputs, found = scratch, w.at(scratch, w.batch * COLUMNS)  # h and delta_below, by strips
    panel = w.at(scratch, 2 * w.batch * COLUMNS)  # a piece of W
    g, s = w.spread(scales, w.lanes), w.spread(w.at(scales, 1), w.lanes)

    def strips(body: Callable[[ir.Value, ir.Value, Pieces], None]) -> None:
        """body(j, place, pieces): strips as wide as a block, then one that holds what is left."""
        wide = w.sizes.strip
        start = w.add(first, w.whole(w.build.sub(last, first), wide))
        ends = [(first, start, w.sizes.across)]
        for vectors in reversed(range(1, w.sizes.across + 1)):
            fits = w.build.icmp_signed("<", INT((vectors - 1) * w.lanes), w.build.sub(last, start))
            stop = w.add(start, w.build.select(fits, INT(vectors * w.lanes), INT(0)))
            ends.append((start, stop, vectors))
            start = stop
        for start, stop, vectors in ends:
            with w.loop(start, stop, vectors * w.lanes) as (j, _, _):
                body(j, w.times(w.build.sub(j, first), w.batch), w.pieces(vectors))

    def left(j: ir.Value, at: int) -> ir.Value:
        return w.build.sub(last, w.add(j, at))

    def gather(j: ir.Value, place: ir.Value, pieces: Pieces) -> None:
        wide = len(pieces) * w.lanes
        for at, count in pieces:
            for b in range(0, w.padded, w.lanes):
                rows = [
                    w.load(w.at(h, (w.add(j, at + m), w.padded), b), count)
                    for m in range(w.lanes)
                ]
                for sample, row in enumerate(w.transposed(rows)[: w.batch - b]):
                    w.store(row, w.at(inputs, place, (b + sample) * wide + at))
                    if back:
                        w.store(w.zero(count), w.at(found, place, (b + sample) * wide + at))

    def products(
        i0: ir.Value, end: ir.Value, j: ir.Value, place: ir.Value, pieces: Pieces
    ) -> None:
        wide = len(pieces) * w.lanes
        if back:
            with w.loop(i0, end, 1) as (i, _, _):
                for at, count in pieces:
                    value = w.load_part(w.at(weights, (i, n_in), j, at), left(j, at), count)
                    w.store(value, w.at(panel, (w.build.sub(i, i0), wide), at))
            for start, stop, size in near_equal(w.batch, w.together(len(pieces))):
                with w.loop(INT(start), INT(stop), size) as (b, _, _):
                    rows = [w.at(turned, (i0, w.padded), b, m) for m in range(size)]
                    w.add_block(w.at(found, place, (b, wide)), wide, w.build.sub(end, i0),
                                pieces, rows, w.padded, panel, wide)
        row_after = w.build.icmp_signed("<", w.add(j, wide), last)
        to_come = w.build.select(row_after, INT(0), INT(BACKWARD_DEPTH))
        column = w.build.select(row_after, w.add(j, wide), first)

        def tile(i: ir.Value, size: int) -> None:
            for m in range(size):
                for at, _ in pieces:
                    w.fetch(w.at(weights, (w.add(i, m, to_come), n_in), column, at))
            rows = [w.at(turned, (w.add(i, m), w.padded)) for m in range(size)]
            sums = w.block(INT(w.batch), pieces, rows, 1, w.at(inputs, place), wide)
            for m, line in enumerate(sums):
                for (at, count), value in zip(pieces, line, strict=True):
                    there = w.at(weights, (w.add(i, m), n_in), j, at)
                    if back:
                        old = w.load(w.at(panel, (w.add(w.build.sub(i, i0), m), wide), at), count)
                    else:
                        old = w.load_part(there, left(j, at), count)
                    w.store_part(w.plus(old, s, value), there, left(j, at))

        w.tiles(i0, end, min(TOGETHER, w.together(len(pieces))), tile)

    def write(j: ir.Value, place: ir.Value, pieces: Pieces) -> None:
        wide = len(pieces) * w.lanes
        for at, count in pieces:
            for b in range(0, w.padded, w.lanes):
                rows = []
                for sample in range(b, b + w.lanes):
                    if sample < w.batch:
                        place_b = w.add(place, sample * wide + at)
                        value = w.build.fmul(g, w.load(w.at(found, place_b), count))
                        rows.append(w.bend(w.load(w.at(inputs, place_b), count), value, 0.0))
                    else:
                        rows.append(w.zero(count))
                for m, column in enumerate(w.transposed(rows)):
                    w.store(column, w.at(h, (w.add(j, at + m), w.padded), b))

    strips(gather)
    with w.loop(INT(0), n_out, BACKWARD_DEPTH) as (i0, _, _):
        end = w.least(w.add(i0, BACKWARD_DEPTH), n_out)
        strips(lambda j, place, pieces: products(i0, end, j, place, pieces))
    if back:
        strips(write)


@lru_cache(maxsize=64)
def thin_code(batch: int, size: int) -> ThinCode:
    """Code for batches of `batch` samples and numbers of `size` bytes."""
    width, count = registers()
    sizes = Sizes(batch, width // size, count - 2)
    code = compiled(
        {
            "turn": (2, 1, _write_turn),
            "forward": (6, 5, _write_forward),
            "backward": (5, 4, lambda w: _write_backward(w, True)),
            "update": (5, 4, lambda w: _write_backward(w, False)),
        },
        size,
        sizes.lanes,
        lambda *arguments: Layer(*arguments, sizes=sizes),
    )
    names = "turn", "forward", "backward", "update"
    return ThinCode(*(code[name] for name in names), sizes, code["engine"])
