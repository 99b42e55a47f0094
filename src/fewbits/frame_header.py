"""A frame's header: what the tensor is, how it was coded, and where its blocks lie.

Read side by side with ``docs/format.md``, "Frame": the fields stand here in the order they have
there, and each check of ``parse`` is one that the page asks of a reader.
"""

import struct
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits import _kernels
from fewbits.errors import CorruptError
from fewbits.lossless import tables_v1
from fewbits.lossless.plan import MAX_BLOCK_BYTES, MAX_CLASSES, Coder, Plan, Plane, RowClasses
from fewbits.lossless.table import RangeTable
from fewbits.values.types import Remap, dtype_named, storage_bytes

MAGIC = b"FEWB"
VERSION = 2
# magic, version, remap, element bytes, planes, header bytes, entropy, frame bytes, checksum
_FIXED = struct.Struct("<4sBBBBIfQQ")
FIXED_BYTES = _FIXED.size
_CHECKSUM = slice(FIXED_BYTES - 8, FIXED_BYTES)
_PLANE = struct.Struct("<BBBBB")
# Bytes of the index for a block of one plane: mode, length, checksum.
_LEAST_INDEX_BYTES = 13
MAX_DIMENSIONS = 64
# Payloads start at multiples of this, from the start of the frame.
ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class Header:
    """What a frame says about itself; the block index in three flat arrays."""

    dtype: str
    shape: tuple[int, ...]
    entropy_bits: float  # order-0, bits an element, summed over planes
    plan: Plan
    modes: NDArray[np.uint8]  # blocks x planes
    lengths: NDArray[np.uint32]  # blocks x planes, bytes
    checksums: NDArray[np.uint64]  # of each block's bytes

    @cached_property
    def numpy_dtype(self) -> np.dtype:
        """The NumPy dtype behind ``dtype``; ``ValueError`` if there is none."""
        return dtype_named(self.dtype)

    @cached_property
    def storage_bytes(self) -> int:
        """Bytes of the tensor before coding."""
        return storage_bytes(self.numpy_dtype, prod(self.shape))

    @cached_property
    def arrangement(self) -> "_kernels.Arrangement":
        """The order in which the elements stand in the blocks."""
        return self.plan.arrangement(self.storage_bytes)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.arrangement.blocks

    @cached_property
    def description(self) -> bytes:
        """The fields between the fixed ones and the block index, which need no block."""
        return _description(self)

    @cached_property
    def header_bytes(self) -> int:
        """Bytes of the header, padding included: where the payload starts."""
        index = self.modes.nbytes + self.lengths.nbytes + self.checksums.nbytes
        return -(-(FIXED_BYTES + len(self.description) + index) // ALIGNMENT) * ALIGNMENT

    def indexed(
        self,
        modes: NDArray[np.uint8],
        lengths: NDArray[np.uint32],
        checksums: NDArray[np.uint64],
    ) -> "Header":
        """The same header with another block index, of as many blocks."""
        whole = copy(self)
        whole.__dict__.pop("block_starts", None)
        whole.__dict__.update(modes=modes, lengths=lengths, checksums=checksums)
        return whole

    @cached_property
    def block_starts(self) -> NDArray[np.int64]:
        """Where each block's payload starts in the frame, and where the last one ends."""
        sizes = self.lengths.reshape(self.blocks, len(self.plan.planes)).sum(axis=1, dtype=np.int64)
        return np.concatenate(([0], np.cumsum(sizes))) + self.header_bytes

    @property
    def frame_bytes(self) -> int:
        """Bytes of the whole frame."""
        return int(self.block_starts[-1])

    def payload_range(self, first: int, last: int) -> tuple[int, int]:
        """Where the payload of blocks first..last lies in the frame."""
        return int(self.block_starts[first]), int(self.block_starts[last])


def to_bytes(header: Header) -> bytes:
    """Serialize, with padding and checksum."""
    arrays = (header.modes, header.lengths, header.checksums)
    index = [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays]
    body = b"".join((header.description, *index)).ljust(header.header_bytes - FIXED_BYTES, b"\0")
    plan = header.plan
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        plan.remap,
        plan.element_bytes,
        len(plan.planes),
        header.header_bytes,
        header.entropy_bits,
        header.frame_bytes,
        0,
    )
    checksum = _kernels.xxh3(np.frombuffer(fixed + body, np.uint8))
    return fixed[: _CHECKSUM.start] + checksum.to_bytes(8, "little") + body


