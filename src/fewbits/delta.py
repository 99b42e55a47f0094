"""Deltas: a tensor packed as what changed since a base (``docs/format.md``, "Deltas").

The frame of a delta has the tensor's dtype and shape; its bytes are the changes. A *mark* in the
archive's metadata says how they were made, and which base they need.

>>> import numpy as np
>>> before = np.linspace(-1, 1, 10_000, dtype=np.float32)
>>> after = np.nextafter(before, np.float32(2))
>>> parts, mark = pack_changes(after, Base.of(before))
>>> mark.kind.value, sum(map(len, parts)) < 200
('difference', True)
>>> tensor = DeltaTensor.of_parts(parts, mark, Base.of(before))
>>> bool((tensor.unpack() == after).all()), tensor[5:7].shape
(True, (2,))
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewbits import _kernels
from fewbits.errors import FewbitsError
from fewbits.frame import PackedTensor, pack_parts
from fewbits.lossless.choose import Lossless, choose
from fewbits.lossless.histogram import entropy
from fewbits.lossless.plan import Plan, Plane
from fewbits.values.types import (
    LAYOUTS,
    Layout,
    Remap,
    from_storage,
    is_packed4,
    layout_of,
    storage_bytes,
    to_storage,
)

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Parts = tuple[bytes, Bytes]

# The base is checked in pieces of so many bytes, so that a slice does not need all of it.
PIECE = 1 << 20
# The base of a whole tensor is read in steps of so many bytes, each of whole pieces.
STEP = 8 * PIECE
# Of larger tensors, so many bytes from so many places tell which way of packing is the smallest.
SAMPLE_BYTES, SAMPLE_PLACES = 1 << 20, 16
_DIGITS = 16

# How changes are cut, by bytes an element. Where changes are small the top bytes are all zero; the
# ones that tell their magnitude had better be one value, and where these lie differs.
_CUTS: dict[int, tuple[tuple[tuple[int, int], ...], ...]] = {
    1: (((1, 0),),),
    2: (((2, 0),), ((1, 1), (1, 0))),
    4: (((2, 2), (1, 1), (1, 0)), ((1, 3), (2, 1), (1, 0))),
    8: (LAYOUTS["float64"].planes, LAYOUTS["int64"].planes),
}
# How nothing is cut, in the largest blocks.
_UNCHANGED = Layout(1, (Remap.IDENTITY,), ((1, 0),))


class Kind(Enum):
    """How changes were made: element by element, or bit by bit."""

    DIFFERENCE = "difference"
    XOR = "xor"


_LETTERS = {Kind.DIFFERENCE: "d", Kind.XOR: "x"}
_REMAPS = {Kind.DIFFERENCE: Remap.ZIGZAG, Kind.XOR: Remap.IDENTITY}


@dataclass(frozen=True)
class Mark:
    """What an archive says about a delta: its kind, and the XXH3 of each piece of its base."""

    kind: Kind
    checksums: tuple[int, ...]

    def __str__(self) -> str:
        return _LETTERS[self.kind] + "".join(f"{c:0{_DIGITS}x}" for c in self.checksums)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The mark that a text stands for; ``ValueError`` if it is none."""
        digits = text[1:]
        if len(digits) % _DIGITS or not set(digits) <= set("0123456789abcdef"):
            raise ValueError(f"not the mark of a delta: {text[:20]!r}")
        kind = next((kind for kind, letter in _LETTERS.items() if text[:1] == letter), None)
        if kind is None:
            raise ValueError(f"unknown kind of delta: {text[:1]!r}")
        starts = range(0, len(digits), _DIGITS)
        return cls(kind, tuple(int(digits[at : at + _DIGITS], 16) for at in starts))


