"""Element types: how a tensor's elements become values that range tables can hold.

A *layout* says how many bytes an element has, which remaps are worth trying, and into which
fields (planes) it is cut. Types with a layout of their own are in ``LAYOUTS``; every other NumPy
type that holds plain bytes is packed byte by byte.

>>> layout_of(np.dtype("float32")).planes
((2, 2), (1, 1), (1, 0))
"""

import ast
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

# Half a byte: a plane of two 4-bit values a byte.
NIBBLES = 0


class Remap(IntEnum):
    """Reversible maps that bring likely values together (``docs/format.md``, "Remap").

    ``SIGN_TO_LSB`` moves a float's sign below the rest of its top 16 bits.
    """

    IDENTITY = 0
    ZIGZAG = 1
    SIGN_TO_LSB = 2


@dataclass(frozen=True)
class Layout:
    """How elements of a type are cut: ``planes`` are (bytes, offset in bytes), top field first."""

    element_bytes: int
    remaps: tuple[Remap, ...]
    planes: tuple[tuple[int, int], ...]


def _bytewise(element_bytes: int, *remaps: Remap) -> Layout:
    planes = tuple((1, offset) for offset in reversed(range(element_bytes)))
    return Layout(element_bytes, remaps, planes)


_PLAIN = _bytewise(1, Remap.IDENTITY)
_FLOAT16 = Layout(2, (Remap.SIGN_TO_LSB,), ((2, 0),))
# The top 16 bits of a wide float are exponent, first mantissa bits and, once remapped, the sign.
# The bytes below are then zero where a shorter float was widened.
_FLOAT32 = Layout(4, (Remap.SIGN_TO_LSB,), ((2, 2), (1, 1), (1, 0)))
_FLOAT64 = Layout(8, (Remap.SIGN_TO_LSB,), ((2, 6), *((1, b) for b in reversed(range(6)))))
_FLOAT8 = Layout(1, (Remap.SIGN_TO_LSB,), ((1, 0),))
_PACKED4 = Layout(1, (Remap.IDENTITY,), ((NIBBLES, 0),))

LAYOUTS: dict[str, Layout] = {
    "int4": _PACKED4,
    "uint4": _PACKED4,
    "bool": _PLAIN,
    "int8": _bytewise(1, Remap.IDENTITY, Remap.ZIGZAG),
    "uint8": _PLAIN,
    "int16": Layout(2, (Remap.IDENTITY, Remap.ZIGZAG), ((2, 0),)),
    "uint16": Layout(2, (Remap.IDENTITY,), ((2, 0),)),
    "int32": _bytewise(4, Remap.ZIGZAG),
    "uint32": _bytewise(4, Remap.IDENTITY),
    "int64": _bytewise(8, Remap.ZIGZAG),
    "uint64": _bytewise(8, Remap.IDENTITY),
    "float8_e3m4": _FLOAT8,
    "float8_e4m3": _FLOAT8,
    "float8_e4m3b11fnuz": _FLOAT8,
    "float8_e4m3fn": _FLOAT8,
    "float8_e4m3fnuz": _FLOAT8,
    "float8_e5m2": _FLOAT8,
    "float8_e5m2fnuz": _FLOAT8,
    "float8_e8m0fnu": _PLAIN,
    "bfloat16": _FLOAT16,
    "float16": _FLOAT16,
    "float32": _FLOAT32,
    "float64": _FLOAT64,
    "complex64": _FLOAT32,  # two elements a number
    "complex128": _FLOAT64,
}


@lru_cache(256)  # NumPy makes up a dtype's name anew each time, which takes longer than the rest
def layout_of(dtype: np.dtype) -> Layout:
    """The layout of a dtype in any byte order; byte by byte where it has none of its own."""
    return LAYOUTS.get(dtype.name, _PLAIN)


def dtype_name(dtype: np.dtype) -> str:
    """The name that frames store: ``bfloat16``, ``>f4`` (big-endian), ``|S5``, ``[('a', '<i4')]``.

    ``TypeError`` for a dtype whose elements are Python objects.
    """
    if dtype.hasobject:
        raise TypeError(f"cannot pack dtype {dtype}: its elements are Python objects, not bytes")
    if dtype.name in LAYOUTS and dtype.isnative:
        return dtype.name
    if dtype.names is not None:
        return repr(np.lib.format.dtype_to_descr(dtype))
    return dtype.str


@lru_cache(256)
def dtype_named(name: str) -> np.dtype:
    """The dtype behind a stored name; ``ValueError`` if there is none."""
    if name in LAYOUTS:
        return np.dtype(getattr(ml_dtypes, name, None) or name)
    try:
        descr: Any = ast.literal_eval(name) if name.startswith("[") else name
        dtype = np.lib.format.descr_to_dtype(descr)
    except (TypeError, ValueError, SyntaxError, KeyError, MemoryError, RecursionError):
        raise ValueError(f"unknown dtype {name[:40]!r}") from None
    if dtype.hasobject or dtype_name(dtype) != name:
        raise ValueError(f"unknown dtype {name[:40]!r}")
    return dtype


def is_packed4(dtype: np.dtype) -> bool:
    """Whether elements are 4 bits, which NumPy keeps one a byte and frames keep two a byte."""
    return layout_of(dtype) is _PACKED4


def storage_bytes(dtype: np.dtype, elements: int) -> int:
    """Bytes that this many elements take in a frame before coding."""
    return (elements + 1) // 2 if is_packed4(dtype) else elements * dtype.itemsize


def to_storage(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes that a frame codes: C order, little-endian, 4-bit elements two a byte, low first.

    A view where the array already lies that way, else a copy; the array itself is never changed.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if is_packed4(flat.dtype):
        nibbles = flat.view(np.uint8) & 15
        if nibbles.size % 2:
            nibbles = np.append(nibbles, np.uint8(0))
        return (nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8, copy=False)
    if not flat.dtype.isnative and flat.dtype.name in LAYOUTS:
        flat = flat.byteswap()
    return flat.view(np.uint8) if flat.size else np.empty(0, np.uint8)


def from_storage(data: NDArray[np.uint8], dtype: np.dtype, elements: int) -> NDArray[Any]:
    """A flat array from stored bytes; shares their memory where it can."""
    if is_packed4(dtype):
        nibbles = np.empty((data.size, 2), np.uint8)
        np.bitwise_and(data, 15, out=nibbles[:, 0])
        np.right_shift(data, 4, out=nibbles[:, 1])
        return nibbles.reshape(-1)[:elements].view(dtype)
    if not dtype.isnative and dtype.name in LAYOUTS:
        native = data.view(dtype.newbyteorder("="))
        return native.byteswap().view(dtype)
    if dtype.itemsize == 0:
        return np.empty(elements, dtype)
    return data.view(dtype)