def _description(header: Header) -> bytes:
    name = header.dtype.encode("ascii")
    parts = [len(name).to_bytes(2, "little"), name, bytes((len(header.shape),))]
    parts += [varint(length) for length in header.shape]
    parts.append(varint(header.plan.block_elements))
    parts += _class_fields(header.plan.classes)
    for plane in header.plan.planes:
        parts.append(
            _PLANE.pack(
                plane.bytes_, plane.offset, plane.coder, plane.verbatim_bits, len(plane.tables)
            )
        )
        parts += [table.to_bytes() for table in plane.tables]
    return b"".join(parts)


def _class_fields(classes: RowClasses | None) -> list[bytes]:
    if classes is None:
        return [b"\0"]
    bits = (classes.classes - 1).bit_length()
    ids = np.unpackbits(classes.class_of_row[:, None], axis=1, count=bits, bitorder="little")
    return [
        bytes((classes.classes,)),
        varint(classes.row_elements),
        np.packbits(classes.starts_group, bitorder="little").tobytes(),
        np.packbits(ids, bitorder="little").tobytes(),
    ]


def declared_bytes(start: memoryview | bytes) -> int:
    """Header bytes that the fixed fields declare, so that a reader knows how much to fetch."""
    if len(start) < FIXED_BYTES:
        raise CorruptError("frame is cut short")
    magic, version, _, _, _, header_bytes, _, _, _ = _FIXED.unpack_from(start)
    if magic != MAGIC:
        raise CorruptError("not a Fewbits frame")
    if not 1 <= version <= VERSION:
        raise CorruptError(f"frame version {version}; this release reads up to version {VERSION}")
    return int(header_bytes)