def mark_bytes(nbytes: int) -> int:
    """Characters of the mark of a tensor of so many bytes."""
    return 1 + _DIGITS * -(-nbytes // PIECE)


@dataclass(frozen=True)
class Base:
    """A tensor to take changes against; ``read`` gives its storage bytes from start to stop."""

    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[int, int], Bytes]
    name: str = "the base"

    @classmethod
    def of(cls, array: Array) -> Self:
        """A tensor in memory."""
        data = to_storage(array)
        return cls(array.dtype, array.shape, lambda start, stop: data[start:stop])

    @property
    def nbytes(self) -> int:
        """Storage bytes of the tensor."""
        return storage_bytes(self.dtype, prod(self.shape))

    def fits(self, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
        """Whether it has this dtype and shape."""
        return self.dtype == dtype and self.shape == shape


def pack_changes(
    array: Array, base: Base, codec: Lossless | None = None, *, threads: int | None = None
) -> tuple[Parts, Mark] | None:
    """A frame of the changes since ``base``, and its mark; None where packing as usual is smaller.

    The base must have the array's dtype and shape.
    """
    data = to_storage(array)
    if data.size <= mark_bytes(data.size):
        return None  # not worth the mark, let alone that it needs the base
    before, codec = base.read(0, data.size), codec or Lossless()
    sample = _sample(data)
    shape = array.shape if sample is data else ()
    if np.array_equal(data, before):
        bits, kind, layout = 0.0, Kind.XOR, _UNCHANGED
    else:
        bits, kind, layout = _cheapest(sample, _sample(before), array.dtype, codec, shape)
    bits += 8 * mark_bytes(data.size) * sample.size / data.size
    if bits >= choose(sample, layout_of(array.dtype), codec, shape).price_bits:
        return None
    changed = changes(kind, array.dtype, data, before, layout.element_bytes)
    frame = from_storage(changed, array.dtype, array.size).reshape(array.shape)
    parts = pack_parts(frame, codec, threads=threads, layout=layout)
    return parts, Mark(kind, _checksums(before))


def _cheapest(
    data: Bytes, before: Bytes, dtype: np.dtype, codec: Lossless, shape: tuple[int, ...]
) -> tuple[float, Kind, Layout]:
    """The changes that cost the least: bits, kind and cut.

    Table searches take most of the time, so the entropy picks the kind. It cannot pick the cut: 16
    rows hold less of a plane of 16 bits than of one of 8.
    """
    size = layout_of(dtype).element_bytes
    changed = {k: changes(k, dtype, data, before, size) for k in _kinds(dtype)}
    cuts = _CUTS[size]
    kind = min(changed, key=lambda k: _entropy_bits(changed[k], _layout(k, size, cuts[0])))
    layouts = [_layout(kind, size, cut) for cut in cuts]
    prices = [choose(changed[kind], layout, codec, shape).price_bits for layout in layouts]
    bits, layout = min(zip(prices, layouts, strict=True), key=lambda priced: priced[0])
    return bits, kind, layout


def _layout(kind: Kind, element_bytes: int, cut: tuple[tuple[int, int], ...]) -> Layout:
    return Layout(element_bytes, (_REMAPS[kind],), cut)


def _entropy_bits(data: Bytes, layout: Layout) -> float:
    """The order-0 entropy of the planes, in bits a value, added up."""
    planes = tuple(Plane(bytes_, offset) for bytes_, offset in layout.planes)
    plan = Plan(layout.element_bytes, layout.remaps[0], layout.element_bytes, planes)
    return sum(entropy(plan.histograms(index, data)) for index in range(len(planes)))


def _kinds(dtype: np.dtype) -> tuple[Kind, ...]:
    """Kinds worth trying: a difference needs elements that are numbers of whole bytes."""
    numbers = dtype.name in LAYOUTS and dtype.name != "bool" and not is_packed4(dtype)
    return (Kind.DIFFERENCE, Kind.XOR) if numbers else (Kind.XOR,)


def _sample(data: Bytes) -> Bytes:
    """Bytes from places all over a large tensor; all of a small one."""
    if data.size <= 2 * SAMPLE_BYTES:
        return data
    each = SAMPLE_BYTES // SAMPLE_PLACES
    last = (data.size - each) // 8  # places at multiples of the largest element
    starts = [8 * (last * place // (SAMPLE_PLACES - 1)) for place in range(SAMPLE_PLACES)]
    return np.concatenate([data[start : start + each] for start in starts])


def changes(kind: Kind, dtype: np.dtype, data: Bytes, before: Bytes, element_bytes: int) -> Bytes:
    """Storage bytes of the changes that make ``before`` into ``data``."""
    if kind is Kind.XOR:
        return data ^ before
    signed = np.dtype(f"<i{element_bytes}")
    after = _ordered(data.view(signed), dtype)
    changed: NDArray[Any] = after - _ordered(before.view(signed), dtype)
    return changed.view(np.uint8)


def apply(kind: Kind, dtype: np.dtype, data: Bytes, before: Bytes, element_bytes: int) -> None:
    """Turn changes into the tensor that they make of ``before``, in place."""
    if kind is Kind.XOR:
        np.bitwise_xor(data, before, out=data)
        return
    signed = np.dtype(f"<i{element_bytes}")
    values = data.view(signed)
    values += _ordered(before.view(signed), dtype)
    if _is_float(dtype):
        values[...] = _ordered(values, dtype)


def _is_float(dtype: np.dtype) -> bool:
    return Remap.SIGN_TO_LSB in layout_of(dtype).remaps


def _ordered(values: NDArray[Any], dtype: np.dtype) -> NDArray[Any]:
    """Bits of floats as integers of the same order: ..., -1 for -0, 0 for +0, ...; and back.

    Floats are sign and magnitude, so below zero all bits but the sign are inverted. Integers, as
    they are, differ from what they should be by nothing that a difference modulo 2^w would show.
    """
    if not _is_float(dtype):
        return values
    bits = 8 * values.itemsize
    ordered = values >> (bits - 1)
    ordered &= (1 << (bits - 1)) - 1
    ordered ^= values
    return ordered


def _checksums(data: Bytes) -> tuple[int, ...]:
    return tuple(_kernels.xxh3(data[at : at + PIECE]) for at in range(0, data.size, PIECE))


@dataclass(frozen=True, eq=False, repr=False)
class DeltaTensor(PackedTensor):
    """A packed tensor that is changes since a base; it decodes, whole or in slices, by way of both.

    Besides what a packed tensor raises, ``FewbitsError`` if the base is missing or another one.
    """

    mark: Mark = field(kw_only=True)
    find_base: Callable[[], Base] = field(kw_only=True)

    @classmethod
    def of_changes(cls, changed: PackedTensor, mark: Mark, find_base: Callable[[], Base]) -> Self:
        """The tensor that these changes make of the base, which is found when it is needed.

        ``ValueError`` if the mark is for a tensor of another size.
        """
        if len(str(mark)) != mark_bytes(changed.nbytes):
            raise ValueError(
                f"{len(mark.checksums)} checksums for a base of {changed.nbytes} bytes"
            )
        settings = (changed.header, changed.read, changed.threads, changed.verify, changed.context)
        return cls(*settings, mark=mark, find_base=find_base)

    @classmethod
    def of_parts(cls, parts: Parts, mark: Mark, base: Base, threads: int | None = None) -> Self:
        """The same, for a frame in memory."""
        frame = np.concatenate([np.frombuffer(parts[0], np.uint8), parts[1]])
        return cls.of_changes(PackedTensor.of(frame, threads=threads), mark, lambda: base)

    @property
    def kind(self) -> Kind:
        """How the changes were made."""
        return self.mark.kind

    @property
    def changes(self) -> PackedTensor:
        """The changes by themselves, as a tensor of the same dtype and shape."""
        return PackedTensor(self.header, self.read, self.threads, self.verify, self.context)

    def __repr__(self) -> str:
        return repr(self.changes).replace("PackedTensor(", f"DeltaTensor({self.kind.value}, ", 1)

    def storage(self, start: int, stop: int) -> Bytes:
        """Bytes start..stop of the tensor, the changes applied."""
        element = self.header.plan.element_bytes
        begin, end = start - start % element, stop + -stop % element
        data = super().storage(begin, end)
        self._restore(begin, data)
        return data[start - begin : stop - begin]

    def _fill(self, out: Bytes) -> None:
        super()._fill(out)
        self._restore(0, out)

    def _restore(self, begin: int, data: Bytes) -> None:
        """Apply the changes in ``data``, those of the tensor's bytes from ``begin`` on."""
        where = f"{self.context}: " if self.context else ""
        base, end = self.find_base(), begin + data.size
        if not base.fits(self.dtype, self.shape):
            raise FewbitsError(
                f"{where}is {self.dtype}{list(self.shape)}, but {base.dtype}{list(base.shape)} "
                f"in {base.name}"
            )
        for low in range(begin - begin % PIECE, end, STEP):
            high = min(low + STEP, -(-end // PIECE) * PIECE, self.nbytes)
            before = base.read(low, high)
            first = low // PIECE
            expected = self.mark.checksums[first : first + -(-before.size // PIECE)]
            if self.verify and _checksums(before) != expected:
                raise FewbitsError(
                    f"{where}{base.name} is not the base that this was packed with (checksum)"
                )
            start, stop = max(begin, low), min(end, high)
            apply(
                self.kind,
                self.dtype,
                data[start - begin : stop - begin],
                before[start - low : stop - low],
                self.header.plan.element_bytes,
            )
