"""How a batch lies in memory for `thin_code`, and a writer of code that knows it.

Matrices are turned: one feature a row, samples padded to whole registers. Samples that are too few
to fill another register also lie one sample a row.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from learning_dynamics.code_writer import Pieces, Writer

__all__ = ["BACKWARD_DEPTH", "COLUMNS", "FORWARD_DEPTH", "MANY_ROWS", "ROWS", "TOGETHER", "Layer",
           "Sizes", "near_equal"]

#: Columns of W that one call of `backward` may be given.
COLUMNS = 816
#: Terms of a sum taken together, so that what they need stays in the private cache of a core.
FORWARD_DEPTH, BACKWARD_DEPTH = 800, 64
#: Rows of W that `forward` takes together: few where they meet all terms at once, many where h is
#: read again, block by block of terms, for each group of rows.
ROWS, MANY_ROWS = 96, 800
#: Rows of W that meet a strip of samples together.
TOGETHER = 8


class Sizes(NamedTuple):
    """How a batch is laid out: lanes numbers in a register, `room` registers to be filled."""

    batch: int
    lanes: int
    room: int

    @property
    def padded(self) -> int:
        """Samples rounded up to whole registers."""
        return -(-self.batch // self.lanes) * self.lanes

    @property
    def filled(self) -> int:
        """Samples that fill registers; the others only if they are too many to go apart."""
        rest = self.batch % self.lanes
        return self.batch - rest if rest <= self.lanes // 2 else self.padded

    @property
    def rest(self) -> int:
        """Samples that go apart, with features along the registers."""
        return max(0, self.batch - self.filled)

    @property
    def across(self) -> int:
        """Registers that hold a row of a block."""
        return 3 if self.room > 16 else 2

    @property
    def strip(self) -> int:
        """Numbers in a row of a block."""
        return self.across * self.lanes

    @property
    def scratch(self) -> int:
        """Numbers of working memory of `backward` and `update`."""
        return 2 * self.batch * COLUMNS + BACKWARD_DEPTH * self.strip


class Layer(Writer):
    """A writer that knows the layout of the batch."""

    def __init__(self, *arguments: Any, sizes: Sizes) -> None:
        super().__init__(*arguments)
        self.sizes = sizes
        self.batch, self.padded, self.filled = sizes.batch, sizes.padded, sizes.filled

    def pieces(self, vectors: int) -> Pieces:
        """So many whole registers."""
        return [(v * self.lanes, self.lanes) for v in range(vectors)]

    def together(self, across: int) -> int:
        """Rows of a block: it, a row of B and a number of A share the registers."""
        return min(12, (self.sizes.room - across) // across)

    def add_block(
        self, address: ir.Value, step: int, length: ir.Value, pieces: Pieces,
        rows: Sequence[ir.Value], a_step: int, b: ir.Value, b_step: int,
    ) -> None:
        """Add a `block` to what stands at an address, its rows `step` numbers apart."""
        places = [self.at(address, m * step + at) for m in range(len(rows)) for at, _ in pieces]
        before = [self.load(place, self.lanes) for place in places]
        sums = self.block(length, pieces, rows, a_step, b, b_step, before)
        for place, value in zip(places, (v for line in sums for v in line), strict=True):
            self.store(value, place)

    def tiles(
        self, first: ir.Value, last: ir.Value, most: int, body: Callable[[ir.Value, int], None]
    ) -> None:
        """body(i, size) from first to last, in steps of 2^k <= most, then of ever smaller ones."""
        sizes = [1 << k for k in reversed(range(most.bit_length()))]
        for start, stop, size in self.groups(first, last, sizes):
            with self.loop(start, stop, size) as (i, _, _):
                body(i, size)


def near_equal(total: int, most: int) -> list[tuple[int, int, int]]:
    """range(total) in parts of at most `most`, whose sizes differ by one: (start, stop, size)."""
    if total == 0:
        return []
    parts = -(-total // most)
    size, longer = divmod(total, parts)
    middle = longer * (size + 1)
    return [part for part in ((0, middle, size + 1), (middle, total, size)) if part[1] > part[0]]
