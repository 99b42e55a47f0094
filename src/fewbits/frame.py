"""Frames: one packed tensor as self-describing, checksummed bytes (``docs/format.md``).

>>> import numpy as np
>>> frame = pack(np.arange(6, dtype=np.int16).reshape(2, 3))
>>> unpack(frame)
array([[0, 1, 2],
       [3, 4, 5]], dtype=int16)
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbits import frame_header
from fewbits.errors import CorruptError
from fewbits.frame_header import Header
from fewbits.frameworks import as_array
from fewbits.lossless.choose import Lossless, choose
from fewbits.lossless.plan import Plan
from fewbits.profiles import Profile
from fewbits.threads import resolve_threads
from fewbits.values.types import (
    Layout,
    dtype_name,
    from_storage,
    is_packed4,
    layout_of,
    storage_bytes,
    to_storage,
)

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]
# Reads bytes start..stop of a frame.
Reader = Callable[[int, int], Buffer]


def pack(
    array: ArrayLike, codec: Lossless | Profile | None = None, *, threads: int | None = None
) -> bytes:
    """Pack an array of any shape, order and byte order; the result is bytes that ``unpack`` reads.

    ``codec``: settings for the search for tables, or a ``Profile`` that has the tables, which must
    be for the array's dtype (else ``ValueError``). PyTorch tensors and JAX arrays will do, too. The
    array is not changed. Memory: as much again as the array, of which the frame keeps its share.
    ``TypeError`` for elements that are Python objects.
    """
    data, header = _planned(as_array(array), codec)

    def finish(*index: Array) -> bytes:
        return frame_header.to_bytes(header.indexed(*index))

    return header.plan.kernel.pack_frame(
        header.arrangement, data, resolve_threads(threads), header.header_bytes, finish
    )


def pack_parts(
    array: Array,
    codec: Lossless | Profile | None = None,
    *,
    threads: int | None = None,
    layout: Layout | None = None,
) -> tuple[bytes, NDArray[np.uint8]]:
    """A frame as header and payload, to be written one after the other without joining them.

    ``layout``: how to cut the elements, if not as their dtype suggests.
    """
    data, header = _planned(array, codec, layout)
    payload, modes, lengths, checksums = header.plan.kernel.pack(
        header.arrangement, data, resolve_threads(threads)
    )
    return frame_header.to_bytes(header.indexed(modes, lengths, checksums)), payload


def _planned(
    array: Array, codec: Lossless | Profile | None, layout: Layout | None = None
) -> tuple[NDArray[np.uint8], Header]:
    """The bytes to pack, and the frame's header but for what the block index will say."""
    name = dtype_name(array.dtype)
    data = to_storage(array)
    plan, entropy_bits = _plan(data, array, codec or Lossless(), layout or layout_of(array.dtype))
    arrangement = plan.arrangement(data.size)
    parts = arrangement.blocks * len(plan.planes)
    header = Header(
        dtype=name,
        shape=array.shape,
        entropy_bits=entropy_bits,
        plan=plan,
        modes=np.zeros(parts, np.uint8),
        lengths=np.zeros(parts, np.uint32),
        checksums=np.zeros(arrangement.blocks, np.uint64),
    )
    header.__dict__["arrangement"] = arrangement  # which takes a while to make again
    return data, header


def _plan(
    data: NDArray[np.uint8], array: Array, codec: Lossless | Profile, layout: Layout
) -> tuple[Plan, float]:
    """The plan for a tensor's storage bytes, and the order-0 entropy of its planes."""
    if isinstance(codec, Profile):
        codec.require(array.dtype)
        return codec.plan, codec.entropy_bits(data)
    choice = choose(data, layout, codec, array.shape)
    return choice.plan, choice.entropy_bits


def unpack(frame: Buffer, *, threads: int | None = None, verify: bool = True) -> Array:
    """Unpack a frame into a new array of the same dtype, shape (C order) and bits.

    ``CorruptError`` if the bytes are not a whole, undamaged frame. ``verify=False`` skips the
    checksums of the elements, not the checks that keep decoding safe.
    """
    return PackedTensor.of(frame, threads=threads, verify=verify).unpack()


def unpack_into(
    frame: Buffer, out: Array, *, threads: int | None = None, verify: bool = True
) -> None:
    """Unpack into an array that is there already, without allocating another.

    ``out`` must have the frame's dtype and shape and be writable, aligned and C-contiguous, else
    ``ValueError``. After a ``CorruptError`` its contents mean nothing.
    """
    PackedTensor.of(frame, threads=threads, verify=verify).unpack_into(out)


