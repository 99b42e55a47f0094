"""Masks in Triton kernels, the same bytes as the plain form in ``mask.py``.

Importing this module needs Triton (the extra ``gpu``).
"""

import torch
import triton
import triton.language as tl

from fewbits.lossy.bitpack import RUNS, packed_rows_of, packed_size, rows_of
from fewbits.lossy.torch_quantize import least
from fewbits.lossy.triton_common import launch, narrowed, widened

_GROUP = 256


@triton.jit
def _pack(x, bits, length, rows, run, ROWS: tl.constexpr, RUN: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, RUN)
    inside = (row < rows)[:, None] & (at < run)[None, :]
    byte = tl.zeros((ROWS, RUN), tl.int32)
    for k in tl.static_range(8):
        place = k * run + at
        valid = inside & (place < length)[None, :]
        value = tl.load(x + row[:, None] * length + place[None, :], mask=valid, other=0.0)
        byte |= (widened(value) != 0).to(tl.int32) << k
    tl.store(bits + row[:, None] * run + at[None, :], byte.to(tl.uint8), mask=inside)


@triton.jit
def _apply(
    x, bits, below, out, length, rows, run,
    LEAST: tl.constexpr, ROWS: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, RUN)
    inside = (row < rows)[:, None] & (at < run)[None, :]
    byte = tl.load(bits + row[:, None] * run + at[None, :], mask=inside, other=0).to(tl.int32)
    positive = tl.load(below) == 0
    for k in tl.static_range(8):
        place = k * run + at
        offset = row[:, None] * length + place[None, :]
        valid = inside & (place < length)[None, :]
        value = widened(tl.load(x + offset, mask=valid, other=0.0))
        value = tl.where((value == 0) | ((value < 0) & positive), LEAST, value)
        value = tl.where(((byte >> k) & 1) != 0, value, 0.0)
        tl.store(out + offset, narrowed(value, out.dtype.element_ty), mask=valid)


def pack_mask(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a tensor of at most 32-bit floats."""
    flat = tensor.contiguous().view(-1)
    bits = torch.empty(packed_size(flat.numel(), 1, _GROUP), dtype=torch.uint8, device=flat.device)
    byte = 0
    for rows in rows_of(flat, _GROUP):
        number, length = rows.shape
        run = -(-length // RUNS)
        launch(_pack, number, run, flat.device, rows, bits[byte:], length)
        byte += number * run
    return bits


def apply_mask(values: torch.Tensor, bits: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """What `Mask` decodes to, in the shape of the values."""
    values, bits = values.contiguous(), bits.contiguous()
    out = torch.empty_like(values)
    flat, result, first = values.view(-1), out.view(-1), 0
    for packed, length in packed_rows_of(bits, 1, _GROUP, flat.numel()):
        launch(
            _apply, len(packed), packed.shape[1], out.device,
            flat[first:], packed, below, result[first:], length, LEAST=least(values.dtype),
        )  # fmt: skip
        first += len(packed) * length
    return out