def parse(data: memoryview, available: int) -> Header:
    """Read and check the header at the start of ``data``, of a frame of ``available`` bytes.

    ``data`` must reach at least to the end of the header. ``CorruptError`` if anything is off.
    """
    header_bytes = declared_bytes(data)
    if header_bytes > min(len(data), available) or header_bytes < FIXED_BYTES:
        raise CorruptError("frame is cut short")
    if header_bytes % ALIGNMENT:
        raise CorruptError(f"frame header of {header_bytes} bytes is not aligned")
    head = bytes(data[:header_bytes])
    _, _, remap, element_bytes, planes, _, entropy_bits, frame_bytes, checksum = _FIXED.unpack_from(
        head
    )
    blank = head[: _CHECKSUM.start] + bytes(8) + head[_CHECKSUM.stop :]
    if _kernels.xxh3(np.frombuffer(blank, np.uint8)) != checksum:
        raise CorruptError("frame header is damaged (checksum)")
    if frame_bytes > available:
        raise CorruptError(f"frame of {frame_bytes} bytes is cut short at {available}")
    try:
        cursor = Cursor(head, FIXED_BYTES, version=head[4])
        header = _parse_body(cursor, remap, element_bytes, planes, entropy_bits)
        # What `header_bytes` would serialize the whole header again to find out.
        header.__dict__["header_bytes"] = -(-cursor.position // ALIGNMENT) * ALIGNMENT
        if header.header_bytes != header_bytes or header.frame_bytes != frame_bytes:
            raise CorruptError("frame header: sizes do not add up")
    except CorruptError:
        raise
    except (ValueError, OverflowError) as error:
        raise CorruptError(f"frame header: {error}") from None
    return header


def _parse_body(
    cursor: "Cursor", remap: int, element_bytes: int, planes: int, entropy_bits: float
) -> Header:
    dtype = cursor.take(int.from_bytes(cursor.take(2), "little")).decode("ascii")
    dimensions = cursor.take(1)[0]
    if dimensions > MAX_DIMENSIONS:
        raise CorruptError(f"frame header: {dimensions} dimensions")
    shape = tuple(cursor.varint() for _ in range(dimensions))
    # Without its zeros, since NumPy counts the others even for an array of nothing.
    if storage_bytes(dtype_named(dtype), prod(n for n in shape if n)) >= 1 << 63:
        raise CorruptError(f"frame header: shape {list(shape)[:8]} overflows")
    size = storage_bytes(dtype_named(dtype), prod(shape))
    block_elements = cursor.varint()
    if not 0 < block_elements * element_bytes <= MAX_BLOCK_BYTES or size % element_bytes:
        raise CorruptError("frame header: block size is out of range")
    elements = size // element_bytes
    if -(-elements // block_elements) * _LEAST_INDEX_BYTES > cursor.left:
        raise CorruptError("frame header is cut short")  # before anything is made for each block
    classes = None if cursor.version == 1 else _row_classes(cursor, elements)
    plan = Plan(
        element_bytes,
        Remap(remap),
        block_elements,
        tuple(_plane(cursor) for _ in range(planes)),
        classes,
    )
    plan.kernel  # noqa: B018  (builds the tables, which checks that the plan's parts suit each other)
    arrangement = plan.arrangement(size)
    blocks = arrangement.blocks
    modes = cursor.array(blocks * planes, np.uint8)
    lengths = cursor.array(blocks * planes, np.uint32)
    checksums = cursor.array(blocks, np.uint64)
    if any(cursor.rest()):
        raise CorruptError("frame header: padding is not zero")
    header = Header(dtype, shape, entropy_bits, plan, modes, lengths, checksums)
    header.__dict__["arrangement"] = arrangement  # which takes a while to make again
    return header


def _row_classes(cursor: "Cursor", elements: int) -> RowClasses | None:
    count = cursor.take(1)[0]
    if count == 0:
        return None
    row_elements = cursor.varint()
    if not 2 <= count <= MAX_CLASSES or not row_elements:
        raise CorruptError(f"frame header: {count} classes of rows of {row_elements} elements")
    starts = cursor.bits(count)
    rows, bits = -(-elements // row_elements), (count - 1).bit_length()
    ids = np.packbits(cursor.bits(rows * bits).reshape(rows, bits), axis=1, bitorder="little")
    return RowClasses(row_elements, ids[:, 0], tuple(starts.astype(bool).tolist()))


def _plane(cursor: "Cursor") -> Plane:
    bytes_, offset, coder, verbatim_bits, count = cursor.take(_PLANE.size)
    tables = tuple(cursor.table(8 * bytes_ or 4) for _ in range(count))
    return Plane(bytes_, offset, Coder(coder), verbatim_bits, tables)


class Cursor:
    """Takes fields off the front of a header; ``CorruptError`` when there is not enough left."""

    def __init__(self, data: bytes, position: int, version: int = VERSION) -> None:
        self._data, self._view = data, memoryview(data)
        self.position, self.version = position, version

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self._data) - self.position

    def take(self, size: int) -> bytes:
        """The next bytes."""
        end = self.position + size
        if end > len(self._data):
            raise CorruptError("frame header is cut short")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def varint(self) -> int:
        """The next varint."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if (byte == 0 and shift) or value >= 1 << 64:
                    break
                return value
        raise CorruptError("frame header: a number is too long")

    def table(self, width: int) -> RangeTable:
        """The next range table, for values of ``width`` bits."""
        rest = self._view[self.position :]
        read = tables_v1.from_bytes if self.version == 1 else RangeTable.from_bytes
        table, size = read(rest, width)
        self.position += size
        return table

    def bits(self, count: int) -> NDArray[np.uint8]:
        """So many bits, of bytes whose other bits must be zero."""
        taken = np.frombuffer(self.take(-(-count // 8)), np.uint8)
        bits = np.unpackbits(taken, bitorder="little")
        if bits[count:].any():
            raise CorruptError("frame header: padding bits are not zero")
        return bits[:count]

    def array(self, count: int, dtype: type[np.generic]) -> NDArray[Any]:
        """The next ``count`` little-endian numbers."""
        little = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(self.take(count * little.itemsize), little).astype(dtype)

    def rest(self) -> bytes:
        """What is left."""
        return self._data[self.position :]


def varint(value: int) -> bytes:
    """An unsigned integer, 7 bits a byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
