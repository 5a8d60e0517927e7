"""Machine code written at run time: a thin layer over LLVM for loops over vectors of numbers.

LLVM (through `llvmlite`) turns it into instructions, in a tenth of a second or in some seconds.
"""

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

__all__ = ["INT", "Pieces", "Writer", "compiled", "register_file", "registers"]

Pieces = list[tuple[int, int]]  # (offset, numbers) of the vectors that make up a row

#: Terms that `Writer.block` adds per turn if it has so many sums; else one, to compile faster.
UNROLLED, WORTH = 4, 24

INT, PTR, SHORT = ir.IntType(64), ir.PointerType(), ir.IntType(32)


@lru_cache
def register_file() -> tuple[int, int] | None:
    """Bytes of a vector register and how many there are; None: no fused multiply-add known."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("fma"):
        return 64, 32
    if features.get("avx2") and features.get("fma"):
        return 32, 16
    return (16, 32) if platform.machine().lower() in ("aarch64", "arm64") else None


def registers() -> tuple[int, int]:
    """`register_file` of a machine that has one; else a ValueError."""
    file = register_file()
    if file is None:
        raise ValueError(f"no fused multiply-add known on {platform.machine()}")
    return file


class Writer:
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
        """The type of a vector of so many numbers."""
        return ir.VectorType(self.real, lanes)

    def at(self, base: ir.Value, *terms: "ir.Value | int | tuple") -> ir.Value:
        """The address base + sum of terms; a pair is a product."""
        for term in terms:
            term = self.times(*term) if isinstance(term, tuple) else term
            term = INT(term) if isinstance(term, int) else term
            base = self.build.gep(base, [term], source_etype=self.real)
        return base

    def times(self, a: ir.Value, b: "ir.Value | int") -> ir.Value:
        """The product of two integers."""
        return self.build.mul(a, INT(b) if isinstance(b, int) else b)

    def add(self, *terms: "ir.Value | int") -> ir.Value:
        """The sum of integers."""
        total, *others = (INT(t) if isinstance(t, int) else t for t in terms)
        for term in others:
            total = self.build.add(total, term)
        return total

    def least(self, a: "ir.Value | int", b: ir.Value) -> ir.Value:
        """The smaller of two integers."""
        a = INT(a) if isinstance(a, int) else a
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)

    def whole(self, length: ir.Value, size: int) -> ir.Value:
        """The largest multiple of `size` up to a length."""
        return self.times(self.build.sdiv(length, INT(size)), size)

    def zero(self, lanes: int) -> ir.Value:
        """A vector of zeros."""
        return ir.Constant(self.vector(lanes), None)

    def load(self, address: ir.Value, lanes: int) -> ir.Value:
        """The numbers at an address and behind it, as one vector."""
        return self.build.load(address, typ=self.vector(lanes), align=self.size)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Write a vector to an address."""
        self.build.store(value, address, align=self.size)

    def within(self, count: ir.Value, lanes: int) -> ir.Value:
        """Which of the lanes 0, 1, ... lie below `count`."""
        empty = ir.Constant(ir.VectorType(INT, lanes), ir.Undefined)
        first = self.build.insert_element(empty, count, SHORT(0))
        lane = ir.Constant(empty.type, list(range(lanes)))
        return self.build.icmp_signed("<", lane, self.shuffle(first, first, [0] * lanes))

    def _masked(self, what: str, *types: ir.Type) -> ir.Function:
        kind = next(t for t in types if isinstance(t, ir.VectorType) and t.element == self.real)
        name = f"llvm.masked.{what}.v{kind.count}f{8 * self.size}.p0"
        result = kind if what == "load" else ir.VoidType()
        return self.module.globals.get(name) or ir.Function(
            self.module, ir.FunctionType(result, types), name
        )

    def load_part(self, address: ir.Value, count: ir.Value, lanes: int) -> ir.Value:
        """The first `count` numbers at an address, zero in the other lanes."""
        mask, zero = self.within(count, lanes), self.zero(lanes)
        call = self._masked("load", PTR, SHORT, mask.type, zero.type)
        return self.build.call(call, [address, SHORT(self.size), mask, zero])

    def store_part(self, value: ir.Value, address: ir.Value, count: ir.Value) -> None:
        """Write the first `count` lanes of a vector."""
        mask = self.within(count, value.type.count)
        call = self._masked("store", value.type, PTR, SHORT, mask.type)
        self.build.call(call, [value, address, SHORT(self.size), mask])

    def fetch(self, address: ir.Value) -> None:
        """Ask for the numbers at an address ahead of their use."""
        kind = ir.FunctionType(ir.VoidType(), [PTR, SHORT, SHORT, SHORT])
        name = "llvm.prefetch.p0"
        call = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        self.build.call(call, [address, SHORT(0), SHORT(2), SHORT(1)])

    def transposed(self, rows: Sequence[ir.Value]) -> list[ir.Value]:
        """The columns of a square of 2^k rows of 2^k numbers: blocks are exchanged, ever wider."""
        rows, lanes, size = list(rows), len(rows), 1
        while size < lanes:
            upper = [k if not k & size else lanes + k - size for k in range(lanes)]
            lower = [k + size if not k & size else lanes + k for k in range(lanes)]
            for i in range(lanes):
                if not i & size:
                    a, b = rows[i], rows[i + size]
                    rows[i], rows[i + size] = self.shuffle(a, b, upper), self.shuffle(a, b, lower)
            size *= 2
        return rows

    def spread(self, address: ir.Value, lanes: int) -> ir.Value:
        """One number in all lanes."""
        empty = ir.Constant(self.vector(lanes), ir.Undefined)
        one = self.build.load(address, typ=self.real)
        first = self.build.insert_element(empty, one, SHORT(0))
        return self.shuffle(first, first, [0] * lanes)

    def shuffle(self, a: ir.Value, b: ir.Value, index: Sequence[int]) -> ir.Value:
        """The numbers of a, then b, at these places."""
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
        self, start: ir.Value, stop: ir.Value, step: "ir.Value | int",
        carried: Sequence[ir.Value] = (),
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
        following = [self.add(phis[0], step), *new]
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, build.block)
        build.branch(head)
        build.position_at_end(done)

    def groups(
        self, start: ir.Value, stop: ir.Value, sizes: Sequence[int]
    ) -> list[tuple[ir.Value, ir.Value, int]]:
        """range(start, stop) in groups of the first size, then of the next: (start, stop, size)."""
        found = []
        for size in sizes:
            end = self.add(start, self.whole(self.build.sub(stop, start), size))
            found.append((start, end, size))
            start = end
        return found

    def block(
        self,
        length: ir.Value,
        pieces: Pieces,
        rows: Sequence[ir.Value],
        a_step: "ir.Value | int",
        b: ir.Value,
        b_step: "ir.Value | int",
        before: Sequence[ir.Value] | None = None,
    ) -> list[list[ir.Value]]:
        """before + sum_k A[k,a] B[k,b], k < length: a list over rows a of the vectors over b.

        pieces: the vectors that make up b. rows: addresses of A[0,a]; a_step, b_step: numbers from
        k to k + 1. The sums stay in registers.
        """
        before = before or [self.zero(count) for _ in rows for _, count in pieces]
        widths = sorted({count for _, count in pieces}, reverse=True)

        def term(k: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
            line, new = self.at(b, (k, b_step)), []
            vectors = [self.load(self.at(line, at), count) for at, count in pieces]
            for number, row in enumerate(rows):
                address = self.at(row, (k, a_step))
                spread = {count: self.spread(address, count) for count in widths}
                for vector, total in zip(vectors, sums[number * len(pieces) :], strict=False):
                    new.append(self.plus(total, spread[vector.type.count], vector))
            return new

        sums, whole, parts = list(before), self.whole(length, UNROLLED), [(INT(0), length, 1)]
        if len(before) >= WORTH:
            parts = [(INT(0), whole, UNROLLED), (whole, length, 1)]
        for start, stop, step in parts:
            with self.loop(start, stop, step, sums) as (k, sums, new):
                inside = sums
                for ahead in range(step):
                    inside = term(self.add(k, ahead), inside)
                new.extend(inside)
        return [sums[i : i + len(pieces)] for i in range(0, len(sums), len(pieces))]


def compiled(
    functions: Mapping[str, tuple[int, int, Callable[[Any], None]]], size: int, lanes: int,
    writer: Callable[..., Writer] = Writer,
) -> dict[str, Any]:
    """name -> callable for name -> (pointers, integers, what writes the body).

    The callables take addresses, then integers. "engine" keeps the code alive. `writer` makes the
    writer that a body is given, from the arguments of `Writer`.
    """
    module = ir.Module("step")
    for name, (pointers, integers, write) in functions.items():
        made = writer(module, name, pointers, integers, size, lanes)
        write(made)
        made.build.ret_void()
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
    return {"engine": engine} | {
        name: ctypes.CFUNCTYPE(None, *[address] * pointers, *[number] * integers)(
            engine.get_function_address(name)
        )
        for name, (pointers, integers, _) in functions.items()
    }
