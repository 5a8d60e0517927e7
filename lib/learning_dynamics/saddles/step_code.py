"""Machine code of one step of a ReLU or leaky ReLU net, written at run time for its shape.

A processor reaches its peak only while operands stay in registers. Library products cannot do
that here: their inner dimensions are m0 and m2, five or ten numbers, so that every entry of an
m1 x n matrix is stored and read again after a few operations. The code below passes once over
the samples, a tile of them (as many as one register holds) at a time:

* forward, tile by tile: the m0 registers of X' stay; for each unit z = sum_k W1[i,k] X[k] is
  summed, stored, and h = sigma(z) goes straight into the m2 sums f[k] += W2[k,i] h;
* backward, unit by unit: z is read once; p = sigma'(z) sum_k W2[k,i] R[k] and h go straight into
  the sums over samples of p X' and h R', which change the weights in place.

X and R lie tile after tile, so that a tile is one run of memory. The order of all sums depends
on the shape and the width of a register only: results do not depend on threads or chunks.
LLVM (through `llvmlite`) turns this into instructions in a tenth of a second per shape.
"""

import ctypes
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

__all__ = ["StepCode", "register_file", "step_code"]

INT, PTR, SHORT = ir.IntType(64), ir.PointerType(), ir.IntType(32)
#: Units whose forward sums are interleaved, so that loads are shared and latencies hidden.
TOGETHER = 4


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


