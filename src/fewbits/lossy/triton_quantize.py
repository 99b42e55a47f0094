"""`Quantize` in Triton kernels, the same bytes as ``torch_quantize.py``.

Importing this module needs Triton (the extra ``gpu``).
"""

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fewbits.lossy.bitpack import packed_rows_of, packed_size, rows_of
from fewbits.lossy.codec import Parts
from fewbits.lossy.noise import keys
from fewbits.lossy.torch_quantize import least
from fewbits.lossy.triton_common import (
    fraction,
    launch,
    load_word,
    narrowed,
    ordered,
    store_word,
    widened,
)

if TYPE_CHECKING:
    from fewbits.lossy.quantize import Quantize

_SMALLEST, _LARGEST = tl.constexpr(-0x80000000), tl.constexpr(0x7FFFFFFF)


@triton.jit
def _finite(x):
    return (x.to(tl.int32, bitcast=True) & 0x7F800000) != 0x7F800000


@triton.jit
def _round_down(x):
    bits = x.to(tl.int32, bitcast=True)
    cut = bits & -0x10000
    cut = tl.where((bits < 0) & (cut != bits), cut + 0x10000, cut)
    return tl.where(cut == -0x80000000, 0, cut).to(tl.float32, bitcast=True)


@triton.jit
def _round_up(x):
    bits = ((x.to(tl.int32, bitcast=True) & 0x7FFFFFFF) + 0xFFFF) & -0x10000
    return tl.where(bits == 0, 0, tl.maximum(bits, 0x00800000)).to(tl.float32, bitcast=True)


@triton.jit
def _grid_of(low_key, high_key, inverse_steps, STEPS: tl.constexpr):
    """Low, step and whether they hold, from the keys of the smallest and largest element."""
    empty = low_key > high_key  # nothing but zeros
    low = tl.where(empty, 0, ordered(low_key)).to(tl.float32, bitcast=True)
    high = tl.where(empty, 0, ordered(high_key)).to(tl.float32, bitcast=True)
    held = _finite(low) & _finite(high)
    if STEPS == 0:
        held = held & _finite(high - low)
        low = _round_down(low * 0.5 + high * 0.5)
        step = tl.zeros_like(low)
    else:
        low = _round_down(low)
        held = held & _finite(high - low)
        step = _round_up((high - low) * inverse_steps)
    held = held & _finite(low) & _finite(step)
    return tl.where(held, low, 0.0), tl.where(held, step, 0.0), held


@triton.jit
def _store_grid(low, step, held, pointers, mask):
    low_bits = low.to(tl.int32, bitcast=True) >> 16
    step_bits = tl.where(held, step.to(tl.int32, bitcast=True) >> 16, 0x7FC0)
    tl.store(pointers, low_bits.to(tl.int16), mask=mask)
    tl.store(pointers + 1, step_bits.to(tl.int16), mask=mask)


@triton.jit(do_not_specialize=["key0", "key1", "first", "inverse_steps"])
def _encode(
    x, codes, grids, length, first, key0, key1, inverse_steps, rows, run,
    BITS: tl.constexpr, STEPS: tl.constexpr, ZEROS: tl.constexpr, STOCHASTIC: tl.constexpr,
    ROWS: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, RUN)
    inside = (row < rows)[:, None] & (at < run)[None, :]
    low_key = tl.full((ROWS, RUN), _LARGEST, tl.int32)
    high_key = tl.full((ROWS, RUN), _SMALLEST, tl.int32)
    for k in tl.static_range(8):
        place = k * run + at
        valid = inside & (place < length)[None, :]
        value = tl.load(x + row[:, None] * length + place[None, :], mask=valid, other=0.0)
        value = widened(value)
        if ZEROS:
            valid = valid & (value != 0)
        key = ordered(value.to(tl.int32, bitcast=True))
        low_key = tl.minimum(low_key, tl.where(valid, key, _LARGEST))
        high_key = tl.maximum(high_key, tl.where(valid, key, _SMALLEST))
    low, step, held = _grid_of(
        tl.min(low_key, axis=1), tl.max(high_key, axis=1), inverse_steps, STEPS
    )
    _store_grid(low, step, held, grids + 2 * row, row < rows)
    inverse = tl.where(step > 0, tl.div_rn(1.0, tl.where(step > 0, step, 1.0)), 0.0)

    word = tl.zeros((ROWS, RUN), tl.uint32 if BITS <= 4 else tl.uint64)
    for k in tl.static_range(8):
        place = k * run + at
        valid = inside & (place < length)[None, :]
        value = tl.load(x + row[:, None] * length + place[None, :], mask=valid, other=0.0)
        value = widened(value)
        level = (value - low[:, None]) * inverse[:, None]
        if STOCHASTIC:
            index = (first + row[:, None] * length + place[None, :]).to(tl.uint32)
            level += fraction(index, key0.to(tl.uint32), key1.to(tl.uint32))
        else:
            level += 0.5
        # What is not finite, or beyond the row, is no number to make an integer of.
        level = tl.where(held[:, None] & valid, level, 0.0)
        code = tl.minimum(level, STEPS * 1.0).to(tl.int32)
        if ZEROS:
            code = tl.where(value != 0, code + 1, 0)
        code = tl.where(valid, code, 0)
        word |= code.to(word.dtype) << (BITS * k)
    pointers = codes + row[:, None] * (run * BITS) + at[None, :]
    store_word(word, pointers, run, inside, BITS)


