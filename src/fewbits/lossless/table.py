"""The range table: contiguous rows over the value space, the one idea of the lossless side.

A value is written as the row it falls in, entropy-coded with the row's count out of
``2**count_bits``, and its offset from the row's start, stored verbatim in the row's offset length.
The paper's engine (APack, section IV) has 16 rows of 8-bit values with 10-bit counts; nothing here
depends on those sizes.

>>> table = RangeTable(width=2, count_bits=3, starts=(0, 1), offset_lengths=(0, 2), counts=(6, 2))
>>> import numpy as np
>>> rows, offsets = table.split(np.array([0, 3, 0, 1], np.uint8))
>>> rows.tolist(), offsets.tolist(), table.join(rows, offsets).tolist()
([0, 1, 0, 1], [0, 2, 0, 0], [0, 3, 0, 1])
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fewbits import _kernels
from fewbits.errors import CorruptError
from fewbits.lossless.histogram import Histogram, entropy

MAX_WIDTH = 16
MAX_COUNT_BITS = 16
MAX_SERIALIZED_ROWS = 1 << 12


@dataclass(frozen=True)
class RangeTable:
    """Contiguous rows over the values ``0 .. 2**width - 1``, with a count for each.

    Row ``i`` holds the values from ``starts[i]`` up to the next row's start, as far as its
    ``offset_lengths[i]`` bits reach. A *covering* table can write every value. A *tight* one, made
    for a tensor that is fully known, may leave out values that do not occur: those before the first
    row, those past the reach of a row's offset, and those in rows whose count is zero.

    The counts sum to ``2**count_bits``, or to one less as in the paper's own tables (its highest
    cumulative count is 0x3FF; the last code of the range is then never used). ``ValueError`` where
    any of this does not hold.
    """

    width: int
    count_bits: int
    starts: tuple[int, ...]
    offset_lengths: tuple[int, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise ValueError(f"range table: width {self.width} is not in 1..{MAX_WIDTH}")
        if not 1 <= self.count_bits <= MAX_COUNT_BITS:
            raise ValueError(
                f"range table: {self.count_bits} count bits is not in 1..{MAX_COUNT_BITS}"
            )
        rows = len(self.starts)
        if len(self.offset_lengths) != rows or len(self.counts) != rows:
            raise ValueError("range table: starts, offset lengths and counts differ in length")
        if not rows:
            raise ValueError("range table: has no rows")
        bounds = (*self.starts, 1 << self.width)
        if bounds[0] < 0 or any(a >= b for a, b in pairwise(bounds)):
            raise ValueError("range table: row starts do not ascend within the value space")
        for row, length in enumerate(self.offset_lengths):
            if not 0 <= length <= (bounds[row + 1] - bounds[row] - 1).bit_length():
                raise ValueError(f"range table: row {row} cannot use an offset of {length} bits")
        if min(self.counts) < 0:
            row = self.counts.index(min(self.counts))
            raise ValueError(f"range table: row {row} has a count of {self.counts[row]}")
        if self.unused_counts not in (0, 1):
            raise ValueError(
                f"range table: counts sum to {sum(self.counts)}, not {1 << self.count_bits}"
            )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts)

    @property
    def unused_counts(self) -> int:
        """Counts out of ``2**count_bits`` that no row owns: 1 in a table as the paper has it."""
        return (1 << self.count_bits) - sum(self.counts)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """For each row the last value that it can write (inclusive, the paper's v_max)."""
        following = (*self.starts[1:], 1 << self.width)
        return tuple(
            min(next_start, start + (1 << length)) - 1
            for start, length, next_start in zip(
                self.starts, self.offset_lengths, following, strict=True
            )
        )

    @cached_property
    def cumulative(self) -> tuple[int, ...]:
        """Exclusive cumulative counts: row ``i`` owns from entry ``i`` to below entry ``i + 1``."""
        return tuple(int(c) for c in np.concatenate(([0], np.cumsum(self.counts))))

    @cached_property
    def covering(self) -> bool:
        """Whether every value of the space can be written, as a table for unseen data must."""
        contiguous = all(
            end + 1 == start for end, start in zip(self.ends, self.starts[1:], strict=False)
        )
        whole = self.starts[0] == 0 and self.ends[-1] == (1 << self.width) - 1
        return contiguous and whole and min(self.counts) > 0

    @cached_property
    def kernel(self) -> "_kernels.Table":
        """This table as the kernels take it."""
        return _kernels.Table(
            self.width, self.count_bits, self.starts, self.offset_lengths, self.counts
        )

    @property
    def hardware_bits(self) -> int:
        """Bits of the two tables in the paper's engine: row starts with offset lengths, and counts.

        Offset lengths take 3 bits for 8-bit values and 4 for 16-bit ones (section IV), so 336 bits
        (42 bytes) for 16 rows of 8-bit values with 10-bit counts.
        """
        offset_length_bits = max(1, (self.width - 1).bit_length())
        return self.rows * (self.width + offset_length_bits + self.count_bits)

    def split(
        self, values: NDArray[np.unsignedinteger]
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Rows and offsets of ``values`` (any shape); ``ValueError`` for one that has no row."""
        wide = values.astype(np.int64)
        rows = np.searchsorted(self.starts, wide, side="right") - 1
        writable = (rows >= 0) & (wide <= np.array(self.ends)[rows])
        writable &= np.array(self.counts)[rows] > 0
        if not writable.all():
            value = int(wide[~writable].flat[0])
            raise ValueError(f"value {value} has no row in this range table")
        return rows, wide - np.array(self.starts, np.int64)[rows]

    def join(self, rows: NDArray[np.intp], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Values from rows and offsets, the inverse of ``split``."""
        return np.array(self.starts, np.int64)[rows] + offsets

    def expected_bits(self, histogram: Histogram) -> float:
        """Mean bits a value for data with this histogram of ``2**width`` values.

        ``sum over rows of p_row * (count_bits - log2 count + offset length)``: what an ideal coder
        spends with these integer counts. Infinite if the data hold a value that has no row.
        """
        total = int(histogram.sum())
        if total == 0:
            return 0.0
        bits, reached = 0.0, 0
        for start, end, length, count in zip(
            self.starts, self.ends, self.offset_lengths, self.counts, strict=True
        ):
            occurrences = int(histogram[start : end + 1].sum())
            if occurrences and count:
                bits += occurrences * (self.count_bits - float(np.log2(count)) + length)
                reached += occurrences
        return bits / total if reached == total else float("inf")

    def gap_bits(self, histogram: Histogram) -> float:
        """Mean bits a value above the order-0 entropy of the data."""
        return self.expected_bits(histogram) - entropy(histogram)

    def __str__(self) -> str:
        """Draw the table as Table I of the paper does."""
        digits, count_digits = (self.width + 3) // 4, (self.count_bits + 3) // 4
        head = f"{'IDX':>5}  {'v_min':>6}  {'v_max':>6}  {'OL':>2}  {'low':>6}  {'high':>6}       p"
        lines = [head]
        for row in range(self.rows):
            low, high = self.cumulative[row], self.cumulative[row + 1]
            lines.append(
                f"{row:>5}  {f'0x{self.starts[row]:0{digits}X}':>6}"
                f"  {f'0x{self.ends[row]:0{digits}X}':>6}  {self.offset_lengths[row]:>2}"
                f"  {f'0x{low:0{count_digits}X}':>6}  {f'0x{high:0{count_digits}X}':>6}"
                f"  {(high - low) / (1 << self.count_bits):.4f}"
            )
        return "\n".join(lines)

    def to_bytes(self) -> bytes:
        """Serialize as ``docs/format.md``, "Range tables", lays them out.

        A row's start is told by the width of the row before it, which its offset length nearly
        gives; the last count is what the others leave. 16 rows of 8-bit values take about 30 bytes.
        ``ValueError`` beyond 4096 rows, which no table here needs.
        """
        if self.rows > MAX_SERIALIZED_ROWS:
            raise ValueError(f"range table: {self.rows} rows are too many for a frame")
        return _kernels.write_table(self.kernel)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, width: int) -> tuple["RangeTable", int]:
        """Read a table for values of ``width`` bits, and the number of bytes that it took.

        ``CorruptError`` if the data do not start with one.
        """
        try:
            kernel, size = _kernels.read_table(np.frombuffer(data, np.uint8), width)
        except ValueError as error:
            raise CorruptError(str(error)) from None
        return cls.of_kernel(kernel), size

    @classmethod
    def of_kernel(cls, kernel: "_kernels.Table") -> Self:
        """The table behind one that the kernels read, which has passed all checks already."""
        table = object.__new__(cls)
        table.__dict__.update(
            width=kernel.width,
            count_bits=kernel.count_bits,
            starts=tuple(kernel.starts),
            offset_lengths=tuple(kernel.offset_lengths),
            counts=tuple(kernel.counts),
            kernel=kernel,
        )
        return table