@lru_cache
def register_file() -> tuple[int, int] | None:
    """Bytes of a vector register and how many there are; None: no fused multiply-add known."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("fma"):
        return 64, 32
    if features.get("avx2") and features.get("fma"):
        return 32, 16
    return (16, 32) if platform.machine().lower() in ("aarch64", "arm64") else None


class _Writer:
    """Writes one function: a thin layer over LLVM's builder for vectors of `lanes` numbers."""

    def __init__(
        self, module: ir.Module, name: str, pointers: int, integers: int, size: int, lanes: int
    ) -> None:
        self.real = ir.DoubleType() if size == 8 else ir.FloatType()
        self.size, self.lanes = size, lanes
        kind = ir.FunctionType(ir.VoidType(), [PTR] * pointers + [INT] * integers)
        function = ir.Function(module, kind, name)
        for argument in function.args[:pointers]:
            argument.add_attribute("noalias")
        self.arguments, self.module = function.args, module
        self.build = ir.IRBuilder(function.append_basic_block())

    def vector(self, lanes: int) -> ir.VectorType:
        return ir.VectorType(self.real, lanes)

    def at(self, base: ir.Value, *terms: "ir.Value | int | tuple") -> ir.Value:
        """The address base + sum of terms; a pair is a product."""
        for term in terms:
            term = self.times(*term) if isinstance(term, tuple) else term
            term = INT(term) if isinstance(term, int) else term
            base = self.build.gep(base, [term], source_etype=self.real)
        return base

    def times(self, a: ir.Value, b: "ir.Value | int") -> ir.Value:
        return self.build.mul(a, INT(b) if isinstance(b, int) else b)

    def load(self, address: ir.Value, lanes: int) -> ir.Value:
        return self.build.load(address, typ=self.vector(lanes), align=self.size)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        self.build.store(value, address, align=self.size)

    def spread(self, address: ir.Value, lanes: int) -> ir.Value:
        """One number in all lanes."""
        empty = ir.Constant(self.vector(lanes), ir.Undefined)
        one = self.build.load(address, typ=self.real)
        first = self.build.insert_element(empty, one, SHORT(0))
        return self.shuffle(first, first, [0] * lanes)

    def shuffle(self, a: ir.Value, b: ir.Value, index: Sequence[int]) -> ir.Value:
        mask = ir.Constant(ir.VectorType(SHORT, len(index)), list(index))
        return self.build.shuffle_vector(a, b, mask)

    def plus(self, total: ir.Value | None, a: ir.Value, b: ir.Value) -> ir.Value:
        """total + a b with one rounding; a sum that has not begun is None."""
        if total is None:
            return self.build.fmul(a, b)
        name = f"llvm.fma.v{a.type.count}f{8 * self.size}"
        fma = self.module.globals.get(name) or ir.Function(
            self.module, ir.FunctionType(a.type, [a.type] * 3), name
        )
        return self.build.call(fma, [a, b, total])

    def bend(self, z: ir.Value, value: ir.Value, slope: float) -> ir.Value:
        """value where z > 0, slope * value elsewhere; NaN stays NaN."""
        zero = ir.Constant(z.type, None)
        low = zero
        if slope:
            low = self.build.fmul(value, ir.Constant(z.type, [slope] * z.type.count))
        return self.build.select(self.build.fcmp_ordered("<=", z, zero), low, value)

    def totals(self, vectors: Sequence[ir.Value]) -> ir.Value:
        """The sums over lanes of 2^k vectors, as one vector: halves are added, all at once."""
        pieces, parts = list(vectors), 1
        while len(pieces) > 1 or pieces[0].type.count > parts:
            half = pieces[0].type.count // parts // 2
            pairs = [(v, v) for v in pieces]
            if len(pieces) > 1:
                pairs, parts = list(zip(pieces[::2], pieces[1::2], strict=True)), 2 * parts
            low = [2 * half * p + k for p in range(parts) for k in range(half)]
            high = [k + half for k in low]
            pieces = [
                self.build.fadd(self.shuffle(a, b, low), self.shuffle(a, b, high))
                for a, b in pairs
            ]
        return pieces[0]

    @contextmanager
    def loop(
        self, start: ir.Value, stop: ir.Value, step: int, carried: Sequence[ir.Value] = ()
    ) -> Iterator[tuple[ir.Value, list[ir.Value], list[ir.Value]]]:
        """for i in range(start, stop, step): gives i, the carried values, a list for the new."""
        build, before = self.build, self.build.block
        head, body, done = (build.append_basic_block() for _ in range(3))
        build.branch(head)
        build.position_at_end(head)
        phis = [build.phi(v.type) for v in (start, *carried)]
        for phi, value in zip(phis, (start, *carried), strict=True):
            phi.add_incoming(value, before)
        build.cbranch(build.icmp_signed("<", phis[0], stop), body, done)
        build.position_at_end(body)
        new: list[ir.Value] = []
        yield phis[0], phis[1:], new
        following = [build.add(phis[0], INT(step)), *new]
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, build.block)
        build.branch(head)
        build.position_at_end(done)


def _write_forward(w: _Writer, m0: int, m2: int, slope: float) -> None:
    w1, w2, x, z, f, runs, x_stride, m1, padded = w.arguments
    zero, lanes = INT(0), w.lanes
    nothing = [ir.Constant(w.vector(lanes), None)] * m2
    whole = w.times(w.build.sdiv(m1, INT(TOGETHER)), TOGETHER)
    with w.loop(zero, runs, 1) as (r, _, _):
        first, inputs = w.times(r, m1), w.at(x, (r, x_stride))
        rows1, rows2 = w.at(w1, (first, m0)), w.at(w2, (first, m2))
        rows, outputs = w.at(z, (first, padded)), w.at(f, (w.times(r, m2), padded))
        with w.loop(zero, padded, lanes) as (j, _, _):
            tile = [w.load(w.at(inputs, (j, m0), k * lanes), lanes) for k in range(m0)]
            sums = nothing
            for start, stop, count in ((zero, whole, TOGETHER), (whole, m1, 1)):
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
    w.build.ret_void()


