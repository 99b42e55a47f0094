"""`DCT` in Triton kernels, the same bytes as the plain form in ``dct.py``.

A program works on some blocks, whose rows of 8 it holds as tensors of shape (blocks, 8). The pass
along a row needs its places one by one: splitting a dimension of 2 three times gives them.

Importing this module needs Triton (the extra ``gpu``).
"""

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fewbits.lossy.cosine import WEIGHTS
from fewbits.lossy.triton_common import narrowed, on_device

if TYPE_CHECKING:
    from fewbits.lossy.dct import DCT

SIDE = 8
_BLOCKS = 64


@triton.jit
def _places(row, BLOCKS: tl.constexpr):
    """The 8 columns of (BLOCKS, 8)."""
    even, odd = tl.split(tl.reshape(row, (BLOCKS, 2, 2, 2)))
    even_low, even_high = tl.split(even)
    odd_low, odd_high = tl.split(odd)
    c0, c4 = tl.split(even_low)
    c2, c6 = tl.split(even_high)
    c1, c5 = tl.split(odd_low)
    c3, c7 = tl.split(odd_high)
    return c0, c1, c2, c3, c4, c5, c6, c7


@triton.jit
def _row(c0, c1, c2, c3, c4, c5, c6, c7, BLOCKS: tl.constexpr):
    """(BLOCKS, 8) of its columns."""
    even = tl.join(tl.join(c0, c4), tl.join(c2, c6))
    odd = tl.join(tl.join(c1, c5), tl.join(c3, c7))
    # Now (BLOCKS, high, low) of places 4 high + 2 low + which.
    return tl.reshape(tl.join(even, odd), (BLOCKS, 8))


@triton.jit
def _weighted(a, b, c, d, factors):
    """Four products, summed from the left."""
    total = a * tl.load(factors)
    total = total + b * tl.load(factors + 1)
    total = total + c * tl.load(factors + 2)
    return total + d * tl.load(factors + 3)


@triton.jit
def _load_row(x, start, height, width, row, column, valid):
    place = start + tl.minimum(row, height - 1)[:, None] * width + tl.minimum(column, width - 1)
    return tl.load(x + place, mask=valid[:, None], other=0.0).to(tl.float32)


