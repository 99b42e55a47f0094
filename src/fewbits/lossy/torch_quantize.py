"""`Quantize` in PyTorch operations: the plain form, and the specification of the others.

Every operation is one of float32, rounded to the nearest, in the order written here, none fused
with the next. ``lossy_quantize_loops.hpp`` and ``triton_quantize.py`` give the same bytes.
"""

from typing import TYPE_CHECKING

import torch

from fewbits.lossy.bitpack import joined, pack_rows, packed_rows_of, rows_of, unpack_rows
from fewbits.lossy.codec import Parts
from fewbits.lossy.noise import fractions

if TYPE_CHECKING:
    from fewbits.lossy.quantize import Quantize

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TINY = 2.0**-126  # the smallest normal float32 and bfloat16: no processor takes it for zero
_NAN = 0x7FC00000


def to_float32(tensor: torch.Tensor, zeros: bool = False) -> torch.Tensor:
    """Float64 as float32, other floats as they are; ``zeros``: no nonzero becomes zero by this."""
    if tensor.dtype != torch.float64:
        return tensor
    single = tensor.to(torch.float32)
    return torch.where((single == 0) & (tensor != 0), TINY, single) if zeros else single


def grid(rows: torch.Tensor, codec: "Quantize") -> tuple[torch.Tensor, torch.Tensor]:
    """``low`` and ``step`` of each row, as float32 of shape (rows, 1) that bfloat16 holds.

    Low is 0 and step NaN where a row cannot be held.
    """
    low, high = span(rows, codec.zeros)
    if codec.steps == 0:
        low, width = _down(low * 0.5 + high * 0.5), high - low
        step = width * 0.0
    else:
        low = _down(low)
        width = high - low
        step = round_up(width * (1.0 / codec.steps))
    held = torch.isfinite(low) & torch.isfinite(high) & torch.isfinite(step) & torch.isfinite(width)
    return torch.where(held, low, 0.0), torch.where(held, step, torch.nan)


def span(rows: torch.Tensor, zeros: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest element of each row, NaN if it holds one; ``zeros``: of the nonzeros."""
    rows = rows.to(torch.float32)
    if not zeros:
        low, high = rows.aminmax(dim=1, keepdim=True)
        return low, high
    other = rows != 0
    low = torch.where(other, rows, torch.inf).amin(1, keepdim=True)
    high = torch.where(other, rows, -torch.inf).amax(1, keepdim=True)
    return torch.where(low > high, 0.0, low), torch.where(low > high, 0.0, high)


def _down(x: torch.Tensor) -> torch.Tensor:
    """The largest bfloat16 that is not above a float32; never -0."""
    bits = x.view(torch.int32)
    cut = bits & -0x10000
    cut = torch.where((bits < 0) & (cut != bits), cut + 0x10000, cut)
    return torch.where(cut == -0x80000000, 0, cut).view(torch.float32)


def round_up(x: torch.Tensor) -> torch.Tensor:
    """The smallest bfloat16 that is not below a float32 of 0 or more (or -0), and no subnormal."""
    bits = ((x.view(torch.int32) & 0x7FFFFFFF) + 0xFFFF) & -0x10000
    return torch.where(bits == 0, bits, bits.clamp(min=0x00800000)).view(torch.float32)


def encode(codec: "Quantize", flat: torch.Tensor, seed: int) -> Parts:
    """The plain form of `Quantize.encode`, of a flat tensor of at most 32-bit floats."""
    codes, grids, first = [], [], 0
    for rows in rows_of(flat, codec.group):
        low, step = grid(rows, codec)
        codes.append(
            pack_rows(_codes(codec, rows.to(torch.float32), low, step, seed, first), codec.bits)
        )
        grids.append(_to_bfloat16(torch.cat([low, step], 1)))
        first += rows.numel()
    return (
        joined(codes, torch.uint8, flat.device),
        joined(grids, torch.bfloat16, flat.device).view(-1, 2),
    )


def _codes(
    codec: "Quantize",
    rows: torch.Tensor,
    low: torch.Tensor,
    step: torch.Tensor,
    seed: int,
    first: int,
) -> torch.Tensor:
    inverse = torch.where(step > 0, 1.0 / step, 0.0)
    at = (rows - low) * inverse
    if codec.rounding == "nearest":
        at = at + 0.5
    else:
        at = at + fractions(rows.numel(), seed, rows.device, first).view(rows.shape)
    at = torch.where(step.isnan(), 0.0, at).clamp(max=float(codec.steps))
    codes = at.to(torch.uint8)  # cuts off the fraction; nothing here is below 0
    return torch.where(rows != 0, codes + 1, 0).to(torch.uint8) if codec.zeros else codes


def _to_bfloat16(exact: torch.Tensor) -> torch.Tensor:
    """Float32 numbers that bfloat16 holds; every NaN becomes the same one."""
    bits = torch.where(exact.isnan(), _NAN, exact.view(torch.int32))
    return (bits >> 16).to(torch.int16).view(torch.bfloat16)


def decode(codec: "Quantize", parts: Parts, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The plain form of `Quantize.decode`, to a flat tensor of at most 32-bit floats."""
    packed, grids = parts
    rows, first = [], 0
    for row, n in packed_rows_of(packed, codec.bits, codec.group, count):
        low, step = grids[first : first + len(row)].to(torch.float32).unbind(1)
        first += len(row)
        codes = unpack_rows(row, codec.bits, n)
        rows.append(_values(codec, codes, low[:, None], step[:, None], dtype))
    return joined(rows, dtype, packed.device)


def _values(
    codec: "Quantize",
    codes: torch.Tensor,
    low: torch.Tensor,
    step: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    at = codes.to(torch.float32)
    largest = torch.finfo(dtype).max
    # The product has 16 significant bits at most, so it is exact, and fusing would change nothing.
    values = (low + (at - 1.0 if codec.zeros else at) * step).clamp(-largest, largest).to(dtype)
    if not codec.zeros:
        return values
    return torch.where(codes == 0, 0.0, torch.where(values == 0, least(dtype), values))


def least(dtype: torch.dtype) -> float:
    """What stands for an element that is not zero where its level is: as small as can be."""
    return 2.0**-24 if dtype == torch.float16 else TINY
