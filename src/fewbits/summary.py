"""What a packed tensor is, in the figures that people compare.

Everything but the picture of a distribution comes from headers alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from math import prod

import numpy as np

from fewbits.delta import DeltaTensor
from fewbits.frame import PackedTensor
from fewbits.lossless.plan import Coder, Mode, Plane
from fewbits.values.types import Remap

_REMAPS = {Remap.IDENTITY: "", Remap.ZIGZAG: "zigzag, ", Remap.SIGN_TO_LSB: "sign to LSB, "}
_CODERS = {Coder.RANS: "rANS", Coder.ARITHMETIC: "arithmetic"}


@dataclass(frozen=True)
class Summary:
    """One tensor; bits are per element, the entropy is order-0, summed over its planes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    plain_bytes: int
    packed_bytes: int
    entropy_bits: float
    table_bytes: int
    header_bytes: int  # tables, block index and padding included
    payload_bytes: int
    delta: str | None = None  # the kind, if it is what changed since a base
    same_as: str | None = None  # the tensor whose frame this one shares

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after; 1.0 for an empty tensor."""
        return self.plain_bytes / self.packed_bytes if self.plain_bytes else 1.0

    @property
    def bits(self) -> float:
        """Packed bits an element."""
        return 8 * self.packed_bytes / self.elements if self.elements else 0.0


def summarize(name: str, tensor: PackedTensor) -> Summary:
    """The figures of one tensor."""
    header = tensor.header
    tables = sum(len(table.to_bytes()) for plane in header.plan.planes for table in plane.tables)
    elements = prod(tensor.shape)
    scale = tensor.nbytes / header.plan.element_bytes / elements if elements else 1.0
    return Summary(
        name=name,
        dtype=str(tensor.dtype),
        shape=tensor.shape,
        codec=codec_name(tensor),
        plain_bytes=tensor.nbytes,
        packed_bytes=tensor.packed_bytes,
        entropy_bits=header.entropy_bits * scale,
        table_bytes=tables,
        header_bytes=header.header_bytes,
        payload_bytes=header.frame_bytes - header.header_bytes,
        delta=tensor.kind.value if isinstance(tensor, DeltaTensor) else None,
    )


def codec_name(tensor: PackedTensor) -> str:
    """How a tensor is coded, in a few words: ``sign to LSB, rANS 16x10 + 8 raw bits``.

    Rows x count bits for a coded plane; planes from the top field down, joined by ``|``. What
    changed since a base has the kind of delta in front.
    """
    if isinstance(tensor, DeltaTensor):
        return f"{tensor.kind.value}: {codec_name(tensor.changes)}"
    header = tensor.header
    if not header.blocks:
        return "empty"
    modes = header.modes.reshape(header.blocks, -1)
    planes = [_plane_name(plane, modes[:, index]) for index, plane in enumerate(header.plan.planes)]
    if len(set(planes)) == 1 and planes[0] in ("raw", "constant"):
        return planes[0]
    runs = [(name, len(list(same))) for name, same in groupby(planes)]
    return _REMAPS[header.plan.remap] + " | ".join(
        name if count == 1 else f"{count} x {name}" for name, count in runs
    )


def _plane_name(plane: Plane, modes: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> str:
    raw, constant = bool((modes == Mode.RAW).any()), bool((modes == Mode.CONSTANT).any())
    sparse = bool((modes == Mode.SPARSE).any())
    if not ((modes >= Mode.TABLE) & (modes != Mode.SPARSE)).any():
        return "sparse" if sparse else "raw" if raw else "constant"
    table = max(plane.tables, key=lambda table: table.rows)
    name = f"{_CODERS[plane.coder]} {table.rows}x{table.count_bits}"
    if plane.bytes_ == 0:
        name += " on nibbles"
    if plane.verbatim_bits:
        name += f" + {plane.verbatim_bits} raw bits"
    if (modes == Mode.BY_CLASS).any():
        name += f" x {len(plane.tables)} classes"
    some = {"raw": raw, "constant": constant, "sparse": sparse}
    return name + "".join(f", some {word}" for word, found in some.items() if found)


def total_ratio(summaries: Iterable[Summary]) -> float:
    """The size-weighted ratio: all bytes before over all bytes after."""
    rows = list(summaries)
    packed = sum(row.packed_bytes for row in rows)
    return sum(row.plain_bytes for row in rows) / packed if packed else 1.0