@triton.jit
def _encode(
    x, out, slots, forward, blocks, height, width, rows, columns,
    CHOP: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    valid = block < blocks
    start = (block // (rows * columns) * height * width)[:, None]
    row = block // columns % rows * 8
    column = (block % columns * 8)[:, None] + tl.arange(0, 8)[None, :]
    x0 = _load_row(x, start, height, width, row, column, valid)
    x1 = _load_row(x, start, height, width, row + 1, column, valid)
    x2 = _load_row(x, start, height, width, row + 2, column, valid)
    x3 = _load_row(x, start, height, width, row + 3, column, valid)
    x4 = _load_row(x, start, height, width, row + 4, column, valid)
    x5 = _load_row(x, start, height, width, row + 5, column, valid)
    x6 = _load_row(x, start, height, width, row + 6, column, valid)
    x7 = _load_row(x, start, height, width, row + 7, column, valid)
    for u in tl.static_range(CHOP):
        if u % 2 == 0:
            line = _weighted(x0 + x7, x1 + x6, x2 + x5, x3 + x4, forward + 4 * u)
        else:
            line = _weighted(x0 - x7, x1 - x6, x2 - x5, x3 - x4, forward + 4 * u)
        c0, c1, c2, c3, c4, c5, c6, c7 = _places(line, BLOCKS)
        for v in tl.static_range(CHOP):
            if v % 2 == 0:
                found = _weighted(c0 + c7, c1 + c6, c2 + c5, c3 + c4, forward + 4 * v)
            else:
                found = _weighted(c0 - c7, c1 - c6, c2 - c5, c3 - c4, forward + 4 * v)
            slot = tl.load(slots + 8 * u + v).to(tl.int64)
            if slot >= 0:
                stored = narrowed(found, out.dtype.element_ty)
                tl.store(out + slot * blocks + block, stored, mask=valid)


@triton.jit
def _load_frequency(coefficients, slots, blocks, block, valid, index):
    slot = tl.load(slots + index).to(tl.int64)
    place = coefficients + tl.maximum(slot, 0) * blocks + block
    value = tl.load(place, mask=valid, other=0.0).to(tl.float32)
    return tl.where(slot >= 0, value, 0.0)


@triton.jit
def _half(f0, f2, f4, f6, weights, i: tl.constexpr, TERMS: tl.constexpr):
    """Place i's sum over frequencies of one parity; ``weights`` begin at the first of them."""
    total = f0 * tl.load(weights + i)
    if TERMS > 1:
        total = total + f2 * tl.load(weights + 8 + i)
    if TERMS > 2:
        total = total + f4 * tl.load(weights + 16 + i)
    if TERMS > 3:
        total = total + f6 * tl.load(weights + 24 + i)
    return total


@triton.jit
def _line(f0, f1, f2, f3, f4, f5, f6, f7, inverse, CHOP: tl.constexpr):
    """The 8 places of a line."""
    EVEN: tl.constexpr = (CHOP + 1) // 2
    ODD: tl.constexpr = CHOP // 2
    e0 = _half(f0, f2, f4, f6, inverse, 0, EVEN)
    e1 = _half(f0, f2, f4, f6, inverse, 1, EVEN)
    e2 = _half(f0, f2, f4, f6, inverse, 2, EVEN)
    e3 = _half(f0, f2, f4, f6, inverse, 3, EVEN)
    if CHOP == 1:
        return e0, e1, e2, e3, e3, e2, e1, e0
    else:
        o0 = _half(f1, f3, f5, f7, inverse + 4, 0, ODD)
        o1 = _half(f1, f3, f5, f7, inverse + 4, 1, ODD)
        o2 = _half(f1, f3, f5, f7, inverse + 4, 2, ODD)
        o3 = _half(f1, f3, f5, f7, inverse + 4, 3, ODD)
        return e0 + o0, e1 + o1, e2 + o2, e3 + o3, e3 - o3, e2 - o2, e1 - o1, e0 - o0


@triton.jit
def _decoded_row(
    coefficients, slots, inverse, blocks, block, valid, u: tl.constexpr, CHOP: tl.constexpr,
    BLOCKS: tl.constexpr,
):  # fmt: skip
    """Row u of frequencies as places, (BLOCKS, 8); zeros beyond what was kept."""
    if u < CHOP:
        at = slots + 8 * u
        f0 = _load_frequency(coefficients, at, blocks, block, valid, 0)
        f1 = _load_frequency(coefficients, at, blocks, block, valid, 1)
        f2 = _load_frequency(coefficients, at, blocks, block, valid, 2)
        f3 = _load_frequency(coefficients, at, blocks, block, valid, 3)
        f4 = _load_frequency(coefficients, at, blocks, block, valid, 4)
        f5 = _load_frequency(coefficients, at, blocks, block, valid, 5)
        f6 = _load_frequency(coefficients, at, blocks, block, valid, 6)
        f7 = _load_frequency(coefficients, at, blocks, block, valid, 7)
        c0, c1, c2, c3, c4, c5, c6, c7 = _line(f0, f1, f2, f3, f4, f5, f6, f7, inverse, CHOP)
        return _row(c0, c1, c2, c3, c4, c5, c6, c7, BLOCKS)
    else:
        return tl.zeros((BLOCKS, 8), tl.float32)


@triton.jit
def _store_row(x, value, start, height, width, row, column, valid):
    if x.dtype.element_ty == tl.float16:  # as in the plain form; NaN stays
        value = tl.where(value > 65504.0, 65504.0, value)
        value = tl.where(value < -65504.0, -65504.0, value)
    real = valid[:, None] & (row < height)[:, None] & (column < width)
    place = start + row[:, None] * width + column
    tl.store(x + place, narrowed(value, x.dtype.element_ty), mask=real)


@triton.jit
def _decode(
    coefficients, x, slots, inverse, blocks, height, width, rows, columns,
    CHOP: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    valid = block < blocks
    r0 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 0, CHOP, BLOCKS)
    r1 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 1, CHOP, BLOCKS)
    r2 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 2, CHOP, BLOCKS)
    r3 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 3, CHOP, BLOCKS)
    r4 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 4, CHOP, BLOCKS)
    r5 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 5, CHOP, BLOCKS)
    r6 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 6, CHOP, BLOCKS)
    r7 = _decoded_row(coefficients, slots, inverse, blocks, block, valid, 7, CHOP, BLOCKS)
    x0, x1, x2, x3, x4, x5, x6, x7 = _line(r0, r1, r2, r3, r4, r5, r6, r7, inverse, CHOP)
    start = (block // (rows * columns) * height * width)[:, None]
    row = block // columns % rows * 8
    column = (block % columns * 8)[:, None] + tl.arange(0, 8)[None, :]
    _store_row(x, x0, start, height, width, row, column, valid)
    _store_row(x, x1, start, height, width, row + 1, column, valid)
    _store_row(x, x2, start, height, width, row + 2, column, valid)
    _store_row(x, x3, start, height, width, row + 3, column, valid)
    _store_row(x, x4, start, height, width, row + 4, column, valid)
    _store_row(x, x5, start, height, width, row + 5, column, valid)
    _store_row(x, x6, start, height, width, row + 6, column, valid)
    _store_row(x, x7, start, height, width, row + 7, column, valid)


def _tables(codec: "DCT", device: torch.device) -> list[torch.Tensor]:
    """Where each frequency lies, and the multipliers of the forward and the inverse pass."""
    slots = torch.full((SIDE * SIDE,), -1, dtype=torch.int32)
    for slot, (u, v) in enumerate(codec.frequencies):
        slots[u * SIDE + v] = slot
    factors = [torch.tensor(matrix, dtype=torch.float32) for matrix in WEIGHTS[SIDE, True]]
    return [table.to(device) for table in (slots, *factors)]


def encode(codec: "DCT", maps: torch.Tensor) -> torch.Tensor:
    """(maps, height, width) -> (frequencies, maps, rows, columns) of blocks."""
    maps = maps.contiguous()
    planes, height, width = maps.shape
    rows, columns = -(-height // SIDE), -(-width // SIDE)
    shape = (len(codec.frequencies), planes, rows, columns)
    out = torch.empty(shape, dtype=maps.dtype, device=maps.device)
    slots, forward, _ = _tables(codec, maps.device)
    sizes = (planes * rows * columns, height, width, rows, columns)
    if out.numel():
        with on_device(maps.device):
            _encode[(triton.cdiv(sizes[0], _BLOCKS),)](
                maps, out, slots, forward, *sizes,
                CHOP=codec.chop, BLOCKS=_BLOCKS, enable_fp_fusion=False,
            )  # fmt: skip
    return out


def decode(codec: "DCT", coefficients: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The maps of what `encode` made."""
    coefficients = coefficients.contiguous()
    _, planes, rows, columns = coefficients.shape
    out = torch.empty((planes, height, width), dtype=coefficients.dtype, device=coefficients.device)
    slots, _, inverse = _tables(codec, out.device)
    sizes = (planes * rows * columns, height, width, rows, columns)
    if out.numel():
        with on_device(out.device):
            _decode[(triton.cdiv(sizes[0], _BLOCKS),)](
                coefficients, out, slots, inverse, *sizes,
                CHOP=codec.chop, BLOCKS=_BLOCKS, enable_fp_fusion=False,
            )  # fmt: skip
    return out
