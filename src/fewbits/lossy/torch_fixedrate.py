"""How a fixed-rate block is written; the plain form of `FixedRate` and its specification.

Where ZFP tests planes of bits for significance one by one, a block here says how its coefficients
decay, and both sides derive from that how many bits each one gets.

1. **Transform.** `cosine` along each dimension. A block's coefficients stand in **groups** of like
   total frequency (the codec's ``layout``), sorted by it and then by their index.
2. **Decay.** The exponent of a group is that of its largest coefficient: the 8 bits of a float32,
   so coefficients below 2^-126 count as zeros. Exponents are made to fall from group to group (each
   is raised to those behind it), by at most 7 at a time, or what a small budget has room for.
3. **Header.** The first exponent, 8 bits; then each fall in unary: so many ones, and a zero unless
   it is the largest. Exponent 0 says that the block is zeros, 255 that it holds what is not
   finite; the rest of the block is then zeros.
4. **Bits.** A group that fell by f below the first gets ``max(0, P - f)`` bits a coefficient,
   at most 24, with the largest P that fits; what is left gives one bit more to the groups that
   can take it, from the first on.
5. **Codes.** Coefficient c of a group with exponent e (``|c| < 2^E, E = e - 126``) and b bits is
   ``floor(c 2^(b - 1 - E)) + 2^(b - 1)``, and comes back as the middle of its interval; 0 without
   bits. Codes follow the header in the order of groups, lowest bit first.

Blocks follow one another bit by bit, the first bit the lowest of the first byte.
"""

from typing import NamedTuple

import torch

from fewbits.lossy.cosine import line, low

SIDE = 4
EXPONENT_BITS = 8
MOST_BITS = 24  # of a coefficient: a float32 has no more
NOT_FINITE = 255


class Layout(NamedTuple):
    """What follows from the settings alone."""

    block: int  #: elements of a block
    budget: int  #: bits of a block
    order: tuple[int, ...]  #: coefficients, by group
    sizes: tuple[int, ...]  #: of the groups
    largest_fall: int


class Header(NamedTuple):
    """What a block says of itself, and what follows from it; int32."""

    exponent: torch.Tensor  #: (blocks,)
    falls: torch.Tensor  #: (blocks, groups): below the first exponent
    bits: torch.Tensor  #: (blocks, groups)
    starts: torch.Tensor  #: (blocks, groups): where a group's codes begin, in bits


def transform(blocks: torch.Tensor, dims: int) -> torch.Tensor:
    """float32 elements, (blocks, 4^dims), to coefficients."""
    cube = blocks.reshape(-1, *[SIDE] * dims)
    for dim in range(1, dims + 1):
        cube = torch.stack(low(cube.unbind(dim), SIDE), dim)
    return cube.reshape(-1, SIDE**dims)


def restore(coefficients: torch.Tensor, dims: int) -> torch.Tensor:
    """What `transform` was given."""
    cube = coefficients.reshape(-1, *[SIDE] * dims)
    for dim in range(dims, 0, -1):
        cube = torch.stack(line(cube.unbind(dim), SIDE), dim)
    return cube.reshape(-1, SIDE**dims)


def measure(coefficients: torch.Tensor, layout: Layout) -> Header:
    """The headers of blocks of coefficients in the order of groups."""
    exponents = (coefficients.contiguous().view(torch.int32) >> 23) & 255
    own = [part.amax(1) for part in exponents.split(list(layout.sizes), 1)]
    least = own[-1]
    raised = [least]
    for group in reversed(own[:-1]):
        least = torch.maximum(group, least)
        raised.append(least)
    raised.reverse()
    fallen = torch.zeros_like(least)
    falls = [fallen]
    for group in raised[1:]:
        fallen = torch.minimum(raised[0] - group, fallen + layout.largest_fall)
        falls.append(fallen)
    return _allot(raised[0], torch.stack(falls, 1), layout)


def _allot(exponent: torch.Tensor, falls: torch.Tensor, layout: Layout) -> Header:
    """How many bits each group gets, and where; both sides compute this alike."""
    steps = falls[:, 1:] - falls[:, :-1]
    header_bits = EXPONENT_BITS + (steps + (steps < layout.largest_fall)).sum(1, dtype=torch.int32)
    room = layout.budget - header_bits
    sizes = torch.tensor(layout.sizes, dtype=torch.int32, device=falls.device)
    level = torch.zeros_like(exponent)
    for candidate in range(1, MOST_BITS + 1):
        cost = ((candidate - falls).clamp(min=0) * sizes).sum(1, dtype=torch.int32)
        level = torch.where(cost <= room, candidate, level)
    bits = (level[:, None] - falls).clamp(min=0)
    left = room - (bits * sizes).sum(1, dtype=torch.int32)
    columns = []
    for g, size in enumerate(layout.sizes):
        wants = (level >= falls[:, g]) & (left >= size) & (bits[:, g] < MOST_BITS)
        columns.append(bits[:, g] + wants)
        left = left - wants.to(torch.int32) * size
    bits = torch.stack(columns, 1)
    ends = header_bits[:, None] + (bits * sizes).cumsum(1, dtype=torch.int32)
    return Header(exponent, falls, bits, ends - bits * sizes)