def check_output(out: Array, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """``ValueError`` unless a tensor of this dtype and shape can be decoded into ``out``."""
    if out.dtype != dtype or out.shape != shape:
        raise ValueError(f"output is {out.dtype}{list(out.shape)}, the tensor {dtype}{list(shape)}")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError("output must be C-contiguous, aligned and writable")


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A packed tensor that decodes when asked: all of it, or ``tensor[start:stop]``.

    Slices along the first axis read and decode only the blocks that hold them.
    """

    header: Header
    read: Reader
    threads: int | None = None
    verify: bool = True
    context: str | None = None

    @classmethod
    def of(cls, frame: Buffer, *, threads: int | None = None, verify: bool = True) -> Self:
        """The tensor in a frame that is in memory; ``CorruptError`` if its header is damaged."""
        view = memoryview(frame.data if isinstance(frame, np.ndarray) else frame).cast("B")
        header = frame_header.parse(view, len(view))
        if header.frame_bytes != len(view):
            raise CorruptError(f"frame of {header.frame_bytes} bytes in {len(view)} bytes")
        return cls(header, lambda start, stop: view[start:stop], threads, verify)

    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype of the elements."""
        return self.header.numpy_dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.header.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor unpacked (4-bit elements count half a byte)."""
        return self.header.storage_bytes

    @property
    def packed_bytes(self) -> int:
        """Bytes of the frame: header, tables, index and payload."""
        return self.header.frame_bytes

    def unpack(self) -> Array:
        """The whole tensor as a new array."""
        data = self.storage(0, self.nbytes)
        return from_storage(data, self.dtype, prod(self.shape)).reshape(self.shape)

    def unpack_into(self, out: Array) -> None:
        """Decode into ``out``; see ``fewbits.unpack_into``."""
        check_output(out, self.dtype, self.shape)
        if is_packed4(self.dtype) or not self.dtype.isnative:
            out[...] = self.unpack()  # these have another form in memory than in the frame
        elif out.size and out.dtype.itemsize:
            self._fill(out.reshape(-1).view(np.uint8))

    def __getitem__(self, key: Any) -> Array:
        """Elements as NumPy indexes them; a leading slice or integer decodes only what it needs."""
        first, *rest = key if isinstance(key, tuple) and key else (key,)
        plain = isinstance(first, int | np.integer | slice) and not isinstance(first, bool)
        if not self.shape or not plain:
            return np.asarray(self.unpack()[key])
        try:
            rows = range(self.shape[0])[first]
        except IndexError:
            raise IndexError(
                f"index {first} is out of bounds for axis 0 with size {self.shape[0]}"
            ) from None
        if isinstance(rows, int):
            return np.asarray(self._rows(rows, rows + 1)[0, *rest])
        low, high = (min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1) if rows else (0, 0)
        return np.asarray(self._rows(low, high)[:: rows.step, *rest])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a packed tensor has no array to share; it must be unpacked")
        return self.unpack().astype(dtype or self.dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        return (
            f"PackedTensor({self.header.dtype}{list(self.shape)}, "
            f"{self.packed_bytes} of {self.nbytes} bytes)"
        )

    def _rows(self, low: int, high: int) -> Array:
        """Rows low..high of the first axis."""
        row = prod(self.shape[1:])
        begin, end = low * row, high * row
        if is_packed4(self.dtype):
            begin -= begin % 2  # the byte that holds it starts one element earlier
        data = self.storage(storage_bytes(self.dtype, begin), storage_bytes(self.dtype, end))
        flat = from_storage(data, self.dtype, end - begin)[low * row - begin :]
        return flat.reshape(high - low, *self.shape[1:])

    def _fill(self, out: NDArray[np.uint8]) -> None:
        """Decode all bytes of the tensor into ``out``."""
        self._decode_blocks(0, self.header.blocks, out, 0)

    def storage(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes start..stop of the tensor as frames code them, from the blocks that hold them."""
        if start == stop:
            return np.empty(0, np.uint8)
        width = self.header.plan.element_bytes
        first, last = start // width, -(-stop // width)
        out = np.empty((last - first) * width, np.uint8)
        self.storage_into(first * width, out)
        return out[start - first * width : stop - first * width]

    def storage_into(self, start: int, out: NDArray[np.uint8]) -> None:
        """Decode ``out.size`` bytes from ``start`` on, as frames code them, both whole elements."""
        if out.size == self.nbytes:
            self._decode_blocks(0, self.header.blocks, out, 0)
        elif out.size:
            width = self.header.plan.element_bytes
            first, last = start // width, (start + out.size) // width
            for blocks in self.header.arrangement.blocks_of(first, last):
                self._decode_blocks(*blocks, out, first)

    def _decode_blocks(
        self, first: int, last: int, out: NDArray[np.uint8], first_element: int
    ) -> None:
        """Decode blocks first..last; what they hold of the elements that ``out`` is for."""
        header = self.header
        planes = len(header.plan.planes)
        payload = np.frombuffer(self.read(*header.payload_range(first, last)), np.uint8)
        index = slice(first * planes, last * planes)
        damaged = header.plan.kernel.unpack(
            header.arrangement,
            payload,
            header.modes[index],
            header.lengths[index],
            header.checksums[first:last],
            first,
            out,
            first_element,
            self.verify,
            resolve_threads(self.threads),
        )
        if damaged >= 0:
            where = f"{self.context}: " if self.context else ""
            raise CorruptError(f"{where}block {first + damaged} is damaged")
