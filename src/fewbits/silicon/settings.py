"""What can be chosen about an encoder or a decoder before it is built.

>>> Settings().table_bits, Settings(width=16, rows=8).table_bits
(336, 240)
>>> Settings(count_bits=15)
Traceback (most recent call last):
ValueError: silicon: a window of 16 bits takes at most 14 count bits, not 15
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless.arithmetic import MAX_COUNT_BITS, WINDOW_BITS
from fewbits.lossless.plan import MAX_BLOCK_BYTES
from fewbits.lossless.search import find_table
from fewbits.lossless.table import RangeTable

# Streams are cut into 32-bit words (``docs/format.md``, "Arithmetic").
WORD_BITS = 32
# A value shifts at most count_bits + 2 bits out of the window (see ``window.py``), and a frame's
# stream has at most two values a byte of its block: a counter of this size never overflows there.
UNDERFLOW_BITS = (2 * MAX_BLOCK_BYTES * (MAX_COUNT_BITS + 2)).bit_length()

Lookup = Literal["parallel", "binary", "divider"]
Datapath = Literal["range", "paper"]


@dataclass(frozen=True)
class Settings:
    """Sizes and structure of an encoder or decoder; ``ValueError`` for what cannot be built.

    ``width``: bits of a value. ``rows``: rows the table has room for, a power of two; tables of
    fewer rows fit. ``count_bits``: of a cumulative count. ``window_bits``: of HI, LO and CODE; 16
    is what frames have. ``underflow_bits``: of the counter of underflow bits, 5 in the paper. The
    default cannot overflow in any stream of a frame.

    ``lookup``: how the decoder finds a row. ``parallel`` scales every boundary at once, as the
    paper's text reads; ``binary`` halves the rows with one multiplier a step; ``divider`` turns the
    code into a count first. ``datapath``: ``paper`` is Fig. 3 and 4 as drawn; ``range`` keeps
    the range instead of HI, and shifts once instead of twice. The bits are the same.

    ``stages``: pipeline stages of the loop through the window's registers, and so the number of
    streams that take turns in it.
    """

    width: int = 8
    rows: int = 16
    count_bits: int = 10
    window_bits: int = WINDOW_BITS
    underflow_bits: int = UNDERFLOW_BITS
    lookup: Lookup = "binary"
    datapath: Datapath = "range"
    stages: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("width", 2, 16),
            ("rows", 2, 256),
            ("count_bits", 1, 30),
            ("window_bits", 6, WORD_BITS),
            ("underflow_bits", 1, 64),
            ("stages", 1, 16),
        ):
            if not low <= (number := getattr(self, name)) <= high:
                raise ValueError(f"silicon: {name}={number} is not in {low}..{high}")
        if self.rows & (self.rows - 1):
            raise ValueError(f"silicon: rows={self.rows} is not a power of two")
        if self.count_bits > self.window_bits - 2:
            raise ValueError(
                f"silicon: a window of {self.window_bits} bits takes at most "
                f"{self.window_bits - 2} count bits, not {self.count_bits}"
            )
        if self.rows > 1 << self.count_bits:
            raise ValueError(
                f"silicon: {self.rows} rows need more than {self.count_bits} count bits"
            )
        for name, choices in (
            ("lookup", ("parallel", "binary", "divider")),
            ("datapath", ("range", "paper")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"silicon: {name} is one of {', '.join(choices)}")

    @classmethod
    def paper(cls, lookup: Lookup = "parallel") -> Self:
        """The unit of the paper's section V: 8-bit values, 16 rows, a 5-bit underflow counter."""
        return cls(underflow_bits=5, lookup=lookup, datapath="paper")

    def table_for(self, values: NDArray[Any], *, covering: bool = False) -> RangeTable:
        """The range table that the library finds for ``values``, of a size that the circuit holds.

        ``covering``: for values that are only like these.
        """
        return find_table(
            np.bincount(values.ravel(), minlength=1 << self.width),
            rows=self.rows,
            count_bits=self.count_bits,
            max_offset_length=self.most_offset,
            covering=covering,
        )

    @property
    def offset_length_bits(self) -> int:
        """Bits of an offset length: 3 for 8-bit values, whose rows then span at most 128 values."""
        return (self.width - 1).bit_length()

    @property
    def most_offset(self) -> int:
        """Most bits of an offset that its length can say: 3, 7 or 15."""
        return (1 << self.offset_length_bits) - 1

    @property
    def table_bits(self) -> int:
        """Bits of the table's registers."""
        return self.rows * (self.width + self.offset_length_bits + self.count_bits)

    @property
    def most_shifted(self) -> int:
        """Most bits that one value shifts out of the window."""
        return self.count_bits + 2

    @property
    def shift_bits(self) -> int:
        """Bits of a number of bits shifted."""
        return self.most_shifted.bit_length()

    @property
    def stream_bits(self) -> int:
        """Bits of the number of a stream within its unit (at least 1, for a signal to exist)."""
        return max(1, (self.stages - 1).bit_length())