@triton.jit
def _decode(
    codes, grids, x, length, rows, run, BITS: tl.constexpr, ZEROS: tl.constexpr,
    LARGEST: tl.constexpr, LEAST: tl.constexpr, VANISHING: tl.constexpr,
    ROWS: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, RUN)
    inside = (row < rows)[:, None] & (at < run)[None, :]
    word = load_word(codes + row[:, None] * (run * BITS) + at[None, :], run, inside, BITS)
    low_bits = tl.load(grids + 2 * row, mask=row < rows, other=0).to(tl.int32) << 16
    step_bits = tl.load(grids + 2 * row + 1, mask=row < rows, other=0).to(tl.int32) << 16
    low = low_bits.to(tl.float32, bitcast=True)[:, None]
    step = step_bits.to(tl.float32, bitcast=True)[:, None]
    for k in tl.static_range(8):
        place = k * run + at
        code = ((word >> (BITS * k)) & ((1 << BITS) - 1)).to(tl.int32)
        level = (code - 1 if ZEROS else code).to(tl.float32)
        value = low + level * step
        value = tl.where(value > LARGEST, LARGEST, value)  # a NaN is not, and stays
        value = tl.where(value < -LARGEST, -LARGEST, value)
        if ZEROS:
            value = tl.where(tl.abs(value) <= VANISHING, LEAST, value)
            value = tl.where(code == 0, 0.0, value)
        pointers = x + row[:, None] * length + place[None, :]
        value = narrowed(value, x.dtype.element_ty)
        tl.store(pointers, value, mask=inside & (place < length)[None, :])


def _signed(key: int) -> int:
    return key - (1 << 32) if key >> 31 else key


def encode(codec: "Quantize", flat: torch.Tensor, seed: int) -> Parts:
    """Codes and grids of a flat tensor of at most 32-bit floats."""
    count, flat, device = flat.numel(), flat.contiguous(), flat.device
    codes = torch.empty(
        packed_size(count, codec.bits, codec.group), dtype=torch.uint8, device=device
    )
    grids = torch.empty((-(-count // codec.group), 2), dtype=torch.bfloat16, device=device)
    key0, key1 = map(_signed, keys(seed))
    inverse = 1.0 / codec.steps if codec.steps else 0.0
    row, byte = 0, 0
    for rows in rows_of(flat, codec.group):
        number, length = rows.shape
        run = -(-length // 8)
        launch(
            _encode, number, run, device,
            rows, codes[byte:], grids[row:].view(torch.int16), length, row * codec.group,
            key0, key1, inverse,
            BITS=codec.bits, STEPS=codec.steps, ZEROS=codec.zeros,
            STOCHASTIC=codec.rounding == "stochastic",
        )  # fmt: skip
        row, byte = row + number, byte + number * run * codec.bits
    return codes, grids


def decode(codec: "Quantize", parts: Parts, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The flat tensor of at most 32-bit floats that the parts stand for."""
    codes, grids = parts[0].contiguous(), parts[1].contiguous().view(torch.int16)
    out = torch.empty(count, dtype=dtype, device=codes.device)
    # In half precision, what is at most half of the smallest number becomes zero.
    vanishing = least(dtype) / 2 if dtype == torch.float16 else 0.0
    row = 0
    for packed, length in packed_rows_of(codes, codec.bits, codec.group, count):
        number, first = len(packed), row * codec.group
        launch(
            _decode, number, -(-length // 8), out.device,
            packed, grids[row:], out[first:], length,
            BITS=codec.bits, ZEROS=codec.zeros,
            LARGEST=float(torch.finfo(dtype).max), LEAST=least(dtype), VANISHING=vanishing,
        )  # fmt: skip
        row += number
    return out