def _write_backward(w: _Writer, m0: int, m2: int, slope: float, registers: int) -> None:
    w1, w2, x, z, f, scale, scratch, runs, x_stride, m1, padded = w.arguments
    zero, lanes = INT(0), w.lanes
    nothing = ir.Constant(w.vector(lanes), None)
    # as many sums in one pass as there are registers; the others take p from where z was
    room = registers - 4
    ends = [min(m0, max(0, room - 3 * m2))]
    while ends[-1] < m0:
        ends.append(min(m0, ends[-1] + room))

    def change(row: ir.Value, sums: Sequence[ir.Value], eta: ir.Value) -> None:
        """row -= eta * sums, in vectors as long as fit."""
        k = 0
        while k < len(sums):
            count = min(lanes, 1 << (len(sums) - k).bit_length() - 1)
            at, rate = w.at(row, k), w.spread(eta, count)
            step = w.plus(w.load(at, count), w.build.fneg(rate), w.totals(sums[k : k + count]))
            w.store(step, at)
            k += count

    with w.loop(zero, runs, 1) as (r, _, _):
        first, inputs, eta = w.times(r, m1), w.at(x, (r, x_stride)), w.at(scale, r)
        outputs = w.at(f, (w.times(r, m2), padded))
        with w.loop(zero, padded, lanes) as (j, _, _):  # residuals tile after tile
            for k in range(m2):
                value = w.load(w.at(outputs, (padded, k), j), lanes)
                w.store(value, w.at(scratch, (j, m2), k * lanes))
        with w.loop(zero, m1, 1) as (i, _, _):
            unit = w.build.add(first, i)
            row, row1, row2 = w.at(z, (unit, padded)), w.at(w1, (unit, m0)), w.at(w2, (unit, m2))
            weights = [w.spread(w.at(row2, k), lanes) for k in range(m2)]
            with w.loop(zero, padded, lanes, [nothing] * (m2 + ends[0])) as (j, old, new):
                back = [w.load(w.at(scratch, (j, m2), k * lanes), lanes) for k in range(m2)]
                value, p = w.load(w.at(row, j), lanes), None
                for k in range(m2):
                    p = w.plus(p, weights[k], back[k])
                p, h = w.bend(value, p, slope), w.bend(value, value, slope)
                if len(ends) > 1:
                    w.store(p, w.at(row, j))
                new += [w.plus(old[k], h, back[k]) for k in range(m2)]
                for k in range(ends[0]):
                    tile = w.load(w.at(inputs, (j, m0), k * lanes), lanes)
                    new.append(w.plus(old[m2 + k], p, tile))
            change(row2, old[:m2], eta)
            change(row1, old[m2:], eta)
            for begin, end in zip(ends, ends[1:], strict=False):
                with w.loop(zero, padded, lanes, [nothing] * (end - begin)) as (j, old, new):
                    p = w.load(w.at(row, j), lanes)
                    for k in range(begin, end):
                        tile = w.load(w.at(inputs, (j, m0), k * lanes), lanes)
                        new.append(w.plus(old[k - begin], p, tile))
                change(w.at(row1, begin), old, eta)
    w.build.ret_void()


@lru_cache(maxsize=256)
def step_code(m0: int, m2: int, slope: float, size: int) -> StepCode:
    """Code for m0 inputs, m2 outputs, sigma(z) = slope * z for z <= 0, numbers of `size` bytes."""
    file = register_file()
    if file is None:
        raise ValueError(f"step_code: no fused multiply-add known on {platform.machine()}")
    lanes = file[0] // size
    module = ir.Module("step")
    _write_forward(_Writer(module, "forward", 5, 4, size, lanes), m0, m2, slope)
    _write_backward(_Writer(module, "backward", 7, 4, size, lanes), m0, m2, slope, file[1])
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    address, number = ctypes.c_void_p, ctypes.c_int64
    forward, backward = (
        ctypes.CFUNCTYPE(None, *[address] * pointers, *[number] * 4)(
            engine.get_function_address(name)
        )
        for name, pointers in (("forward", 5), ("backward", 7))
    )
    return StepCode(forward, backward, lanes, engine)
