"""rANS streams decoded by Triton: one program a block, its lanes in one tensor.

Each round decodes a value for every lane. A code is looked up in tables that stay in the caches of
a multiprocessor. Lanes whose state falls below 2^16 take the next words of the one stream in the
order of their numbers, which a running sum over the lanes tells. With ``TRITON_INTERPRET=1`` the
kernels run on the CPU. Importing this module needs Triton (the extra ``gpu``).

Unlike the CPU's decoder, these check what a stream ends with but not the checksums of blocks:
`DeviceWeight` has the CPU check those once, when a frame goes to the device.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from fewbits.errors import CorruptError
from fewbits.frame import PackedTensor
from fewbits.frameworks import to_torch
from fewbits.lossless.ans import MAX_LANES
from fewbits.lossless.plan import Plane
from fewbits.lossy.triton_common import on_device as current_device
from fewbits.values.types import Remap
from fewbits.weights.device_frame import COLUMNS, Streams, on_device, stored_rows, streams_of
from fewbits.weights.scratch import torch_dtype

_COLUMNS = tl.constexpr(len(COLUMNS))
_LOW = tl.constexpr(1 << 16)


@triton.jit
def _byte(payload, at, mask):
    return tl.load(payload + at, mask=mask, other=0).to(tl.uint32)


@triton.jit
def load_states(payload, at, lane, active):
    """The states of all lanes, uint32, which lie at any address."""
    place = at + 4 * lane
    low = _byte(payload, place, active) | (_byte(payload, place + 1, active) << 8)
    high = _byte(payload, place + 2, active) | (_byte(payload, place + 3, active) << 8)
    return low | (high << 16)


@triton.jit
def _bits(payload, bit, width, mask):
    """Up to 16 bits from a bit's place on."""
    at = bit // 8
    three = _byte(payload, at, mask) | (_byte(payload, at + 1, mask) << 8)
    three |= _byte(payload, at + 2, mask) << 16
    return (three >> (bit % 8).to(tl.uint32)) & ((1 << width) - 1)


@triton.jit
def step(
    payload, x, place, active, word, end, verbatim, spill, table, runs, ends,
    counts, positions, starts, state_bits, spill_bits, count_bits,
    STRIDE: tl.constexpr, VERBATIM: tl.constexpr, SPILLS: tl.constexpr,
):  # fmt: skip
    """One value of every lane: values, states, the next word, the next spill bit."""
    which = table
    for run in range(runs - 1):
        which += (place >= tl.load(ends + run)).to(tl.int32)
    bits = tl.load(count_bits + which).to(tl.uint32)
    slot = which * STRIDE + (x & ((1 << bits) - 1)).to(tl.int32)
    row_bits = tl.load(state_bits + slot).to(tl.uint32)
    moved = tl.load(counts + slot).to(tl.uint32) * (x >> bits)
    moved += tl.load(positions + slot).to(tl.uint32)
    offset = moved & ((1 << row_bits) - 1)
    moved = moved >> row_bits
    if VERBATIM:
        offset = (offset << VERBATIM) | _bits(
            payload, 8 * verbatim + place * VERBATIM, VERBATIM, active
        )
    if SPILLS:
        mine = tl.where(active, tl.load(spill_bits + slot), 0)
        before = tl.cumsum(mine, 0) - mine
        offset = (offset << mine.to(tl.uint32)) | _bits(
            payload, spill + before, mine.to(tl.uint32), active & (mine > 0)
        )
        spill += tl.sum(mine, 0)
    value = tl.load(starts + slot).to(tl.uint32) + offset
    takes = (active & (moved < _LOW)).to(tl.int32)
    own = word + 2 * (tl.cumsum(takes, 0) - takes)
    there = (takes > 0) & (own < end)
    taken = _byte(payload, own, there) | (_byte(payload, own + 1, there) << 8)
    moved = tl.where(takes > 0, (moved << 16) | taken, moved)
    return value, tl.where(active, moved, x), word + 2 * tl.sum(takes, 0), spill


