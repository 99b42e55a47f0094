"""Codecs as generated steps carry them: what ``fewbits.lossy`` does, by operations compilers have.

Quantize and the casts give the same bytes as `fewbits.lossy`, for finite tensors; DCT gives the
same numbers up to rounding, since a product with a matrix takes its sums in another order. Bits are
put together and taken apart by multiplying, dividing and adding, because static-graph compilers
lack shifts.
"""

import torch
import torch.nn.functional as F


def quantize(x, bits, group=256, zeros=False):
    """Codes of so many bits, on a grid of equal steps for each group: (packed codes, grids)."""
    flat = x.reshape(-1)
    whole = flat.shape[0] // group * group
    parts = []
    if whole:
        parts.append(_quantize_rows(flat[:whole].reshape(-1, group), bits, zeros))
    if whole < flat.shape[0]:
        parts.append(_quantize_rows(flat[whole:].reshape(1, -1), bits, zeros))
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _quantize_rows(rows, bits, zeros):
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
    codes = torch.where(held, (rows - low) * inverse + 0.5, 0.0)
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
    rows = []
    if whole:
        codes = unpack_codes(packed[:size].reshape(whole, -1), bits, group)
        rows.append(_dequantize_rows(codes, grids[:whole], zeros).reshape(-1))
    if whole * group < count:
        codes = unpack_codes(packed[size:].reshape(1, -1), bits, count - whole * group)
        rows.append(_dequantize_rows(codes, grids[whole:], zeros).reshape(-1))
    return (torch.cat(rows) if len(rows) > 1 else rows[0]).reshape(shape)


def _dequantize_rows(codes, grids, zeros):
    grids = grids.to(torch.float32)
    low, step = grids[:, :1], grids[:, 1:]
    if not zeros:
        return multiply_add(low, codes.to(torch.float32), step)
    values = multiply_add(low, codes.to(torch.float32) - 1, step)
    values = torch.where(values == 0, 2.0**-126, values)
    return torch.where(codes == 0, 0.0, values)


def multiply_add(x, y, z):
    """x + y * z, without room for the product; of 16 bits at most, so fused or not is the same."""
    return torch.addcmul(x, y, z)


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


def saturated(x, dtype, largest):
    """x in a narrower type; what is finite stays so."""
    return torch.where(x.isinf(), x, x.clamp(-largest, largest)).to(dtype)
