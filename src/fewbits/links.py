"""Frames stored once: a link stands where an equal frame would (``docs/format.md``, "Links").

Packing gives equal tensors equal frames, so comparing frames is enough, and costs next to nothing:
a frame's header has checksums of all its blocks, and only where headers agree are bytes compared.

>>> link = to_bytes(4096)
>>> len(link), target_of(link), target_of(bytes(64))
(64, 4096, None)
"""

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from fewbits import _kernels
from fewbits.errors import CorruptError

MAGIC = b"FEWL"
LINK_BYTES = 64
# A link saves less than this on smaller frames, and asks for a newer reader.
LEAST_FRAME_BYTES = 4096
_HEADER_SUM = slice(24, 32)  # of a frame: the checksum of its header
_CHUNK = 1 << 20


def to_bytes(target: int) -> bytes:
    """A link to the frame that starts ``target`` bytes behind the archive's header."""
    told = MAGIC + bytes(4) + target.to_bytes(8, "little")
    return (told + _checksum(told)).ljust(LINK_BYTES, b"\0")


def target_of(entry: Any) -> int | None:
    """Where the frame is that a link stands for; None if the entry's bytes begin no link.

    ``CorruptError`` for a link that is damaged.
    """
    data = bytes(entry[:LINK_BYTES])
    if not data.startswith(MAGIC):
        return None
    target = int.from_bytes(data[8:16], "little")
    if len(entry) != LINK_BYTES or data != to_bytes(target):
        raise CorruptError("link is damaged")
    return target


def _checksum(told: bytes) -> bytes:
    return int(_kernels.xxh3(np.frombuffer(told, np.uint8))).to_bytes(8, "little")


class Written:
    """The frames that a file holds from its byte ``begin`` on."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self._file, self._begin = file, begin
        self._starts: dict[tuple[int, bytes], int] = {}

    def start_of(self, parts: Sequence[Any], start: int) -> int:
        """Where an equal frame is; else ``start``, where this one, given in parts, will be."""
        size = sum(map(len, parts))
        if size < LEAST_FRAME_BYTES:
            return start
        earlier = self._starts.setdefault((size, bytes(parts[0][_HEADER_SUM])), start)
        return earlier if earlier == start or self._holds(earlier, parts) else start

    def _holds(self, start: int, parts: Sequence[Any]) -> bool:
        """Whether what was written there equals a frame, byte for byte."""
        end = self._file.tell()
        self._file.seek(self._begin + start)
        try:
            return all(
                self._file.read(len(piece)) == piece for part in parts for piece in _pieces(part)
            )
        finally:
            self._file.seek(end)


def _pieces(part: Any) -> list[memoryview]:
    view = memoryview(part).cast("B")
    return [view[at : at + _CHUNK] for at in range(0, len(view), _CHUNK)]
