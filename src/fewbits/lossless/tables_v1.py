"""Range tables as frames of version 1 hold them (``docs/format.md``, "Version 1")."""

import numpy as np

from fewbits.errors import CorruptError
from fewbits.lossless.table import MAX_COUNT_BITS, MAX_WIDTH, RangeTable

# A row spends this many bits on its offset length (0 to 16).
OFFSET_LENGTH_BITS = 5
_PLACES = 1 << np.arange(MAX_COUNT_BITS + 1)


def from_bytes(data: bytes | memoryview, plane_width: int) -> tuple[RangeTable, int]:
    """Read a table and the number of bytes it took; ``CorruptError`` if it is not one.

    The table must be for values of ``plane_width`` bits.
    """
    if len(data) < 4:
        raise CorruptError("range table is cut short")
    width, count_bits = data[0], data[1]
    rows = int.from_bytes(data[2:4], "little") + 1
    fields = (width, OFFSET_LENGTH_BITS, count_bits + 1)
    size = 4 + (rows * sum(fields) + 7) // 8
    if width > MAX_WIDTH or count_bits > MAX_COUNT_BITS or len(data) < size:
        raise CorruptError("range table is cut short or of an impossible size")
    if width != plane_width:
        raise CorruptError(f"range table: {width}-bit values in a plane of {plane_width}-bit ones")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, size - 4, 4), bitorder="little")
    used = rows * sum(fields)
    if bits[used:].any():
        raise CorruptError("range table: padding bits are not zero")
    table = bits[:used].reshape(rows, -1)

    def column(first: int, field: int) -> tuple[int, ...]:
        return tuple((table[:, first : first + field] @ _PLACES[:field]).tolist())

    starts, lengths = column(0, width), column(width, OFFSET_LENGTH_BITS)
    counts = column(width + OFFSET_LENGTH_BITS, count_bits + 1)
    try:
        return RangeTable(width, count_bits, starts, lengths, counts), size
    except ValueError as error:
        raise CorruptError(str(error)) from None
