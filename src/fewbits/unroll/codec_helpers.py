"""Codecs as generated steps carry them: what ``fewbits.lossy`` does, by operations compilers have.

Quantize and the casts give the same bytes as `fewbits.lossy`, for finite tensors; DCT gives the
same numbers up to rounding, since a product with a matrix takes its sums in another order. Bits are
put together and taken apart by multiplying, dividing and adding, because static-graph compilers
lack shifts.
"""

import torch
import torch.nn.functional as F

from fewbits.unroll.helpers import at_once, joined


def quantize(x, bits, group=256, zeros=False, seed=None):
    """Codes of so many bits, on a grid of equal steps for each group: (packed codes, grids).

    With a seed, codes are rounded up or down by chance, and right on average.
    """
    flat = x.reshape(-1)
    whole = flat.shape[0] // group * group
    runs = []
    if whole:
        rows = flat[:whole].reshape(-1, group)
        runs += rows.split(at_once(*rows.shape))
    if whole < flat.shape[0]:
        runs.append(flat[whole:].reshape(1, -1))
    parts, first = [], 0
    for rows in runs:
        parts.append(_quantize_rows(rows, bits, zeros, rounding(rows, first, seed)))
        first += rows.numel()
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def rounding(rows, first, seed):
    """What is added to elements, counted from the first, before their fraction is cut off."""
    return 0.5 if seed is None else fractions(rows.numel(), first, seed, rows.device).view_as(rows)


def rounding_portable(rows, first, seed):
    """What is added to elements before their fraction is cut off."""
    return 0.5


def fractions(count, first, seed, device):
    """Numbers from 0 to below 1 by a hash of places and a seed (Chris Wellons' "lowbias32")."""
    mask = (1 << 64) - 1
    key = (seed + 0x9E3779B97F4A7C15) & mask  # SplitMix64
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & mask
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & mask
    key ^= key >> 31
    # All modulo 2^32, to which a product is cut.
    x = torch.arange(first, first + count, device=device) ^ (key & 0xFFFFFFFF)
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = (x ^ (x >> 15)) ^ (key >> 32)
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    return (x >> 16).to(torch.float32) * (1.0 / 65536)


def _quantize_rows(rows, bits, zeros, rounding):
    rows = rows.to(torch.float32)
    steps = 2**bits - (2 if zeros else 1)
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    if zeros:  # code 0 is for them, and the others span the elements that are not zero
        low = torch.where(rows != 0, rows, float("inf")).amin(1, keepdim=True)
        high = torch.where(rows != 0, rows, float("-inf")).amax(1, keepdim=True)
        low, high = (torch.where(low > high, 0.0, end) for end in (low, high))
    low = bfloat16_below(low)
    step = bfloat16_above((high - low) * (1.0 / steps))
    held = torch.isfinite(low) & torch.isfinite(high) & torch.isfinite(step)
    low, step = torch.where(held, low, 0.0), torch.where(held, step, float("nan"))
    inverse = torch.where(step > 0, 1.0 / step, 0.0)
    codes = torch.where(held, (rows - low) * inverse + rounding, 0.0)
    codes = codes.clamp(max=float(steps)).to(torch.uint8)
    if zeros:
        codes = torch.where(rows != 0, codes + 1, 0)
    grids = torch.cat([low, step], 1).to(torch.bfloat16)
    return pack_codes(codes, bits).reshape(-1), grids


def dequantize(parts, shape, bits, group=256, zeros=False):
    """The tensor that quantize packed, of float32."""
    packed, grids = parts
    count = 1
    for length in shape:
        count *= length
    whole = count // group
    size = whole * group // 8 * bits
    runs = []
    if whole:
        step = at_once(whole, group)
        rows = packed[:size].reshape(whole, -1).split(step)
        runs += [(*run, group) for run in zip(rows, grids[:whole].split(step), strict=True)]
    if whole * group < count:
        runs.append((packed[size:].reshape(1, -1), grids[whole:], count - whole * group))
    return joined((_dequantize_rows(*run, bits, zeros) for run in runs), count).reshape(shape)


