"""Streams as engines move them, taken out of the frames that software packs, and put back.

>>> import numpy as np
>>> from fewbits.frame import pack, unpack
>>> from fewbits.lossless.choose import Lossless
>>> array = (np.arange(6000) % 7).astype(np.uint8)
>>> frame = pack(array, Lossless(coder="arithmetic", count_bits=10))
>>> [stream.count for stream in streams_of(frame)]
[6000]
>>> payloads = [stream.payload for stream in streams_of(frame)]
>>> bool((unpack(with_payloads(frame, payloads)) == array).all())
True
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from fewbits import frame_header
from fewbits.errors import CorruptError, FewbitsError
from fewbits.lossless.arithmetic import LENGTH_BYTES
from fewbits.lossless.plan import Coder, Mode
from fewbits.lossless.table import RangeTable

WORD_BYTES = 4


@dataclass
class Stream:
    """One independently decodable stream: its table, its values' number and its words."""

    table: RangeTable
    count: int
    symbols: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    @classmethod
    def of_payload(cls, payload: bytes | memoryview, count: int, table: RangeTable) -> Self:
        """Take a payload apart; ``CorruptError`` if it is none."""
        length = int.from_bytes(payload[:LENGTH_BYTES], "little")
        rest = payload[LENGTH_BYTES:]
        if length > len(rest) or length % WORD_BYTES or len(rest) % WORD_BYTES:
            raise CorruptError("arithmetic payload: its streams are not whole words")
        return cls(table, count, _words(rest[:length]), _words(rest[length:]))

    @property
    def payload(self) -> bytes:
        """The payload of these words."""
        symbols, offsets = (np.array(w, ">u4").tobytes() for w in (self.symbols, self.offsets))
        return len(symbols).to_bytes(LENGTH_BYTES, "little") + symbols + offsets


def _words(data: bytes | memoryview) -> list[int]:
    return [int(word) for word in np.frombuffer(data, ">u4")]


def streams_of(frame: bytes) -> list[Stream]:
    """The streams of a frame's coded blocks, plane by plane within each block.

    Blocks that are constant or raw have none. ``FewbitsError`` for a coder other than the
    arithmetic one, which the engine does not speak.
    """
    return [
        Stream.of_payload(frame[start:stop], count, table)
        for start, stop, count, table in _coded(frame)
    ]


def with_payloads(frame: bytes, payloads: Sequence[bytes]) -> bytes:
    """The frame with other payloads, of the same lengths, for its coded blocks."""
    made = bytearray(frame)
    for (start, stop, _, _), payload in zip(_coded(frame), payloads, strict=True):
        if stop - start != len(payload):
            raise ValueError(f"payload of {len(payload)} bytes in place of {stop - start}")
        made[start:stop] = payload
    return bytes(made)


def _coded(frame: bytes) -> list[tuple[int, int, int, RangeTable]]:
    """Where each coded plane of each block lies, how many values it has, and its table."""
    header = frame_header.parse(memoryview(frame), len(frame))
    plan = header.plan
    if plan.classes is not None:
        raise FewbitsError("the engine takes frames without classes of rows")
    elements = header.storage_bytes // plan.element_bytes
    found, place = [], header.header_bytes
    for block in range(header.blocks):
        in_block = min(plan.block_elements, elements - block * plan.block_elements)
        for number, plane in enumerate(plan.planes):
            part = block * len(plan.planes) + number
            mode, length = int(header.modes[part]), int(header.lengths[part])
            if Mode.TABLE <= mode < Mode.SPARSE:
                if plane.coder != Coder.ARITHMETIC:
                    raise FewbitsError("the engine takes frames of the arithmetic coder")
                table = plane.tables[mode - Mode.TABLE]
                found.append((place, place + length, plane.values_in(in_block), table))
            place += length
    return found
