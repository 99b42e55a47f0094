"""Plans: how one tensor's bytes are cut, remapped and coded. A frame's header holds one.

>>> plan = Plan(element_bytes=2, remap=Remap.ZIGZAG, block_elements=4, planes=(Plane(2, 0),))
>>> plan.arrangement(20).blocks
3
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fewbits import _kernels
from fewbits.lossless.histogram import Histogram
from fewbits.lossless.table import RangeTable
from fewbits.values.types import NIBBLES, Remap

# A block holds at most this many bytes of the tensor: what a reader must be ready to allocate for
# one entry of the block index.
MAX_BLOCK_BYTES = 1 << 20
MAX_CLASSES = 64


class Coder(IntEnum):
    """What turns rows into bits (``docs/format.md``, "Coders")."""

    NONE = 0
    RANS = 1
    ARITHMETIC = 2


class Mode(IntEnum):
    """How one plane of one block is written.

    ``TABLE + t`` means coded with table ``t``; ``BY_CLASS``, each value with the table whose number
    is that of its row's class; ``SPARSE``, the commonest value, and where which others are.
    """

    RAW = 0
    CONSTANT = 1
    TABLE = 2
    SPARSE = 254
    BY_CLASS = 255


@dataclass(frozen=True)
class Plane:
    """A field of ``bytes_`` bytes (0: two nibbles) at byte ``offset``, and the tables that code it.

    ``verbatim_bits`` (rANS only): so many low bits of every 16-bit offset are stored as they are.
    """

    bytes_: int
    offset: int
    coder: Coder = Coder.NONE
    verbatim_bits: int = 0
    tables: tuple[RangeTable, ...] = ()

    @property
    def width(self) -> int:
        """Bits of a value."""
        return 8 * self.bytes_ or 4

    def values_in(self, elements: int) -> int:
        """Number of values that this many elements give."""
        return elements * 2 if self.bytes_ == NIBBLES else elements

    @cached_property
    def kernel(self) -> "_kernels.Plane":
        """This plane as the kernels take it; ``ValueError`` if its parts do not suit each other."""
        tables = [table.kernel for table in self.tables]
        return _kernels.Plane(self.bytes_, self.offset, int(self.coder), self.verbatim_bits, tables)


@dataclass(frozen=True, eq=False)
class RowClasses:
    """Rows of ``row_elements`` elements, the class of each, and which classes begin a group.

    Rows of one class are stored together, so that they can share a table; a group of classes begins
    a block. Rows are runs of the tensor's elements, mostly but not always those of its first axis.
    """

    row_elements: int
    class_of_row: NDArray[np.uint8]
    starts_group: tuple[bool, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.starts_group)


def one_bin(elements: int) -> tuple[int, NDArray[np.uint8], int]:
    """All elements as one row in one bin, as ``_kernels.Plan.histograms`` takes it."""
    return max(1, elements), np.zeros(min(1, elements), np.uint8), 1


@dataclass(frozen=True)
class Plan:
    """A remap of whole elements, then planes that partition them, in blocks of elements.

    The elements stand as they are in the tensor, or row by row in classes.
    """

    element_bytes: int
    remap: Remap
    block_elements: int
    planes: tuple[Plane, ...]
    classes: RowClasses | None = None

    @cached_property
    def kernel(self) -> "_kernels.Plan":
        """This plan as the kernels take it; ``ValueError`` if planes do not partition elements."""
        planes = [plane.kernel for plane in self.planes]
        return _kernels.Plan(self.element_bytes, int(self.remap), planes)

    @property
    def block_bytes(self) -> int:
        """Bytes of the tensor in a full block."""
        return self.block_elements * self.element_bytes

    def histograms(self, plane: int, data: NDArray[np.uint8]) -> Histogram:
        """Occurrences of a plane's values in a tensor's bytes, (classes or 1, values)."""
        rows, class_of_row, count = one_bin(data.size // self.element_bytes)
        if self.classes is not None:
            rows, class_of_row = self.classes.row_elements, self.classes.class_of_row
            count = self.classes.classes
        counts = self.kernel.histograms(plane, data, rows, class_of_row, count)
        return counts.reshape(count, -1).view(np.int64)

    def arrangement(self, storage_bytes: int) -> "_kernels.Arrangement":
        """The order of the elements of a tensor of this many bytes, and where blocks end in it."""
        elements = storage_bytes // self.element_bytes
        if self.classes is None:
            return _kernels.Arrangement(elements, self.block_elements)
        return _kernels.Arrangement(
            elements,
            self.block_elements,
            self.classes.row_elements,
            self.classes.class_of_row,
            self.classes.starts_group,
        )