def codes_of(coefficients: torch.Tensor, header: Header, layout: Layout) -> torch.Tensor:
    """int32 codes; 0 for coefficients without bits."""
    bits, falls = (spread(part, layout) for part in (header.bits, header.falls))
    near_one = coefficients * _power(128 - header.exponent[:, None])  # 2^(2 - E): below 4
    scaled = near_one * _power((bits - 3 + falls).clamp(max=126))
    code = torch.floor(scaled).nan_to_num(0, 0, 0).clamp(-(2.0**24), 2.0**24).to(torch.int32)
    return torch.where(bits > 0, code + (1 << (bits - 1).clamp(min=0)), 0)


def pack(codes: torch.Tensor, header: Header, layout: Layout) -> torch.Tensor:
    """The payload, from codes of shape (blocks, elements) in the order of groups."""
    place = torch.arange(layout.budget, dtype=torch.int32, device=codes.device)
    silent = (header.exponent == 0) | (header.exponent == NOT_FINITE)
    steps = header.falls[:, 1:] - header.falls[:, :-1]
    stops = steps + (steps < layout.largest_fall)
    unary = EXPONENT_BITS + stops.cumsum(1, dtype=torch.int32) - stops
    out = (header.exponent[:, None] >> place.clamp(max=EXPONENT_BITS)) & (place < EXPONENT_BITS)
    rest = torch.zeros_like(out)
    first = 0
    for g, size in enumerate(layout.sizes):
        if g:
            start = unary[:, g - 1, None]
            rest = rest | ((place >= start) & (place < start + steps[:, g - 1, None]))
        bits, inside = header.bits[:, g, None], place - header.starts[:, g, None]
        divisor = bits.clamp(min=1)
        mine = (inside >= 0) & (inside < bits * size)
        inside = torch.where(mine, inside, torch.zeros_like(inside))
        index = torch.div(inside, divisor, rounding_mode="floor")
        code = codes.gather(1, first + index.to(torch.int64))
        rest = rest | torch.where(mine, (code >> (inside - index * divisor)) & 1, 0)
        first += size
    return _to_bytes((out | torch.where(silent[:, None], 0, rest)).to(torch.uint8))


def values_of(codes: torch.Tensor, header: Header, layout: Layout) -> torch.Tensor:
    """The middles of the codes' intervals, in the order of groups; zeros where nothing is said."""
    width, falls = (spread(part, layout) for part in (header.bits, header.falls))
    middle = (codes - (1 << (width - 1).clamp(min=0))).to(torch.float32) + 0.5
    near_one = middle * _power(2 - width - falls)
    values = near_one * _power(header.exponent[:, None] - 127)  # 2^(E - 1)
    silent = (header.exponent == 0) | (header.exponent == NOT_FINITE)
    return torch.where((width > 0) & ~silent[:, None], values, torch.zeros_like(values))


def places_of(header: Header, layout: Layout) -> torch.Tensor:
    """The first bit of each code in the payload, int64."""
    device = header.starts.device
    within = torch.cat([torch.arange(size, device=device) for size in layout.sizes])
    block = torch.arange(len(header.starts), device=device)[:, None] * layout.budget
    return block + spread(header.starts, layout) + spread(header.bits, layout) * within


def unpack(payload: torch.Tensor, places: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """int32 codes of so many bits, at most 24, at these bits of the payload."""
    codes = torch.zeros_like(widths)
    for t in range(MOST_BITS):
        codes = codes | torch.where(t < widths, _bits_at(payload, places + t) << t, 0)
    return codes


def _bits_at(payload: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    byte = (places >> 3).clamp(max=max(len(payload) - 1, 0))
    return (payload[byte].to(torch.int32) >> (places & 7).to(torch.int32)) & 1


def read(payload: torch.Tensor, blocks: int, layout: Layout) -> Header:
    """The headers of a payload."""
    reach = EXPONENT_BITS + layout.largest_fall * (len(layout.sizes) - 1)
    first = torch.arange(blocks, device=payload.device)[:, None] * layout.budget
    bits = _bits_at(payload, first + torch.arange(reach, device=payload.device))
    places = torch.arange(EXPONENT_BITS, dtype=torch.int32, device=bits.device)
    exponent = (bits[:, :EXPONENT_BITS].to(torch.int32) << places).sum(1, dtype=torch.int32)
    at = torch.full_like(exponent, EXPONENT_BITS)
    falls = [torch.zeros_like(exponent)]
    for _ in layout.sizes[1:]:
        step, going = torch.zeros_like(exponent), torch.ones_like(exponent)
        for t in range(layout.largest_fall):
            index = (at + t).clamp(max=reach - 1).to(torch.int64)[:, None]
            going = going & bits.gather(1, index)[:, 0].to(torch.int32)
            step = step + going
        at = at + step + (step < layout.largest_fall)
        falls.append(falls[-1] + step)
    return _allot(exponent, torch.stack(falls, 1), layout)


def spread(groups: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(blocks, groups) -> (blocks, coefficients)."""
    columns = [groups[:, g, None].expand(-1, size) for g, size in enumerate(layout.sizes)]
    return torch.cat(columns, 1)


def _power(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent in float32, for -126 to 127; what is beyond is not used."""
    return ((exponent.clamp(-126, 127) + 127) << 23).to(torch.int32).view(torch.float32)


def _to_bytes(bits: torch.Tensor) -> torch.Tensor:
    run = bits.reshape(-1)
    run = torch.nn.functional.pad(run, (0, -run.numel() % 8)).reshape(-1, 8)
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (run << places).sum(1, dtype=torch.uint8)
