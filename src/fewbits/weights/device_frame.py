"""A frame as a GPU's decoder reads it: its bytes on the device, and where everything in them lies.

``docs/format.md`` says what the fields mean. Nothing here needs Triton; the kernels do
(`fewbits.weights.triton_rans`).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewbits.errors import CorruptError
from fewbits.frame import PackedTensor
from fewbits.lossless.ans import LOADED, MAX_LANES, deal
from fewbits.lossless.plan import Coder, Mode, Plane
from fewbits.lossless.table import RangeTable

#: Columns of a stream's line in `Streams.lines`.
COLUMNS = (
    "first",  # stored place of the first value
    "coded",  # values in the stream
    "lanes",
    "loaded",  # values of each lane's last state
    "states",  # where in the payload: states, verbatim bits, spill bits, words, and their end
    "verbatim",
    "spill",
    "words",
    "end",
    "table",  # the first of its tables
    "runs",  # how many of them it goes through
    "ends",  # where in `Streams.ends` the ends of its runs are
)


@dataclass(frozen=True)
class Tables:
    """All tables of a plane, code after code, each of as many codes as the largest has."""

    count: NDArray[np.int32]
    position: NDArray[np.int32]
    start: NDArray[np.int32]
    state_bits: NDArray[np.int32]
    spill_bits: NDArray[np.int32]
    count_bits: NDArray[np.int32]  # of each table
    stride: int


@dataclass(frozen=True)
class Streams:
    """The rANS streams of one plane, one a block, and what else the plane holds."""

    lines: NDArray[np.int64]  # streams x COLUMNS
    ends: NDArray[np.int64]
    tables: Tables | None
    others: list[tuple[int, NDArray[Any]]]  # stored place and values of blocks that are not coded
    spills: bool


def streams_of(tensor: PackedTensor, payload: NDArray[np.uint8], number: int) -> Streams:
    """The streams of plane ``number``; `CorruptError` where a payload cannot be one."""
    header = tensor.header
    plane, planes = header.plan.planes[number], len(header.plan.planes)
    lengths = header.lengths.reshape(-1, planes).astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths.reshape(-1))))[:-1].reshape(-1, planes)
    tables = _tables(plane)
    lines: list[list[int]] = []
    ends: list[int] = []
    others: list[tuple[int, NDArray[Any]]] = []
    for block in range(header.blocks):
        mode = int(header.modes[block * planes + number])
        at, size = int(starts[block, number]), int(lengths[block, number])
        begin, count = header.arrangement.block_of(block)
        first, values = plane.values_in(begin), plane.values_in(count)
        data = payload[at : at + size]
        if mode == Mode.BY_CLASS or Mode.TABLE <= mode < Mode.SPARSE:
            runs = _runs(tensor, begin, count, plane) if mode == Mode.BY_CLASS else [(0, values)]
            table = 0 if mode == Mode.BY_CLASS else mode - Mode.TABLE
            spilled = _spills(plane, [table + run for run, _ in runs])
            place = _sections(data, values, plane, spilled, at)
            full = [(table + run, end) for run, end in runs]
            lines.append([first, *place, full[0][0], len(full), len(ends)])
            ends += [end for _, end in full]
            if any(t != full[0][0] + i for i, (t, _) in enumerate(full)):
                raise CorruptError("a block goes through classes that do not follow each other")
        else:
            others.append((first, _plain_values(data, mode, values, plane)))
    shape = (len(lines), len(COLUMNS))
    return Streams(
        np.array(lines, np.int64).reshape(shape),
        np.array(ends, np.int64),
        tables,
        others,
        plane.coder == Coder.RANS and _spills(plane, range(len(plane.tables))),
    )


def _sections(
    data: NDArray[np.uint8], values: int, plane: Plane, spills: bool, at: int
) -> list[int]:
    """Coded values, lanes, values of a lane's last state, and where the sections begin."""
    if not data.size or data[0] % LOADED >= MAX_LANES.bit_length():
        raise CorruptError("rANS payload has no possible number of lanes")
    lanes = 1 << int(data[0] % LOADED)
    held = 16 // plane.width if data[0] & LOADED else 0
    coded = values - held * lanes
    spill_size = int.from_bytes(data[1:5].tobytes(), "little") if spills else 0
    states = 5 if spills else 1
    verbatim = states + 4 * lanes
    spill = verbatim + -(-coded * plane.verbatim_bits // 8)
    words = spill + spill_size
    if coded < 0 or words > data.size or (data.size - words) % 2:
        raise CorruptError("rANS payload is cut short")
    sections = (at + part for part in (states, verbatim, spill, words, data.size))
    return [coded, lanes, held, *sections]


def _runs(tensor: PackedTensor, begin: int, count: int, plane: Plane) -> list[tuple[int, int]]:
    """The classes that a block's values go through, each with the end of its run."""
    classes = tensor.header.plan.classes
    assert classes is not None
    sizes = np.bincount(classes.class_of_row, minlength=classes.classes) * classes.row_elements
    lacking = len(classes.class_of_row) * classes.row_elements - _elements(tensor)
    sizes[classes.class_of_row[-1]] -= lacking
    bounds = np.cumsum(sizes)
    runs, reached = [], begin
    for number, end in enumerate(bounds):
        end = min(int(end), begin + count)
        if end > reached:
            runs.append((number, plane.values_in(end - begin)))
            reached = end
    first = runs[0][0]
    last = runs[-1][0]
    known = dict(runs)
    filled, so_far = [], 0
    for number in range(first, last + 1):  # classes without a row here have an empty run
        so_far = known.get(number, so_far)
        filled.append((number, so_far))
    return filled


def _plain_values(data: NDArray[np.uint8], mode: int, values: int, plane: Plane) -> NDArray[Any]:
    dtype = np.dtype(np.uint16 if plane.bytes_ == 2 else np.uint8)
    if mode == Mode.RAW:
        if plane.bytes_:
            return data.view(dtype) if data.size == values * dtype.itemsize else _bad()
        return np.stack((data & 15, data >> 4), axis=-1).reshape(-1)
    if mode == Mode.CONSTANT and data.size == dtype.itemsize:
        return np.full(values, data.view(dtype)[0], dtype)
    if mode == Mode.SPARSE:
        return _sparse(data, values, dtype)
    return _bad()


def _bad() -> NDArray[Any]:
    raise CorruptError("a block's plane is damaged")


def _sparse(data: NDArray[np.uint8], values: int, dtype: np.dtype) -> NDArray[Any]:
    size = dtype.itemsize
    out = np.full(values, data[:size].copy().view(dtype)[0], dtype)
    number, k = int.from_bytes(data[size : size + 4].tobytes(), "little"), int(data[size + 4])
    others = data[size + 5 : size + 5 + number * size].copy().view(dtype)
    bits = np.unpackbits(data[size + 5 + number * size :], bitorder="little")
    place, bit = -1, 0
    for other in others:
        zero = bit + int(np.argmin(bits[bit:]))
        rest = bits[zero + 1 : zero + 1 + k]
        place += 1 + ((zero - bit) << k) + int((rest << np.arange(k)).sum())
        if place >= values:
            return _bad()
        out[place] = other
        bit = zero + 1 + k
    return out


def _spills(plane: Plane, tables: Any) -> bool:
    return any(_divided(plane.tables[t], plane.verbatim_bits)[2] for t in tables)


@lru_cache(256)
def _divided(table: RangeTable, verbatim_bits: int) -> tuple[list[int], list[int], bool]:
    """How many offset bits of each row are in the state and how many spill, and whether any do."""
    room = 16 - table.count_bits
    rest = [max(0, length - verbatim_bits) for length in table.offset_lengths]
    inside = [min(bits, room) for bits in rest]
    spill = [bits - there for bits, there in zip(rest, inside, strict=True)]
    return inside, spill, any(s and c for s, c in zip(spill, table.counts, strict=True))


def _tables(plane: Plane) -> Tables | None:
    if plane.coder != Coder.RANS:
        return None
    stride = max(1 << table.count_bits for table in plane.tables)
    columns = np.zeros((5, len(plane.tables), stride), np.int32)
    for number, table in enumerate(plane.tables):
        counts = list(table.counts)
        counts[max(row for row, count in enumerate(counts) if count)] += table.unused_counts
        inside, spill, _ = _divided(table, plane.verbatim_bits)
        for code, dealt in enumerate(deal(tuple(counts), table.count_bits)):
            row = dealt.row
            columns[:, number, code] = (
                counts[row], dealt.position, table.starts[row], inside[row], spill[row],
            )  # fmt: skip
    counts_, positions, starts, state, spill_ = (column.reshape(-1) for column in columns)
    bits = np.array([table.count_bits for table in plane.tables], np.int32)
    return Tables(counts_, positions, starts, state, spill_, bits, stride)


def _elements(tensor: PackedTensor) -> int:
    return tensor.nbytes // tensor.header.plan.element_bytes


def stored_rows(tensor: PackedTensor) -> tuple[int, NDArray[np.int64]] | None:
    """Elements in a row, and for each row as it is stored which one of the tensor it is.

    None where elements stand as they are. `ValueError` where the last row is shorter.
    """
    classes = tensor.header.plan.classes
    if classes is None:
        return None
    if _elements(tensor) % classes.row_elements:
        raise ValueError("rows of different lengths are not unpacked on this device")
    order = np.argsort(classes.class_of_row, kind="stable").astype(np.int64)
    return classes.row_elements, order


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array's copy on a device; never empty, since kernels need an address."""
    return torch.from_numpy(np.array(array if array.size else np.zeros(1, array.dtype))).to(device)