@triton.jit
def element_of(value, REMAP: tl.constexpr, WIDTH: tl.constexpr):
    """The element behind a value that is all of it (remap 1 zigzag, 2 sign to LSB)."""
    if REMAP == 1:
        value = (value >> 1) ^ (0 - (value & 1))
    elif REMAP == 2:
        value = (value >> 1) | ((value & 1) << (WIDTH - 1))
    return value & ((1 << WIDTH) - 1)


@triton.jit
def home(x, active, word, end, loaded):
    """Whether a stream ended as it must: all words taken, every lane where it began."""
    right = tl.where(loaded > 0, (x >> 16) == 1, x == _LOW) | (active == 0)
    return (tl.min(right.to(tl.int32), 0) > 0) & (word == end)


@triton.jit
def _decode(
    payload, lines, all_ends, out, faults, order, row_elements,
    counts, positions, starts, state_bits, spill_bits, count_bits,
    STRIDE: tl.constexpr, VERBATIM: tl.constexpr, SPILLS: tl.constexpr, REMAP: tl.constexpr,
    WIDTH: tl.constexpr, ORDERED: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    line = lines + tl.program_id(0) * _COLUMNS
    first, coded, lanes = tl.load(line), tl.load(line + 1), tl.load(line + 2)
    loaded, word, end = tl.load(line + 3), tl.load(line + 7), tl.load(line + 8)
    verbatim, spill = tl.load(line + 5), 8 * tl.load(line + 6)
    table, runs = tl.load(line + 9).to(tl.int32), tl.load(line + 10).to(tl.int32)
    ends = all_ends + tl.load(line + 11)
    lane = tl.arange(0, LANES).to(tl.int64)
    present = lane < lanes
    x = load_states(payload, tl.load(line + 4), lane, present)
    which = tl.full((LANES,), 0, tl.int32) + table
    for at in range(0, coded, lanes):
        place = at + lane
        active = present & (place < coded)
        value, x, word, spill = step(
            payload, x, place, active, word, end, verbatim, spill, which, runs, ends,
            counts, positions, starts, state_bits, spill_bits, count_bits,
            STRIDE, VERBATIM, SPILLS,
        )  # fmt: skip
        stored = first + place
        if ORDERED:
            row = tl.load(order + stored // row_elements, mask=active, other=0)
            stored = row * row_elements + stored % row_elements
        element = element_of(value, REMAP, WIDTH).to(out.dtype.element_ty)
        tl.store(out + stored, element, mask=active)
    for turn in range(loaded):
        value = (x >> (turn * WIDTH)) & ((1 << WIDTH) - 1)
        stored = first + coded + turn * lanes + lane
        if ORDERED:
            row = tl.load(order + stored // row_elements, mask=present, other=0)
            stored = row * row_elements + stored % row_elements
        element = element_of(value, REMAP, WIDTH).to(out.dtype.element_ty)
        tl.store(out + stored, element, mask=present)
    well = home(x, present, word, end, loaded)
    tl.store(faults + tl.program_id(0), 1 - well.to(tl.int32))


class DeviceWeight:
    """A frame on a device, to be decoded there; `ValueError` for what only the CPU decodes."""

    def __init__(self, tensor: PackedTensor, device: torch.device) -> None:
        header = tensor.header
        payload = tensor.read(*header.payload_range(0, header.blocks))
        bytes_ = np.frombuffer(payload, np.uint8)
        self.shape, self.dtype = tensor.shape, torch_dtype(tensor.dtype)
        self.plan, self.device = header.plan, device
        self.elements = tensor.nbytes // header.plan.element_bytes
        # Words and bits are read a few bytes at a time, the last ones past their end.
        self.payload = on_device(np.concatenate((bytes_, np.zeros(4, np.uint8))), device)
        self.planes = [
            _PlaneOnDevice(plane, streams_of(tensor, bytes_, number), device)
            for number, plane in enumerate(header.plan.planes)
        ]
        rows = stored_rows(tensor)
        self.row_elements = rows[0] if rows else 0
        self.order = on_device(rows[1], device) if rows else None

    @property
    def nbytes(self) -> int:
        """Bytes at rest on the device."""
        return int(self.payload.nbytes)

    def unpack(self) -> torch.Tensor:
        """The weight, decoded on the device; `CorruptError` if a stream does not end as it must."""
        plan = self.plan
        whole = len(plan.planes) == 1 and plan.planes[0].bytes_ > 0
        carrier = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        if whole:
            elements = self.planes[0].values(self, int(plan.remap), carrier[plan.element_bytes])
        else:
            elements = torch.zeros(self.elements, dtype=torch.int64, device=self.device)
            for plane in self.planes:
                elements |= plane.wide(self) << (8 * plane.plane.offset)
            elements = _unmapped(elements, plan.remap, plan.element_bytes)
            elements = elements.to(carrier[plan.element_bytes])
        return elements.view(self.dtype).view(self.shape)


class _PlaneOnDevice:
    """The streams and tables of one plane on a device."""

    def __init__(self, plane: Plane, streams: Streams, device: torch.device) -> None:
        self.plane, self.spills = plane, streams.spills
        self.count = len(streams.lines)
        self.lines, self.ends = on_device(streams.lines, device), on_device(streams.ends, device)
        self.others = [(at, to_torch(values.copy()).to(device)) for at, values in streams.others]
        tables = streams.tables
        self.stride = tables.stride if tables else 1
        columns = ("count", "position", "start", "state_bits", "spill_bits", "count_bits")
        self.tables = (
            [on_device(getattr(tables, name), device) for name in columns] if tables else []
        )

    def arguments(self) -> tuple[list[torch.Tensor], dict[str, int]]:
        """What every kernel gets of the tables, and what it is compiled for."""
        return self.tables, {
            "STRIDE": self.stride,
            "VERBATIM": self.plane.verbatim_bits,
            "SPILLS": int(self.spills),
            "WIDTH": self.plane.width,
            "LANES": MAX_LANES,
        }

    def values(self, weight: DeviceWeight, remap: int, dtype: torch.dtype) -> torch.Tensor:
        """Elements of a plane that is all of them, or its values for remap 0."""
        count = self.plane.values_in(weight.elements)
        out = torch.empty(count, dtype=dtype, device=weight.device)
        row = self.plane.values_in(weight.row_elements)
        order = weight.order if weight.order is not None else self.ends
        if self.count:
            faults = torch.zeros(self.count, dtype=torch.int32, device=weight.device)
            tables, compiled = self.arguments()
            with current_device(weight.device):
                _decode[(self.count,)](
                    weight.payload, self.lines, self.ends, out, faults, order, max(row, 1),
                    *tables, REMAP=remap, ORDERED=int(weight.order is not None), **compiled,
                )  # fmt: skip
            if bool(faults.any()):
                raise CorruptError(f"block {int(faults.nonzero()[0])} is damaged")
        for first, plain in self.others:
            places = torch.arange(first, first + len(plain), device=weight.device)
            if weight.order is not None:
                places = weight.order[places // row] * row + places % row
            wide = plain.to(torch.int64) & ((1 << self.plane.width) - 1)
            element = _unmapped(wide, Remap(remap), max(self.plane.bytes_, 1))
            out[places] = element.to(dtype)
        return out

    def wide(self, weight: DeviceWeight) -> torch.Tensor:
        """The values as int64, two nibbles joined."""
        carrier = torch.int16 if self.plane.bytes_ == 2 else torch.uint8
        values = self.values(weight, 0, carrier).to(torch.int64) & ((1 << self.plane.width) - 1)
        return values if self.plane.bytes_ else values[::2] | (values[1::2] << 4)


def _unmapped(x: torch.Tensor, remap: Remap, element_bytes: int) -> torch.Tensor:
    """Elements from remapped ones, in int64 whose upper bits mean nothing."""
    width = 8 * element_bytes
    mask = (1 << width) - 1 if width < 64 else -1
    if remap == Remap.ZIGZAG:
        half = (x >> 1) & (mask >> 1 if width < 64 else (1 << 63) - 1)
        return half ^ -(x & 1)
    if remap == Remap.SIGN_TO_LSB:
        top = min(width, 16)
        below = width - top
        high = (x >> below) & ((1 << top) - 1)
        turned = (high >> 1) | ((high & 1) << (top - 1))
        return (x & ((1 << below) - 1)) | (turned << below)
    return x
