"""The fixed-rate codec as generated steps carry it: the bytes of `fewbits.lossy.fixedrate`.

How a block is written is specified in ``fewbits/lossy/torch_fixedrate.py``. Here blocks are worked
on in runs of eighths, for codes bit by bit take many times the memory of what they stand for.
"""

import torch
import torch.nn.functional as F

from fewbits.unroll.helpers import at_once


def fixed_rate(x, bits, dims):
    """So many bits for each element: blocks of 4^dims, transformed, bits spent where they count."""
    blocks = fixed_blocks(x.to(torch.float32), dims)
    step = -(-at_once(blocks.shape[0], blocks.shape[1]) // 8) * 8  # runs end with a whole byte
    return torch.cat([_pack_blocks(run, bits, dims) for run in blocks.split(step)])


def from_fixed_rate(payload, shape, bits, dims):
    """The tensor that fixed_rate packed, of float32."""
    size = bits * 4**dims
    count = payload.shape[0] * 8 // size
    step = -(-at_once(count, 4**dims) // 8) * 8
    runs = payload.split(step * size // 8)
    blocks = [_unpack_blocks(run, run.shape[0] * 8 // size, bits, dims) for run in runs]
    return from_fixed_blocks(torch.cat(blocks), shape, dims)


def fixed_blocks(x, dims):
    """(blocks, 4^dims) over the last dimensions; edges repeat up to a multiple of 4."""
    lines = x.reshape(1, -1) if dims == 1 else x.reshape(-1, *x.shape[-dims:])
    for dim in range(1, dims + 1):
        edge = lines.narrow(dim, lines.shape[dim] - 1, 1)
        lines = torch.cat([lines, *[edge] * (-lines.shape[dim] % 4)], dim)
    for dim in range(dims):
        lines = lines.unflatten(1 + 2 * dim, (-1, 4))
    places = (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2))
    return lines.permute(places).reshape(-1, 4**dims)


def from_fixed_blocks(blocks, shape, dims):
    """The tensor that was cut into blocks."""
    size = 1
    for length in shape:
        size *= length
    inner = (size,) if dims == 1 else shape[-dims:]
    counts = [-(-length // 4) for length in inner]
    cut = blocks.reshape(-1, *counts, *[4] * dims)
    places = [place for dim in range(1, dims + 1) for place in (dim, dim + dims)]
    lines = cut.permute(0, *places).reshape(-1, *[4 * count for count in counts])
    for dim, length in enumerate(inner, 1):
        lines = lines.narrow(dim, 0, length)
    return lines.reshape(shape)


def fixed_layout(bits, dims):
    """Coefficients by total frequency, sizes of groups, bits of a block, and the largest fall."""
    totals = [j % 4 + j // 4 % 4 + j // 16 for j in range(4**dims)]
    last = {1: [0, 3], 2: [0, 1, 2, 3, 6], 3: list(range(10))}[dims]
    starts = [-1, *last[:-1]]
    sizes = [
        sum(start < total <= end for total in totals)
        for start, end in zip(starts, last, strict=True)
    ]
    order = [j for total in range(last[-1] + 1) for j in range(4**dims) if totals[j] == total]
    return order, sizes, bits * 4**dims, min(7, (bits * 4**dims - 8) // (len(sizes) - 1))


def cosines_of_four(x, dim):
    """Frequencies of lines of 4: sums of mirrored pairs, each step rounded by itself."""
    a, b, c, d = x.unbind(dim)
    near, far, less, lesser = a + d, b + c, a - d, b - c
    return torch.stack(
        [
            near * 0.25 + far * 0.25,
            less * 0.3266407412190941 + lesser * 0.13529902503654923,
            near * 0.25 - far * 0.25,
            less * 0.13529902503654923 - lesser * 0.3266407412190941,
        ],
        dim,
    )


def from_cosines_of_four(x, dim):
    """The lines that have these frequencies."""
    a, b, c, d = x.unbind(dim)
    outer, inner = a + c, a - c
    odd = b * 1.3065629648763766 + d * 0.5411961001461969
    odder = b * 0.5411961001461969 - d * 1.3065629648763766
    return torch.stack([outer + odd, inner + odder, inner - odder, outer - odd], dim)


def _pack_blocks(blocks, bits, dims):
    order, sizes, budget, most = fixed_layout(bits, dims)
    cube = blocks.reshape(-1, *[4] * dims)
    for dim in range(1, dims + 1):
        cube = cosines_of_four(cube, dim)
    values = cube.reshape(blocks.shape)[:, order]
    exponents = (values.contiguous().view(torch.int32) >> 23) & 255
    own = torch.stack([group.amax(1) for group in exponents.split(sizes, 1)], 1)
    raised = own.flip(1).cummax(1).values.flip(1)  # to those behind it
    first, fallen = raised[:, 0], torch.zeros_like(raised[:, 0])
    falls = [fallen]
    for group in raised.unbind(1)[1:]:
        fallen = torch.minimum(first - group, fallen + most)
        falls.append(fallen)
    falls = torch.stack(falls, 1)
    widths, starts = fixed_widths(falls, sizes, budget, most)
    fallen = fixed_spread(falls, sizes)
    near_one = values * two_to(128 - first[:, None])
    scaled = torch.floor(near_one * two_to((widths - 3 + fallen).clamp(max=126)))
    codes = scaled.nan_to_num(0, 0, 0).clamp(-(2.0**24), 2.0**24).to(torch.int32)
    codes = codes + (1 << (widths - 1).clamp(min=0))

    place = torch.arange(budget, device=blocks.device)
    out = torch.zeros(blocks.shape[0], budget, dtype=torch.int32, device=blocks.device)
    start = torch.full_like(first, 8)
    for step in (falls[:, 1:] - falls[:, :-1]).unbind(1):
        out = out | ((place >= start[:, None]) & (place < (start + step)[:, None]))
        start = start + step + (step < most)
    for bit in range(24):
        inside = bit < widths
        where = torch.where(inside, starts + bit, 0).to(torch.int64)
        out = out.scatter_add(1, where, torch.where(inside, (codes >> bit) & 1, 0))
    silent = (first == 0) | (first == 255)
    out = torch.where(silent[:, None], 0, out)
    out = out | ((first[:, None] >> place.clamp(max=8)) & (place < 8))
    run = F.pad(out.reshape(-1), (0, -out.numel() % 8)).reshape(-1, 8)
    return (run << torch.arange(8, device=run.device)).sum(1).to(torch.uint8)


def _unpack_blocks(payload, count, bits, dims):
    order, sizes, budget, most = fixed_layout(bits, dims)
    every = (payload[:, None].to(torch.int32) >> torch.arange(8, device=payload.device)) & 1
    every = every.reshape(-1)[: count * budget].reshape(count, budget).to(torch.int32)
    place = torch.arange(8, device=payload.device)
    first = (every[:, :8] << place).sum(1, dtype=torch.int32)
    # How many ones follow from each bit on, as far as a fall may reach.
    ones = F.pad(every, (0, most)).unfold(1, most, 1).cumprod(2).sum(2, dtype=torch.int32)
    start, fallen = torch.full_like(first, 8), torch.zeros_like(first)
    falls = [fallen]
    for _ in sizes[1:]:
        step = ones.gather(1, start[:, None].to(torch.int64))[:, 0]
        start = start + step + (step < most)
        fallen = fallen + step
        falls.append(fallen)
    falls = torch.stack(falls, 1)
    widths, starts = fixed_widths(falls, sizes, budget, most)
    codes = torch.zeros_like(widths)
    for bit in range(24):
        where = (starts + bit).clamp(max=budget - 1).to(torch.int64)
        codes = codes | torch.where(bit < widths, every.gather(1, where) << bit, 0)
    middle = (codes - (1 << (widths - 1).clamp(min=0))).to(torch.float32) + 0.5
    values = middle * two_to(2 - widths - fixed_spread(falls, sizes))
    values = values * two_to(first[:, None] - 127)
    silent = (first == 0) | (first == 255)
    values = torch.where((widths > 0) & ~silent[:, None], values, 0.0)
    cube = values[:, [order.index(j) for j in range(len(order))]].reshape(-1, *[4] * dims)
    for dim in range(dims, 0, -1):
        cube = from_cosines_of_four(cube, dim)
    return torch.where(first[:, None] == 255, float("nan"), cube.reshape(count, -1))


def fixed_widths(falls, sizes, budget, most):
    """Of each coefficient: its bits, and where they begin in its block."""
    steps = falls[:, 1:] - falls[:, :-1]
    header = 8 + (steps + (steps < most)).sum(1, dtype=torch.int32)
    sized = torch.tensor(sizes, dtype=torch.int32, device=falls.device)
    room, level = budget - header, torch.zeros_like(header)
    for candidate in range(1, 25):
        cost = ((candidate - falls).clamp(min=0) * sized).sum(1, dtype=torch.int32)
        level = torch.where(cost <= room, candidate, level)
    bits = (level[:, None] - falls).clamp(min=0)
    left = room - (bits * sized).sum(1, dtype=torch.int32)
    columns = []
    for g, size in enumerate(sizes):
        wants = (level >= falls[:, g]) & (left >= size) & (bits[:, g] < 24)
        columns.append(bits[:, g] + wants)
        left = left - wants * size
    widths = fixed_spread(torch.stack(columns, 1), sizes)
    return widths, header[:, None] + widths.cumsum(1, dtype=torch.int32) - widths


def fixed_spread(groups, sizes):
    """What is said of groups, for each of their coefficients."""
    return torch.cat([groups[:, g, None].expand(-1, size) for g, size in enumerate(sizes)], 1)


def two_to(exponent):
    """2 to the exponent, which is cut to those of normal floats."""
    return ((exponent.clamp(-126, 127) + 127) << 23).to(torch.int32).view(torch.float32)