class Packed:
    """A tensor that is unpacked some examples at a time, each time it is asked for them.

    It takes codecs whose parts are the examples' one after another.
    """

    def __init__(self, decompress, parts, shape):
        """What ``decompress`` makes of the parts has this shape."""
        self.decompress, self.parts, self.shape = decompress, parts, shape

    def split(self, step):
        """Of so many examples at a time, as the method of a tensor."""
        count = self.shape[0]
        for start in range(0, count, step):
            stop = min(start + step, count)
            some = tuple(
                part[start * len(part) // count : stop * len(part) // count] for part in self.parts
            )
            yield self.decompress(some, (stop - start, *self.shape[1:]))


def _dequantize_rows(rows, grids, count, bits, zeros):
    codes = unpack_codes(rows, bits, count)
    grids = grids.to(torch.float32)
    low, step = grids[:, :1], grids[:, 1:]
    if not zeros:
        return multiply_add(low, codes.to(torch.float32), step).reshape(-1)
    values = multiply_add(low, codes.to(torch.float32) - 1, step)
    values = torch.where(values == 0, 2.0**-126, values)
    return torch.where(codes == 0, 0.0, values).reshape(-1)


def multiply_add(x, y, z):
    """x + y * z, in the place of y; the product has 16 bits at most, so it is exact."""
    return y.mul_(z).add_(x)


def multiply_add_portable(x, y, z):
    """x + y * z."""
    return x + y * z


def pack_codes(codes, bits):
    """Rows of codes as rows of bytes: a row is cut into 8 runs that share words of bits bytes."""
    runs = F.pad(codes, (0, -codes.shape[1] % 8)).reshape(codes.shape[0], 8, -1)
    planes = [0] * bits
    for k in range(8):
        plane, start = bits * k // 8, bits * k % 8
        run = runs[:, k]
        if start + bits > 8:
            planes[plane + 1] = planes[plane + 1] + run // 2 ** (8 - start)
            run = run % 2 ** (8 - start)
        planes[plane] = planes[plane] + run * 2**start
    return torch.stack(planes, 1)


def unpack_codes(packed, bits, count):
    """The codes that pack_codes packed, count of them in each row."""
    planes = packed.reshape(packed.shape[0], bits, -1)
    runs = []
    for k in range(8):
        plane, start = bits * k // 8, bits * k % 8
        run = planes[:, plane] // 2**start
        over = start + bits - 8  # bits in the next plane
        if over > 0:
            run = run + planes[:, plane + 1] % 2**over * 2 ** (8 - start)
        runs.append(run % 2**bits if over < 0 else run)
    return torch.stack(runs, 1).reshape(packed.shape[0], -1)[:, :count]


def bfloat16_below(x):
    """The largest bfloat16 that is not above x, in float32."""
    bits = x.view(torch.int32)
    cut = bits & -0x10000
    cut = torch.where((bits < 0) & (cut != bits), cut + 0x10000, cut)
    return torch.where(cut == -0x80000000, 0, cut).view(torch.float32)


def bfloat16_above(x):
    """The smallest bfloat16 that is not below x, which is 0 or more, in float32."""
    bits = ((x.view(torch.int32) & 0x7FFFFFFF) + 0xFFFF) & -0x10000
    return torch.where(bits == 0, bits, bits.clamp(min=0x00800000)).view(torch.float32)


def bfloat16_below_portable(x):
    """The largest bfloat16 that is not above x, in float32; 0.0045 is between half a step and 1."""
    near = x.to(torch.bfloat16).to(torch.float32)
    next_below = (near - near.abs() * 0.0045).to(torch.bfloat16).to(torch.float32)
    return torch.where(near > x, next_below, near) + 0.0


def bfloat16_above_portable(x):
    """The smallest bfloat16 that is not below x, which is 0 or more, in float32."""
    near = x.to(torch.bfloat16).to(torch.float32)
    next_above = (near + near * 0.0045).to(torch.bfloat16).to(torch.float32)
    near = torch.where(near < x, next_above, near)
    return torch.where(near > 0, near.clamp(min=2.0**-126), near)


def chop(x, frequencies):
    """Low frequencies of blocks of 8 x 8, an eighth of each: (frequencies, ..., rows, columns)."""
    maps = x.reshape(-1, *x.shape[-2:])
    for dim in (1, 2):  # repeat the edge up to a multiple of 8
        edge = maps.narrow(dim, maps.shape[dim] - 1, 1)
        maps = torch.cat([maps, *[edge] * (-maps.shape[dim] % 8)], dim)
    planes, height, width = maps.shape
    blocks = maps.reshape(planes, height // 8, 8, width // 8, 8).to(torch.float32)
    basis = cosines(x.device)
    coefficients = (basis / 8) @ blocks.permute(0, 1, 3, 2, 4) @ basis.T
    kept = torch.stack([coefficients[..., u, v] for u, v in frequencies])
    return kept.reshape(len(frequencies), *x.shape[:-2], height // 8, width // 8).to(x.dtype)


def unchop(coefficients, frequencies, shape):
    """The tensor whose low frequencies chop kept."""
    rows, columns = coefficients.shape[-2:]
    kept = coefficients.reshape(len(frequencies), -1, rows, columns).to(torch.float32)
    nothing = torch.zeros_like(kept[0])
    side = 1 + max(max(pair) for pair in frequencies)
    found = dict(zip(frequencies, kept, strict=True))
    blocks = torch.stack(
        [torch.stack([found.get((u, v), nothing) for v in range(side)], -1) for u in range(side)],
        -2,
    )
    basis = cosines(coefficients.device)[:side]
    maps = ((basis.T * 8) @ blocks @ basis).permute(0, 1, 3, 2, 4)
    maps = maps.reshape(-1, rows * 8, columns * 8)[:, : shape[-2], : shape[-1]]
    return maps.reshape(shape).to(coefficients.dtype)


def cosines(device):
    """The matrix of the orthonormal DCT-II of 8 elements."""
    place = torch.arange(8, device=device, dtype=torch.float32)
    matrix = torch.cos((2 * place + 1) * place[:, None] * 0.19634954084936207) / 2
    return matrix * torch.where(place[:, None] == 0, 0.7071067811865476, 1.0)


def to_float8(x, dtype, group=256):
    """(Floats of 8 bits, exponents): the largest of each group comes near the type's largest."""
    flat = x.reshape(-1)
    whole = flat.shape[0] // group * group
    runs = [flat[:whole].reshape(-1, group)] if whole else []
    if whole < flat.shape[0]:
        runs.append(flat[whole:].reshape(1, -1))
    codes, exponents = [], []
    top = 7 if dtype == torch.float8_e4m3fn else 14
    for rows in runs:
        finite = torch.where(torch.isfinite(rows), rows, 0.0).abs().amax(1, keepdim=True)
        exponent = (top + 127 - (finite.view(torch.int32) >> 23)).clamp(-126, 126)
        scaled = rows * power_of_two(exponent)
        if dtype == torch.float8_e4m3fn:  # which has no infinity
            scaled = torch.where(scaled.isinf(), float("nan"), scaled)
        codes.append(scaled.to(dtype).view(torch.uint8).reshape(-1))
        exponents.append(exponent.reshape(-1).to(torch.int8))
    return torch.cat(codes).view(dtype), torch.cat(exponents)


def from_float8(parts, shape, group=256):
    """The tensor that to_float8 narrowed, of float32."""
    flat, exponents = parts
    scale = power_of_two(-exponents.to(torch.int32))
    whole = flat.shape[0] // group
    values = flat.to(torch.float32)
    rows = (values[: whole * group].reshape(whole, group) * scale[:whole, None]).reshape(-1)
    return torch.cat([rows, values[whole * group :] * scale[whole:]]).reshape(shape)


def power_of_two(exponent):
    """2 to the exponent, -126 to 126."""
    return ((exponent + 127) << 23).view(torch.float32)


def saturated(x, dtype, largest):
    """x in a narrower type; what is finite stays so."""
    return torch.where(x.isinf(), x, x.clamp(-largest, largest)).to(dtype)
