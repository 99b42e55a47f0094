"""Streams: arrays of one dtype packed one after another, on their way through a file or a pipe.

Frames are for tensors that lie somewhere; a stream is for what comes as it is computed, such as the
activations of a layer or a growing cache. The tables are sent once and again only when they are to
change; each array follows as soon as it is appended and can be decoded when it arrives. Neither
side seeks, and both hold one array at a time.

>>> import io, numpy as np
>>> file = io.BytesIO()
>>> with StreamWriter(file, "int16") as writer:
...     for step in range(3):
...         writer.append(np.full((2, 4), step, np.int16))
>>> [array[0, 0].item() for array in StreamReader(io.BytesIO(file.getvalue()))]
[0, 1, 2]

Read side by side with ``docs/format.md``, "Stream".
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbits import _kernels
from fewbits.errors import CorruptError
from fewbits.frame import check_output
from fewbits.frame_header import MAX_DIMENSIONS, Cursor, varint
from fewbits.lossless.adaptive import AdaptivePlan
from fewbits.lossless.choose import Lossless
from fewbits.lossless.plan import Plan
from fewbits.profiles import Profile
from fewbits.threads import resolve_threads
from fewbits.values.types import (
    dtype_name,
    dtype_named,
    from_storage,
    is_packed4,
    layout_of,
    storage_bytes,
    to_storage,
)

Array = NDArray[Any]
T = TypeVar("T")

# The start of a stream: magic, version, and three bytes for later.
START = b"FEWS\1\0\0\0"
_CHECKSUM_BYTES = 8
# The rest of what every record starts with: kind, bytes of its body.
_RECORD = struct.Struct("<BI")
# A length from a stranger is believed as far as data arrive: a reader's memory grows by doubling.
MIN_MEMORY = 1 << 16


class Kind(IntEnum):
    """What a record is."""

    END = 0
    PLAN = 1
    ARRAY = 2


class StreamWriter:
    """Packs arrays of one dtype and writes them to ``file``, any object with a binary ``write``.

    ``codec``: a ``Profile`` fitted beforehand (``ValueError`` if it is for another dtype), or
    settings with which tables are fitted to what passes, and anew where that pays. The stream's
    start is written at once. Leave the ``with`` block, or call ``close``, to write its end: a
    stream without one is cut short to its reader. The file itself stays open.
    """

    def __init__(
        self,
        file: BinaryIO,
        dtype: Any,
        codec: Lossless | Profile | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.arrays = 0
        self.nbytes = 0  # of the arrays, 4-bit elements taking half a byte
        self.packed_bytes = 0  # written so far
        self._file, self._threads = file, resolve_threads(threads)
        self._previous = START
        self._state = "open"
        self._adaptive: AdaptivePlan | None = None
        if isinstance(codec, Profile):
            codec.require(self.dtype)
            profile = codec
        else:
            self._adaptive = AdaptivePlan(layout_of(self.dtype), codec or Lossless())
            profile = Profile(dtype_name(self.dtype), self._adaptive.plan)
        self._write(START)
        self._send_plan(profile.plan)

    def append(self, array: ArrayLike) -> None:
        """Pack an array of any shape and write it; once that returns, the file has all of it.

        ``ValueError`` if its dtype is not the stream's; then nothing is written.
        """
        given = np.asarray(array)
        if given.dtype != self.dtype:
            raise ValueError(f"the stream is of {self.dtype}, the array of {given.dtype}")
        if self._state != "open":
            raise ValueError(f"the stream is {self._state}")
        data = to_storage(given)
        if self._adaptive and self._adaptive.renewed_for(data):
            self._send_plan(self._adaptive.plan)
        payload, modes, lengths, checksums = self._plan.kernel.pack(
            self._plan.arrangement(data.size), data, self._threads
        )
        shape = b"".join(varint(length) for length in given.shape)
        little = [
            part.astype(part.dtype.newbyteorder("<"), copy=False) for part in (lengths, checksums)
        ]
        index = b"".join(part.tobytes() for part in (modes, *little))
        self._send(Kind.ARRAY, bytes((given.ndim,)) + shape + index, payload.data)
        self.arrays += 1
        self.nbytes += data.size

    def flush(self) -> None:
        """Flush the file, if it can: the writer itself holds nothing back."""
        if hasattr(self._file, "flush"):
            self._file.flush()

    def close(self) -> None:
        """Write the stream's end and flush; the file stays open. Closing again does nothing."""
        if self._state == "open":
            self._send(Kind.END, b"")
            self._state = "closed"
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._state == "open":
            self._state = "broken off"  # without its end, so that the reader knows

    def __repr__(self) -> str:
        return (
            f"StreamWriter({self.dtype}, {self.arrays} arrays, "
            f"{self.packed_bytes} of {self.nbytes} bytes)"
        )

    def _send_plan(self, plan: Plan) -> None:
        self._plan = plan
        self._send(Kind.PLAN, Profile(dtype_name(self.dtype), plan).to_bytes())

    def _send(self, kind: Kind, body: bytes, payload: memoryview | bytes = b"") -> None:
        """Write one record; the stream is broken if that fails halfway."""
        rest = _RECORD.pack(kind, len(body)) + body
        checksum = _chained(self._previous, rest)
        state, self._state = self._state, "broken off"
        self._write(checksum + rest)
        self._write(payload)
        self._previous, self._state = checksum, state

    def _write(self, data: memoryview | bytes) -> None:
        view = memoryview(data)
        self.packed_bytes += len(view)
        while len(view):
            written = self._file.write(view)
            # Only unbuffered files write less than all.
            if not isinstance(self._file, io.RawIOBase):
                return
            if written is None:
                raise BlockingIOError("the stream's file does not block")
            view = view[written:]


