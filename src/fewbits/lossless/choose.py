"""Choosing a plan for a tensor: which remap, which tables, and where coding does not pay.

Every candidate is priced from the tensor's histogram by what it would really take, its tables
included. The kernels do that in one call (``kernels/search_plan.cpp``); here is what may be chosen
from.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewbits import _kernels
from fewbits.lossless.classes import row_length
from fewbits.lossless.plan import MAX_BLOCK_BYTES, MAX_CLASSES, Coder, Plan, Plane, RowClasses
from fewbits.lossless.table import RangeTable
from fewbits.values.types import NIBBLES, Layout, Remap

NIBBLE_PLANES = ((NIBBLES, 0),)
# Coding that saves less than this share of a plane is not worth its time (as in the kernels).
MIN_SAVING = 0.005
# So many rows are what the vector kernels take; with more allowed, both are tried.
VECTOR_ROWS = 16
# Of 16-bit offsets, so many low bits are nearly noise in trained floats.
VERBATIM_BITS = (6, 7, 8)
# Elements in a block, by their bytes: as large as blocks may be, so that 256 lanes cost little.
BLOCK_ELEMENTS = {size: MAX_BLOCK_BYTES // size for size in (1, 2, 4, 8)}
# Most rows of a table and most classes, by effort.
EFFORTS = {"fast": (VECTOR_ROWS, 8), "small": (64, 16)}
# The arithmetic coder works value by value; its streams are blocks of this many elements.
ARITHMETIC_STREAM = 1 << 16


@dataclass(frozen=True)
class Lossless:
    """Settings of the lossless codec.

    ``effort``: ``fast``, or ``small`` to try all that may save a little: more rows, more classes,
    more shapes of tables. ``coder``: interleaved ``rans``, or the paper's ``arithmetic`` coder, one
    stream a block. ``rows``: at most so many rows a table. 16 is what a vector register, and the
    paper's engine, holds, and the default of ``fast``; more are used where they pay, and decode
    more slowly. ``classes``: with rANS, at most so many classes of rows, each with a table of its
    own. ``count_bits``: counts out of ``2**count_bits`` (8 to 16; with the arithmetic coder to 14);
    None tries several. ``search``: ``optimal``, or ``paper`` for Listing 1 of the paper.
    """

    effort: Literal["fast", "small"] = "fast"
    coder: Literal["rans", "arithmetic"] = "rans"
    rows: int | None = None
    classes: int | None = None
    count_bits: int | None = None
    search: Literal["optimal", "paper"] = "optimal"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("effort", self.effort, tuple(EFFORTS)),
            ("coder", self.coder, ("rans", "arithmetic")),
            ("search", self.search, ("optimal", "paper")),
        ):
            if value not in choices:
                raise ValueError(f"unknown {name} {value!r}: {' or '.join(choices)}")
        most = 16 if self.coder == "rans" else 14
        if self.count_bits is not None and not 8 <= self.count_bits <= most:
            raise ValueError(f"{self.count_bits} count bits with {self.coder}: 8 to {most}")
        if not 1 <= self.most_rows <= 1 << (self.count_bits or 10):
            raise ValueError(f"{self.rows} rows: 1 to {1 << (self.count_bits or 10)}")
        if not 1 <= self.most_classes <= MAX_CLASSES:
            raise ValueError(f"{self.classes} classes: 1 to {MAX_CLASSES}")

    @property
    def most_rows(self) -> int:
        """At most so many rows a table."""
        return EFFORTS[self.effort][0] if self.rows is None else self.rows

    @property
    def most_classes(self) -> int:
        """At most so many classes of rows."""
        return EFFORTS[self.effort][1] if self.classes is None else self.classes


@dataclass(frozen=True)
class Choice:
    """A plan, the order-0 entropy of its planes (bits an element), and its price (bits)."""

    plan: Plan
    entropy_bits: float
    price_bits: float


def choose(
    data: NDArray[np.uint8], layout: Layout, settings: Lossless, shape: tuple[int, ...] = ()
) -> Choice:
    """The cheapest plan for a tensor's storage bytes among what ``settings`` allows.

    ``shape`` is that of the tensor: its rows may have tables of their own.
    """
    cuts, kernels = _cuts(layout, settings)
    elements = data.size // layout.element_bytes
    row_elements = row_length(shape, elements, layout.element_bytes)
    block = cuts[0].block_elements
    cut, class_of_row, starts_group, planes, entropy_bits, price_bits = _kernels.choose(
        kernels,
        layout.remaps[-1],
        data,
        row_elements if row_elements <= block else 0,
        settings.coder == "arithmetic",
        settings.search == "paper",
        settings.effort == "small",
        settings.most_rows,
        settings.most_classes,
        settings.count_bits or 0,
    )
    plan, classes = cuts[cut], None
    if class_of_row.size:
        classes = RowClasses(row_elements, class_of_row, tuple(starts_group))
        block -= block % row_elements  # rows are not cut
    coded = tuple(
        Plane(
            bare.bytes_,
            bare.offset,
            Coder(coder),
            verbatim_bits,
            tuple(RangeTable.of_kernel(table) for table in tables),
        )
        for bare, (coder, verbatim_bits, tables) in zip(plan.planes, planes, strict=True)
    )
    plan = Plan(plan.element_bytes, plan.remap, block, coded, classes)
    return Choice(plan, entropy_bits, price_bits)


def block_elements(layout: Layout, settings: Lossless) -> int:
    """Elements in a block."""
    block = BLOCK_ELEMENTS[layout.element_bytes]
    return min(block, ARITHMETIC_STREAM) if settings.coder == "arithmetic" else block


def cuts_of(layout: Layout, settings: Lossless) -> list[Plan]:
    """Ways to remap and cut elements, as plans without tables; the likeliest first."""
    block = block_elements(layout, settings)
    cuts = [(remap, layout.planes) for remap in layout.remaps]
    if Remap.SIGN_TO_LSB in layout.remaps:
        # Where the sign tells nothing, or goes with the exponent, it had better stay on top.
        cuts.append((Remap.IDENTITY, layout.planes))
    if layout.element_bytes == 1 and layout.planes != NIBBLE_PLANES:
        # Bytes may well be pairs of 4-bit values, which 16 rows of bytes describe badly.
        cuts.append((Remap.IDENTITY, NIBBLE_PLANES))
    return [
        Plan(layout.element_bytes, remap, block, tuple(Plane(*plane) for plane in planes))
        for remap, planes in cuts
    ]


@lru_cache(256)
def _cuts(layout: Layout, settings: Lossless) -> tuple[list[Plan], list["_kernels.Plan"]]:
    """The cuts, and the same as the kernels take them; tensors of one kind share them."""
    cuts = cuts_of(layout, settings)
    return cuts, [cut.kernel for cut in cuts]
