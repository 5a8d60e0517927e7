"""Machine code written at run time: a thin layer over LLVM for loops over vectors of numbers.

LLVM (through `llvmlite`) turns it into instructions in a tenth of a second per shape.
"""

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

__all__ = ["INT", "Writer", "compiled", "register_file", "registers"]

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

    def load(self, address: ir.Value, lanes: int) -> ir.Value:
        """The numbers at an address and behind it, as one vector."""
        return self.build.load(address, typ=self.vector(lanes), align=self.size)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Write a vector to an address."""
        self.build.store(value, address, align=self.size)

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


def compiled(
    functions: Mapping[str, tuple[int, int, Callable[[Writer], None]]], size: int, lanes: int
) -> dict[str, Any]:
    """name -> callable for name -> (pointers, integers, what writes the body).

    The callables take addresses, then integers. "engine" keeps the code alive.
    """
    module = ir.Module("step")
    for name, (pointers, integers, write) in functions.items():
        writer = Writer(module, name, pointers, integers, size, lanes)
        write(writer)
        writer.build.ret_void()
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