class StreamReader:
    """Reads a stream from ``file``, any object with a binary ``read``, array by array.

    Iterate over it, or call ``read`` or ``read_into``. It takes not a byte more from the file than
    the stream has, and waits for no more than the next array. ``CorruptError`` if the stream is
    damaged, cut short, or lacks an array; those before it have been given by then. After a damaged
    array reading goes on with the next one. ``verify=False`` skips the checksums of the elements.
    """

    def __init__(self, file: BinaryIO, *, threads: int | None = None, verify: bool = True) -> None:
        self.arrays = 0  # read so far
        self._memory = _Memory(file)
        self._threads, self._verify = resolve_threads(threads), verify
        self._next: _Head | None = None
        self._ended = False
        self._fault: str | None = None
        start = bytes(self._take(len(START)))
        if start[:4] != START[:4] or any(start[5:]):
            raise CorruptError("not a Fewbits stream")
        if start[4] != START[4]:
            raise CorruptError(f"stream version {start[4]}; this release reads version {START[4]}")
        self._previous = START
        kind, body = self._record()
        if kind != Kind.PLAN:
            raise CorruptError("stream does not start with a plan")
        self._profile = self._parsed(Profile.from_bytes, body)
        self.dtype = dtype_named(self._profile.dtype)

    def next_shape(self) -> tuple[int, ...] | None:
        """Shape of the next array, once its head is there; None at the end of the stream."""
        while self._next is None and not self._ended:
            if self._fault is not None:
                raise CorruptError(self._fault)
            kind, body = self._record()
            if kind == Kind.PLAN:
                profile = self._parsed(Profile.from_bytes, body)
                if profile.dtype != self._profile.dtype:
                    raise self._failure(f"a plan is for {profile.dtype}")
                self._profile = profile
            elif kind == Kind.ARRAY:
                self._next = self._parsed(self._head, body)
            elif kind == Kind.END and not body:
                self._ended = True
            else:
                raise self._failure(f"a record of unknown kind {kind}")
        return None if self._next is None else self._next.shape

    def read(self) -> Array | None:
        """The next array, a new one; None at the end of the stream."""
        if self.next_shape() is None:
            return None
        head, payload = self._payload()
        out = np.empty(head.nbytes, np.uint8)
        self._decode(head, payload, out)
        return from_storage(out, self.dtype, prod(head.shape)).reshape(head.shape)

    def read_into(self, out: Array) -> bool:
        """Decode the next array into ``out``; False at the end of the stream.

        ``out`` must be as for ``fewbits.unpack_into``, else ``ValueError``; the array can then
        still be read. Memory for the payload is kept, so that none is allocated for each array.
        """
        shape = self.next_shape()
        if shape is None:
            return False
        check_output(out, self.dtype, shape)
        if is_packed4(self.dtype) or not self.dtype.isnative or not out.size or not out.nbytes:
            out[...] = self.read()  # these have another form in memory than in the stream
        else:
            head, payload = self._payload()
            self._decode(head, payload, out.reshape(-1).view(np.uint8))
        return True

    def __iter__(self) -> Iterator[Array]:
        return self

    def __next__(self) -> Array:
        array = self.read()
        if array is None:
            raise StopIteration
        return array

    def __repr__(self) -> str:
        return f"StreamReader({self.dtype}, {self.arrays} arrays read)"

    def _take(self, size: int) -> NDArray[np.uint8]:
        """The next bytes, until the next call."""
        # Whatever goes wrong while reading, no later call may take the middle of a record for its
        # start.
        self._fault = f"stream is cut short after {self.arrays} arrays"
        taken = self._memory.fill(size)
        if taken is None:
            raise CorruptError(self._fault)
        self._fault = None
        return taken

    def _record(self) -> tuple[int, bytes]:
        """Kind and body of the next record."""
        fixed = bytes(self._take(_CHECKSUM_BYTES + _RECORD.size))
        checksum, rest = fixed[:_CHECKSUM_BYTES], fixed[_CHECKSUM_BYTES:]
        kind, size = _RECORD.unpack(rest)
        body = bytes(self._take(size))
        if _chained(self._previous, rest + body) != checksum:
            raise self._failure("a record is damaged, missing or out of place")
        self._previous = checksum
        return kind, body

    def _parsed(self, parse: Callable[[bytes], T], body: bytes) -> T:
        try:
            return parse(body)
        except ValueError as error:
            raise self._failure(str(error)) from None

    def _failure(self, fault: str) -> CorruptError:
        """An error after which nothing more can be read."""
        self._fault = f"stream after {self.arrays} arrays: {fault}"
        return CorruptError(self._fault)

    def _head(self, body: bytes) -> "_Head":
        """What an array's record says about it; ``ValueError`` if it cannot be."""
        cursor, plan = Cursor(body, 0), self._profile.plan
        dimensions = cursor.take(1)[0]
        if dimensions > MAX_DIMENSIONS:
            raise CorruptError(f"{dimensions} dimensions")
        shape = tuple(cursor.varint() for _ in range(dimensions))
        # Without its zeros, since NumPy counts the others even for an array of nothing.
        if storage_bytes(self.dtype, prod(n for n in shape if n)) >= 1 << 63:
            raise CorruptError(f"shape {list(shape)[:8]} overflows")
        nbytes = storage_bytes(self.dtype, prod(shape))
        if nbytes % plan.element_bytes:
            raise CorruptError("array is not a whole number of elements")
        if nbytes // plan.block_bytes > len(body):  # whatever a block's index takes
            raise CorruptError("an array's record is cut short")
        arrangement, planes = plan.arrangement(nbytes), len(plan.planes)
        blocks = arrangement.blocks
        head = _Head(
            shape,
            nbytes,
            plan,
            arrangement,
            cursor.array(blocks * planes, np.uint8),
            cursor.array(blocks * planes, np.uint32),
            cursor.array(blocks, np.uint64),
        )
        if cursor.rest():
            raise CorruptError("an array's record is too long")
        return head

    def _payload(self) -> tuple["_Head", NDArray[np.uint8]]:
        """The head that was read last, and what follows it."""
        assert self._next is not None  # next_shape() gave one
        head, self._next = self._next, None
        return head, self._take(int(head.lengths.sum(dtype=np.int64)))

    def _decode(self, head: "_Head", payload: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        self.arrays += 1
        damaged = head.plan.kernel.unpack(
            head.arrangement,
            payload,
            head.modes,
            head.lengths,
            head.checksums,
            0,
            out,
            0,
            self._verify,
            self._threads,
        )
        if damaged >= 0:
            raise CorruptError(f"array {self.arrays - 1} of the stream: block {damaged} is damaged")


@dataclass(frozen=True, eq=False)
class _Head:
    """An array on its way: its shape and, as in a frame's header, its block index."""

    shape: tuple[int, ...]
    nbytes: int
    plan: Plan
    arrangement: _kernels.Arrangement
    modes: NDArray[np.uint8]
    lengths: NDArray[np.uint32]
    checksums: NDArray[np.uint64]


class _Memory:
    """Memory that is filled from a file, kept from one filling to the next."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._memory = np.empty(MIN_MEMORY, np.uint8)

    def fill(self, size: int) -> NDArray[np.uint8] | None:
        """The next ``size`` bytes, until the next call; None if the file ends before."""
        filled = 0
        while filled < size:
            if filled == self._memory.size:
                grown = np.empty(min(size, 2 * filled), np.uint8)
                grown[:filled] = self._memory
                self._memory = grown
            got = self._read(self._memory[filled : min(size, self._memory.size)])
            if got == 0:
                return None
            filled += got
        return self._memory[:size]

    def _read(self, into: NDArray[np.uint8]) -> int:
        if isinstance(self._file, io.RawIOBase | io.BufferedIOBase):
            got = self._file.readinto(into.data)
        else:
            data = self._file.read(into.size)
            got = None if data is None else len(data)
            into[:got] = np.frombuffer(data or b"", np.uint8)
        if got is None:
            raise BlockingIOError("the stream's file does not block")
        return got


def _chained(previous: bytes, rest: bytes) -> bytes:
    """Checksum of a record's head that holds only behind the record before it."""
    return _kernels.xxh3(np.frombuffer(previous + rest, np.uint8)).to_bytes(8, "little")
