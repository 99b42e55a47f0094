"""Plans: how one tensor's bytes are cut, remapped and coded. A frame's header holds one.

>>> plan = Plan(element_bytes=2, remap=Remap.ZIGZAG, block_elements=4, planes=(Plane(2, 0),))
>>> plan.blocks(20)
3
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from fewbits import _kernels
from fewbits.lossless.table import RangeTable
from fewbits.values.types import NIBBLES, Remap

# A block holds at most this many bytes of the tensor: what a reader must be ready to allocate for
# one entry of the block index.
MAX_BLOCK_BYTES = 1 << 20


class Coder(IntEnum):
    """What turns rows into bits (``docs/format.md``, "Coders")."""

    NONE = 0
    RANS = 1
    ARITHMETIC = 2


class Mode(IntEnum):
    """How one plane of one block is written; ``TABLE + t`` means coded with table ``t``."""

    RAW = 0
    CONSTANT = 1
    TABLE = 2


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


@dataclass(frozen=True)
class Plan:
    """A remap of whole elements, then planes that partition them, in blocks of elements."""

    element_bytes: int
    remap: Remap
    block_elements: int
    planes: tuple[Plane, ...]

    @cached_property
    def kernel(self) -> "_kernels.Plan":
        """This plan as the kernels take it; ``ValueError`` if planes do not partition elements."""
        planes = [plane.kernel for plane in self.planes]
        return _kernels.Plan(self.element_bytes, int(self.remap), self.block_elements, planes)

    @property
    def block_bytes(self) -> int:
        """Bytes of the tensor in a full block."""
        return self.block_elements * self.element_bytes

    def blocks(self, storage_bytes: int) -> int:
        """Number of blocks of a tensor of this many bytes."""
        return -(-storage_bytes // self.block_bytes)
