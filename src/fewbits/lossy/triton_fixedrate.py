"""The bits of `FixedRate` in Triton kernels; the rest is the plain form, in ``fixedrate.py``.

The transform and the allotment are a few operations on each element and run as they are. Putting
codes of many widths together bit by bit is what takes the room and the time there, and what these
kernels do without either.

Importing this module needs Triton (the extra ``gpu``).
"""

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fewbits.lossy.triton_common import on_device

if TYPE_CHECKING:
    from fewbits.lossy.torch_fixedrate import Header, Layout

_BYTES = 256
_CODES = 512


@triton.jit
def _pack(
    codes, exponent, falls, widths, starts, firsts, payload, size, total, budget, largest_fall,
    GROUPS: tl.constexpr, ELEMENTS: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    lane = tl.arange(0, 8)
    at = byte[:, None] * 8 + lane[None, :]
    valid = at < total
    block, place = at // budget, (at % budget).to(tl.int32)
    first = tl.load(exponent + block, mask=valid, other=0)
    bit = tl.where(place < 8, (first >> tl.minimum(place, 8)) & 1, 0)
    speaks = valid & (first != 0) & (first != 255)
    unary = tl.full((BYTES, 8), 8, tl.int32)
    fallen = tl.zeros((BYTES, 8), tl.int32)
    for g in tl.static_range(GROUPS):
        entry = block * GROUPS + g
        fall = tl.load(falls + entry, mask=speaks, other=0)
        step = fall - fallen
        fallen = fall
        if g > 0:
            bit |= (speaks & (place >= unary) & (place < unary + step)).to(tl.int32)
            unary += step + (step < largest_fall).to(tl.int32)
        width = tl.load(widths + entry, mask=speaks, other=0)
        inside = place - tl.load(starts + entry, mask=speaks, other=0)
        members = tl.load(firsts + g + 1) - tl.load(firsts + g)
        mine = speaks & (inside >= 0) & (inside < width * members)
        index = inside // tl.maximum(width, 1)
        code = tl.load(codes + block * ELEMENTS + tl.load(firsts + g) + index, mask=mine, other=0)
        bit |= tl.where(mine, (code >> tl.where(mine, inside - index * width, 0)) & 1, 0)
    packed = tl.sum(bit << lane[None, :], 1)
    tl.store(payload + byte, packed.to(tl.uint8), mask=byte < size)


@triton.jit
def _unpack(payload, starts, widths, codes, size, count, CODES: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * CODES + tl.arange(0, CODES)
    valid = index < count
    start = tl.load(starts + index, mask=valid, other=0)
    width = tl.load(widths + index, mask=valid, other=0)
    word = tl.zeros((CODES,), tl.uint32)
    for k in tl.static_range(4):  # 24 bits may begin anywhere in a byte
        byte = start // 8 + k
        value = tl.load(payload + byte, mask=valid & (byte < size), other=0)
        word |= value.to(tl.uint32) << (8 * k)
    code = (word >> (start % 8).to(tl.uint32)) & ((1 << width.to(tl.uint32)) - 1)
    tl.store(codes + index, code.to(tl.int32), mask=valid)


def pack(codes: torch.Tensor, header: "Header", layout: "Layout") -> torch.Tensor:
    """As ``pack`` in ``torch_fixedrate.py``."""
    (blocks, elements), budget, sizes = codes.shape, layout.budget, layout.sizes
    groups = (header.falls, header.bits, header.starts)
    total = blocks * budget
    firsts = torch.tensor([sum(sizes[:g]) for g in range(len(sizes) + 1)], dtype=torch.int32)
    payload = torch.empty(-(-total // 8), dtype=torch.uint8, device=codes.device)
    if total:
        with on_device(codes.device):
            _pack[(triton.cdiv(len(payload), _BYTES),)](
                codes.contiguous(), header.exponent.contiguous(),
                *(part.contiguous() for part in groups), firsts.to(codes.device), payload,
                len(payload), total, budget, layout.largest_fall,
                GROUPS=len(sizes), ELEMENTS=elements, BYTES=_BYTES,
            )  # fmt: skip
    return payload


def unpack(payload: torch.Tensor, places: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """As ``unpack`` in ``torch_fixedrate.py``."""
    codes = torch.empty(places.shape, dtype=torch.int32, device=payload.device)
    if codes.numel():
        with on_device(payload.device):
            _unpack[(triton.cdiv(codes.numel(), _CODES),)](
                payload.contiguous(), places.contiguous(), widths.contiguous(), codes,
                len(payload), codes.numel(), CODES=_CODES,
            )  # fmt: skip
    return codes
